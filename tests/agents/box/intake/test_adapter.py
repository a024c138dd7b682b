"""An instrument that uses HL7 over TCP, at a port of a running box."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pytest

from agents.box.box import Box, Hardware
from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument
from agents.box.intake import adapter
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from settings.adapted import AdaptedPort, AlarmMapping
from tests.support.agents.boxes import box_config, disk
from tests.support.agents.stand_in import StandIn, stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.messages import Alert, Command, CommandResult, Entry, Status

NOW = datetime.now(UTC).replace(microsecond=0)  # certificates are valid today
NOW_MS = int(NOW.timestamp()) * 1000
MINUTE = timedelta(minutes=1)
SITE = AdaptedPort(
    tcp_port=0,
    tests={"GLU": "glu", "XYZ": "miller"},
    alarms={"EQU-5:C": AlarmMapping(code="E0001", component="software", severity="critical")},
)
Scenario = Callable[[Box, EmulDisk, StandIn], Awaitable[None]]


def config(pki: Hierarchy, datacenter: int) -> BoxConfig:
    port = InstrumentPort(
        number=1,
        listen="127.0.0.1",
        instrument=[PortInstrument("MODU-1", "modular-analyzer", SITE)],
    )
    return msgspec.structs.replace(box_config(pki, datacenter, linger_s=0.0), port=[port])


@asynccontextmanager
async def box_with_an_analyzer(pki: Hierarchy, datacenter: int, spool_disk: EmulDisk):  # type: ignore[no-untyped-def]
    clock = EmulClock(lambda: NOW_MS * 1_000_000)
    box = Box(config(pki, datacenter), Hardware(spool_disk, clock, EmulEthernetPort("uplink")), Random(2))
    task = asyncio.ensure_future(box.run())
    try:
        await eventually(lambda: task.done() or bool(box.tcp_ports))
        assert not task.done(), task
        yield box
    finally:
        task.cancel()
        await asyncio.wait((task,))


def run(pki: Hierarchy, scenario: Scenario) -> None:
    async def main() -> None:
        async with stand_in(pki.datacenter) as center:
            spool_disk = disk()
            async with box_with_an_analyzer(pki, center.server.port, spool_disk) as box:
                await scenario(box, spool_disk, center)

    asyncio.run(main())


def esu(number: int, state: str = "OP", level: str = "N", at: datetime | None = NOW - MINUTE) -> bytes:
    time = f"{at:%Y%m%d%H%M%S}" if at else ""
    segments = f"MSH|^~\\&|A||B||{time}||ESU^U01|{number}|P|2.5.1\rEQU|A|{time}|{state}||{level}\r"
    return b"\x0b" + segments.encode() + b"\x1c\r"


def inu(test: str) -> bytes:
    segments = f"MSH|^~\\&|A||B||||INU^U05|7|P|2.5.1\rEQU|A|{NOW:%Y%m%d%H%M%S}\rINV|{test}|OK||||||9|9\r"
    return b"\x0b" + segments.encode() + b"\x1c\r"


async def connect(box: Box) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", box.tcp_ports[1])


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> bytes:
    writer.write(message)
    answer = await reader.readuntil(b"\x1c\r")
    return answer.partition(b"MSA|")[2][:2]


def reports(center: StandIn) -> list[Entry]:
    return [entry for entry in center.stored.values() if entry.instrument]


def test_a_message_is_stored_acknowledged_and_delivered(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk, center: StandIn) -> None:
        assert await ask(*await connect(box), esu(1, "ES", "C")) == b"AA"
        await eventually(lambda: len(reports(center)) == 2)
        at_ms = NOW_MS - 60_000
        bodies = {type(entry.body): entry.body for entry in reports(center)}
        assert bodies[Status] == Status(1, at_ms, "stopped", 0, {})
        assert bodies[Alert] == Alert(2, at_ms, "E0001", "software", "critical")
        assert {entry.instrument for entry in reports(center)} == {"MODU-1"}

    run(pki, scenario)


def test_a_repetition_is_acknowledged_and_stored_once(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk, center: StandIn) -> None:
        line = await connect(box)
        for number in range(100):  # each with another control id
            assert await ask(*line, esu(number)) == b"AA"
        assert await ask(*line, esu(1, at=NOW)) == b"AA"
        await eventually(lambda: len(reports(center)) == 2)
        status = await box.status()
        assert status is not None
        assert (status.reports_accepted, status.reports_repeated) == (2, 99)

    run(pki, scenario)


def test_a_repetition_after_a_power_cut_is_stored_once(pki: Hierarchy) -> None:
    async def scenario(box: Box, spool_disk: EmulDisk, center: StandIn) -> None:
        assert await ask(*await connect(box), esu(1, "ES", "C")) == b"AA"
        after = spool_disk.backend.cut_power()
        async with box_with_an_analyzer(pki, center.server.port, after) as next_box:
            line = await connect(next_box)
            assert await ask(*line, esu(2, "ES", "C")) == b"AA"
            assert await ask(*line, esu(3, "ID", at=NOW)) == b"AA"
            status = await next_box.status()
            assert status is not None
            assert (status.reports_accepted, status.reports_repeated) == (1, 2)
            numbers = {
                entry.body.number for entry in reports(center) if isinstance(entry.body, (Status, Alert))
            }
            await eventually(lambda: len(reports(center)) >= 3)
            assert numbers <= {1, 2, 3}

    run(pki, scenario)


def test_equal_reports_without_a_time_of_the_instrument_are_all_stored(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk, center: StandIn) -> None:
        line = await connect(box)
        for number in range(3):
            assert await ask(*line, esu(number, at=None)) == b"AA"
        await eventually(lambda: len(reports(center)) == 3)

    run(pki, scenario)


def test_a_time_far_from_the_clock_of_the_box_is_replaced(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk, center: StandIn) -> None:
        assert await ask(*await connect(box), esu(1, at=NOW - timedelta(days=4000))) == b"AA"
        await eventually(lambda: len(reports(center)) == 1)
        assert reports(center)[0].body.at_ms == NOW_MS

    run(pki, scenario)


def test_a_word_outside_the_profile_is_refused_and_the_connection_continues(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk, center: StandIn) -> None:
        line = await connect(box)
        assert await ask(*line, inu("XYZ")) in (b"AR", b"AE")
        assert await ask(*line, inu("GLU")) == b"AA"
        await eventually(lambda: "words-refused" in center.audits)
        await eventually(lambda: len(reports(center)) == 1)

    run(pki, scenario)


def test_a_command_of_the_data_center_is_answered_and_has_one_result(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "COMMAND_POLL_SECONDS", 0.02)

    async def scenario(box: Box, _disk: EmulDisk, center: StandIn) -> None:
        center.commands = [Command(5, "MODU-1", "send-inventory")]
        reader, writer = await connect(box)
        command = await reader.readuntil(b"\x1c\r")
        assert b"|INR^U06^INR_U06|" in command
        own_id = command.split(b"|")[9]
        writer.write(b"\x0bMSH|^~\\&|A||B||||ACK|1|P|2.5.1\rMSA|AA|" + own_id + b"\r\x1c\r")
        await eventually(lambda: [result.outcome for result in results(center)] == ["done"])
        assert await ask(reader, writer, esu(1)) == b"AA"  # and no second command before this answer
        await eventually(lambda: len(reports(center)) == 2)
        assert len(results(center)) == 1

    def results(center: StandIn) -> list[CommandResult]:
        return [entry.body for entry in reports(center) if isinstance(entry.body, CommandResult)]

    run(pki, scenario)


def test_a_dead_peer_is_detected_by_the_kernel(pki: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[tuple[str, int]] = []
    monkeypatch.setattr(
        adapter, "probe_peer", lambda transport: probed.append(transport.get_extra_info("peername"))
    )

    async def scenario(box: Box, _disk: EmulDisk, _center: StandIn) -> None:
        reader, writer = await connect(box)
        assert await ask(reader, writer, esu(1)) == b"AA"
        assert probed == [writer.get_extra_info("sockname")]

    run(pki, scenario)


def test_a_new_connection_replaces_a_half_open_one(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk, _center: StandIn) -> None:
        errors: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        old = await connect(box)
        assert await ask(*old, esu(1)) == b"AA"
        assert await ask(*await connect(box), esu(2)) == b"AA"
        assert await old[0].read() == b""
        assert errors == []

    run(pki, scenario)
