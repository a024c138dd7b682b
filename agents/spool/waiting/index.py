"""Sorted index of the places of one segment's alerts (or audit records): 24 bytes a record.

Routine records need no index, since they are delivered in the order of the log. Alerts and audit records are read out
of order, and may have been carried to a newer segment. `pinned` bounds how many places are in memory.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

_COMPACT_AT = 1024


class RecordPlace(NamedTuple):
    """Sequence number of a record, its segment and offset in it, its length in bytes and its CRC-32C."""

    seq: int
    generation: int
    offset: int
    length: int
    crc: int


class PlaceIndex:
    """Places by sequence number; acknowledged ones are removed from the front."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._positions = array("Q")  # generation << 32 | offset
        self._checks = array("Q")  # length << 32 | crc
        self._start = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._seqs) - self._start

    def __contains__(self, seq: int) -> bool:
        at = bisect_left(self._seqs, seq, self._start)
        return at < len(self._seqs) and self._seqs[at] == seq

    @property
    def last_seq(self) -> int:
        """The highest number, 0 if the index is empty."""
        return self._seqs[-1] if len(self) else 0

    def put(self, place: RecordPlace) -> RecordPlace | None:
        """Add a place, or replace the place of a record that has moved; returns the old one."""
        position, check = place.generation << 32 | place.offset, place.length << 32 | place.crc
        at = len(self._seqs) if place.seq > self.last_seq else bisect_left(self._seqs, place.seq, self._start)
        if at < len(self._seqs) and self._seqs[at] == place.seq:
            old = self._place(at)
            self._positions[at], self._checks[at] = position, check
            return old
        self._seqs.insert(at, place.seq)
        self._positions.insert(at, position)
        self._checks.insert(at, check)
        self.bytes += place.length
        return None

    def after(self, seq: int, records_max: int) -> list[RecordPlace]:
        """Return the first `records_max` places with a higher number."""
        first = bisect_right(self._seqs, seq, self._start)
        return [self._place(at) for at in range(first, min(first + records_max, len(self._seqs)))]

    def all(self) -> list[RecordPlace]:
        """Return all places."""
        return [self._place(at) for at in range(self._start, len(self._seqs))]

    def between(self, first: int, last: int) -> list[int]:
        """Return the indexed numbers from `first` to `last`."""
        start = bisect_left(self._seqs, first, self._start)
        return list(self._seqs[start : bisect_right(self._seqs, last, start)])

    def pop_through(self, seq: int) -> list[RecordPlace]:
        """Remove and return all places up to and including `seq`."""
        stop = bisect_right(self._seqs, seq, self._start)
        popped = [self._place(at) for at in range(self._start, stop)]
        self.bytes -= sum(place.length for place in popped)
        self._start = stop
        if self._start > _COMPACT_AT and self._start * 2 > len(self._seqs):
            for column in (self._seqs, self._positions, self._checks):
                del column[: self._start]
            self._start = 0
        return popped

    def remove(self, seq: int) -> RecordPlace | None:
        """Remove and return the place of one record, if it is indexed."""
        at = bisect_left(self._seqs, seq, self._start)
        if at == len(self._seqs) or self._seqs[at] != seq:
            return None
        place = self._place(at)
        for column in (self._seqs, self._positions, self._checks):
            del column[at]
        self.bytes -= place.length
        return place

    def _place(self, at: int) -> RecordPlace:
        position, check = self._positions[at], self._checks[at]
        return RecordPlace(
            self._seqs[at], position >> 32, position & 0xFFFFFFFF, check >> 32, check & 0xFFFFFFFF
        )
