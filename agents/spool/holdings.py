"""The records that wait for delivery: cursors, positions of alerts and audit records, counts of routine records.

Updated when records become durable, are acknowledged, are carried to another segment or turn out to be unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.spool.disk.group import CURSORS, PreparedGroup, Records
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment
from agents.spool.survey import PINNED, SpoolState, survey_again
from agents.spool.types import GapReason, Priority, SpoolGap
from agents.spool.waiting.index import RecordPosition
from agents.spool.waiting.ledger import GapLedger
from agents.spool.waiting.reclaim import ReclaimPlan
from agents.spool.waiting.routine import RoutineCounter
from settings.ranges import RangeSet

_ROUTINE = int(Priority.ROUTINE)


class Holdings:
    """The unacknowledged records of one spool, over all segments."""

    def __init__(self, state: SpoolState) -> None:
        self._state = state
        self._log: SegmentLog = state.log
        self._ledger: GapLedger = state.ledger
        self.cursors, self.indexes = state.cursors, state.indexes  # by priority
        self._counter = RoutineCounter(state.log, state.ledger)
        self._totals = state.log.totals
        self._verified_to = 0  # generation; all segments before it have been verified
        self.cached_group_cursors = b""  # last result of `update_group_cursors`, empty when outdated
        for index in self.indexes.values():
            index.load, index.is_kept = self.verify, self._is_kept
            index.make_room()

    # -- verifying --------------------------------------------------------------------------------------

    def verify(self, segment: SpoolSegment) -> None:
        """Read a whole segment and mark missing records as lost. Raises: DiskError UNAVAILABLE."""
        survey_again(self._state, segment)
        self.cached_group_cursors = b""
        self._log.find_dead()

    def verify_next(self) -> bool:
        """Verify one segment of which only the summary has been read; False if there is none."""
        for segment in self._log.generations_from(self._verified_to):
            self._verified_to = segment.generation
            if not segment.is_verified and not segment.is_dead:
                self.verify(segment)
                return True
        return False

    def _is_kept(self, segment: SpoolSegment) -> bool:
        return segment is self._log.active or segment.is_copied

    # -- cursors ----------------------------------------------------------------------------------------

    def update_group_cursors(self) -> bytes:
        """Return `group_cursors`, also stored in `cached_group_cursors`."""
        self.cached_group_cursors = self.group_cursors(self._ledger.pending(1))
        return self.cached_group_cursors

    def group_cursors(self, unreported: Sequence[SpoolGap], dropping: SpoolSegment | None = None) -> bytes:
        """Return the encoded cursors to store in the next group.

        The cursor of a priority without waiting records is the last number.

        No cursor passes an unreported loss, because recovery does not examine numbers below the cursors.
        `unreported` are the gaps that remain unreported after this group, sorted by first number. `dropping` is a
        segment whose routine records this group reports as dropped.
        """
        last = self._log.next_seq - 1
        cursors, waiting_records = (
            list(self.cursors),
            [len(self.indexes[p]) for p in PINNED] + [self._totals.routine_records],
        )
        if dropping is not None:
            cursors[_ROUTINE] = self.routine_cursor_after(dropping)
            waiting_records[_ROUTINE] -= dropping.routine_records
        bound = unreported[0].ranges[0][0] - 1 if unreported else last
        return CURSORS.pack(
            *(
                min(bound, cursor if waiting else last)
                for cursor, waiting in zip(cursors, waiting_records, strict=True)
            )
        )

    def routine_cursor_after(self, segment: SpoolSegment) -> int:
        """Return the routine cursor after dropping all routine records in `segment` and before it."""
        return max(self._log.upper_bound(segment) - 1, self.cursors[_ROUTINE])

    def ack(self, priority: Priority, through_seq: int) -> None:
        """Move a cursor forward. Raises: DiskError UNAVAILABLE."""
        cursor = self.cursors[priority]
        if through_seq <= cursor:
            return
        self.cursors[priority], self.cached_group_cursors = through_seq, b""
        if priority == Priority.ROUTINE:
            self._counter.move(cursor, through_seq)
        else:
            self.indexes[priority].pop_through(through_seq)
        self._log.find_dead()

    # -- adding and moving records ----------------------------------------------------------------------

    def add(self, segment: SpoolSegment, offset: int, first_seq: int, group: PreparedGroup) -> None:
        """Add the records of a group that has become durable at `offset`."""
        if group.routine_records:
            if not self._totals.routine_records:
                self.cached_group_cursors = b""
            segment.count_routine(group.routine_records, group.routine_bytes)
            contents = segment.contents
            if contents is not None:
                contents.records[_ROUTINE] += group.routine_records
                contents.bytes[_ROUTINE] += group.routine_bytes
        if group.routine_records < len(group.records.crcs):
            self.cached_group_cursors = b""
            self._add_pinned(segment, offset + group.payload_offset, first_seq, group.records)

    def _add_pinned(self, segment: SpoolSegment, offset: int, first_seq: int, records: Records) -> None:
        fields = zip(records.priorities, records.lengths, records.crcs, strict=True)
        for seq, (priority, length, crc) in enumerate(fields, first_seq):
            if priority != _ROUTINE:
                self.indexes[Priority(priority)].add(
                    segment, RecordPosition(seq, segment.generation, offset, length, crc)
                )
                if segment.contents is not None:
                    segment.contents.records[priority] += 1
                    segment.contents.bytes[priority] += length
            offset += length

    def move(self, plan: ReclaimPlan, victim: SpoolSegment, segment: SpoolSegment, offset: int) -> None:
        """Move the kept records of `victim` to `offset` of `segment`; its other records have been dropped."""
        offset += plan.payload_offset
        for index in self.indexes.values():
            index.forget(victim)
        contents = segment.contents
        for (priority, position), payload in zip(plan.positions, plan.payloads, strict=True):
            self.indexes[priority].add(
                segment, position._replace(generation=segment.generation, offset=offset)
            )
            offset += len(payload)
            if contents is not None:
                contents.carried[priority].add(position.seq, position.length)
                contents.carried_from = victim.generation
        victim.clear_routine()
        self._log.free(victim)
        self.cached_group_cursors = b""

    # -- losses -----------------------------------------------------------------------------------------

    def discard(self, priority: Priority, seq: int) -> None:
        """Discard a waiting record that the data center rejected, if it waits. Raises: DiskError UNAVAILABLE."""
        segment = self._log.segment_of(seq)
        if priority != Priority.ROUTINE:
            position = self.indexes[priority].find(seq)
            if position is not None:
                self.mark_pinned_lost(priority, position, GapReason.REFUSED)
        elif segment is not None and self.cursors[_ROUTINE] < seq < self._log.next_seq:
            self.mark_routine_lost(segment, seq, seq, GapReason.REFUSED)

    def mark_pinned_lost(
        self, priority: Priority, position: RecordPosition, reason: GapReason = GapReason.CORRUPT
    ) -> None:
        """Mark an alert or audit record as lost."""
        self.indexes[priority].remove(position.seq, position.generation)
        self.cached_group_cursors = b""
        self._ledger.mark_lost(position.seq, position.seq, reason)
        self._log.find_dead()

    def mark_routine_lost(
        self, segment: SpoolSegment, first: int, last: int, reason: GapReason = GapReason.CORRUPT
    ) -> None:
        """Mark numbers as lost that were missing when routine records were read, except those of indexed records."""
        newly_lost = RangeSet([(first, last)]).difference(self._ledger.lost)
        for index in self.indexes.values():
            newly_lost = newly_lost.difference([(seq, seq) for seq in index.between(first, last)])
        for range_first, range_last in newly_lost:
            self._ledger.mark_lost(range_first, range_last, reason)
        if newly_lost:
            self._counter.recount(segment, self.cursors[_ROUTINE])
            self.cached_group_cursors = b""
            self._log.find_dead()
