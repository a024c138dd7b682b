"""The path of a session through an emulated firewall: an element that expires by itself."""

from __future__ import annotations

import asyncio

from wire.session.grant import Offer


class EmulPath:
    """A `SessionPath`. `is_fenced` is whether the firewall is in force; `opens` is whether it accepts elements."""

    def __init__(self) -> None:
        self.is_fenced = True
        self.opens = True
        self._elements: dict[bytes, tuple[Offer, float]] = {}

    async def open(self, offer: Offer, seconds: int) -> bool:
        """As `SessionPath.open`."""
        if self.opens and self.is_fenced:
            self._elements[offer.id] = offer, asyncio.get_running_loop().time() + seconds
        return offer.id in self._elements

    async def close(self, offer: Offer) -> None:
        """As `SessionPath.close`."""
        self._elements.pop(offer.id, None)

    def offer(self, session: bytes) -> Offer | None:
        """Return the offer whose packets pass; None if there is no element of this session in force."""
        offer, until = self._elements.get(session, (None, 0.0))
        passes = self.is_fenced and asyncio.get_running_loop().time() < until
        return offer if passes else None

    def elements(self) -> dict[bytes, int]:
        """Return the sessions whose packets pass, with the seconds that are left."""
        now = asyncio.get_running_loop().time()
        return {
            session: round(until - now)
            for session, (_, until) in self._elements.items()
            if self.offer(session) is not None
        }
