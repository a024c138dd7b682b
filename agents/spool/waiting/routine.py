"""Reading and counting routine records: in the order of the log, without an index.

The reader remembers its position, so that a backlog is parsed once, however small the batches are. It seeks only if
the caller does not continue after the last record returned.
"""

from __future__ import annotations

from collections.abc import Callable

from agents.spool.disk.group import Group, GroupKind
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment, groups, next_group, read_salvaging
from agents.spool.types import Priority
from agents.spool.waiting.ledger import GapLedger

_ROUTINE = int(Priority.ROUTINE)
Record = tuple[int, bytes]


def routine_indices(group: Group, low: int, high: int, ledger: GapLedger) -> list[int]:
    """Return the indices in `group` of the readable routine records with low < number <= high."""
    first, lost = group.first_seq, ledger.lost
    has_lost = lost.overlaps(first, group.last_seq)
    return [
        index
        for index, priority in enumerate(group.priorities)
        if priority == _ROUTINE and low < first + index <= high and not (has_lost and first + index in lost)
    ]


def count_group(group: Group, low: int, high: int, ledger: GapLedger) -> tuple[int, int]:
    """Return the number and payload bytes of the records that `routine_indices` returns."""
    count, lost = group.count, ledger.lost
    is_complete = (
        low < group.first_seq
        and group.last_seq <= high
        and not lost.overlaps(group.first_seq, group.last_seq)
    )
    if is_complete and group.priorities.count(_ROUTINE) == count:
        return count, group.payload_bytes
    indices = routine_indices(group, low, high, ledger)
    return len(indices), sum(group.lengths[index] for index in indices)


class RoutineCounter:
    """Updates each segment's count of waiting routine records as the cursor moves."""

    def __init__(self, log: SegmentLog, ledger: GapLedger) -> None:
        self._log, self._ledger = log, ledger

    def move(self, cursor: int, through: int) -> None:
        """Subtract the records that are acknowledged by moving the cursor from `cursor` to `through`."""
        for segment in self._log.segments_from(cursor):
            if segment.base > through:
                break
            upper = self._log.upper_bound(segment)
            if upper - 1 <= through:
                segment.clear_routine()
                segment.routine_at, segment.routine_seq = segment.end, upper
                segment.remembered.clear()
            elif segment.routine_records:
                self._move_within(segment, cursor, through)

    def _move_within(self, segment: SpoolSegment, cursor: int, through: int) -> None:
        for group in groups(self._log.disk, segment, segment.routine_at, segment.end):
            if group.kind is GroupKind.DATA:
                records, size = count_group(group, cursor, through, self._ledger)
                segment.count_routine(-records, -size)
                if group.last_seq > through:
                    break
                segment.routine_seq = group.last_seq + 1
            segment.routine_at = group.end
            segment.remembered.pop(group.offset, None)
            if group.kind is GroupKind.DATA and group.last_seq == through:
                break

    def recount(self, segment: SpoolSegment, cursor: int) -> None:
        """Count the waiting records of one segment again, after some were marked as lost."""
        counts = [
            count_group(group, cursor, self._log.upper_bound(segment) - 1, self._ledger)
            for group in groups(self._log.disk, segment, 0, segment.end)
            if group.kind is GroupKind.DATA
        ]
        segment.clear_routine()
        segment.count_routine(sum(records for records, _ in counts), sum(size for _, size in counts))


class RoutineReader:
    """Sequential reader. Calls `unreadable(segment, first, last)` for numbers that cannot be read."""

    def __init__(
        self, log: SegmentLog, ledger: GapLedger, unreadable: Callable[[SpoolSegment, int, int], None]
    ) -> None:
        self._log, self._ledger, self._unreadable = log, ledger, unreadable
        self._segment: SpoolSegment | None = None
        self._offset = 0  # of the next group
        self._expected = 0  # the first number that the next group should have
        self._at = -1  # number of the last record returned
        self._records: list[Record] = []  # of the group that ends at `_offset`
        self._next = 0  # index in `_records` of the next one to return

    def read(self, after: int, records_max: int, bytes_max: int) -> list[Record]:
        """Return routine records with numbers above `after`; see `Spool.read`."""
        if after != self._at:
            self._seek(after)
        records: list[Record] = []
        size = 0
        while len(records) < records_max and (self._next < len(self._records) or self._load()):
            record = self._records[self._next]
            size += len(record[1])
            if size > bytes_max and records:
                break
            records.append(record)
            self._next += 1
        if records:
            self._at = records[-1][0]
        return records

    def _seek(self, after: int) -> None:
        self._at, self._records, self._next = after, [], 0
        self._segment = segment = self._log.segment_of(after + 1)
        if segment is None:
            return
        self._offset, self._expected = segment.routine_at, segment.routine_seq
        for group in groups(self._log.disk, segment, self._offset, segment.end):
            if group.kind is GroupKind.DATA and group.last_seq > after:
                break
            self._offset = group.end
            if group.kind is GroupKind.DATA:
                self._expected = group.last_seq + 1

    def _load(self) -> bool:
        """Load the next group that has routine records; False if there is none."""
        while True:
            group = self._next_group()
            if group is None:
                return False
            if group.kind is not GroupKind.DATA:
                continue
            assert self._segment is not None
            self._report_missing(group.first_seq)
            self._expected = group.last_seq + 1
            self._records, self._next = self._routine(self._segment, group), 0
            if self._records:
                return True

    def _next_group(self) -> Group | None:
        if self._segment is None:
            self._segment = self._log.segment_of(self._at + 1)
            if self._segment is None:
                return None
            self._offset, self._expected = self._segment.routine_at, self._segment.routine_seq
        while True:
            group = next_group(self._log.disk, self._segment, self._offset, self._segment.end)
            if group is not None:
                self._offset = group.end
                return group
            after = self._log.after(self._segment)
            self._report_missing(self._log.upper_bound(self._segment))
            if after is None:
                self._expected = self._log.next_seq
                return None
            self._segment, self._offset, self._expected = after, after.routine_at, after.routine_seq

    def _report_missing(self, before: int) -> None:
        """Report the numbers from the expected one up to `before`, exclusive, as unreadable."""
        first = max(self._expected, self._at + 1)
        if first < before and self._segment is not None and self._segment in self._log.segments:
            self._unreadable(self._segment, first, before - 1)

    def _routine(self, segment: SpoolSegment, group: Group) -> list[Record]:
        indices = routine_indices(group, self._at, group.last_seq, self._ledger)
        if not indices:
            return []
        data = read_salvaging(self._log.disk, segment.name, group.payload_offset, group.payload_bytes)
        payloads = group.payloads(data)
        bad = set(group.damaged(payloads))
        for index in bad.intersection(indices):
            self._unreadable(segment, group.first_seq + index, group.first_seq + index)
        return [(group.first_seq + index, payloads[index]) for index in indices if index not in bad]
