# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall of the network namespace that the program runs in: netfw's table, and the kernel's settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping

from netfw.errors import FirewallError
from netfw.events import Alarm, Repair, Surroundings
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.settings import KernelSettings
from netfw.policy.policy import Policy
from netfw.service.supervisor import NotEnforced
from netfw.watch.foreign import NotCovered
from netfw.watch.surroundings import Inspector, tracked_connections
from netfw.watch.watch import Watch


class KernelBackend:
    """`netfw.service.supervisor.FirewallBackend` for a policy file. Made and used on one thread.

    Who edits the file and puts it in force with `rap fw apply` is followed; any other policy is somebody else's.
    """

    def __init__(self, policy: Policy, policy_now: Callable[[], Policy | None] = lambda: None) -> None:
        """`policy_now` reads the file again, and gives None if it is not right."""
        self._policy, self._policy_now = policy, policy_now
        self._is_fresh = True  # just read by whoever made this
        self._in_kernel: Firewall | None = None
        self._inspector: Inspector | None = None
        self._forwards = False

    @property
    def ports(self) -> Collection[int]:
        """See `FirewallBackend.ports`."""
        return [port.number for port in self._policy.ports]

    def holds(self) -> bool:
        """See `FirewallBackend.holds`."""
        with contextlib.suppress(NotEnforced), _as_not_enforced():
            return not self._firewall().differences(self._policy)
        return False

    def enforce(self) -> None:
        """See `FirewallBackend.enforce`."""
        with _as_not_enforced():
            self._read_again()
            firewall = self._firewall()
            if firewall.differences(self._policy):
                firewall.apply(self._policy)
                if left := firewall.differences(self._policy):
                    raise NotEnforced(f"the kernel holds something else than what it took: {left[0]}")
            self._settings.set()

    def let_forward(self, allowed: bool) -> None:
        """See `FirewallBackend.let_forward`. Only remote sessions pass between interfaces, so it takes a tunnel."""
        with _as_not_enforced():
            if not allowed:
                self._settings.set_addresses_kept()
            self._forwards = allowed and self._policy.tunnel is not None
            self._settings.set_forwarding(self._forwards)
            if allowed:
                self._settings.set()

    def watch(self, heard: Callable[[Alarm | Repair], None]) -> Callable[[], None]:
        """See `FirewallBackend.watch`. Needs the running event loop."""

        def tell(event: Alarm | Repair) -> None:
            self._policy = watch.policy
            heard(event)

        with _as_not_enforced():
            watch = Watch(self._firewall(), self._policy, tell, newer=self._newer)
            watch.start()
            return watch.stop

    def _newer(self, mark: str) -> Policy | None:
        """The policy in the file, if it is the one that is in force by now."""
        policy = self._policy_now()
        return policy if policy and self._firewall().mark_of(policy) == mark else None

    def inspect(self) -> Surroundings:
        """See `FirewallBackend.inspect`. A change that the watch has missed is a problem as well."""
        with _as_not_enforced():
            settings = self._settings
            repaired = [*(settings.set_forwarding(False) if not self._forwards else ()), *settings.set()]
            found = self._look_around()
            says = tuple(each.says for each in found)
            broken = [each.says for each in found if each.breaks]
            problem = f"what is proven of it does not hold: {broken[0]}" if broken else ""
            if changed := self._firewall().differences(self._policy):
                problem = f"the kernel holds something else than the policy: {changed[0]}"
            return Surroundings(tuple(repaired), says, problem, {"conntrack": tracked_connections()})

    def _look_around(self) -> list[NotCovered]:
        if self._inspector is None:
            self._inspector = Inspector(self._policy)
        self._inspector.policy = self._policy
        return self._inspector.inspect()

    def refused(self) -> Mapping[str, int]:
        """See `FirewallBackend.refused`."""
        with _as_not_enforced():
            return {cause: count.packets for cause, count in self._firewall().counts().items()}

    def _read_again(self) -> None:
        """It may be the file that is to be mended; while that is wrong, what it said before holds."""
        if not self._is_fresh and (now := self._policy_now()) and now != self._policy:
            self._policy = now
        self._is_fresh = False

    @property
    def _settings(self) -> KernelSettings:
        return KernelSettings(self._policy.uplink, self._policy.believes_routers)

    def _firewall(self) -> Firewall:
        """Made when first needed, again and again while the library is missing. Raises: FirewallError."""
        if self._in_kernel is None:
            self._in_kernel = Firewall(Nft())
        return self._in_kernel


@contextlib.contextmanager
def _as_not_enforced() -> Iterator[None]:
    try:
        yield
    except FirewallError as error:
        raise NotEnforced(str(error)) from error
    except (
        ValueError
    ) as error:  # nftables 1.0.6 breaks off where a table is another program's own (`flags owner`)
        raise NotEnforced(f"the kernel's listing cannot be read, {error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise NotEnforced(f"{where}{error.strerror or error}") from error
