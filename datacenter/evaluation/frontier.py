"""Determines up to which number the records of a box are complete, so that they can be evaluated in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from settings.ranges import RangeSet

PATIENCE_MS: Final = 3_600_000
"""Time for which the evaluation waits for missing records while the box sends later ones."""


@dataclass(frozen=True)
class EpochArrivals:
    """The stored and the lost sequence numbers of one epoch, and the time at which the newest was stored."""

    stored: RangeSet
    lost: RangeSet
    newest_at_ms: int


def frontier(arrivals: EpochArrivals, evaluated: int, moved_at_ms: int | None) -> int:
    """Return the sequence number up to which records can be evaluated.

    `evaluated` is the number up to which they have been evaluated, 0 for none; `moved_at_ms` is the time of that
    evaluation, None for none. A missing record is skipped if the box has sent later ones for PATIENCE_MS since then.
    While the box sends nothing, the wait has no limit, because the missing record can still be on its disk.
    """
    known = RangeSet(arrivals.stored)
    for first, last in arrivals.lost:
        known.add(first, last)
    for first, last in known:
        if last <= evaluated:
            continue
        is_next = first <= evaluated + 1
        is_skipped = moved_at_ms is not None and arrivals.newest_at_ms >= moved_at_ms + PATIENCE_MS
        return last if is_next or is_skipped else evaluated
    return evaluated
