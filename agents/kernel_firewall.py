"""The gatekeeper of the network namespace that the program runs in: netfw's table, and the kernel's settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping

from agents.firewall import NotEnforced, Told
from agents.kernel_settings import KernelSettings
from netfw.firewall import Firewall
from netfw.nft import FirewallError, Nft
from netfw.policy import Policy
from netfw.watch import Watch


class KernelGatekeeper:
    """`agents.firewall.Gatekeeper` for one policy. Made and used on one thread."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._settings = KernelSettings(policy.uplink, policy.believes_routers)
        self._in_kernel: Firewall | None = None

    @property
    def ports(self) -> Collection[int]:
        """See `Gatekeeper.ports`."""
        return [port.number for port in self._policy.ports]

    def holds(self) -> bool:
        """See `Gatekeeper.holds`."""
        with contextlib.suppress(NotEnforced), _as_not_enforced():
            return not self._firewall().differences(self._policy)
        return False

    def enforce(self) -> None:
        """See `Gatekeeper.enforce`."""
        with _as_not_enforced():
            firewall = self._firewall()
            if firewall.differences(self._policy):
                firewall.apply(self._policy)
            if left := firewall.differences(self._policy):
                raise NotEnforced(f"the kernel holds something else than what it took: {left[0]}")
            self._settings.set()

    def let_forward(self, allowed: bool) -> None:
        """See `Gatekeeper.let_forward`. Only remote sessions pass between interfaces, so it takes a tunnel."""
        with _as_not_enforced():
            if not allowed:
                self._settings.set_addresses_kept()
            self._settings.set_forwarding(allowed and self._policy.tunnel is not None)
            if allowed:
                self._settings.set()

    def watch(self, told: Told) -> Callable[[], None]:
        """See `Gatekeeper.watch`. Needs the running event loop."""
        with _as_not_enforced():
            watch = Watch(self._firewall(), self._policy, told)
            watch.start()
            return watch.stop

    def refused(self) -> Mapping[str, int]:
        """See `Gatekeeper.refused`."""
        with _as_not_enforced():
            return {cause: count.packets for cause, count in self._firewall().counts().items()}

    def _firewall(self) -> Firewall:
        """Made when first needed, again and again while the library is missing. Errors: FirewallError."""
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
