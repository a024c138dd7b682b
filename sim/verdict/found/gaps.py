"""Matching of missing reports with gap records: each sequence number in a gap record accounts for one report at most.

Gap records name sequence numbers of the box; the ledger holds reports of instruments. They are matched by order: the
reports of one run and one priority get ascending sequence numbers, so the number of a missing report lies in a
*window* between the numbers of its neighbors that were found. Numbers are assigned to windows by the optimal rule for
intervals: each number, in ascending order, is assigned to the open window that closes first (Glover, 1967). No report
is accounted for twice, and no number accounts for two reports.

Numbers in a window that are neither found nor named may belong to the window's reports. The verdict assumes the worst
case: that they do, and that these reports are lost.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import accumulate
from math import inf
from typing import Final

from sim.verdict.ledger import LedgerEntry
from sim.verdict.result import GapFound

UNUSED: Final = "unused"
"""The reason of a gap whose numbers were never assigned to a record; it accounts for no report."""


@dataclass(slots=True)
class Window:
    """Consecutive reports of one run and priority, acknowledged but not found, and the found numbers around them."""

    before: int
    after: float
    """`inf` if no later report of the run and priority was found."""
    entries: list[LedgerEntry] = field(default_factory=list)
    named: int = 0
    """The number of sequence numbers in gap records that were assigned to it."""


class NumberSet:
    """A set of sequence numbers, stored as sorted, disjoint ranges; counts its members up to a bound."""

    def __init__(self, ranges: Iterable[tuple[int, int]], excluded: Sequence[int] = ()) -> None:
        """Make the set of all numbers in `ranges`, which may overlap, without those in the sorted `excluded`."""
        self.ranges: list[tuple[int, int]] = []
        last_end = -1
        for first, last in sorted(ranges):
            self._add(max(first, last_end + 1), last, excluded)
            last_end = max(last_end, last)
        self._lasts = [last for _, last in self.ranges]
        self._totals = list(accumulate((last - first + 1 for first, last in self.ranges), initial=0))

    def _add(self, first: int, last: int, excluded: Sequence[int]) -> None:
        for number in excluded[bisect_left(excluded, first) : bisect_right(excluded, last)]:
            if first < number:
                self.ranges.append((first, number - 1))
            first = number + 1
        if first <= last:
            self.ranges.append((first, last))

    def count_to(self, number: int) -> int:
        """Return the count of numbers that are at most `number`."""
        index = bisect_left(self._lasts, number)
        if index == len(self.ranges):
            return self._totals[index]
        return self._totals[index] + max(0, number - self.ranges[index][0] + 1)

    @property
    def highest(self) -> int:
        """The highest number; 0 if there is none."""
        return self._lasts[-1] if self._lasts else 0


def classify_missing(
    windows: list[Window], found: Sequence[int], gaps: Sequence[GapFound]
) -> tuple[list[LedgerEntry], list[LedgerEntry]]:
    """Divide the reports of the windows into (lost, dropped): those without and with a gap record.

    `found` are the sorted sequence numbers of all records found.
    """
    named = NumberSet((r for gap in gaps for r in gap.ranges), found)
    used = NumberSet((r for gap in gaps if gap.reason != UNUSED for r in gap.ranges), found)
    _assign(windows, used.ranges)
    lost: list[LedgerEntry] = []
    dropped: list[LedgerEntry] = []
    for window in windows:
        total = len(window.entries)
        accounted = min(window.named, total - min(total, _unaccounted(window, found, named)))
        dropped += window.entries[:accounted]
        lost += window.entries[accounted:]
    return lost, dropped


def _assign(windows: list[Window], ranges: Iterable[tuple[int, int]]) -> None:
    """Assign each number of the sorted `ranges` to at most one window, at most one per report of the window."""
    upcoming = [(window.before, index) for index, window in enumerate(windows) if window.entries]
    heapify(upcoming)
    opened: list[tuple[float, int]] = []  # (after, index) of the windows that the number lies in
    for first, last in ranges:
        number = first
        while number <= last:
            while upcoming and upcoming[0][0] < number:
                _, index = heappop(upcoming)
                heappush(opened, (windows[index].after, index))
            while opened and (opened[0][0] <= number or _is_full(windows[opened[0][1]])):
                heappop(opened)
            if opened:
                windows[opened[0][1]].named += 1
                number += 1
            elif upcoming:
                number = max(number + 1, upcoming[0][0] + 1)
            else:
                return


def _is_full(window: Window) -> bool:
    return window.named == len(window.entries)


def _unaccounted(window: Window, found: Sequence[int], named: NumberSet) -> int:
    """Return the count of numbers in the window that are neither found nor named in a gap record."""
    first = window.before + 1
    end = max(found[-1] if found else 0, named.highest) + 1 if window.after == inf else int(window.after)
    if end <= first:
        return 0
    present = bisect_left(found, end) - bisect_left(found, first)
    return end - first - present - (named.count_to(end - 1) - named.count_to(first - 1))
