"""Decides which silences get an alert: pure functions, without database and clock.

The units of a site are: each box that is silent, each instrument of the other boxes, and other boxes without an
instrument that a trigger watches. If all of them are silent, this is one outage of the site. Therefore, the alert of
a unit waits as long as its silence may be the first of an outage: until another unit has sent something more than
`within_ms` after the last report of this unit, or until all units would be silent too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Unit(NamedTuple):
    """A box (`instrument` is empty) or an instrument, and since when it is silent (None if it is not)."""

    box: str
    instrument: str
    last_seen_ms: int
    silent_ms: int | None


def units_of(boxes: Sequence[Unit], instruments: Sequence[Unit]) -> list[Unit]:
    """Return the units of a site: boxes that are silent or have no instruments, and the instruments of the others."""
    silent = {box.box for box in boxes if box.silent_ms is not None}
    with_instruments = {instrument.box for instrument in instruments}
    return [
        *(box for box in boxes if box.box in silent or box.box not in with_instruments),
        *(instrument for instrument in instruments if instrument.box not in silent),
    ]


def outage_began_ms(boxes: Sequence[Unit], instruments: Sequence[Unit]) -> int | None:
    """Return when the last unit of a site fell silent; None if a unit is not silent, or if only one is watched.

    A silent box and its instruments count as several.
    """
    units = units_of(boxes, instruments)
    is_several = len(units) > 1 or any(not unit.instrument for unit in units)
    if not is_several or len(boxes) + len(instruments) < 2:
        return None
    silent = [unit.silent_ms for unit in units if unit.silent_ms is not None]
    return max(silent) if len(silent) == len(units) else None


def is_alone(unit: Unit, units: Sequence[Unit], within_ms: int, lasts_ms: int, now_ms: int) -> bool:
    """Return whether a silence cannot be the first of an outage; `lasts_ms` is the longest of any silence trigger."""
    others = [other for other in units if other != unit]
    return (
        not others
        or any(other.last_seen_ms > unit.last_seen_ms + within_ms for other in others)
        or now_ms >= unit.last_seen_ms + lasts_ms + 2 * within_ms
    )
