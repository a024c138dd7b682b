"""A set of integers kept as sorted, disjoint, inclusive ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First and last number, both inclusive."""


class RangeSet:
    """A set of integers, stored as the smallest number of ranges."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._firsts, number) - 1
        return index >= 0 and number <= self._lasts[index]

    def count(self) -> int:
        """Return the number of integers in the set."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def last(self) -> int:
        """Return the greatest number of the set, -1 if it is empty."""
        return self._lasts[-1] if self._lasts else -1

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether the set contains any number from `first` to `last`."""
        index = bisect_left(self._lasts, first)
        return index < len(self._firsts) and self._firsts[index] <= last

    def add(self, first: int, last: int) -> None:
        """Add the numbers `first` to `last`."""
        if first > last:
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def remove(self, first: int, last: int) -> None:
        """Remove the numbers `first` to `last`."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        if low >= high:
            return
        parts = (self._firsts[low], first - 1), (last + 1, self._lasts[high - 1])
        kept = [part for part in parts if part[0] <= part[1]]
        self._firsts[low:high] = [part[0] for part in kept]
        self._lasts[low:high] = [part[1] for part in kept]

    def difference(self, others: Iterable[Range]) -> RangeSet:
        """Return a copy of the set without the numbers in `others`."""
        remaining = RangeSet(self)
        for first, last in others:
            remaining.remove(first, last)
        return remaining
