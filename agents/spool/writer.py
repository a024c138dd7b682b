"""Writing: appended records, what says that others are gone, and the segments that all this goes to.

**From a guess.** A group's header holds its first number and the cursors, which are known for sure only when
the group before it is durable. Between two flushes, though, the disk waits for the program. So another thread
makes the next group, whole, while the disk is busy with this one (`group.make_ready`), from `expected`: where it
will go if all goes well. `append` compares that with where it does go and makes the group anew if they differ. All
that the two threads share is `expected`, one reference to an immutable tuple, replaced and never changed.

**What is gone.** No group's cursors pass a loss that nobody has been told of: recovery would not look there again.
For the same reason the group that drops a segment tells of every loss known in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from agents.spool.disk.checkpoint import pack_checkpoint, pack_ranges
from agents.spool.disk.group import CURSORS, NOWHERE, GroupKind, Heading, Ready, encode, make_ready, measure
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment
from agents.spool.types import SECTOR_BYTES, GapReason, Priority, SpoolError, SpoolErrorKind, SpoolGap
from agents.spool.waiting.holdings import Holdings
from agents.spool.waiting.ledger import GapLedger, chunks, gap_of
from agents.spool.waiting.reclaim import Cargo, load_cargo, may_reclaim
from hal.disk import DiskError

_AUDIT = bytes((Priority.AUDIT,))


class Writer:
    """Appends to one log. `encode_gap` and `snapshot` are those of `Spool.open`."""

    def __init__(
        self,
        log: SegmentLog,
        ledger: GapLedger,
        holdings: Holdings,
        encode_gap: Callable[[SpoolGap], bytes],
        snapshot: Callable[[], bytes],
    ) -> None:
        self._log, self._limits, self._ledger, self._holdings = log, log.limits, ledger, holdings
        self._encode_gap, self._snapshot = encode_gap, snapshot
        self.gaps_reported = 0
        self.expected = NOWHERE

    # -- appending --------------------------------------------------------------------------------------

    def append(self, group: Ready) -> range:
        """The numbers of the records, durable; after a failed flush in another segment. See `Spool.append`."""
        try:
            return self._append(group)
        except SpoolError as error:
            if error.kind is not SpoolErrorKind.IO:
                raise
        return self._append(group)

    def _append(self, group: Ready) -> range:
        log, holdings = self._log, self._holdings
        if self._ledger.unreported:
            self._report_gaps()
        if not group.records.payloads:
            return range(log.next_seq, log.next_seq)
        if len(group.data) > log.room:
            self._find_room(len(group.data))  # this may append gap records
        assert log.active is not None
        heading = Heading(log.active.prefix, log.next_seq, holdings.settled or holdings.settle())
        if group.heading != heading:
            group = make_ready(heading, group.records)
        return self._commit(log.active, group)

    def _commit(self, segment: SpoolSegment, group: Ready) -> range:
        """What calls this and what follows is all that the disk waits for, with caches gone cold during the flush:
        the fewer steps the better."""
        log, (prefix, first, cursors) = self._log, group.heading
        after = first + len(group.records.crcs)
        self.expected = Heading(prefix, after, cursors)  # the other thread may be reading it from here on
        start = log.commit(group.data)
        log.next_seq, log.skipped = after, 0
        self._holdings.add(segment, start, first, group)
        return range(first, after)

    # -- segments ---------------------------------------------------------------------------------------

    def _find_room(self, size: int) -> None:
        if self._log.resume() and size <= self._log.room:
            return
        for _ in range(self._limits.segments_max + 2):
            self._roll()
            if size <= self._log.room:
                return
        raise SpoolError(SpoolErrorKind.FULL, "alerts and audit records fill the spool")

    def _roll(self) -> None:
        """Begin a new segment, and leave at least one free for the time when something must be dropped."""
        log = self._log
        if not log.free_now() and not log.add_spare():
            raise SpoolError(SpoolErrorKind.FULL, "there is no room for a segment")
        if log.free_soon() >= 2 or log.add_spare():
            segment = log.start()
            log.write_first(self._checkpoint(segment.prefix))
        elif may_reclaim(log.totals, self._limits):
            self._reclaim()
        else:
            raise SpoolError(SpoolErrorKind.FULL, "nothing is left that may be dropped")

    def _checkpoint(self, prefix: bytes) -> bytes:
        limits, snapshot = self._limits, self._snapshot()
        if len(snapshot) > limits.snapshot_bytes_max:
            raise ValueError(f"the snapshot is longer than {limits.snapshot_bytes_max} (snapshot_bytes_max)")
        cursors = self._holdings.effective(self._untold())
        lost = self._ledger.settled(min(CURSORS.unpack(cursors)), limits.lost_ranges_max)
        heading = Heading(prefix, self._log.first_live(), cursors)
        return encode(GroupKind.CHECKPOINT, heading, measure(b"", ()), pack_checkpoint(lost, snapshot))

    def _reclaim(self) -> None:
        """Begin a new segment with what must be kept of the oldest one, and a record of what is gone.

        Only that record moves the cursor beyond what is dropped: no report, no drop.
        """
        log, holdings, most = self._log, self._holdings, self._limits.gap_ranges_max
        victim = log.oldest_live()
        assert victim is not None
        cargo = self._load_cargo(victim)
        upper = log.upper_bound(victim)
        dropped = [gap_of(ranges, GapReason.FULL) for ranges in chunks(cargo.dropped, most)]
        told = [gap for gap in self._untold() if gap.ranges[0][0] < upper]
        checkpoint, kept, reports = self._reclaimed(victim.prefix, victim, cargo, dropped, told)
        if len(checkpoint) + len(kept) + len(reports.data) > self._limits.segment_bytes_usable:
            raise SpoolError(
                SpoolErrorKind.FULL, "what must be kept of the oldest segment does not fit a new one"
            )
        segment = log.start()
        checkpoint, kept, reports = self._reclaimed(segment.prefix, victim, cargo, dropped, told)
        log.write_first(checkpoint + kept)
        if reports.records.payloads:
            self._commit(segment, reports)
            holdings.cursors[Priority.ROUTINE] = holdings.routine_cursor_after(victim)
            self._told(told)
            self.gaps_reported += len(dropped)
        else:
            log.commit(b"")
        holdings.move(cargo, victim, segment, len(checkpoint))

    def _load_cargo(self, victim: SpoolSegment) -> Cargo:
        holdings = self._holdings
        try:
            cargo = load_cargo(self._log, self._ledger, holdings.indexes, victim, holdings.cursors)
        except DiskError as error:
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        for priority, place in cargo.unreadable:
            holdings.lose_pinned(priority, place)
        for first, last in list(cargo.missing):
            holdings.lose_routine(victim, first, last)
        return cargo

    def _reclaimed(
        self,
        prefix: bytes,
        victim: SpoolSegment,
        cargo: Cargo,
        dropped: Sequence[SpoolGap],
        told: Sequence[SpoolGap],
    ) -> tuple[bytes, bytes, Ready]:
        """What the new segment begins with: a checkpoint, what is kept, and what says what is gone."""
        untold = self._untold()
        kept = cargo.encode(prefix, victim.generation, self._holdings.effective(untold))
        moved = self._holdings.effective(untold[len(told) :], victim)
        reports = self._reports(Heading(prefix, self._log.next_seq, moved), told, dropped)
        return self._checkpoint(prefix), kept, reports

    # -- gaps -------------------------------------------------------------------------------------------

    def _untold(self) -> list[SpoolGap]:
        return self._ledger.pending(self._limits.gap_ranges_max)

    def _report_gaps(self) -> None:
        """Append what says what is gone: one group, or as few as hold it."""
        log, limits, holdings = self._log, self._limits, self._holdings
        while untold := self._untold():
            told = untold[: limits.group_records_max]
            while len((reports := self._reports(NOWHERE, told)).data) > limits.group_bytes_encoded_max:
                told = told[: len(told) // 2]
            if len(reports.data) > log.room:
                self._find_room(len(reports.data))  # this may tell of some of them, and find others
                continue
            assert log.active is not None
            cursors = holdings.effective(untold[len(told) :])
            self._commit(log.active, self._reports(Heading(log.active.prefix, log.next_seq, cursors), told))
            self._told(told)
            log.hold(self._ledger.unreported_in)

    def _reports(self, heading: Heading, told: Sequence[SpoolGap], dropped: Sequence[SpoolGap] = ()) -> Ready:
        """An audit record for each gap. What was not dropped here, but found to be gone, is in the aux as well."""
        payloads = [self._encoded_gap(gap) for gap in (*dropped, *told)]
        aux = pack_ranges(chain.from_iterable(gap.ranges for gap in told))
        return make_ready(heading, measure(_AUDIT * len(payloads), payloads), aux)

    def _encoded_gap(self, gap: SpoolGap) -> bytes:
        payload, most = self._encode_gap(gap), self._limits.record_bytes_max
        if len(payload) > most:
            raise ValueError(f"a gap record is longer than {most} (record_bytes_max)")
        return payload

    def _told(self, gaps: Sequence[SpoolGap]) -> None:
        for gap in gaps:
            self._ledger.reported(gap)
        self.gaps_reported += len(gaps)

    # -- the end ----------------------------------------------------------------------------------------

    def mark_closed(self) -> None:
        """Say that everything was in good order, if there is room to say it. Errors: SpoolError IO."""
        log = self._log
        if log.active is not None:
            heading = Heading(log.active.prefix, log.next_seq, self._holdings.settle())
            mark = encode(GroupKind.CLOSED, heading, measure(b"", ()))
            if log.active.end + len(mark) <= log.active.size - SECTOR_BYTES:
                log.commit(mark)
