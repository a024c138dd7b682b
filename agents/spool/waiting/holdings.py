"""What waits for delivery: the cursors, where the alerts and audit records are, how many routine records there are.

Kept right as records become durable, are acknowledged, are carried elsewhere or turn out to be unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.spool.disk.group import CURSORS, Ready, Records
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment
from agents.spool.survey import PINNED, SpoolState, survey_again
from agents.spool.types import GapReason, Priority, SpoolGap
from agents.spool.waiting.index import RecordPlace
from agents.spool.waiting.ledger import GapLedger
from agents.spool.waiting.reclaim import Cargo
from agents.spool.waiting.routine import RoutineCounter
from settings.ranges import RangeSet

_ROUTINE = int(Priority.ROUTINE)


class Holdings:
    """The live records of one spool, in whichever segments they are."""

    def __init__(self, state: SpoolState) -> None:
        self._state = state
        self._log: SegmentLog = state.log
        self._ledger: GapLedger = state.ledger
        self.cursors, self.indexes = state.cursors, state.indexes  # by priority
        self._counter = RoutineCounter(state.log, state.ledger)
        self._totals = state.log.totals
        self._verified_to = 0  # generation: no segment before it is known by its summary only
        self.settled = b""  # what `settle` gave last; empty when that is no longer right
        for index in self.indexes.values():
            index.load, index.is_kept = self.verify, self._is_kept
            index.make_room()

    # -- verifying --------------------------------------------------------------------------------------

    def verify(self, segment: SpoolSegment) -> None:
        """Read all of a segment, and find what it has lost. Errors: DiskError GONE."""
        survey_again(self._state, segment)
        self.settled = b""
        self._log.find_dead()

    def verify_next(self) -> bool:
        """Verify one segment that opening took for true by its summary; False if there is none."""
        for segment in self._log.generations_from(self._verified_to):
            self._verified_to = segment.generation
            if not segment.is_verified and not segment.is_dead:
                self.verify(segment)
                return True
        return False

    def _is_kept(self, segment: SpoolSegment) -> bool:
        return segment is self._log.active or segment.is_copied

    # -- cursors ----------------------------------------------------------------------------------------

    def settle(self) -> bytes:
        """`effective`, kept until a cursor moves or something begins to wait."""
        self.settled = self.effective(self._ledger.pending(1))
        return self.settled

    def effective(self, untold: Sequence[SpoolGap], dropping: SpoolSegment | None = None) -> bytes:
        """The cursors as a group has them: past the end where nothing waits, for the other priorities' sake.

        No cursor moves past a loss that nobody has been told of, since recovery would not look there again:
        `untold` are those, by their first numbers, that this group does not tell of either. `dropping` is a segment
        whose routine records this group says are gone.
        """
        last = self._log.next_seq - 1
        cursors, waits = (
            list(self.cursors),
            [len(self.indexes[p]) for p in PINNED] + [self._totals.routine_records],
        )
        if dropping is not None:
            cursors[_ROUTINE] = self.routine_cursor_after(dropping)
            waits[_ROUTINE] -= dropping.routine_records
        bound = untold[0].ranges[0][0] - 1 if untold else last
        return CURSORS.pack(
            *(min(bound, cursor if waiting else last) for cursor, waiting in zip(cursors, waits, strict=True))
        )

    def routine_cursor_after(self, segment: SpoolSegment) -> int:
        """The routine cursor when nothing in `segment` or before it waits."""
        return max(self._log.upper_bound(segment) - 1, self.cursors[_ROUTINE])

    def ack(self, priority: Priority, through_seq: int) -> None:
        """Move a cursor forward. Errors: DiskError GONE."""
        cursor = self.cursors[priority]
        if through_seq <= cursor:
            return
        self.cursors[priority], self.settled = through_seq, b""
        if priority == Priority.ROUTINE:
            self._counter.move(cursor, through_seq)
        else:
            self.indexes[priority].pop_through(through_seq)
        self._log.find_dead()

    # -- records come, move and are dropped -------------------------------------------------------------

    def add(self, segment: SpoolSegment, offset: int, first_seq: int, group: Ready) -> None:
        """A group has become durable at `offset`."""
        if group.routine_records:
            if not self._totals.routine_records:
                self.settled = b""
            segment.count_routine(group.routine_records, group.routine_bytes)
            contents = segment.contents
            if contents is not None:
                contents.records[_ROUTINE] += group.routine_records
                contents.bytes[_ROUTINE] += group.routine_bytes
        if group.routine_records < len(group.records.crcs):
            self.settled = b""
            self._add_pinned(segment, offset + group.payload_offset, first_seq, group.records)

    def _add_pinned(self, segment: SpoolSegment, offset: int, first_seq: int, records: Records) -> None:
        ours = zip(records.priorities, records.lengths, records.crcs, strict=True)
        for seq, (priority, length, crc) in enumerate(ours, first_seq):
            if priority != _ROUTINE:
                self.indexes[Priority(priority)].add(
                    segment, RecordPlace(seq, segment.generation, offset, length, crc)
                )
                if segment.contents is not None:
                    segment.contents.records[priority] += 1
                    segment.contents.bytes[priority] += length
            offset += length

    def move(self, cargo: Cargo, victim: SpoolSegment, segment: SpoolSegment, offset: int) -> None:
        """What was kept of `victim` is now at `offset` of `segment`, and the rest of it is gone."""
        offset += cargo.payload_offset
        for index in self.indexes.values():
            index.forget(victim)
        contents = segment.contents
        for (priority, place), payload in zip(cargo.places, cargo.payloads, strict=True):
            self.indexes[priority].add(segment, place._replace(generation=segment.generation, offset=offset))
            offset += len(payload)
            if contents is not None:
                contents.carried[priority].add(place.seq, place.length)
                contents.carried_from = victim.generation
        victim.clear_routine()
        self._log.free(victim)
        self.settled = b""

    # -- records turn out to be unreadable, or of no use ------------------------------------------------

    def give_up(self, priority: Priority, seq: int) -> None:
        """A record that waits is not wanted. Nothing happens if it does not wait. Errors: DiskError GONE."""
        segment = self._log.segment_of(seq)
        if priority != Priority.ROUTINE:
            place = self.indexes[priority].find(seq)
            if place is not None:
                self.lose_pinned(priority, place, GapReason.REFUSED)
        elif segment is not None and self.cursors[_ROUTINE] < seq < self._log.next_seq:
            self.lose_routine(segment, seq, seq, GapReason.REFUSED)

    def lose_pinned(
        self, priority: Priority, place: RecordPlace, reason: GapReason = GapReason.CORRUPT
    ) -> None:
        """An alert or audit record cannot be read."""
        self.indexes[priority].remove(place.seq, place.generation)
        self.settled = b""
        self._ledger.find(place.seq, place.seq, reason)
        self._log.find_dead()

    def lose_routine(
        self, segment: SpoolSegment, first: int, last: int, reason: GapReason = GapReason.CORRUPT
    ) -> None:
        """Numbers that a pass over the routine records could not make out; alerts may be known otherwise."""
        news = RangeSet([(first, last)]).difference(self._ledger.lost)
        for index in self.indexes.values():
            news = news.difference([(seq, seq) for seq in index.between(first, last)])
        for range_first, range_last in news:
            self._ledger.find(range_first, range_last, reason)
        if news:
            self._counter.recount(segment, self.cursors[_ROUTINE])
            self.settled = b""
            self._log.find_dead()
