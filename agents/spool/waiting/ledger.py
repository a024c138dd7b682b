"""Lost sequence numbers, and which of them have not been reported yet.

Each number is reported once. `lost` holds all lost numbers, so that reading the same damaged sector again reports
nothing; it is stored in checkpoints, so that this also holds after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from agents.spool.types import GapReason, SpoolGap
from settings.ranges import Range, RangeSet


class GapLedger:
    """Lost ranges, and by reason the ranges that have not been reported yet."""

    def __init__(self) -> None:
        self.lost = RangeSet()
        self.unreported: dict[GapReason, RangeSet] = {}

    def mark_lost(self, first: int, last: int, reason: GapReason) -> None:
        """Mark `first` to `last` as lost, unless they are already."""
        for range_first, range_last in RangeSet([(first, last)]).difference(self.lost):
            self.lost.add(range_first, range_last)
            self.unreported.setdefault(reason, RangeSet()).add(range_first, range_last)

    def pending(self, ranges_max: int) -> list[SpoolGap]:
        """Return the unreported gaps, each with at most `ranges_max` ranges, sorted by their first numbers."""
        gaps = [
            gap_of(chunk, reason)
            for reason, ranges in self.unreported.items()
            for chunk in chunks(ranges, ranges_max)
        ]
        return sorted(gaps, key=lambda gap: gap.ranges)

    def mark_reported(self, gap: SpoolGap) -> None:
        """Note that `gap` has been reported durably."""
        ranges = self.unreported[gap.reason]
        for first, last in gap.ranges:
            ranges.remove(first, last)
        if not ranges:
            del self.unreported[gap.reason]

    def reclassify(self, first: int, last: int, old: GapReason, new: GapReason) -> int:
        """Change the reason of unreported losses from `first` to `last`; return the lowest one changed, or 0."""
        ranges = self.unreported.get(old, RangeSet())
        moved = ranges.difference([(0, first - 1), (last + 1, 1 << 64)])
        lowest = 0
        for range_first, range_last in moved:
            lowest = lowest or range_first
            ranges.remove(range_first, range_last)
            self.unreported.setdefault(new, RangeSet()).add(range_first, range_last)
        if not ranges:
            self.unreported.pop(old, None)
        return lowest

    def unreported_in(self, first: int, last: int) -> bool:
        """Return whether any number from `first` to `last` is lost and unreported."""
        return any(ranges.overlaps(first, last) for ranges in self.unreported.values())

    def unreported_count(self) -> int:
        """Return the number of unreported ranges."""
        return sum(map(len, self.unreported.values()))

    def reported_ranges(self, through_seq: int, ranges_max: int) -> list[Range]:
        """Return the reported ranges to store in a checkpoint: the newest `ranges_max` above `through_seq`.

        Discards lower ones: numbers up to `through_seq` have been acknowledged in all priorities.
        """
        self.lost.remove(0, through_seq)
        reported = self.lost
        for ranges in self.unreported.values():
            reported = reported.difference(ranges)
        return list(reported)[-ranges_max:]


def gap_of(ranges: tuple[Range, ...], reason: GapReason) -> SpoolGap:
    """Return a gap with these ranges. Every number had a record, except UNUSED ones, which were skipped."""
    records = 0 if reason is GapReason.UNUSED else sum(last - first + 1 for first, last in ranges)
    return SpoolGap(ranges, records, reason)


def chunks(ranges: RangeSet, ranges_max: int) -> Iterator[tuple[Range, ...]]:
    """Yield the ranges of the set, in tuples of at most `ranges_max`."""
    remaining = iter(ranges)
    while chunk := tuple(islice(remaining, ranges_max)):
        yield chunk
