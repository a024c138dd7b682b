"""Index of the waiting alerts (or audit records) in bounded memory.

It has counts of records for all segments, and the positions of the records in the files for some segments.

A `SegmentIndex` covers one segment and one priority. Its positions can be dropped from memory and reread from the
segment (`load`), except those of the segment being written and of segments that share records with another one
(`is_kept`). Records carried from an older segment have lower numbers than the other records of their segment, so the
number ranges of two indexes may overlap; reading merges them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator

from agents.spool.disk.segment import SpoolSegment
from agents.spool.disk.summary import Carried
from agents.spool.waiting.index import PositionIndex, RecordPosition

_GENERATION_MAX = 1 << 32
RESIDENT_RECORDS_MAX = (
    64 * 1024
)  # positions in memory, 24 bytes each, in addition to those that cannot be dropped


class SegmentIndex:
    """The waiting records of one priority in one segment; `positions` is None while they are not in memory."""

    __slots__ = ("bytes", "first_seq", "last_seq", "next_above", "positions", "records", "segment")

    def __init__(self, segment: SpoolSegment) -> None:
        self.segment = segment
        self.records = self.bytes = 0
        self.first_seq = self.last_seq = 0  # of the indexed records
        self.next_above = (0, 0)  # (a, b): b is the lowest indexed number above a
        self.positions: PositionIndex | None = PositionIndex()

    def low(self, seq: int) -> int:
        """Return a lower bound of the indexed numbers above `seq`."""
        above, following = self.next_above
        return following if above <= seq < following else self.first_seq


class PinnedIndex:
    """The indexes of all segments for one priority. `load(segment)` reads a segment, calling `forget` and `add`."""

    def __init__(self) -> None:
        self.load: Callable[[SpoolSegment], None] = _cannot_load
        self.is_kept: Callable[[SpoolSegment], bool] = _keep_all
        self.records = self.bytes = 0
        self._segment_indexes: dict[int, SegmentIndex] = {}  # by generation
        self._order: list[tuple[int, int]] = []  # (first_seq, generation) of all segment indexes, sorted
        self._resident: dict[int, None] = {}  # generations, least recently used first
        self._resident_records = 0

    def __len__(self) -> int:
        return self.records

    # -- changes ----------------------------------------------------------------------------------------

    def add(self, segment: SpoolSegment, position: RecordPosition) -> None:
        """Add a waiting record at `position` of `segment`."""
        segment_index = self._segment_indexes.get(segment.generation)
        if segment_index is None:
            segment_index = self._segment_indexes[segment.generation] = SegmentIndex(segment)
            segment_index.first_seq = position.seq
            insort(self._order, (position.seq, segment.generation))
            self._use(segment_index)
        assert segment_index.positions is not None
        if segment_index.positions.put(position) is not None:
            return
        if position.seq < segment_index.first_seq:
            self._begin_at(segment_index, position.seq)
        segment_index.last_seq = max(segment_index.last_seq, position.seq)
        segment_index.next_above = (0, 0)
        self._resident_records += 1
        self._count(segment_index, 1, position.length)

    def add_unread(self, segment: SpoolSegment, own: Carried, carried: Carried) -> None:
        """Add a segment of which only the summary has been read, with the counts of its new and its carried
        records."""
        records = own.records + carried.records
        if records:
            segment_index = self._segment_indexes[segment.generation] = SegmentIndex(segment)
            segment_index.positions = None
            segment_index.first_seq = carried.first_seq if carried.records else own.first_seq
            insort(self._order, (segment_index.first_seq, segment.generation))
            segment_index.last_seq = own.last_seq if own.records else carried.last_seq
            self._count(segment_index, records, own.bytes + carried.bytes)

    def forget(self, segment: SpoolSegment) -> None:
        """Remove all records of `segment`."""
        segment_index = self._segment_indexes.get(segment.generation)
        if segment_index is not None:
            self._drop(segment_index)

    def remove(self, seq: int, generation: int) -> RecordPosition | None:
        """Remove and return the position of one record, if it is indexed."""
        segment_index = self._segment_indexes.get(generation)
        position = self._positions(segment_index).remove(seq) if segment_index is not None else None
        segment_index = self._segment_indexes.get(generation)
        if position is not None and segment_index is not None:
            self._resident_records -= 1
            self._count(segment_index, -1, -position.length)
            self._drop_if_empty(segment_index)
        return position

    def pop_through(self, seq: int) -> None:
        """Remove all records up to and including `seq`."""
        for _, generation in self._order[: self._first_above(seq)]:
            segment_index = self._segment_indexes.get(generation)
            if segment_index is None:
                continue
            if segment_index.last_seq > seq:
                self._pop_within(segment_index, seq)
            else:
                self._drop(segment_index)

    def _pop_within(self, segment_index: SegmentIndex, seq: int) -> None:
        popped = self._positions(segment_index).pop_through(seq)
        segment_index = self._segment_indexes.get(segment_index.segment.generation, segment_index)
        self._resident_records -= len(popped)
        self._count(segment_index, -len(popped), -sum(position.length for position in popped))
        if segment_index.records and segment_index.positions is not None:
            self._begin_at(segment_index, segment_index.positions.after(seq, 1)[0].seq)
        self._drop_if_empty(segment_index)

    # -- queries ----------------------------------------------------------------------------------------

    def after(self, seq: int, records_max: int) -> list[RecordPosition]:
        """Return the first `records_max` positions with a higher number."""
        result: list[RecordPosition] = []
        for segment_index in self._above(seq):
            if len(result) == records_max and result[-1].seq < segment_index.low(seq):
                break
            positions = self._positions(segment_index).after(seq, records_max)
            segment_index = self._segment_indexes.get(segment_index.segment.generation, segment_index)
            segment_index.next_above = (
                (seq, positions[0].seq) if positions else (seq, segment_index.last_seq + 1)
            )
            result = sorted(result + positions)[:records_max] if result else positions
        return result

    def between(self, first: int, last: int) -> list[int]:
        """Return the indexed numbers from `first` to `last`."""
        return sorted(
            seq
            for segment_index in self._overlapping(first, last)
            for seq in self._positions(segment_index).between(first, last)
        )

    def find(self, seq: int) -> RecordPosition | None:
        """Return the position of the record with this number."""
        for segment_index in self._overlapping(seq, seq):
            for position in self._positions(segment_index).after(seq - 1, 1):
                if position.seq == seq:
                    return position
        return None

    def of_segment(self, generation: int) -> list[RecordPosition]:
        """Return all positions in one segment."""
        segment_index = self._segment_indexes.get(generation)
        return self._positions(segment_index).all() if segment_index is not None else []

    def resident_generation(self, seq: int) -> int:
        """Return the generation of the segment whose positions in memory include `seq`; 0 if there is none."""
        for generation in self._resident:
            segment_index = self._segment_indexes[generation]
            if (
                segment_index.first_seq <= seq <= segment_index.last_seq
                and segment_index.positions is not None
                and seq in segment_index.positions
            ):
                return generation
        return 0

    # -- memory -----------------------------------------------------------------------------------------

    def _positions(self, segment_index: SegmentIndex) -> PositionIndex:
        if segment_index.positions is None:
            self.load(segment_index.segment)
            segment_index = self._segment_indexes.get(
                segment_index.segment.generation, SegmentIndex(segment_index.segment)
            )
        self._use(segment_index)
        assert segment_index.positions is not None
        return segment_index.positions

    def _use(self, segment_index: SegmentIndex) -> None:
        generation = segment_index.segment.generation
        if generation in self._segment_indexes:
            self._resident.pop(generation, None)
            self._resident[generation] = None
            self.make_room()

    def make_room(self) -> None:
        """Drop the least recently used positions from memory until at most RESIDENT_RECORDS_MAX are left."""
        if self._resident_records <= RESIDENT_RECORDS_MAX:
            return
        for generation in list(self._resident)[:-1]:
            segment_index = self._segment_indexes[generation]
            if not self.is_kept(segment_index.segment):
                del self._resident[generation]
                self._resident_records -= segment_index.records
                segment_index.positions = None
                if self._resident_records <= RESIDENT_RECORDS_MAX:
                    return

    def _above(self, seq: int) -> Iterator[SegmentIndex]:
        """Yield the segment indexes that may hold numbers above `seq`, ordered by a lower bound of these.

        Tolerates changes to other segment indexes between two steps.
        """
        at = self._first_above(seq)
        begun = (self._segment_indexes[generation] for _, generation in self._order[:at])
        reading = deque(sorted((s for s in begun if s.last_seq > seq), key=lambda s: s.low(seq)))
        passed, done = (seq, _GENERATION_MAX), set[int]()
        while True:
            at = bisect_right(self._order, passed)
            if reading and (at == len(self._order) or reading[0].low(seq) <= self._order[at][0]):
                segment_index = reading.popleft()
            elif at < len(self._order):
                passed = self._order[at]
                segment_index = self._segment_indexes[passed[1]]
            else:
                return
            if segment_index.segment.generation not in done:
                done.add(segment_index.segment.generation)
                yield segment_index

    def _first_above(self, seq: int) -> int:
        """Return the position in `_order` of the first segment index that begins above `seq`."""
        return bisect_right(self._order, (seq, _GENERATION_MAX))

    def _begin_at(self, segment_index: SegmentIndex, seq: int) -> None:
        """Set the lowest number of a segment index to `seq`."""
        generation = segment_index.segment.generation
        del self._order[bisect_left(self._order, (segment_index.first_seq, generation))]
        segment_index.first_seq = seq
        insort(self._order, (seq, generation))

    def _overlapping(self, first: int, last: int) -> Iterator[SegmentIndex]:
        for segment_index in list(self._segment_indexes.values()):
            if segment_index.first_seq <= last and first <= segment_index.last_seq:
                yield segment_index

    def _count(self, segment_index: SegmentIndex, records: int, size: int) -> None:
        segment_index.records += records
        segment_index.bytes += size
        segment_index.segment.count_pinned(records, size)
        self.records += records
        self.bytes += size

    def _drop_if_empty(self, segment_index: SegmentIndex) -> None:
        if not segment_index.records:
            self._drop(segment_index)

    def _drop(self, segment_index: SegmentIndex) -> None:
        if segment_index.positions is not None:
            self._resident_records -= segment_index.records
        self._resident.pop(segment_index.segment.generation, None)
        self._count(segment_index, -segment_index.records, -segment_index.bytes)
        dropped = self._segment_indexes.pop(segment_index.segment.generation, None)
        if dropped is not None:
            del self._order[bisect_left(self._order, (dropped.first_seq, segment_index.segment.generation))]


def _keep_all(_segment: SpoolSegment) -> bool:
    return True


def _cannot_load(segment: SpoolSegment) -> None:
    raise AssertionError(f"segment {segment.generation} cannot be loaded yet")
