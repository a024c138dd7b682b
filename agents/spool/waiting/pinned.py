"""Which alerts (or audit records) wait, in bounded memory: counts for each segment, places for some.

A `Sheet` is what one segment holds of one priority. Its places can be dropped from memory and read from the segment
again (`load`), except those of the segment that is being written, and of segments that share records with another one
(`keep`). Records that were carried from an older segment have lower numbers than all others of their segment, so
the sheets' numbers may overlap; reading merges them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator

from agents.spool.disk.segment import SpoolSegment
from agents.spool.disk.summary import Carried
from agents.spool.waiting.index import PlaceIndex, RecordPlace

_GENERATION_MAX = 1 << 32
RESIDENT_RECORDS_MAX = 64 * 1024  # places in memory, 24 bytes each, beside those that cannot be dropped


class Sheet:
    """The waiting records of one priority in one segment; `places` is None while they are not in memory."""

    __slots__ = ("bytes", "first_seq", "last_seq", "next_above", "places", "records", "segment")

    def __init__(self, segment: SpoolSegment) -> None:
        self.segment = segment
        self.records = self.bytes = 0
        self.first_seq = self.last_seq = 0  # bounds of the numbers
        self.next_above = (0, 0)  # (a, b): b is the lowest number above a
        self.places: PlaceIndex | None = PlaceIndex()

    def low(self, seq: int) -> int:
        """No number above `seq` in the sheet is lower than this."""
        above, following = self.next_above
        return following if above <= seq < following else self.first_seq


class PinnedIndex:
    """All sheets of one priority. `load(segment)` calls `forget` and `add` for what the segment holds now."""

    def __init__(self) -> None:
        self.load: Callable[[SpoolSegment], None] = _cannot_load
        self.is_kept: Callable[[SpoolSegment], bool] = _keep_all
        self.records = self.bytes = 0
        self._sheets: dict[int, Sheet] = {}  # by generation
        self._order: list[tuple[int, int]] = []  # (first_seq, generation) of all sheets, sorted
        self._resident: dict[int, None] = {}  # generations, least recently used first
        self._resident_records = 0

    def __len__(self) -> int:
        return self.records

    # -- changes ----------------------------------------------------------------------------------------

    def add(self, segment: SpoolSegment, place: RecordPlace) -> None:
        """A record waits at `place` of `segment`."""
        sheet = self._sheets.get(segment.generation)
        if sheet is None:
            sheet = self._sheets[segment.generation] = Sheet(segment)
            sheet.first_seq = place.seq
            insort(self._order, (place.seq, segment.generation))
            self._use(sheet)
        assert sheet.places is not None
        if sheet.places.put(place) is not None:
            return
        if place.seq < sheet.first_seq:
            self._begin_at(sheet, place.seq)
        sheet.last_seq = max(sheet.last_seq, place.seq)
        sheet.next_above = (0, 0)
        self._resident_records += 1
        self._count(sheet, 1, place.length)

    def add_unread(self, segment: SpoolSegment, own: Carried, carried: Carried) -> None:
        """All these records wait in `segment`, by its summary."""
        records = own.records + carried.records
        if records:
            sheet = self._sheets[segment.generation] = Sheet(segment)
            sheet.places = None
            sheet.first_seq = carried.first_seq if carried.records else own.first_seq
            insort(self._order, (sheet.first_seq, segment.generation))
            sheet.last_seq = own.last_seq if own.records else carried.last_seq
            self._count(sheet, records, own.bytes + carried.bytes)

    def forget(self, segment: SpoolSegment) -> None:
        """Nothing of `segment` waits any more, or what does will be added again."""
        sheet = self._sheets.get(segment.generation)
        if sheet is not None:
            self._drop(sheet)

    def remove(self, seq: int, generation: int) -> RecordPlace | None:
        """Take out one record, if it is there."""
        sheet = self._sheets.get(generation)
        place = self._places(sheet).remove(seq) if sheet is not None else None
        sheet = self._sheets.get(generation)
        if place is not None and sheet is not None:
            self._resident_records -= 1
            self._count(sheet, -1, -place.length)
            self._drop_if_empty(sheet)
        return place

    def pop_through(self, seq: int) -> None:
        """Take out all records up to and including `seq`."""
        for _, generation in self._order[: self._first_above(seq)]:
            sheet = self._sheets.get(generation)
            if sheet is None:
                continue
            if sheet.last_seq > seq:
                self._pop_within(sheet, seq)
            else:
                self._drop(sheet)

    def _pop_within(self, sheet: Sheet, seq: int) -> None:
        popped = self._places(sheet).pop_through(seq)
        sheet = self._sheets.get(sheet.segment.generation, sheet)
        self._resident_records -= len(popped)
        self._count(sheet, -len(popped), -sum(place.length for place in popped))
        if sheet.records and sheet.places is not None:
            self._begin_at(sheet, sheet.places.after(seq, 1)[0].seq)
        self._drop_if_empty(sheet)

    # -- queries ----------------------------------------------------------------------------------------

    def after(self, seq: int, records_max: int) -> list[RecordPlace]:
        """The first `records_max` places with a higher number."""
        found: list[RecordPlace] = []
        for sheet in self._above(seq):
            if len(found) == records_max and found[-1].seq < sheet.low(seq):
                break
            places = self._places(sheet).after(seq, records_max)
            sheet = self._sheets.get(sheet.segment.generation, sheet)
            sheet.next_above = (seq, places[0].seq) if places else (seq, sheet.last_seq + 1)
            found = sorted(found + places)[:records_max] if found else places
        return found

    def between(self, first: int, last: int) -> list[int]:
        """The numbers from `first` to `last` that are in it."""
        return sorted(
            seq for sheet in self._meeting(first, last) for seq in self._places(sheet).between(first, last)
        )

    def find(self, seq: int) -> RecordPlace | None:
        """Where the record with this number is."""
        for sheet in self._meeting(seq, seq):
            for place in self._places(sheet).after(seq - 1, 1):
                if place.seq == seq:
                    return place
        return None

    def of_segment(self, generation: int) -> list[RecordPlace]:
        """All places in one segment."""
        sheet = self._sheets.get(generation)
        return self._places(sheet).all() if sheet is not None else []

    def in_memory(self, seq: int) -> int:
        """The generation of a segment whose places are in memory and include `seq`; 0 if there is none."""
        for generation in self._resident:
            sheet = self._sheets[generation]
            if sheet.first_seq <= seq <= sheet.last_seq and sheet.places is not None and seq in sheet.places:
                return generation
        return 0

    # -- memory -----------------------------------------------------------------------------------------

    def _places(self, sheet: Sheet) -> PlaceIndex:
        if sheet.places is None:
            self.load(sheet.segment)
            sheet = self._sheets.get(sheet.segment.generation, Sheet(sheet.segment))
        self._use(sheet)
        assert sheet.places is not None
        return sheet.places

    def _use(self, sheet: Sheet) -> None:
        generation = sheet.segment.generation
        if generation in self._sheets:
            self._resident.pop(generation, None)
            self._resident[generation] = None
            self.make_room()

    def make_room(self) -> None:
        """Drop places from memory beyond RESIDENT_RECORDS_MAX, but for those used last."""
        if self._resident_records <= RESIDENT_RECORDS_MAX:
            return
        for generation in list(self._resident)[:-1]:
            sheet = self._sheets[generation]
            if not self.is_kept(sheet.segment):
                del self._resident[generation]
                self._resident_records -= sheet.records
                sheet.places = None
                if self._resident_records <= RESIDENT_RECORDS_MAX:
                    return

    def _above(self, seq: int) -> Iterator[Sheet]:
        """The sheets that may hold numbers above `seq`, by a lower bound of these; others may change meanwhile."""
        at = self._first_above(seq)
        begun = (self._sheets[generation] for _, generation in self._order[:at])
        reading = deque(sorted((s for s in begun if s.last_seq > seq), key=lambda s: s.low(seq)))
        passed, done = (seq, _GENERATION_MAX), set[int]()
        while True:
            at = bisect_right(self._order, passed)
            if reading and (at == len(self._order) or reading[0].low(seq) <= self._order[at][0]):
                sheet = reading.popleft()
            elif at < len(self._order):
                passed = self._order[at]
                sheet = self._sheets[passed[1]]
            else:
                return
            if sheet.segment.generation not in done:
                done.add(sheet.segment.generation)
                yield sheet

    def _first_above(self, seq: int) -> int:
        """The position in `_order` of the first sheet that begins above `seq`."""
        return bisect_right(self._order, (seq, _GENERATION_MAX))

    def _begin_at(self, sheet: Sheet, seq: int) -> None:
        """The sheet's lowest number is `seq` now."""
        generation = sheet.segment.generation
        del self._order[bisect_left(self._order, (sheet.first_seq, generation))]
        sheet.first_seq = seq
        insort(self._order, (seq, generation))

    def _meeting(self, first: int, last: int) -> Iterator[Sheet]:
        for sheet in list(self._sheets.values()):
            if sheet.first_seq <= last and first <= sheet.last_seq:
                yield sheet

    def _count(self, sheet: Sheet, records: int, size: int) -> None:
        sheet.records += records
        sheet.bytes += size
        sheet.segment.count_pinned(records, size)
        self.records += records
        self.bytes += size

    def _drop_if_empty(self, sheet: Sheet) -> None:
        if not sheet.records:
            self._drop(sheet)

    def _drop(self, sheet: Sheet) -> None:
        if sheet.places is not None:
            self._resident_records -= sheet.records
        self._resident.pop(sheet.segment.generation, None)
        self._count(sheet, -sheet.records, -sheet.bytes)
        dropped = self._sheets.pop(sheet.segment.generation, None)
        if dropped is not None:
            del self._order[bisect_left(self._order, (dropped.first_seq, sheet.segment.generation))]


def _keep_all(_segment: SpoolSegment) -> bool:
    return True


def _cannot_load(segment: SpoolSegment) -> None:
    raise AssertionError(f"segment {segment.generation} cannot be loaded yet")
