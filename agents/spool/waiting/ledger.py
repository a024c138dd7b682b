"""What will never be delivered: found, waiting to be reported, reported.

Each number is reported once. `lost` holds all that is known to be gone, so that a second look at the same
unreadable sector is no news; it rides in checkpoints, so that neither is a look after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from agents.spool.types import GapReason, SpoolGap
from settings.ranges import Range, RangeSet


class GapLedger:
    """Ranges that are gone, and those of them that nobody has been told about yet."""

    def __init__(self) -> None:
        self.lost = RangeSet()
        self.unreported: dict[GapReason, RangeSet] = {}

    def find(self, first: int, last: int, reason: GapReason) -> bool:
        """`first` to `last` are gone. True if that is news."""
        news = RangeSet([(first, last)]).difference(self.lost)
        for range_first, range_last in news:
            self.lost.add(range_first, range_last)
            self.unreported.setdefault(reason, RangeSet()).add(range_first, range_last)
        return len(news) > 0

    def pending(self, ranges_max: int) -> list[SpoolGap]:
        """The gaps to report now, each with at most `ranges_max` ranges, by their first numbers."""
        gaps = [
            gap_of(chunk, reason)
            for reason, ranges in self.unreported.items()
            for chunk in chunks(ranges, ranges_max)
        ]
        return sorted(gaps, key=lambda gap: gap.ranges)

    def reported(self, gap: SpoolGap) -> None:
        """`gap` has been reported, durably."""
        ranges = self.unreported[gap.reason]
        for first, last in gap.ranges:
            ranges.remove(first, last)
        if not ranges:
            del self.unreported[gap.reason]

    def reclassify(self, first: int, last: int, old: GapReason, new: GapReason) -> int:
        """What is pending as `old` between `first` and `last` is `new`; returns the lowest such number, or 0."""
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
        """Whether any number from `first` to `last` waits to be reported."""
        return any(ranges.overlaps(first, last) for ranges in self.unreported.values())

    def unreported_ranges(self) -> int:
        """How many ranges wait to be reported."""
        return sum(map(len, self.unreported.values()))

    def settled(self, through_seq: int, ranges_max: int) -> list[Range]:
        """The reported ranges to keep in a checkpoint: the newest `ranges_max` beyond `through_seq`.

        Everything up to `through_seq` has been acknowledged in all priorities, and is forgotten.
        """
        self.lost.remove(0, through_seq)
        reported = self.lost
        for ranges in self.unreported.values():
            reported = reported.difference(ranges)
        return list(reported)[-ranges_max:]


def gap_of(ranges: tuple[Range, ...], reason: GapReason) -> SpoolGap:
    """A gap whose ranges are all numbers of records, except skipped ones, which never had any."""
    records = 0 if reason is GapReason.UNUSED else sum(last - first + 1 for first, last in ranges)
    return SpoolGap(ranges, records, reason)


def chunks(ranges: RangeSet, ranges_max: int) -> Iterator[tuple[Range, ...]]:
    """The set's ranges, `ranges_max` at a time."""
    rest = iter(ranges)
    while chunk := tuple(islice(rest, ranges_max)):
        yield chunk
