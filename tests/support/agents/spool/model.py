"""A model of the guarantees of a spool, and small limits that make rare cases frequent."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from random import Random

import msgspec

from agents.spool import GapReason, Priority, SpoolError, SpoolGap, SpoolLimits
from hal.emul.disk import SECTOR_BYTES, EmulDisk
from tests.support.agents.spool.open_spool import InspectedSpool

LIMITS = SpoolLimits(
    segment_bytes=16 * 1024,
    spool_bytes_max=5 * 16 * 1024,
    record_bytes_max=2048,
    group_records_max=16,
    group_bytes_max=4096,
    snapshot_bytes_max=64,
    gap_ranges_max=16,
    lost_ranges_max=16,
)
BY_SUMMARIES = replace(LIMITS, verify_bytes_max=0)  # opened from summaries, like a large spool


def encode_gap(gap: SpoolGap) -> bytes:
    return b"gap:" + msgspec.json.encode(gap)


def decode_gap(payload: bytes) -> SpoolGap | None:
    return msgspec.json.decode(payload[4:], type=SpoolGap) if payload.startswith(b"gap:") else None


class Harness:
    """A spool on an emulated disk, and all records it has acknowledged."""

    def __init__(self, seed: int = 0, capacity_bytes: int = 1 << 30, limits: SpoolLimits = LIMITS) -> None:
        self.limits = limits
        self.random = Random(seed)
        self.disk = EmulDisk(capacity_bytes, self.random)
        self.promised: dict[int, tuple[Priority, bytes]] = {}  # acknowledged to the source, by number
        self.given: dict[int, bytes] = {}  # every payload ever read, by number
        self.acked = dict.fromkeys(Priority, 0)
        self.explained: set[int] = set()  # numbers in gaps that were detected or reported
        self.discarded: set[int] = set()
        self.rotten = False  # whether `rot_all_since` has damaged data
        self.found = (0, 0)  # at the last opening: the newest segment's generation and end offset
        self.created = 0
        self.spool = self.open()

    def open(self) -> InspectedSpool:
        try:
            self.spool = InspectedSpool.open(
                self.disk, self.limits, random=self.random, encode_gap=encode_gap
            )
        except SpoolError:
            self.disk = self.disk.backend.reboot()
            return self.open()
        newest = self.spool.log.segments[-1] if self.spool.log.segments else None
        self.found = (newest.generation, newest.end) if newest else (0, 0)
        for gap in self.spool.recovery.gaps:
            self.explain(gap)
        for record in self.spool.recovery.records():
            if record.certain:  # its source will not send it again
                self.promised.setdefault(record.seq, (record.priority, record.payload))
        return self.spool

    def explain(self, gap: SpoolGap) -> None:
        for first, last in gap.ranges:
            if gap.reason is GapReason.REFUSED:
                assert self.discarded.issuperset(range(first, last + 1))
            elif not self.rotten and gap.reason is not GapReason.FULL:
                assert not self.promised.keys() & range(first, last + 1), (
                    f"{gap} names records that are not lost"
                )
            self.explained.update(range(first, last + 1))

    def payload(self, size: int) -> bytes:
        """Return a payload that is unique in a run."""
        self.created += 1
        return (b"%d:" % self.created).ljust(size, b"x")

    def append(self, priorities: list[Priority], sizes: list[int]) -> bool:
        payloads = [self.payload(size) for size in sizes]
        try:
            seqs = self.spool.append(priorities, payloads)
        except SpoolError:
            return False
        for seq, priority, payload in zip(seqs, priorities, payloads, strict=True):
            assert seq not in self.promised and self.given.get(seq, payload) == payload, (
                f"{seq} was used twice"
            )
            self.promised[seq] = (priority, payload)
        return True

    def read(self, priority: Priority, records: int = 1000, after: int = 0) -> list[tuple[int, bytes]]:
        numbered = self.spool.read(priority, records, 1 << 30, after)
        assert [seq for seq, _ in numbered] == sorted({seq for seq, _ in numbered})
        for seq, payload in numbered:
            assert self.given.setdefault(seq, payload) == payload, f"{seq} has two payloads"
            if seq in self.promised:
                assert self.promised[seq] == (priority, payload)
            gap = decode_gap(payload)
            if gap is not None:
                self.explain(gap)
        return numbered

    def read_all(self, priority: Priority, batch: int = 1000) -> list[tuple[int, bytes]]:
        records: list[tuple[int, bytes]] = []
        while more := self.read(priority, batch, records[-1][0] if records else 0):
            records += more
        return records

    def ack(self, priority: Priority, through: int) -> None:
        self.spool.ack(priority, through)
        self.acked[priority] = max(self.acked[priority], through)

    def discard(self, priority: Priority, seq: int) -> None:
        self.spool.discard(priority, seq)
        self.discarded.add(seq)
        self.explained.add(seq)

    def reboot(self) -> None:
        if self.disk.backend.has_power:
            self.disk = self.disk.backend.cut_power()
        else:
            self.disk = self.disk.backend.reboot()
        self.open()

    def rot_all_since(self, generation: int, offset: int) -> None:
        """Damage the newest segment after `offset`, or all of it if it is newer than `generation`."""
        segments = self.spool.log.segments
        if segments and self.disk.backend.has_power:
            self.rotten, newest = True, segments[-1]
            start = offset if newest.generation == generation else 0
            for sector in range(start, newest.end, SECTOR_BYTES):
                self.disk.backend.flip_bits(newest.name, sector, bits=256)

    def check(self) -> None:
        """Check that every acknowledged record is present, delivered or reported as lost."""
        for _ in range(3):  # reading may find losses, which the next append reports
            present = {p: dict(self.read_all(p)) for p in Priority}
            self.append([], [])
        for p in Priority:
            present[p] |= dict(self.read_all(p))
        for seq, (priority, payload) in self.promised.items():
            stored = present[priority].get(seq)
            if stored is None:
                # the loss is known, but the disk refuses the gap record
                unreported = self.spool.status().gaps_pending > 0
                is_accounted_for = seq <= self.acked[priority] or seq in self.explained or unreported
                assert is_accounted_for, f"{priority.name} {seq} is missing and was not reported"
            else:
                assert stored == payload
        if not self.rotten:
            status, waiting = self.spool.status(), {p: self.read_all(p) for p in Priority}
            assert status.records == {p: len(records) for p, records in waiting.items()}
            assert status.bytes == {
                p: sum(len(data) for _, data in records) for p, records in waiting.items()
            }

    def check_totals(self) -> None:
        """Check that the incremental totals equal the sums over all segments."""
        log, status = self.spool.log, self.spool.status()
        live = [s for s in log.segments if s.routine_records or s.pinned_records]
        dead = list(takewhile(lambda s: s not in live and s is not log.active, log.segments))
        assert status.records[Priority.ROUTINE] == sum(s.routine_records for s in log.segments)
        assert status.bytes[Priority.ROUTINE] == sum(s.routine_bytes for s in log.segments)
        assert status.records[Priority.ALERT] + status.records[Priority.AUDIT] == sum(
            s.pinned_records for s in log.segments
        )
        assert status.live_bytes == sum(s.end if s is log.active else s.size for s in live)
        assert log.totals.pinned_bytes == sum(s.pinned_bytes for s in log.segments)
        assert log.totals.live_segments == len(live)
        assert log.oldest_live() is (live[0] if live else None)
        assert log.free_soon() == len(log.spares) + len(dead)
        assert log.free_now() == len(log.spares) + sum(s.freed_at != log.commits for s in dead)
        assert all(s.freed_at is not None and s.freed_at <= log.commits for s in dead)
        if self.disk.backend.has_power:
            assert status.disk_bytes == sum(map(self.disk.size, self.disk.names()))
