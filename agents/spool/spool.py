"""The spool: what the box must not lose, in order, on one disk. Synchronous; used from one thread.

Identity of a record is (epoch, sequence number): the epoch is drawn when a spool is first made, the sequence counts
from 1 over all priorities and never gives a number twice. `append` returns when the group is durable; `read` takes
nothing out; `ack` moves a cursor, which becomes durable with the next group, and always before the disk space it
sets free is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from random import Random
from typing import TypeVar

from crc32c import crc32c

from agents.spool.checkpoint import pack_checkpoint, pack_ranges
from agents.spool.group import CURSORS, Kind, Prepared, encode, prepare
from agents.spool.index import Place
from agents.spool.ledger import Ledger, chunks, gap_of
from agents.spool.log import Log
from agents.spool.ranges import RangeSet
from agents.spool.reclaim import Cargo, load_cargo, may_reclaim, read_place
from agents.spool.recovery import PINNED, Recovery, State, recover
from agents.spool.routine import Record, RoutineCounter, RoutineReader
from agents.spool.segment import Segment
from agents.spool.terms import (
    Gap,
    GapReason,
    Priority,
    SpoolError,
    SpoolErrorKind,
    SpoolLimits,
    SpoolStatus,
)
from hal.disk import Disk, DiskError

_ROUTINE = int(Priority.ROUTINE)
_DATA = int(Kind.DATA)
_AUDIT = bytes((Priority.AUDIT,))
T = TypeVar("T")


class Spool:
    """A durable queue with three priorities. Made by `open`."""

    def __init__(
        self,
        state: State,
        recovery: Recovery,
        encode_gap: Callable[[Gap], bytes],
        snapshot: Callable[[], bytes],
    ) -> None:
        self.recovery = recovery
        self._log: Log = state.log
        self._limits: SpoolLimits = state.log.limits
        self._ledger: Ledger = state.ledger
        self._cursors, self._indexes = state.cursors, state.indexes
        self._encode_gap, self._snapshot = encode_gap, snapshot
        self._reader = RoutineReader(self._log, self._ledger, self._routine_unreadable)
        self._counter = RoutineCounter(self._log, self._ledger)
        self._routine_records = sum(segment.routine_records for segment in self._log.segments)
        self._gaps_reported = 0
        self._settled = b""  # the effective cursors, packed; empty when they must be packed anew

    @classmethod
    def open(
        cls,
        disk: Disk,
        limits: SpoolLimits,
        *,
        random: Random,
        encode_gap: Callable[[Gap], bytes],
        snapshot: Callable[[], bytes] = bytes,
    ) -> Spool:
        """Whatever the disk holds, in whatever state, as a spool. Reads everything.

        `encode_gap` makes the payload of the audit record that reports a gap. `snapshot` is called when a
        segment begins and gives at most `snapshot_bytes_max` bytes, which must cover all records appended
        until then: `recovery.snapshot` after the next crash, `recovery.records()` what came after it.
        `random` draws the epoch of a new spool. Errors: SpoolError IO (no directory, or the disk is gone).
        """
        with _disk_errors():
            state, recovery = recover(disk, limits, random)
        return cls(state, recovery, encode_gap, snapshot)

    @property
    def epoch(self) -> int:
        """The spool's identity, 32 bits."""
        return self._log.epoch

    @property
    def limits(self) -> SpoolLimits:
        """What it was opened with."""
        return self._limits

    # -- writing ----------------------------------------------------------------------------------------

    def append(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> range:
        """Make records durable, all or none, and return their sequence numbers.

        `priorities[i]` is the `Priority` of `payloads[i]`. One group, one write and one flush; a gap that
        waits to be reported goes first, in a group of its own, and does so without any records too. When the
        disk or its share of it is full the oldest routine records are dropped, with a gap record. Errors:
        SpoolError FULL (nothing may be dropped) or IO, with nothing appended; ValueError beyond a limit.
        """
        return self.append_prepared(self.prepare(priorities, payloads))

    def prepare(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> Prepared:
        """The part of `append` that needs no disk; on any thread, at any time. Errors: ValueError."""
        prepared = prepare(bytes(priorities), payloads)
        self._check(len(priorities), payloads, prepared.payload_bytes)
        return prepared

    def append_prepared(self, records: Prepared) -> range:
        """The rest of `append`."""
        if self._ledger.unreported:
            _trying_twice(self._report_gaps)
        if not records.payloads:
            return range(self._log.next_seq, self._log.next_seq)
        return _trying_twice(partial(self._append, records))

    def _check(self, priorities: int, payloads: Sequence[bytes], size: int) -> None:
        limits, count = self._limits, len(payloads)
        if priorities != count or count > limits.group_records_max:
            most = f"a group has at most {limits.group_records_max} (group_records_max)"
            raise ValueError(f"{count} records, {priorities} priorities; {most}")
        if size > limits.record_bytes_max and max(map(len, payloads)) > limits.record_bytes_max:
            raise ValueError(f"a record is longer than {limits.record_bytes_max} bytes (record_bytes_max)")
        if size > limits.group_bytes_max:
            raise ValueError(f"the group is longer than {limits.group_bytes_max} bytes (group_bytes_max)")

    def ack(self, priority: Priority, through_seq: int) -> None:
        """Records of `priority` up to `through_seq` are delivered and will not be read again.

        Lazily durable: after a crash some may come again, with the same numbers and payloads.
        """
        if not 0 <= through_seq < self._log.next_seq:
            raise ValueError(f"there is no record {through_seq} to acknowledge")
        cursor = self._cursors[priority]
        if through_seq <= cursor:
            return
        self._cursors[priority], self._settled = through_seq, b""
        if priority == Priority.ROUTINE:
            with _disk_errors():
                self._counter.move(cursor, through_seq)
            self._count_routine()
        else:
            for place in self._indexes[priority].pop_through(through_seq):
                self._unpin(place)
        self._log.dead()

    def close(self) -> None:
        """Leave the mark of a good end, if the disk lets us. The spool is of no use afterwards."""
        try:
            self.append((), ())
            log = self._log
            if log.active is None or (self.recovery.was_closed and not log.has_written()):
                return
            mark = encode(log.active.prefix, Kind.CLOSED, log.next_seq, self._settle(), prepare(b"", ()))
            if log.active.end + len(mark) <= self._limits.segment_bytes:
                log.commit(mark)
        except SpoolError:
            pass  # the next open finds no mark and takes it for a crash, which it can

    # -- reading ----------------------------------------------------------------------------------------

    def read(self, priority: Priority, records_max: int, bytes_max: int, after_seq: int = 0) -> list[Record]:
        """Records (number, payload) above `after_seq` that are not acknowledged, oldest first.

        At most `records_max` and `bytes_max` bytes of payload, but at least one if there is one. What turns
        out to be unreadable is left out and reported as a gap. Errors: SpoolError IO (the disk is gone).
        """
        after = max(after_seq, self._cursors[priority])
        with _disk_errors():
            if priority == Priority.ROUTINE:
                return self._reader.read(after, records_max, bytes_max)
            return self._read_pinned(priority, after, records_max, bytes_max)

    def status(self) -> SpoolStatus:
        """Counts, sizes, and what waits to be reported."""
        routine_bytes = sum(segment.routine_bytes for segment in self._log.segments)
        return SpoolStatus(
            epoch=self._log.epoch,
            next_seq=self._log.next_seq,
            records={p: len(self._indexes[p]) for p in PINNED} | {Priority.ROUTINE: self._routine_records},
            bytes={p: self._indexes[p].bytes for p in PINNED} | {Priority.ROUTINE: routine_bytes},
            segments=len(self._log.segments),
            disk_bytes=self._log.disk_bytes(),
            gaps_reported=self._gaps_reported,
            gaps_pending=self._ledger.unreported_ranges(),
            limits=self._limits,
        )

    # -- appending, step by step ------------------------------------------------------------------------

    def _append(self, records: Prepared) -> range:
        """Commit to the active segment, or to a fresh one if it is full."""
        if records.group_bytes > self._log.room:
            self._find_room(records.group_bytes)  # this may append gap records
        return self._commit(records, self._settled or self._settle())

    def _commit(self, records: Prepared, cursors: bytes) -> range:
        """This and what calls it is all that the disk waits for between two groups, with caches gone cold during
        the flush: the fewer steps the better."""
        log = self._log
        segment, first = log.active, log.next_seq
        assert segment is not None
        start = log.commit(encode(segment.prefix, _DATA, first, cursors, records))
        log.next_seq, log.skipped = first + len(records.payloads), 0
        self._count_appended(segment, start, first, records)
        return range(first, log.next_seq)

    def _find_room(self, size: int) -> None:
        for _ in range(self._limits.segments_max + 2):
            self._roll()
            if size <= self._log.room:
                return
        raise SpoolError(SpoolErrorKind.FULL, "alerts and audit records fill the spool")

    def _effective(self, leaving: Sequence[Gap] | None = None, dropping: Segment | None = None) -> bytes:
        """The cursors as a group has them: past the end where nothing waits, for the other priorities' sake.

        No cursor moves past a loss that nobody has been told of, since recovery would not look there again:
        `leaving` are those that this group does not tell of either, by default all. `dropping` is a segment whose
        routine records this group says are gone.
        """
        last = self._log.next_seq - 1
        cursors, waits = (
            list(self._cursors),
            [len(self._indexes[p]) for p in PINNED] + [self._routine_records],
        )
        if dropping is not None:
            cursors[_ROUTINE] = self._cursor_after(dropping)
            waits[_ROUTINE] -= dropping.routine_records
        if leaving is None:
            leaving = self._ledger.pending(self._limits.gap_ranges_max)
        bound = leaving[0].ranges[0][0] - 1 if leaving else last
        return CURSORS.pack(
            *(min(bound, cursor if waiting else last) for cursor, waiting in zip(cursors, waits, strict=True))
        )

    def _roll(self) -> None:
        """Begin a new segment, and leave at least one free for the time when something must be dropped."""
        log = self._log
        if not log.free_now() and not log.add_spare():
            raise SpoolError(SpoolErrorKind.FULL, "there is no room for a segment")
        if log.free_soon() >= 2 or log.add_spare():
            segment = log.start()
            log.write_first(self._checkpoint(segment.prefix))
        elif may_reclaim(log.segments, self._limits):
            self._reclaim()
        else:
            raise SpoolError(SpoolErrorKind.FULL, "nothing is left that may be dropped")

    def _checkpoint(self, prefix: bytes) -> bytes:
        snapshot = self._snapshot()
        if len(snapshot) > self._limits.snapshot_bytes_max:
            raise ValueError(
                f"the snapshot is longer than {self._limits.snapshot_bytes_max} (snapshot_bytes_max)"
            )
        cursors = self._effective()
        lost = self._ledger.settled(min(CURSORS.unpack(cursors)), self._limits.lost_ranges_max)
        records = prepare(b"", (), pack_checkpoint(lost, snapshot))
        return encode(prefix, Kind.CHECKPOINT, self._log.next_seq, cursors, records)

    def _report_gaps(self) -> None:
        """Append what says what is gone: one group, or as few as hold it."""
        limits, log = self._limits, self._log
        while waiting := self._ledger.pending(limits.gap_ranges_max):
            told = waiting[: limits.group_records_max]
            while (reports := self._reports(told)).group_bytes > limits.group_bytes_encoded_max:
                told = told[: len(told) // 2]
            if reports.group_bytes > log.room:
                self._find_room(reports.group_bytes)  # this may tell of some of them, and find others
                continue
            self._commit(reports, self._effective(leaving=waiting[len(told) :]))
            self._told(told)
            log.hold(self._ledger.unreported_in)

    def _reports(self, told: Sequence[Gap], dropped: Sequence[Gap] = ()) -> Prepared:
        """An audit record for each gap. What was not dropped here, but found to be gone, is in the aux as well."""
        payloads = [self._encoded_gap(gap) for gap in (*dropped, *told)]
        aux = pack_ranges(chain.from_iterable(gap.ranges for gap in told))
        return prepare(_AUDIT * len(payloads), payloads, aux)

    def _told(self, gaps: Sequence[Gap]) -> None:
        for gap in gaps:
            self._ledger.reported(gap)
        self._gaps_reported += len(gaps)

    def _encoded_gap(self, gap: Gap) -> bytes:
        payload = self._encode_gap(gap)
        if len(payload) > self._limits.record_bytes_max:
            raise ValueError(
                f"a gap record is longer than {self._limits.record_bytes_max} (record_bytes_max)"
            )
        return payload

    def _settle(self) -> bytes:
        """`_effective`, kept until a cursor moves or something begins to wait."""
        self._settled = self._effective()
        return self._settled

    # -- making room ------------------------------------------------------------------------------------

    def _reclaim(self) -> None:
        """Begin a new segment with what must be kept of the oldest one, and a record of what is dropped.

        With it goes the record of every loss known up to the victim's end that nobody has been told of: the file
        is the last that names it.
        """
        log = self._log
        victim = next(segment for segment in log.segments if not segment.is_dead)
        cargo = self._load_cargo(victim)
        upper, most = log.upper_bound(victim), self._limits.gap_ranges_max
        dropped = [gap_of(ranges, GapReason.FULL) for ranges in chunks(cargo.dropped, most)]
        told = [gap for gap in self._ledger.pending(most) if gap.ranges[0][0] < upper]
        reports = self._reports(told, dropped)
        if (
            sum(map(len, self._reclaimed(victim.prefix, victim, cargo, told, reports)))
            > log.limits.segment_bytes
        ):
            raise SpoolError(
                SpoolErrorKind.FULL, "what must be kept of the oldest segment does not fit a new one"
            )
        segment = log.start()
        checkpoint, kept, reported = self._reclaimed(segment.prefix, victim, cargo, told, reports)
        log.commit(checkpoint + kept + reported)
        self._move_cargo(cargo, victim, segment, len(checkpoint))
        if reported:
            self._cursors[_ROUTINE] = self._cursor_after(victim)
            self._count_appended(segment, len(checkpoint) + len(kept), log.next_seq, reports)
            log.next_seq, log.skipped = log.next_seq + len(reports.payloads), 0
            self._told(told)
            self._gaps_reported += len(dropped)

    def _load_cargo(self, victim: Segment) -> Cargo:
        with _disk_errors():
            cargo = load_cargo(self._log, self._ledger, self._indexes, victim, self._cursors[_ROUTINE])
            for priority, place in cargo.unreadable:
                self._lose_pinned(priority, place)
            for first, last in list(cargo.missing):
                self._routine_unreadable(victim, first, last)
        return cargo

    def _reclaimed(
        self, prefix: bytes, victim: Segment, cargo: Cargo, told: Sequence[Gap], reports: Prepared
    ) -> tuple[bytes, bytes, bytes]:
        """What the new segment begins with: a checkpoint, what is kept, and what says what is gone.

        Only the last moves the cursor beyond what is dropped: no report, no drop.
        """
        checkpoint = self._checkpoint(prefix)
        kept = cargo.encode(prefix, self._effective())
        if not reports.payloads:
            return checkpoint, kept, b""
        leaving = self._ledger.pending(self._limits.gap_ranges_max)[len(told) :]
        moved = self._effective(leaving, victim)
        return checkpoint, kept, encode(prefix, Kind.DATA, self._log.next_seq, moved, reports)

    def _cursor_after(self, victim: Segment) -> int:
        return max(self._log.upper_bound(victim) - 1, self._cursors[_ROUTINE])

    def _move_cargo(self, cargo: Cargo, victim: Segment, segment: Segment, offset: int) -> None:
        offset += cargo.payload_offset
        for (priority, place), payload in zip(cargo.places, cargo.payloads, strict=True):
            self._indexes[priority].put(place._replace(generation=segment.generation, offset=offset))
            offset += len(payload)
        segment.pinned_records += len(cargo.places)
        segment.pinned_bytes += sum(map(len, cargo.payloads))
        victim.pinned_records = victim.pinned_bytes = victim.routine_records = victim.routine_bytes = 0
        victim.freed_at = self._log.commits - 1
        self._count_routine()

    # -- bookkeeping ------------------------------------------------------------------------------------

    def _count_routine(self) -> None:
        self._settled = b""
        self._routine_records = sum(segment.routine_records for segment in self._log.segments)

    def _count_appended(self, segment: Segment, offset: int, first_seq: int, records: Prepared) -> None:
        """Account for a durable group at `offset`; index its alerts and audit records."""
        routine = records.priorities.count(_ROUTINE)
        if routine:
            if not self._routine_records:
                self._settled = b""
            segment.routine_records += routine
            segment.routine_bytes += records.payload_bytes
            self._routine_records += routine
        if routine == len(records.payloads):
            return
        self._settled = b""
        offset += records.payload_offset
        for seq, (priority, payload) in enumerate(
            zip(records.priorities, records.payloads, strict=True), first_seq
        ):
            if priority != _ROUTINE:
                segment.routine_bytes -= len(payload) if routine else 0
                self._pin(
                    segment,
                    Priority(priority),
                    Place(seq, segment.generation, offset, len(payload), crc32c(payload)),
                )
            offset += len(payload)

    def _pin(self, segment: Segment, priority: Priority, place: Place) -> None:
        self._indexes[priority].put(place)
        segment.pinned_records += 1
        segment.pinned_bytes += place.length

    def _unpin(self, place: Place) -> None:
        segment = self._log.of_generation(place.generation)
        segment.pinned_records -= 1
        segment.pinned_bytes -= place.length

    def _read_pinned(self, priority: Priority, after: int, records_max: int, bytes_max: int) -> list[Record]:
        found: list[Record] = []
        size = 0
        while len(found) < records_max:
            places = self._indexes[priority].after(after, records_max - len(found))
            for place in places:
                size += place.length
                if size > bytes_max and found:
                    return found
                payload = read_place(self._log, place)
                if payload is None:
                    self._lose_pinned(priority, place)
                else:
                    found.append((place.seq, payload))
                after = place.seq
            if not places:
                break
        return found

    def _lose_pinned(self, priority: Priority, place: Place) -> None:
        if self._indexes[priority].remove(place.seq) is not None:
            self._unpin(place)
        self._settled = b""
        self._ledger.find(place.seq, place.seq, GapReason.CORRUPT)
        self._log.dead()

    def _routine_unreadable(self, segment: Segment, first: int, last: int) -> None:
        """Numbers that a pass over the routine records could not make out; alerts may be known otherwise."""
        news = RangeSet([(first, last)]).without(self._ledger.lost)
        for index in self._indexes.values():
            news = news.without([(seq, seq) for seq in index.between(first, last)])
        for range_first, range_last in list(news):
            self._ledger.find(range_first, range_last, GapReason.CORRUPT)
        if news:
            self._counter.recount(segment, self._cursors[_ROUTINE])
            self._count_routine()
            self._log.dead()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A disk's error is the spool's."""
    try:
        yield
    except DiskError as error:
        raise SpoolError(SpoolErrorKind.IO, str(error)) from error


def _trying_twice(append: Callable[[], T]) -> T:
    """After a failed write or flush: once more, in another segment."""
    try:
        return append()
    except SpoolError as error:
        if error.kind is not SpoolErrorKind.IO:
            raise
    return append()
