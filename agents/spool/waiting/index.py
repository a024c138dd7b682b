"""Sorted index of the positions of one segment's alerts (or audit records): 24 bytes a record.

Routine records need no index, since they are delivered in the order of the log. Alerts and audit records are read out
of order, and may have been carried to a newer segment. `pinned` bounds how many positions are in memory.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

_COMPACT_AT = 1024


class RecordPosition(NamedTuple):
    """Sequence number of a record, its segment and offset in it, its length in bytes and its CRC-32C."""

    seq: int
    generation: int
    offset: int
    length: int
    crc: int


class PositionIndex:
    """Record positions by sequence number; acknowledged ones are removed from the front."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._locations = array("Q")  # generation << 32 | offset
        self._checks = array("Q")  # length << 32 | crc
        self._start = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._seqs) - self._start

    def __contains__(self, seq: int) -> bool:
        index = bisect_left(self._seqs, seq, self._start)
        return index < len(self._seqs) and self._seqs[index] == seq

    @property
    def last_seq(self) -> int:
        """The highest number, 0 if the index is empty."""
        return self._seqs[-1] if len(self) else 0

    def put(self, position: RecordPosition) -> RecordPosition | None:
        """Add a position, or replace the position of a record that has moved; returns the old one."""
        location, check = position.generation << 32 | position.offset, position.length << 32 | position.crc
        index = (
            len(self._seqs)
            if position.seq > self.last_seq
            else bisect_left(self._seqs, position.seq, self._start)
        )
        if index < len(self._seqs) and self._seqs[index] == position.seq:
            old = self._position(index)
            self._locations[index], self._checks[index] = location, check
            return old
        self._seqs.insert(index, position.seq)
        self._locations.insert(index, location)
        self._checks.insert(index, check)
        self.bytes += position.length
        return None

    def after(self, seq: int, records_max: int) -> list[RecordPosition]:
        """Return the first `records_max` positions with a higher number."""
        first = bisect_right(self._seqs, seq, self._start)
        return [self._position(index) for index in range(first, min(first + records_max, len(self._seqs)))]

    def all(self) -> list[RecordPosition]:
        """Return all positions."""
        return [self._position(index) for index in range(self._start, len(self._seqs))]

    def between(self, first: int, last: int) -> list[int]:
        """Return the indexed numbers from `first` to `last`."""
        start = bisect_left(self._seqs, first, self._start)
        return list(self._seqs[start : bisect_right(self._seqs, last, start)])

    def pop_through(self, seq: int) -> list[RecordPosition]:
        """Remove and return all positions up to and including `seq`."""
        stop = bisect_right(self._seqs, seq, self._start)
        popped = [self._position(index) for index in range(self._start, stop)]
        self.bytes -= sum(position.length for position in popped)
        self._start = stop
        if self._start > _COMPACT_AT and self._start * 2 > len(self._seqs):
            for column in (self._seqs, self._locations, self._checks):
                del column[: self._start]
            self._start = 0
        return popped

    def remove(self, seq: int) -> RecordPosition | None:
        """Remove and return the position of one record, if it is indexed."""
        index = bisect_left(self._seqs, seq, self._start)
        if index == len(self._seqs) or self._seqs[index] != seq:
            return None
        position = self._position(index)
        for column in (self._seqs, self._locations, self._checks):
            del column[index]
        self.bytes -= position.length
        return position

    def _position(self, index: int) -> RecordPosition:
        location, check = self._locations[index], self._checks[index]
        return RecordPosition(
            self._seqs[index], location >> 32, location & 0xFFFFFFFF, check >> 32, check & 0xFFFFFFFF
        )
