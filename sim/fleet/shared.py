"""Simulated histories that several instruments of a fleet share, shifted by different numbers of days.

Simulating an instrument for months takes seconds. An instrument of a fleet therefore has the reports of one of
TEMPLATES histories of its model, from one of MOVED_DAYS days on: only in fleets of more than 56 boxes (their product)
do two instruments have the same reports at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

import msgspec

from sim.instruments.history import History
from sim.units import DAY_NS, MILLISECOND_NS, MINUTE_NS
from wire.messages import InstrumentReport

REPORT_EVERY_NS: Final = 10 * MINUTE_NS
_DAY_MS: Final = DAY_NS // MILLISECOND_NS
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[InstrumentReport]).decode


class SharedHistory:
    """The reports of one simulated instrument by day; the days are kept in MessagePack, which bounds the memory."""

    def __init__(self, model: str, template: int, seed: int) -> None:
        """Raises: ModelError."""
        self._history = History(model, f"TEMPLATE-{template}", seed, report_every_ns=REPORT_EVERY_NS)
        self._days: list[bytes] = []

    def day(self, day: int) -> list[InstrumentReport]:
        """Return the reports of a day since the beginning, with times in ms since then."""
        while len(self._days) <= day:
            end_ns = (len(self._days) + 1) * DAY_NS
            self._days.append(_encode(list(self._history.until(end_ns))))
        return _decode(self._days[day])


@cache
def shared_history(model: str, template: int, seed: int) -> SharedHistory:
    """Return the history of a template, the same object throughout the process. Raises: ModelError."""
    return SharedHistory(model, template, seed)


class MovedHistory:
    """A shared history from the day `moved_days` on, as the history of an instrument that begins at `start_ms`."""

    def __init__(self, shared: SharedHistory, moved_days: int, start_ms: int) -> None:
        self._shared, self._moved_days = shared, moved_days
        self._move_ms = start_ms - moved_days * _DAY_MS
        self._until_ns = 0
        self._waiting: Iterator[InstrumentReport] = iter(())
        self._next: InstrumentReport | None = None
        self._day = 0

    def until(self, end_ns: int) -> Iterator[tuple[int, InstrumentReport]]:
        """Yield the next reports, up to `end_ns` ns after the start, each after its time in ms since 1970."""
        end_ms = end_ns // MILLISECOND_NS + self._moved_days * _DAY_MS
        while True:
            while self._next is None:
                if (self._day + self._moved_days) * _DAY_MS >= end_ms:
                    return
                self._waiting = iter(self._shared.day(self._day + self._moved_days))
                self._day += 1
                self._next = next(self._waiting, None)
            if self._next.at_ms >= end_ms:
                return
            yield self._next.at_ms + self._move_ms, self._next
            self._next = next(self._waiting, None)
