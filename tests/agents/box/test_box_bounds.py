"""The alarm of each bound of the box: just below its level, at it, and when it is cleared."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import count, islice
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.box.box import Box, Hardware
from agents.box.buffer import Buffer
from agents.box.commands import WAITING_MAX, CommandDispatcher, CommandQueue
from agents.box.files.serving import FileServing
from agents.box.firewall import FirewallGuard, FirewallService
from agents.box.health import bounds as bounds_module
from agents.box.health.audit import NOTES_BURST, NOTES_PER_SECOND, AuditLog
from agents.box.health.bounds import SpoolRoom
from agents.box.intake.collector import PATH, Collector, port_limits
from agents.box.intake.intake import Intake
from agents.box.intake.limits import REPORTS_BURST, REPORTS_PER_SECOND
from agents.box.sessions.instrument_panel import InstrumentPanels
from agents.box.state import BoxState
from agents.box.status.status import as_status
from agents.box.uplink.forwarder import DISCARDS_BURST, DISCARDS_PER_SECOND
from agents.spool import Priority, Spool, SpoolLimits, SpoolStatus
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from netfw.events import FirewallState
from rap.box import print_status
from settings.profile import load_profile
from sim.net.link import LinkQuality
from sim.net.loop import SimLoop
from tests.support.agents.boxes import CLOCK, box_config, connect, disk
from tests.support.agents.spool.model import encode_gap
from tests.support.agents.stand_in import stand_in
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.audit_events import AuditEvent
from wire.http.connection import Peer, Request
from wire.messages import Alert, Audit, Command, Entry, InstrumentReport, Quality, Reports, encode
from wire.process.bounds import Bound, Bounds, Level
from wire.profiles import AllowList
from wire.tls import context as tls
from wire.tls.context import client_context, server_context

MIB = 1024 * 1024
Driver = Callable[["Watched"], Coroutine[Any, Any, None]]


class Watched:
    """Bounds of the box, on an event loop in simulated time, and the alarms that they report."""

    def __init__(self) -> None:
        self.reported: list[Level] = []
        self.bounds = Bounds(self.reported.append)

    def alarms(self) -> list[bool]:
        """Return the alarms reported now: True for an alarm, False for its end."""
        self.reported.clear()
        self.bounds.check()
        return [level.is_near for level in self.reported]


def run(driver: Driver) -> None:
    async def main() -> None:
        await driver(Watched())

    SimLoop().run_until_complete(main())


def command(number: int) -> Command:
    return Command(number, "CHEM-1", "help-file", b"")


def new_buffer() -> Buffer:
    spool = Spool.open(EmulDisk(1 << 30, Random(1)), SpoolLimits(), random=Random(1), encode_gap=encode_gap)
    return Buffer(spool)


def test_an_alarm_reports_that_many_commands_wait() -> None:
    async def drive(watched: Watched) -> None:
        queues = {"": CommandQueue(), "CHEM-1": CommandQueue()}
        dispatcher = CommandDispatcher(queues, {}, AuditLog(new_buffer(), EmulClock(lambda: 0)))
        watched.bounds.add(Bound("commands", dispatcher.fullest))
        near = -(-4 * WAITING_MAX // 5)
        for number in range(1, near):
            assert queues["CHEM-1"].put(command(number))
        assert watched.alarms() == []
        queues["CHEM-1"].put(command(near))
        assert watched.alarms() == [True]
        queues["CHEM-1"].finished(1)
        queues["CHEM-1"].finished(2)
        assert watched.alarms() == [False]

    run(drive)


def test_an_alarm_reports_a_high_report_rate() -> None:
    async def drive(watched: Watched) -> None:
        queue = CommandQueue()
        dispatcher = cast(
            CommandDispatcher,
            SimpleNamespace(queue_of=lambda _serial: queue, is_withdrawn=lambda _command: False),
        )
        ports = {"CHEM-1": 1, "CHEM-2": 1, "HEMA-1": 2}
        allowed = dict.fromkeys(ports, AllowList(load_profile("chemistry-analyzer")))
        note = lambda *_, **__: None  # noqa: E731
        intake = Intake(new_buffer(), BoxState(), dispatcher, note, ports, allowed, lambda: 0)
        no_files = SimpleNamespace(concerns=lambda _request: False, is_ready=lambda _command: True)
        panels = InstrumentPanels(lambda: None)
        collector = Collector(intake, note, cast(FileServing, no_files), panels)
        watched.bounds.add(*intake.bounds())
        near = REPORTS_BURST * 4 // 5
        numbers = count(1)

        async def report(reports: int) -> None:
            bodies: list[InstrumentReport] = [Quality(n, 0, "glu", 1, 0) for n in islice(numbers, reports)]
            peer = Peer("HEMA-1", "127.0.0.1", lambda: None)
            response = await collector.handle(2, Request("POST", PATH, {}, encode(Reports(1, bodies)), peer))
            assert response.status == 200

        for _ in range(near // 64 - 1):
            await report(64)
        await report(63)
        assert watched.alarms() == []
        await report(1)
        assert watched.alarms() == [True]
        assert watched.reported[0].port == 2
        await asyncio.sleep(0.11 * REPORTS_BURST / REPORTS_PER_SECOND)
        assert watched.alarms() == [False]

    run(drive)


def test_an_alarm_reports_a_high_rate_of_audit_records() -> None:
    async def drive(watched: Watched) -> None:
        audit = AuditLog(new_buffer(), EmulClock(lambda: 0))
        watched.bounds.add(Bound("audit-rate", audit.fullest))
        near = NOTES_BURST * 4 // 5
        for _ in range(near - 1):
            audit.note(AuditEvent.PROXY_REFUSED)
            audit.note(AuditEvent.UPLINK_LOST, unlimited=True)
        audit.note(AuditEvent.UPLINK_RESTORED)
        assert watched.alarms() == []
        audit.note(AuditEvent.PROXY_REFUSED)
        assert watched.alarms() == [True]
        await asyncio.sleep(1.1 / NOTES_PER_SECOND)
        assert watched.alarms() == [False]

    run(drive)


def test_an_alarm_reports_that_many_records_are_discarded(pki: Hierarchy) -> None:
    near = -(-4 * DISCARDS_BURST // 5)

    class RejectsAlerts(World):
        async def live(self) -> None:
            watched = Watched()
            watched.bounds.add(Bound("given-up", self.forwarder.discards))
            self.center.unreadable = lambda _sequence, entry: isinstance(entry.body, Alert)
            for rejected, alarms in ((near - 1, []), (1, [True])):
                for number in range(rejected):
                    body = Alert(number + 1, 0, "L0100", "lamp", "error")
                    await self.buffer.append(Priority.ALERT, encode(Entry("CHEM-1", 1, body)))
                while (await self.buffer.status()).records[Priority.ALERT]:
                    await asyncio.sleep(0.1)
                assert watched.alarms() == alarms
            assert self.center.refusals == near
            await asyncio.sleep(2 / DISCARDS_PER_SECOND)
            assert watched.alarms() == [False]

    RejectsAlerts(pki, LinkQuality(1_000_000, 20_000_000)).run()


def test_an_alarm_reports_many_tracked_connections() -> None:
    async def drive(watched: Watched) -> None:
        followers: list[Callable[[FirewallState], None]] = []

        async def follow(on_state: Callable[[FirewallState], None]) -> None:
            followers.append(on_state)

        async def work() -> None:
            await asyncio.Event().wait()

        service = cast(FirewallService, SimpleNamespace(follow=follow))
        guard = FirewallGuard(service, lambda _light: None, lambda _what: None)
        audit = AuditLog(new_buffer(), EmulClock(lambda: 0))
        guarding = asyncio.ensure_future(guard.guard(audit, work))
        await eventually(lambda: bool(followers))
        watched.bounds.add(Bound("conntrack", partial(guard.limit, "conntrack")))
        alarms = []
        for state in (
            FirewallState(in_force=True),
            FirewallState(in_force=True, limits={"conntrack": (799, 1000)}),
            FirewallState(in_force=True, limits={"conntrack": (800, 1000)}),
            FirewallState(in_force=False, problem="not known"),
            FirewallState(in_force=True, limits={"conntrack": (699, 1000)}),
        ):
            followers[0](state)
            alarms.append(watched.alarms())
        assert alarms == [[], [], [True], [], [False]]
        guarding.cancel()

    run(drive)


def test_storage_of_audit_records_has_an_alarm_at_75_percent() -> None:
    async def drive(watched: Watched) -> None:
        room, limits = SpoolRoom(), SpoolLimits(segment_bytes=MIB, spool_bytes_max=101 * MIB)
        watched.bounds.add(*room.bounds)

        def spool(live_mib: int) -> SpoolStatus:
            return SpoolStatus(1, 1, {}, {}, 3, 3 * MIB, live_mib * MIB, 0, 0, limits)

        assert watched.alarms() == []
        alarms = []
        for live_mib in (74, 75, 50, 49):  # of 100 MiB: one segment is the reserve
            room.spool = spool(live_mib)
            alarms.append(watched.alarms())
        assert alarms == [[], [True], [], [False]]
        alarms = []
        for used_mib in (3 + 749, 3 + 750, 3 + 700, 3 + 699):  # 3 MiB of it belong to the spool
            room.disk = (used_mib * MIB, (101 + 1000) * MIB)
            alarms.append(watched.alarms())
        assert alarms == [[], [True], [], [False]]
        assert watched.reported[0].name == "file-system"

    run(drive)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """Return the server's end of a finished handshake. Keep it: the session is forgotten when the end is deleted."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        ssl.SSLContext.wrap_bio(client, to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in (*ends, *ends):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[1]


def test_an_alarm_reports_many_tls_sessions(pki: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "SESSIONS_KEPT_MAX", 10)
    watched = Watched()
    context = [server_context(pki.box_server)]
    watched.bounds.add(Bound("tls-sessions", lambda: tls.sessions_kept(context[0])))
    kept = [handshake(client_context(pki.instrument), context[0]) for _ in range(7)]
    assert watched.alarms() == []
    kept.append(handshake(client_context(pki.instrument), context[0]))
    assert watched.alarms() == [True]
    context[0] = server_context(pki.box_server)
    assert watched.alarms() == [False], "renewed"


NAMES = {
    *("audit-rate", "commands", "given-up", "tls-sessions", "spool"),
    *("connections of port 1", "connections of port 2", "report-rate of port 1", "report-rate of port 2"),
}


def test_connections_at_80_percent_raise_an_alarm_in_audit_log_led_and_status(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bounds_module, "CHECK_SECONDS", 0.01)

    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            config = box_config(pki, center.server.port, linger_s=0)
            lights = EmulIndicators(["alarm"], [])
            memory = [50]
            hardware = Hardware(
                *(disk(), CLOCK, EmulEthernetPort("uplink")),
                indicators=lights,
                bounds=(Bound("memory", lambda: (memory[0], 100)),),
            )
            box = Box(config, hardware, Random(2))
            task = asyncio.ensure_future(box.run())
            await eventually(lambda: len(box.tcp_ports) == 2)

            async def near() -> set[str]:
                status = await box.status()
                assert status is not None
                levels = as_status(status).bounds
                names = {
                    f"{level.name} of port {level.port}" if level.port else level.name: level.is_near
                    for level in levels
                }
                assert names.keys() == NAMES | {"memory"}
                return {name for name, is_near in names.items() if is_near}

            limit = port_limits(1).connections_max
            connections = [await connect(box, pki.instrument) for _ in range(limit * 4 // 5 - 1)]
            await asyncio.gather(*(connection.request("GET", "/") for connection in connections))
            assert await near() == set()
            connections.append(await connect(box, pki.instrument))
            await center.until(lambda: "connections-near-limit" in center.audits)
            assert await near() == {"connections of port 1"}
            assert lights.backend.lights == {"alarm": Light.SLOW}
            memory[0] = 80
            await center.until(lambda: "memory-near-limit" in center.audits)
            status = await box.status()
            assert status is not None
            print_status(as_status(status))
            assert "near limit   PROBLEM: connections of port 1: 8 of 10\n" in capsys.readouterr().out
            for connection in connections[:2]:
                connection.close()
            await center.until(lambda: "connections-below-limit" in center.audits)
            assert lights.backend.lights == {"alarm": Light.SLOW}, "memory is still near its limit"
            memory[0] = 69
            await center.until(lambda: "memory-below-limit" in center.audits)
            assert await near() == set()
            assert lights.backend.lights == {"alarm": Light.OFF}
            noted = [
                (body.event, body.port, body.value)
                for entry in center.stored.values()
                if isinstance(body := entry.body, Audit) and "connections" in body.event
            ]
            assert noted == [("connections-near-limit", 1, 80), ("connections-below-limit", 1, 60)]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(scenario())


def test_each_bound_of_the_box_is_documented() -> None:
    table = {
        name
        for line in (bounds_module.__doc__ or "").splitlines()
        if line.startswith("| ") and not line.startswith("| bound")
        for name in line.split("|")[1].strip().split(", ")
    }
    assert {name.split(" ")[0] for name in NAMES} <= table
