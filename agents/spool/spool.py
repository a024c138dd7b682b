"""The spool: what the box must not lose, in order, on one disk. Synchronous; used from one thread.

Identity of a record is (epoch, sequence number): the epoch is drawn when a spool is first made, the sequence counts
from 1 over all priorities and never gives a number twice. `append` returns when the group is durable; `read` takes
nothing out; `ack` moves a cursor, which becomes durable with the next group, and always before the disk space it
sets free is written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

from agents.spool.disk.group import Ready, Records, make_ready, measure
from agents.spool.recovery import RecoveredSpool, recover
from agents.spool.survey import PINNED, SpoolState
from agents.spool.types import Priority, SpoolError, SpoolErrorKind, SpoolGap, SpoolLimits, SpoolStatus
from agents.spool.waiting.holdings import Holdings
from agents.spool.waiting.reclaim import read_place
from agents.spool.waiting.routine import Record, RoutineReader
from agents.spool.writer import Writer
from hal.disk import Disk, DiskError


class Spool:
    """A durable queue with three priorities. Made by `open`."""

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
        self._writer = Writer(state.log, state.ledger, self._holdings, encode_gap, snapshot)
        self._reader = RoutineReader(state.log, state.ledger, self._holdings.lose_routine)

    @classmethod
    def open(
        cls,
        disk: Disk,
        limits: SpoolLimits,
        *,
        random: Random,
        encode_gap: Callable[[SpoolGap], bytes],
        snapshot: Callable[[], bytes] = bytes,
    ) -> Spool:
        """Whatever the disk holds, in whatever state, as a spool.

        Up to `verify_bytes_max` are read and verified. Of a larger spool the newest segment is, and of the others the
        summaries; `verify_next` reads the rest.

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

    @property
    def gaps_reported(self) -> int:
        """How many audit records of gaps it has appended since it was opened."""
        return self._writer.gaps_reported

    def pending_gaps(self) -> tuple[SpoolGap, ...]:
        """The gaps known now and not reported yet: found at opening or by reading since then."""
        return tuple(self._ledger.pending(self._limits.gap_ranges_max))

    # -- writing ----------------------------------------------------------------------------------------

    def append(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> range:
        """Make records durable, all or none, and return their sequence numbers.

        `priorities[i]` is the `Priority` of `payloads[i]`. One group, one write and one flush; a gap that
        waits to be reported goes first, in a group of its own, and does so without any records too. When the
        disk or its share of it is full the oldest routine records are dropped, with a gap record. Errors:
        SpoolError FULL (nothing may be dropped) or IO, with nothing appended; ValueError beyond a limit.
        """
        return self._writer.append(self.make_ready(self.measure(priorities, payloads)))

    def measure(self, priorities: Sequence[int], payloads: Sequence[bytes]) -> Records:
        """The first third of `append`; on any thread, at any time. Errors: ValueError."""
        records = measure(bytes(priorities), payloads)
        self._check(len(priorities), payloads, records.payload_bytes)
        return records

    def make_ready(self, records: Records) -> Ready:
        """The second third: the bytes of the group, from a guess of where it will go; on any thread, at any time.

        The guess is good if the group that is being appended now, or the last one, is the last one before it.
        """
        return make_ready(self._writer.expected, records)

    def append_ready(self, group: Ready) -> range:
        """The last third."""
        return self._writer.append(group)

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
        with _disk_errors():
            self._holdings.ack(priority, through_seq)

    def give_up(self, priority: Priority, seq: int) -> None:
        """A waiting record will never be taken: it counts as gone, and the next append says so.

        Nothing happens if no such record waits. Errors: SpoolError IO (the disk is gone).
        """
        with _disk_errors():
            self._holdings.give_up(priority, seq)

    def verify_next(self) -> bool:
        """Read one of the segments that opening did not, and find what it has lost; False if all have been read.

        A loss is reported with the next append. Errors: SpoolError IO (the disk is gone).
        """
        with _disk_errors():
            return self._holdings.verify_next()

    def close(self) -> None:
        """Leave the mark of a good end, if the disk lets us. The spool is of no use afterwards."""
        try:
            self.append((), ())
            if not self.recovery.was_closed or self._log.has_written():
                self._writer.mark_closed()
        except SpoolError:
            pass  # the next open finds no mark and takes it for a crash, which it can

    # -- reading ----------------------------------------------------------------------------------------

    def read(self, priority: Priority, records_max: int, bytes_max: int, after_seq: int = 0) -> list[Record]:
        """Records (number, payload) above `after_seq` that are not acknowledged, oldest first.

        At most `records_max` and `bytes_max` bytes of payload, but at least one if there is one. What turns
        out to be unreadable is left out and reported as a gap. Errors: SpoolError IO (the disk is gone).
        """
        after = max(after_seq, self._holdings.cursors[priority])
        with _disk_errors():
            if priority == Priority.ROUTINE:
                return self._reader.read(after, records_max, bytes_max)
            return self._read_pinned(priority, after, records_max, bytes_max)

    def status(self) -> SpoolStatus:
        """Counts, sizes, and what waits to be reported."""
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
            gaps_pending=self._ledger.unreported_ranges(),
            limits=self._limits,
        )

    def _read_pinned(self, priority: Priority, after: int, records_max: int, bytes_max: int) -> list[Record]:
        found: list[Record] = []
        size = 0
        while len(found) < records_max:
            places = self._holdings.indexes[priority].after(after, records_max - len(found))
            for place in places:
                size += place.length
                if size > bytes_max and found:
                    return found
                payload = read_place(self._log, place)
                if payload is None:
                    self._holdings.lose_pinned(priority, place)
                else:
                    found.append((place.seq, payload))
                after = place.seq
            if not places:
                break
        return found


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A disk's error is the spool's."""
    try:
        yield
    except DiskError as error:
        raise SpoolError(SpoolErrorKind.IO, str(error)) from error
