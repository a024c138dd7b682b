"""A durable queue of records with three priorities on one disk. Synchronous; used from one thread.

A record is identified by (epoch, sequence number). The epoch is a random number drawn when the spool is created; the
sequence counts from 1 over all priorities and never assigns a number twice. `append` returns when the records are
durable; `read` removes nothing; `ack` moves a cursor, which becomes durable with the next group, and always before
the disk space that it frees is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Self

from agents.spool.disk.group import PreparedGroup, Records, measure, prepare_group
from agents.spool.holdings import Holdings
from agents.spool.recovery import RecoveredSpool, recover
from agents.spool.survey import PINNED, SpoolState
from agents.spool.types import Priority, SpoolError, SpoolErrorKind, SpoolGap, SpoolLimits, SpoolStatus
from agents.spool.waiting.reclaim import read_record
from agents.spool.waiting.routine import Record, RoutineReader
from agents.spool.writer import LogWriter
from hal.disk import Disk, DiskError


class Spool:
    """A durable queue with three priorities. Created by `open`."""

    def __init__(
        self,
        state: SpoolState,
        recovery: RecoveredSpool,
        encode_gap: Callable[[SpoolGap], bytes],
        snapshot: Callable[[], bytes],
    ) -> None:
        self.recovery = recovery
        self._log, self._ledger, self._limits = state.log, state.ledger, state.log.limits
        self._holdings = Holdings(state)
        self._writer = LogWriter(state.log, state.ledger, self._holdings, encode_gap, snapshot)
        self._reader = RoutineReader(state.log, state.ledger, self._holdings.mark_routine_lost)

    @classmethod
    def open(
        cls,
        disk: Disk,
        limits: SpoolLimits,
        *,
        random: Random,
        encode_gap: Callable[[SpoolGap], bytes],
        snapshot: Callable[[], bytes] = bytes,
    ) -> Self:
        """Open the spool on `disk`, or create one; the files may be damaged in any way.

        A spool of up to `verify_bytes_max` bytes is read and verified completely. Of a larger spool, opening reads
        the newest segment and the summaries of the others; `verify_next` verifies these later.

        `encode_gap` returns the payload of the audit record that reports a gap. `snapshot` is called when a segment
        begins and returns at most `snapshot_bytes_max` bytes, the caller's state after all records appended so far.
        After the next opening `recovery.snapshot` is the last snapshot, and `recovery.records()` the later records.
        `random` draws the epoch of a new spool.

        Raises: SpoolError IO (no directory, or the disk has been removed).
        """
        with _disk_errors():
            state, recovery = recover(disk, limits, random)
        return cls(state, recovery, encode_gap, snapshot)

    @property
    def epoch(self) -> int:
        """The spool's random identity, 32 bits."""
        return self._log.epoch

    @property
    def limits(self) -> SpoolLimits:
        """The limits that the spool was opened with."""
        return self._limits

    @property
    def gaps_reported(self) -> int:
        """Number of gap records appended since the spool was opened."""
        return self._writer.gaps_reported

    def pending_gaps(self) -> tuple[SpoolGap, ...]:
        """Return the gaps that were detected, at opening or by reading, and not reported yet."""
        return tuple(self._ledger.pending(self._limits.gap_ranges_max))

    # -- writing ----------------------------------------------------------------------------------------

    def append(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> range:
        """Make records durable, all or none, and return their sequence numbers.

        `priorities[i]` is the `Priority` of `payloads[i]`. The records are one group: one write and one flush.
        Pending gaps are reported first, in a separate group, even if there are no records. When the disk or
        `spool_bytes_max` is full, the oldest routine records are dropped, with a gap record.

        Raises: SpoolError FULL (nothing may be dropped) or IO, with nothing appended; ValueError beyond a limit.
        """
        return self._writer.append(self.prepare_group(self.measure(priorities, payloads)))

    def measure(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> Records:
        """Compute lengths and checksums, the first step of `append`. May run on any thread. Raises: ValueError."""
        records = measure(bytes(priorities), payloads)
        self._check(len(priorities), payloads, records.payload_bytes)
        return records

    def prepare_group(self, records: Records) -> PreparedGroup:
        """Encode the group for its predicted position, the second step of `append`. May run on any thread.

        The prediction is right if no other group is appended before this one, except the one being written now.
        """
        return prepare_group(self._writer.expected, records)

    def append_prepared(self, group: PreparedGroup) -> range:
        """Write and flush, the last step of `append`. Encodes the group again if the prediction was wrong."""
        return self._writer.append(group)

    def _check(self, priorities: int, payloads: Sequence[bytes], size: int) -> None:
        limits, count = self._limits, len(payloads)
        if priorities != count or count > limits.group_records_max:
            limit = f"a group has at most {limits.group_records_max} (group_records_max)"
            raise ValueError(f"{count} records, {priorities} priorities; {limit}")
        if size > limits.record_bytes_max and max(map(len, payloads)) > limits.record_bytes_max:
            raise ValueError(f"a record is longer than {limits.record_bytes_max} bytes (record_bytes_max)")
        if size > limits.group_bytes_max:
            raise ValueError(f"the group is longer than {limits.group_bytes_max} bytes (group_bytes_max)")

    def ack(self, priority: Priority, through_seq: int) -> None:
        """Mark records of `priority` up to and including `through_seq` as delivered.

        This is durable with the next group: after a crash, some of these records may be read again, unchanged.
        Raises: ValueError for a number that no record has; SpoolError IO.
        """
        if not 0 <= through_seq < self._log.next_seq:
            raise ValueError(f"there is no record {through_seq} to acknowledge")
        with _disk_errors():
            self._holdings.ack(priority, through_seq)

    def discard(self, priority: Priority, seq: int) -> None:
        """Discard a waiting record that the data center rejected; the next append reports it as a gap.

        Nothing happens if no such record waits. Raises: SpoolError IO (the disk has been removed).
        """
        with _disk_errors():
            self._holdings.discard(priority, seq)

    def verify_next(self) -> bool:
        """Verify one segment that opening did not read; return False if there is none left.

        Losses are reported with the next append. Raises: SpoolError IO (the disk has been removed).
        """
        with _disk_errors():
            return self._holdings.verify_next()

    def close(self) -> None:
        """Write the clean-close marker, if the disk works. The spool cannot be used afterwards."""
        try:
            self.append((), ())
            if not self.recovery.was_closed or self._log.has_written():
                self._writer.mark_closed()
        except SpoolError:
            pass  # without the marker the next opening recovers as after a crash

    # -- reading ----------------------------------------------------------------------------------------

    def read(self, priority: Priority, records_max: int, bytes_max: int, after_seq: int = 0) -> list[Record]:
        """Return unacknowledged records (number, payload) with numbers above `after_seq`, oldest first.

        At most `records_max` records and `bytes_max` bytes of payload, but at least one record if there is one.
        Unreadable records are skipped and reported as a gap. Raises: SpoolError IO (the disk has been removed).
        """
        after = max(after_seq, self._holdings.cursors[priority])
        with _disk_errors():
            if priority == Priority.ROUTINE:
                return self._reader.read(after, records_max, bytes_max)
            return self._read_pinned(priority, after, records_max, bytes_max)

    def status(self) -> SpoolStatus:
        """Return counts and sizes of the waiting records, the files and the gaps."""
        totals = self._log.totals
        return SpoolStatus(
            epoch=self._log.epoch,
            next_seq=self._log.next_seq,
            records={p: len(self._holdings.indexes[p]) for p in PINNED}
            | {Priority.ROUTINE: totals.routine_records},
            bytes={p: self._holdings.indexes[p].bytes for p in PINNED}
            | {Priority.ROUTINE: totals.routine_bytes},
            segments=len(self._log.segments) + len(self._log.spares),
            disk_bytes=self._log.disk_bytes(),
            live_bytes=self._log.live_bytes(),
            gaps_reported=self.gaps_reported,
            gaps_pending=self._ledger.unreported_count(),
            limits=self._limits,
        )

    def _read_pinned(self, priority: Priority, after: int, records_max: int, bytes_max: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        while len(records) < records_max:
            positions = self._holdings.indexes[priority].after(after, records_max - len(records))
            for position in positions:
                size += position.length
                if size > bytes_max and records:
                    return records
                payload = read_record(self._log, position)
                if payload is None:
                    self._holdings.mark_pinned_lost(priority, position)
                else:
                    records.append((position.seq, payload))
                after = position.seq
            if not positions:
                break
        return records


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Convert DiskError to SpoolError."""
    try:
        yield
    except DiskError as error:
        raise SpoolError(SpoolErrorKind.IO, str(error)) from error
