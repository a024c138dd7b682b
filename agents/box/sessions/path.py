"""The path of a session through the box's firewall, which the firewall service opens and closes."""

from __future__ import annotations

from collections.abc import Callable

from agents.box.firewall import FirewallGuard, FirewallService
from netfw.ruleset.sessions import Session
from wire.session.grant import Offer


class FirewallPath:
    """See `agents.box.sessions.surroundings.SessionPath`."""

    def __init__(
        self,
        service: FirewallService,
        guard: FirewallGuard,
        paths_of: Callable[[Offer], tuple[Session, ...]],
    ) -> None:
        """`paths_of` returns the paths of an offer that this box permits."""
        self._service, self._guard, self._paths_of = service, guard, paths_of

    @property
    def is_fenced(self) -> bool:
        """See `SessionPath.is_fenced`."""
        return self._guard.status().in_force

    async def open(self, offer: Offer, seconds: int) -> bool:
        """See `SessionPath.open`."""
        opened = [await self._service.open_path(path, seconds) for path in self._paths_of(offer)]
        return all(opened)

    async def close(self, offer: Offer) -> None:
        """See `SessionPath.close`."""
        for path in self._paths_of(offer):
            await self._service.close_path(path)
