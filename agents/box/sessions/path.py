"""The path of a session through the box's firewall, which the firewall service opens and closes."""

from __future__ import annotations

from collections.abc import Callable

from agents.box.firewall import FirewallGuard, FirewallService
from netfw.ruleset.sessions import Session
from wire.session.grant import Offer


class FirewallPath:
    """See `agents.box.sessions.surroundings.SessionPath`."""

    def __init__(
        self, service: FirewallService, guard: FirewallGuard, path_of: Callable[[Offer], Session]
    ) -> None:
        """`path_of` returns the staff's and the instrument's address of an offer that this box permits."""
        self._service, self._guard, self._path_of = service, guard, path_of

    @property
    def is_fenced(self) -> bool:
        """See `SessionPath.is_fenced`."""
        return self._guard.status().in_force

    async def open(self, offer: Offer, seconds: int) -> bool:
        """See `SessionPath.open`."""
        return await self._service.open_path(self._path_of(offer), seconds)

    async def close(self, offer: Offer) -> None:
        """See `SessionPath.close`."""
        await self._service.close_path(self._path_of(offer))
