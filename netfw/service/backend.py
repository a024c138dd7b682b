# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall of the program's network namespace: netfw's table, and kernel settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping

from netfw.errors import FirewallError
from netfw.events import Alarm, OutsideInspection, Repair
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.kernel.sysctl import KernelSettings
from netfw.policy.policy import Policy
from netfw.ruleset.sessions import Session, why_not_permitted
from netfw.service.supervisor import NotEnforced
from netfw.watch.foreign import NotCovered
from netfw.watch.surroundings import Inspector, tracked_connections
from netfw.watch.watch import Watch


class KernelBackend:
    """`netfw.service.supervisor.FirewallBackend` for a policy file. Must be used on one thread.

    If the file was edited and applied with `rap fw apply`, the new policy is adopted; other policies are foreign.
    """

    def __init__(self, policy: Policy, policy_now: Callable[[], Policy | None] = lambda: None) -> None:
        """`policy_now` rereads the file, and returns None if it is invalid."""
        self._policy, self._policy_now = policy, policy_now
        self._is_fresh = True  # the caller has just read the file
        self._in_kernel: Firewall | None = None
        self._inspector: Inspector | None = None
        self._forwards = False

    @property
    def ports(self) -> Collection[int]:
        """See `FirewallBackend.ports`."""
        return [port.number for port in self._policy.ports]

    def is_in_force(self) -> bool:
        """See `FirewallBackend.is_in_force`."""
        with contextlib.suppress(NotEnforced), _as_not_enforced():
            return not self._firewall().differences(self._policy)
        return False

    def enforce(self) -> None:
        """See `FirewallBackend.enforce`."""
        with _as_not_enforced():
            self._reread_policy()
            firewall = self._firewall()
            if firewall.differences(self._policy):
                firewall.apply(self._policy)
                if remaining := firewall.differences(self._policy):
                    raise NotEnforced(
                        f"the kernel's table differs from the one that was loaded: {remaining[0]}"
                    )
            self._settings.set()

    def set_forwarding(self, allowed: bool) -> None:
        """See `FirewallBackend.set_forwarding`. Only remote sessions are forwarded, so a tunnel is required."""
        with _as_not_enforced():
            if not allowed:
                self._settings.set_addresses_kept()
            self._forwards = allowed and self._policy.tunnel is not None
            self._settings.set_forwarding(self._forwards)
            if allowed:
                self._settings.set()

    def watch(
        self, on_event: Callable[[Alarm | Repair], None], sessions: Callable[[], Mapping[Session, int]]
    ) -> Callable[[], None]:
        """See `FirewallBackend.watch`. Requires a running event loop."""

        def on_event_with_policy(event: Alarm | Repair) -> None:
            self._policy = watch.policy
            on_event(event)

        with _as_not_enforced():
            watch = Watch(self._firewall(), self._policy, on_event_with_policy, sessions, self._newer)
            watch.start()
            return watch.stop

    def permits(self, session: Session) -> bool:
        """See `FirewallBackend.permits`."""
        return not why_not_permitted(self._policy, session)

    def open_session(self, session: Session, seconds: int) -> None:
        """See `FirewallBackend.open_session`."""
        with _as_not_enforced():
            Sessions(self._firewall().nft, self._policy).open(session, seconds)

    def close_session(self, session: Session) -> None:
        """See `FirewallBackend.close_session`."""
        with _as_not_enforced():
            Sessions(self._firewall().nft, self._policy).close(session)

    def _newer(self, mark: str) -> Policy | None:
        """Return the file's policy if it is the one in force now."""
        policy = self._policy_now()
        return policy if policy and self._firewall().mark_of(policy) == mark else None

    def inspect(self) -> OutsideInspection:
        """See `FirewallBackend.inspect`. A change that the watch has missed is also reported as a problem."""
        with _as_not_enforced():
            settings = self._settings
            repaired = [*(settings.set_forwarding(False) if not self._forwards else ()), *settings.set()]
            conditions = self._inspect_surroundings()
            descriptions = tuple(condition.description for condition in conditions)
            broken = [condition.description for condition in conditions if condition.breaks]
            problem = f"the proof does not apply: {broken[0]}" if broken else ""
            if differences := self._firewall().differences(self._policy):
                problem = f"the kernel's table differs from the policy: {differences[0]}"
            return OutsideInspection(
                tuple(repaired), descriptions, problem, {"conntrack": tracked_connections()}
            )

    def _inspect_surroundings(self) -> list[NotCovered]:
        if self._inspector is None:
            self._inspector = Inspector(self._policy)
        self._inspector.policy = self._policy
        return self._inspector.inspect()

    def refused(self) -> Mapping[str, int]:
        """See `FirewallBackend.refused`."""
        with _as_not_enforced():
            return {cause: count.packets for cause, count in self._firewall().counts().items()}

    def _reread_policy(self) -> None:
        """Reread the policy file, in which an error may have been corrected; keep the old policy if it is invalid."""
        if not self._is_fresh and (now := self._policy_now()) and now != self._policy:
            self._policy = now
        self._is_fresh = False

    @property
    def _settings(self) -> KernelSettings:
        return KernelSettings(self._policy.uplink, self._policy.accept_router_advertisements)

    def _firewall(self) -> Firewall:
        """Return the firewall, created on first use and retried while the library is missing.

        Raises: FirewallError.
        """
        if self._in_kernel is None:
            self._in_kernel = Firewall(Nft())
        return self._in_kernel


@contextlib.contextmanager
def _as_not_enforced() -> Iterator[None]:
    try:
        yield
    except FirewallError as error:
        raise NotEnforced(str(error)) from error
    except ValueError as error:  # nftables 1.0.6 fails on a table that another program owns (`flags owner`)
        raise NotEnforced(f"the kernel's listing cannot be read: {error}") from error
    except OSError as error:
        location = f"{error.filename}: " if error.filename else ""
        raise NotEnforced(f"{location}{error.strerror or error}") from error
