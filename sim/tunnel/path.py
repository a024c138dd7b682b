"""The path of a session through an emulated firewall: an element that expires by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sim.units import SECOND_NS
from wire.session.grant import Offer


class EmulPath:
    """A `SessionPath`. `in_force()` is whether the firewall is in force; `opens` is whether it accepts elements."""

    def __init__(
        self, in_force: Callable[[], bool] = lambda: True, now_ns: Callable[[], int] | None = None
    ) -> None:
        """`now_ns` is the kernel's monotonic clock; None: that of the event loop."""
        self.in_force, self._now_ns = in_force, now_ns or _loop_ns
        self.opens = True
        self._elements: dict[bytes, tuple[Offer, int]] = {}

    @property
    def is_fenced(self) -> bool:
        """See `SessionPath.is_fenced`."""
        return self.in_force()

    async def open(self, offer: Offer, seconds: int) -> bool:
        """See `SessionPath.open`."""
        if self.opens and self.is_fenced:
            self._elements[offer.id] = offer, self._now_ns() + seconds * SECOND_NS
        return offer.id in self._elements

    async def close(self, offer: Offer) -> None:
        """See `SessionPath.close`."""
        self._elements.pop(offer.id, None)

    def offer(self, session: bytes) -> Offer | None:
        """Return the offer whose packets pass; None if there is no element of this session in force."""
        offer, until = self._elements.get(session, (None, 0))
        passes = self.is_fenced and self._now_ns() < until
        return offer if passes else None

    def clear(self) -> None:
        """Remove all elements."""
        self._elements.clear()

    def elements(self) -> dict[bytes, int]:
        """Return the sessions whose packets pass, with the remaining seconds."""
        now_ns = self._now_ns()
        return {
            session: round((until - now_ns) / SECOND_NS)
            for session, (_, until) in self._elements.items()
            if self.offer(session) is not None
        }


def _loop_ns() -> int:
    return int(asyncio.get_running_loop().time() * SECOND_NS)
