"""The box's chain of audit records: numbers are missing only if reported as lost; each log line is stored once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha256
from random import Random

import pytest

from agents.box.audit.chain import AuditChain, AuditHead
from agents.box.audit.log_cursor import SYSTEM
from agents.box.audit.log_reader import LogReader
from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog, encode_gap
from agents.box.health.audit_tail import LogTail
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.spool import Priority, Spool, SpoolError, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from sim.net.loop import SimLoop
from tests.support.agents.rotated_log import RotatedLog
from wire.audit_events import AuditEvent
from wire.messages import Audit, Entry, Gap, LogLine, decode

SEEDS = 3
FIRST_LINE_LOST = 195
"""A seed with which a power failure destroys the first log line before any line is marked as read."""
CUTS = 40
"""Power cuts for each seed."""
CLOCK = EmulClock(lambda: 0)
LIMITS = SpoolLimits(
    spool_bytes_max=16 * 1024 * 1024,
    snapshot_bytes_max=SNAPSHOT_BYTES_MAX,
    gap_ranges_max=64,
)


class Receiver:
    """Stores audit records as the data center does: one per sequence number, and each piece of a log file once."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], bytes] = {}
        self.lines: dict[tuple[bytes, int, bytes], bytes] = {}

    async def take(self, buffer: Buffer, records_max: int) -> None:
        """Receive some waiting records, and acknowledge them."""
        records = await buffer.read(Priority.AUDIT, records_max, 1 << 20)
        for sequence, payload in records:
            assert self.entries.setdefault((buffer.epoch, sequence), payload) == payload
            body = decode(Entry, payload).body
            if isinstance(body, LogLine):
                self.lines.setdefault((body.file, body.offset, body.content), body.content)
        if records:
            await buffer.ack(Priority.AUDIT, records[-1][0])

    def files(self) -> list[bytes]:
        """Return the content of each log file. A piece that was stored twice makes it longer."""
        files: dict[bytes, list[bytes]] = {}
        for (file, _, _), content in sorted(self.lines.items()):
            files.setdefault(file, []).append(content)
        return [b"".join(contents) for contents in files.values()]

    def chain(self) -> list[Entry]:
        """Return the linked entries in the order of their sequence numbers."""
        entries = [decode(Entry, payload) for _, payload in sorted(self.entries.items())]
        return [entry for entry in entries if entry.link]

    def reported_lost(self) -> int:
        """Return how many sequence numbers gap records report as unfinished."""
        bodies = [decode(Entry, payload).body for payload in self.entries.values()]
        gaps = [gap.ranges for gap in bodies if isinstance(gap, Gap) and gap.reason == "unfinished"]
        return sum(last - first + 1 for ranges in gaps for first, last in ranges)

    def events(self) -> list[tuple[str, int]]:
        """Return the names and values of the audit events in the chain, in order."""
        bodies = (entry.body for entry in self.chain())
        return [(body.event, body.value) for body in bodies if isinstance(body, Audit)]


def missing(receiver: Receiver) -> set[int]:
    """Return the missing numbers of the chain, and check that each entry has the hash of the one before it."""
    links = {}
    for payload in receiver.entries.values():
        if link := decode(Entry, payload).link:
            links[link.number] = link.previous, sha256(payload).digest()
    for number, (previous, _) in links.items():
        assert number - 1 not in links or previous == links[number - 1][1]
    return set(range(1, max(links) + 1)) - links.keys()


class AuditParts:
    """The box's audit chain and log reader from one start to the next power failure."""

    def __init__(self, disk: EmulDisk, log: RotatedLog) -> None:
        self.state = BoxState()
        spool = Spool.open(
            disk,
            LIMITS,
            random=Random(1),
            encode_gap=lambda gap: encode_gap(gap, CLOCK),
            snapshot=self.state.snapshot,
        )
        self.state.restore(spool.recovery, set())
        self.buffer = Buffer(spool)
        self.audit = AuditLog(self.buffer, CLOCK, self.state.audit_head)
        reader = LogReader(log, "audit.log", self.state.log_cursor(SYSTEM))
        self.tail = LogTail(reader, self.audit, self.buffer, bytes_per_second=1e6, waiting_bytes_max=1 << 16)

    async def run(self, seconds: float) -> None:
        with suppress(SpoolError, TimeoutError):
            async with asyncio.timeout(seconds):
                await self.audit.record(AuditEvent.STARTED_AFTER_CRASH)
                await self.tail.run()


@pytest.mark.parametrize("seed", [*range(SEEDS), FIRST_LINE_LOST])
def test_each_line_arrives_once_after_any_power_failure(seed: int) -> None:
    random, log, receiver = Random(seed), RotatedLog(), Receiver()
    disk = EmulDisk(1 << 30, random)

    async def run_until_power_cut() -> None:
        parts = AuditParts(disk, log)
        for _ in range(random.randint(1, 6)):
            log.write(log.line(random.choice((0, 60, 200, 2000))))
        if random.random() < 0.05:
            log.rotate()
        disk.backend.cut_power_at(random.randint(1, 12))
        await parts.run(random.uniform(0.5, 4.0))
        with suppress(SpoolError):
            await receiver.take(parts.buffer, random.randint(1, 30))

    for _ in range(CUTS):
        SimLoop().run_until_complete(run_until_power_cut())
        disk = disk.backend.cut_power()

    async def read_the_rest() -> None:
        parts = AuditParts(disk, log)
        for _ in range(CUTS):
            await parts.run(5.0)
            await receiver.take(parts.buffer, 1000)

    SimLoop().run_until_complete(read_the_rest())
    assert sorted(receiver.files()) == sorted(filter(None, log.files.values()))
    assert len(missing(receiver)) <= receiver.reported_lost(), "only records that were being written"


def test_a_full_disk_leaves_no_gap_in_the_chain_and_is_recorded() -> None:
    async def main() -> None:
        disk, receiver = EmulDisk(1 << 30, Random(1)), Receiver()
        parts = AuditParts(disk, RotatedLog())
        with pytest.raises(SpoolError):
            while True:
                await parts.buffer.append(Priority.ALERT, bytes(60_000))
        stored = 0
        while not parts.audit.lost:
            parts.audit.note(AuditEvent.ALIVE, unlimited=True)
            await asyncio.sleep(0.1)
            stored += 1
        for _ in range(9):
            parts.audit.note(AuditEvent.ALIVE, unlimited=True)
            await asyncio.sleep(0.1)
        alerts = await parts.buffer.read(Priority.ALERT, 100, 1 << 24)
        await parts.buffer.ack(Priority.ALERT, alerts[-1][0])
        await receiver.take(parts.buffer, 10_000)
        await parts.audit.record(AuditEvent.SPOOL_WRITABLE)
        parts.audit.note(AuditEvent.ALIVE, unlimited=True)
        await asyncio.sleep(1)
        await receiver.take(parts.buffer, 10_000)
        chain = receiver.chain()
        assert [entry.link.number for entry in chain if entry.link] == list(range(1, len(chain) + 1))
        assert ("audit-refused", 10) in receiver.events()
        assert parts.audit.lost == 10

    SimLoop().run_until_complete(main())


def test_the_chain_continues_after_a_restart() -> None:
    disk, receiver = EmulDisk(1 << 30, Random(1)), Receiver()

    async def record(events: int) -> None:
        parts = AuditParts(disk, RotatedLog())
        for _ in range(events):
            parts.audit.note(AuditEvent.ALIVE, unlimited=True)
        await parts.audit.chain.close()
        await receiver.take(parts.buffer, 1000)
        await parts.buffer.close()

    for events in (3, 300, 1):
        SimLoop().run_until_complete(record(events))
    assert not missing(receiver)
    assert len(receiver.entries) == 304


def test_an_append_is_stored_although_its_caller_is_cancelled() -> None:
    async def main() -> None:
        disk, receiver = EmulDisk(1 << 30, Random(1)), Receiver()
        parts = AuditParts(disk, RotatedLog())
        chain = parts.audit.chain
        first = chain.append([Entry("", 0, Audit(1, "one"))])
        second = chain.append([Entry("", 0, Audit(1, "two"))])
        second.cancel()
        assert await first == range(1, 2)
        await chain.close()
        await receiver.take(parts.buffer, 10)
        assert [event for event, _ in receiver.events()] == ["one", "two"]

    SimLoop().run_until_complete(main())


def test_lines_wait_in_the_log_while_the_spool_has_many_audit_records() -> None:
    async def main() -> None:
        disk, receiver, log = EmulDisk(1 << 30, Random(1)), Receiver(), RotatedLog()
        for _ in range(1000):
            log.write(log.line(200))
        parts = AuditParts(disk, log)
        await parts.run(100)
        waiting = (await parts.buffer.status()).bytes[Priority.AUDIT]
        assert 1 << 16 < waiting < (1 << 16) + 40_000
        await receiver.take(parts.buffer, 1 << 20)
        assert b"".join(receiver.lines.values()) == log.written[: sum(map(len, receiver.lines.values()))]

    SimLoop().run_until_complete(main())


def test_gap_records_are_not_in_the_chain() -> None:
    async def main() -> None:
        disk = EmulDisk(1 << 30, Random(1))
        parts = AuditParts(disk, RotatedLog())
        await parts.audit.record(AuditEvent.ALIVE)
        await parts.buffer.discard(Priority.AUDIT, 1)
        payloads = [payload for _, payload in await parts.buffer.read(Priority.AUDIT, 9, 9999)]
        (gap,) = (decode(Entry, payload) for payload in payloads)
        assert isinstance(gap.body, Gap) and gap.link is None
        assert AuditChain(parts.buffer, AuditHead()).head == AuditHead()

    SimLoop().run_until_complete(main())
