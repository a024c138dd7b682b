"""Appends records, gap records and checkpoints to the log, and begins new segments.

**Prediction.** A group's header holds its first number and the cursors, which are certain only when the previous
group is durable. To keep the disk busy between two flushes, another thread encodes the next group while this one is
being flushed (`group.prepare_group`), for `expected`, the heading that it will have if nothing else is appended.
`append` compares `expected` with the actual heading and encodes the group again if they differ. The two threads share
only `expected`, a reference to an immutable tuple that is replaced and never changed.

**Losses.** The cursors in a group never pass a loss that has not been reported, because recovery does not examine
numbers below the cursors. For the same reason the group that drops a segment reports every known loss in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from agents.spool.disk.checkpoint import pack_checkpoint, pack_ranges
from agents.spool.disk.group import (
    CURSORS,
    NO_HEADING,
    GroupHeading,
    GroupKind,
    PreparedGroup,
    encode,
    measure,
    prepare_group,
)
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment
from agents.spool.holdings import Holdings
from agents.spool.types import SECTOR_BYTES, GapReason, Priority, SpoolError, SpoolErrorKind, SpoolGap
from agents.spool.waiting.ledger import GapLedger, chunks, gap_of
from agents.spool.waiting.reclaim import ReclaimPlan, may_reclaim, plan_reclaim
from hal.disk import DiskError

_AUDIT = bytes((Priority.AUDIT,))


class LogWriter:
    """Appends to one log. For `encode_gap` and `snapshot` see `Spool.open`."""

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
        self.expected = NO_HEADING

    # -- appending --------------------------------------------------------------------------------------

    def append(self, group: PreparedGroup) -> range:
        """Append one group and return its numbers; retry once, in another segment, after a failed write."""
        try:
            return self._append(group)
        except SpoolError as error:
            if error.kind is not SpoolErrorKind.IO:
                raise
        return self._append(group)

    def _append(self, group: PreparedGroup) -> range:
        log, holdings = self._log, self._holdings
        if self._ledger.unreported:
            self._report_gaps()
        if not group.records.payloads:
            return range(log.next_seq, log.next_seq)
        if len(group.data) > log.room:
            self._find_room(len(group.data))  # this may append gap records
        assert log.active is not None
        heading = GroupHeading(
            log.active.prefix, log.next_seq, holdings.cached_group_cursors or holdings.update_group_cursors()
        )
        if group.heading != heading:
            group = prepare_group(heading, group.records)
        return self._commit(log.active, group)

    def _commit(self, segment: SpoolSegment, group: PreparedGroup) -> range:
        """Write and flush one group.

        The disk is idle while this code and its caller run, so they must do as little as possible.
        """
        log, (prefix, first, cursors) = self._log, group.heading
        after = first + len(group.records.crcs)
        # read by the thread that prepares the next group
        self.expected = GroupHeading(prefix, after, cursors)
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
        raise SpoolError(
            SpoolErrorKind.FULL, "the spool is full of alerts and audit records, which are never dropped"
        )

    def _roll(self) -> None:
        """Begin a new segment, and keep at least one free: dropping a segment needs space for its gap record."""
        log = self._log
        if not log.free_now() and not log.add_spare():
            raise SpoolError(SpoolErrorKind.FULL, "the disk has no space for another segment")
        if log.free_soon() >= 2 or log.add_spare():
            segment = log.start()
            log.write_first(self._checkpoint(segment.prefix))
        elif may_reclaim(log.totals, self._limits):
            self._reclaim()
        else:
            raise SpoolError(
                SpoolErrorKind.FULL, "the spool is full, and no routine records are left to drop"
            )

    def _checkpoint(self, prefix: bytes) -> bytes:
        limits, snapshot = self._limits, self._snapshot()
        if len(snapshot) > limits.snapshot_bytes_max:
            raise ValueError(f"the snapshot is longer than {limits.snapshot_bytes_max} (snapshot_bytes_max)")
        cursors = self._holdings.group_cursors(self._pending_gaps())
        lost = self._ledger.reported_ranges(min(CURSORS.unpack(cursors)), limits.lost_ranges_max)
        heading = GroupHeading(prefix, self._log.first_live(), cursors)
        return encode(GroupKind.CHECKPOINT, heading, measure(b"", ()), pack_checkpoint(lost, snapshot))

    def _reclaim(self) -> None:
        """Begin a new segment with the records to keep of the oldest one, and gap records for the dropped ones.

        The cursor passes the dropped records only with these gap records, so no record is dropped unreported.
        """
        log, holdings, ranges_max = self._log, self._holdings, self._limits.gap_ranges_max
        victim = log.oldest_live()
        assert victim is not None
        plan = self._plan_reclaim(victim)
        upper = log.upper_bound(victim)
        dropped = [gap_of(ranges, GapReason.FULL) for ranges in chunks(plan.dropped, ranges_max)]
        reported = [gap for gap in self._pending_gaps() if gap.ranges[0][0] < upper]
        checkpoint, kept, gap_group = self._first_groups(victim.prefix, victim, plan, dropped, reported)
        if len(checkpoint) + len(kept) + len(gap_group.data) > self._limits.segment_bytes_usable:
            raise SpoolError(
                SpoolErrorKind.FULL,
                "the alerts and audit records of the oldest segment do not fit into a new one",
            )
        segment = log.start()
        checkpoint, kept, gap_group = self._first_groups(segment.prefix, victim, plan, dropped, reported)
        log.write_first(checkpoint + kept)
        if gap_group.records.payloads:
            self._commit(segment, gap_group)
            holdings.cursors[Priority.ROUTINE] = holdings.routine_cursor_after(victim)
            self._mark_reported(reported)
            self.gaps_reported += len(dropped)
        else:
            log.commit(b"")
        holdings.move(plan, victim, segment, len(checkpoint))

    def _plan_reclaim(self, victim: SpoolSegment) -> ReclaimPlan:
        holdings = self._holdings
        try:
            plan = plan_reclaim(self._log, self._ledger, holdings.indexes, victim, holdings.cursors)
        except DiskError as error:
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        for priority, position in plan.unreadable:
            holdings.mark_pinned_lost(priority, position)
        for first, last in list(plan.missing):
            holdings.mark_routine_lost(victim, first, last)
        return plan

    def _first_groups(
        self,
        prefix: bytes,
        victim: SpoolSegment,
        plan: ReclaimPlan,
        dropped: Sequence[SpoolGap],
        reported: Sequence[SpoolGap],
    ) -> tuple[bytes, bytes, PreparedGroup]:
        """Return the first groups of the new segment: a checkpoint, the kept records, and the gap records."""
        unreported = self._pending_gaps()
        kept = plan.encode(prefix, victim.generation, self._holdings.group_cursors(unreported))
        moved = self._holdings.group_cursors(unreported[len(reported) :], victim)
        gap_group = self._gap_group(GroupHeading(prefix, self._log.next_seq, moved), reported, dropped)
        return self._checkpoint(prefix), kept, gap_group

    # -- gaps -------------------------------------------------------------------------------------------

    def _pending_gaps(self) -> list[SpoolGap]:
        return self._ledger.pending(self._limits.gap_ranges_max)

    def _report_gaps(self) -> None:
        """Append gap records for all pending gaps, in as few groups as possible."""
        log, limits, holdings = self._log, self._limits, self._holdings
        while unreported := self._pending_gaps():
            reported = unreported[: limits.group_records_max]
            while (
                len((gap_group := self._gap_group(NO_HEADING, reported)).data)
                > limits.group_bytes_encoded_max
            ):
                reported = reported[: len(reported) // 2]
            if len(gap_group.data) > log.room:
                self._find_room(len(gap_group.data))  # this may report some of the gaps, and find others
                continue
            assert log.active is not None
            cursors = holdings.group_cursors(unreported[len(reported) :])
            self._commit(
                log.active, self._gap_group(GroupHeading(log.active.prefix, log.next_seq, cursors), reported)
            )
            self._mark_reported(reported)
            log.hold_unreported(self._ledger.unreported_in)

    def _gap_group(
        self, heading: GroupHeading, reported: Sequence[SpoolGap], dropped: Sequence[SpoolGap] = ()
    ) -> PreparedGroup:
        """Return a group with a gap record for each gap. Its aux also lists `reported`, but not `dropped`."""
        payloads = [self._encoded_gap(gap) for gap in (*dropped, *reported)]
        aux = pack_ranges(chain.from_iterable(gap.ranges for gap in reported))
        return prepare_group(heading, measure(_AUDIT * len(payloads), payloads), aux)

    def _encoded_gap(self, gap: SpoolGap) -> bytes:
        payload, bytes_max = self._encode_gap(gap), self._limits.record_bytes_max
        if len(payload) > bytes_max:
            raise ValueError(f"a gap record is longer than {bytes_max} (record_bytes_max)")
        return payload

    def _mark_reported(self, gaps: Sequence[SpoolGap]) -> None:
        for gap in gaps:
            self._ledger.mark_reported(gap)
        self.gaps_reported += len(gaps)

    # -- closing ----------------------------------------------------------------------------------------

    def mark_closed(self) -> None:
        """Write the clean-close marker, if the segment has space for it. Raises: SpoolError IO."""
        log = self._log
        if log.active is not None:
            heading = GroupHeading(log.active.prefix, log.next_seq, self._holdings.update_group_cursors())
            marker = encode(GroupKind.CLOSED, heading, measure(b"", ()))
            if log.active.end + len(marker) <= log.active.size - SECTOR_BYTES:
                log.commit(marker)
