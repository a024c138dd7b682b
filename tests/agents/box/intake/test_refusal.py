"""A read-only disk: waiting records are delivered, reports are refused, and the box recovers automatically."""

from __future__ import annotations

import asyncio
from random import Random

from agents.box.buffer import Buffer
from agents.box.health.alarm import AlarmLed
from agents.box.health.audit import AuditLog
from agents.box.intake.refusal import RETRY_SECONDS, watch_refusals
from agents.spool import Priority, Spool, SpoolError
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from sim.net.loop import SimLoop
from tests.support.agents.spool.model import LIMITS, encode_gap
from wire.audit_events import AuditEvent
from wire.messages import Audit, Entry, decode

ALERT, AUDIT, ROUTINE = Priority


class Bench:
    """A spool on a disk that can become read-only, with the alarm LED and the messages of the supervision."""

    def __init__(self) -> None:
        self.disk = EmulDisk(1 << 30, Random(1))
        self.messages: list[str] = []
        self.lights = EmulIndicators(["alarm"], [])

    def open(self) -> Buffer:
        return Buffer(Spool.open(self.disk, LIMITS, random=Random(1), encode_gap=encode_gap))

    def watch(self, buffer: Buffer) -> asyncio.Task[None]:
        self.audit = AuditLog(buffer, EmulClock(lambda: 0))
        show = AlarmLed(self.lights).used_by("spool")
        return asyncio.ensure_future(watch_refusals(buffer, self.audit, show, self.messages.append))

    def light(self) -> Light:
        return self.lights.backend.lights["alarm"]


async def refused(buffer: Buffer, payload: bytes = b"refused") -> str:
    try:
        await buffer.append(ROUTINE, payload)
    except SpoolError as error:
        return str(error)
    return ""


def test_a_box_restarted_on_a_read_only_disk_delivers_and_recovers_with_the_disk() -> None:
    bench = Bench()

    async def before() -> None:
        buffer = bench.open()
        for number in range(20):
            await buffer.append(ROUTINE, b"%d" % number)
        await buffer.close()

    async def scenario() -> None:
        bench.disk = bench.disk.backend.cut_power()
        bench.disk.backend.set_read_only(True)
        buffer = bench.open()
        watching = bench.watch(buffer)
        bench.audit.note(AuditEvent.STARTED)
        await asyncio.sleep(1)
        assert "read-only file system" in str(buffer.problem)
        assert bench.light() is Light.FAST
        assert len(bench.messages) == 1 and "read-only file system" in bench.messages[0]
        waiting = await buffer.read(ROUTINE, 99, 1 << 20)
        assert [payload for _, payload in waiting] == [b"%d" % number for number in range(20)]
        await buffer.ack(ROUTINE, waiting[-1][0])
        assert (await buffer.status()).records[ROUTINE] == 0
        assert "read-only file system" in await refused(buffer)
        await asyncio.sleep(10 * RETRY_SECONDS)
        assert len(bench.messages) == 1 and buffer.problem is not None

        bench.disk.backend.set_read_only(False)
        await asyncio.sleep(RETRY_SECONDS + 1)
        assert buffer.problem is None
        assert bench.light() is Light.OFF and len(bench.messages) == 2
        records = [decode(Entry, payload).body for _, payload in await buffer.read(AUDIT, 99, 1 << 20)]
        events = [(body.event, body.value) for body in records if isinstance(body, Audit)]
        assert [event for event, _ in events] == ["spool-writable"]
        assert 100 <= events[0][1] <= 120
        (number,) = await buffer.append(ROUTINE, b"new")
        assert number > waiting[-1][0]
        watching.cancel()

    SimLoop().run_until_complete(before())
    SimLoop().run_until_complete(scenario())


def test_a_running_box_recovers_repeatedly() -> None:
    bench = Bench()

    async def scenario() -> None:
        buffer = bench.open()
        watching = bench.watch(buffer)
        for turn in range(1, 4):
            await buffer.append(ROUTINE, b"before")
            bench.disk.backend.set_read_only(True)
            assert await refused(buffer)
            await asyncio.sleep(3 * RETRY_SECONDS)
            assert bench.light() is Light.FAST
            bench.disk.backend.set_read_only(False)
            assert not await refused(buffer, b"a report arrives before the next try")
            await asyncio.sleep(RETRY_SECONDS + 1)
            assert bench.light() is Light.OFF
            assert (await buffer.status()).records[AUDIT] == turn
        watching.cancel()

    SimLoop().run_until_complete(scenario())


def test_a_spool_full_of_alerts_gets_no_audit_records() -> None:
    bench = Bench()

    async def scenario() -> None:
        buffer = bench.open()
        watching = bench.watch(buffer)
        while not buffer.refusing.is_set():
            try:
                await buffer.append(ALERT, bytes(2000))
            except SpoolError:
                break
        await asyncio.sleep(1000 * RETRY_SECONDS)
        assert bench.light() is Light.FAST
        assert (await buffer.status()).records[AUDIT] == 0
        alerts = await buffer.read(ALERT, 999, 1 << 20)
        await buffer.ack(ALERT, alerts[-1][0])
        await buffer.append(ALERT, b"there is room again")
        await asyncio.sleep(RETRY_SECONDS + 1)
        assert bench.light() is Light.OFF
        watching.cancel()

    SimLoop().run_until_complete(scenario())
