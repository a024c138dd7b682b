"""A pass-through between an instrument and the laboratory's host: bytes, failures of the box, and stored reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from agents.box.intake import roles
from agents.box.intake.observation import AFTER_END_SECONDS_MAX, BEHIND_BYTES_MAX
from agents.box.intake.relay import CONNECTIONS_MAX
from settings.adapted import AdaptedPort, LaboratoryHost
from tests.support.agents.adapted_world import HOST_ADDRESS, SERIAL, AdaptedWorld, Streams
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import WAIT_SECONDS_MAX
from wire.messages import Audit, Command, Status
from wire.standards.engine import Action
from wire.standards.hl7 import Hl7Observer

HOST_PORT = 5000
SITE = AdaptedPort(role="pass-through", host=LaboratoryHost(address=HOST_ADDRESS, tcp_port=HOST_PORT))


def status(number: int, state: str = "ID", note: str = "") -> bytes:
    text = f"MSH|^~\\&|A||B||||ESU^U01|{number}|P|2.5.1\rEQU|A||{state}|{note}\r"
    return b"\x0b" + text.encode("latin-1") + b"\x1c\r"


def accept(message: bytes, code: str = "AA") -> bytes:
    own_id = message.split(b"|")[9].decode()
    return b"\x0b" + f"MSH|^~\\&|B||A||||ACK|9|P|2.5.1\rMSA|{code}|{own_id}\r".encode() + b"\x1c\r"


class Host:
    """The laboratory's host: answers each message, and keeps all bytes of each connection."""

    def __init__(self, world: AdaptedWorld, code: str = "AA") -> None:
        self.received: list[bytearray] = []
        self.closed = 0
        self.code = code
        world.listen(self._serve, HOST_PORT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = bytearray()
        self.received.append(received)
        unanswered = b""
        while data := await reader.read(1 << 16):
            received += data
            *messages, unanswered = (unanswered + data).split(b"\x1c\r")
            for message in messages:
                writer.write(accept(message, self.code))
        self.closed += 1
        writer.close()


async def ask(line: Streams, message: bytes) -> bytes:
    """Send a message and return the host's answer."""
    line[1].write(message)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        return await line[0].readuntil(b"\x1c\r")


def in_a_world(pki: Hierarchy, scenario: Callable[[AdaptedWorld], Coroutine[Any, Any, None]]) -> AdaptedWorld:
    world = AdaptedWorld(pki, SITE)
    world.run(lambda: scenario(world))
    return world


def states(world: AdaptedWorld) -> list[str]:
    return [e.body.state for e in world.center.stored.values() if isinstance(e.body, Status)]


async def counts(world: AdaptedWorld) -> dict[str, int]:
    status = await world.box.status()
    assert status is not None
    return status.ports[0].left_out


def test_bytes_pass_unchanged_in_both_directions(pki: Hierarchy) -> None:
    up, down = Random(1).randbytes(400_000), Random(2).randbytes(300_000)
    received = bytearray()

    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(down)
        while data := await reader.read(1 << 16):
            received.extend(data)

    async def scenario(world: AdaptedWorld) -> None:
        world.listen(host, HOST_PORT)
        reader, writer = await world.connect()
        writer.write(up)
        assert await reader.readexactly(len(down)) == down
        await asyncio.sleep(60)
        assert received == up

    in_a_world(pki, scenario)


def test_all_bytes_before_the_end_of_a_connection_pass(pki: Hierarchy) -> None:
    down = Random(3).randbytes(300_000)

    async def host(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(down)
        writer.close()

    async def scenario(world: AdaptedWorld) -> None:
        world.listen(host, HOST_PORT)
        reader, _ = await world.connect()
        assert await reader.read() == down

    in_a_world(pki, scenario)


def test_a_message_is_stored_if_the_host_accepts_it(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        host = Host(world)
        line = await world.connect()
        message = status(1, "OP")
        assert await ask(line, message) == accept(message)
        host.code = "AE"
        assert b"|AE|" in await ask(line, status(2, "ID"))
        await asyncio.sleep(20)
        assert states(world) == ["running"]
        assert host.received == [message + status(2, "ID")]

    in_a_world(pki, scenario)


def test_the_end_of_either_connection_ends_the_other(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        host = Host(world)
        line = await world.connect()
        await ask(line, status(1))
        line[1].close()
        await asyncio.sleep(5)
        assert host.closed == 1
        line = await world.connect()
        await ask(line, status(2))
        world.lis.kill()
        assert await line[0].read() == b""

    in_a_world(pki, scenario)


def test_the_connection_of_an_instrument_ends_if_the_host_is_unreachable(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.on(world.lis, asyncio.sleep(0))
        for _ in range(3):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await ask(await world.connect(), status(1))
        Host(world)
        await ask(await world.connect(), status(2))
        await asyncio.sleep(20)
        audits = [e.body.event for e in world.center.stored.values() if isinstance(e.body, Audit)]
        assert audits.count("laboratory-host-unreachable") == 3

    in_a_world(pki, scenario)


class BrokenObserver(Hl7Observer):
    """Fails at data of the instrument that contains BROKEN."""

    def from_instrument(self, data: bytes, now: float) -> list[Action]:
        if b"BROKEN" in data:
            raise ValueError(f"{data!r}")
        return super().from_instrument(data, now)


def test_a_failing_parser_does_not_stop_the_bytes_and_continues(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "make_observer", lambda _profile, site: BrokenObserver(site))

    async def scenario(world: AdaptedWorld) -> None:
        host = Host(world)
        line = await world.connect()
        sent = [status(1, "OP"), status(2, "ID", "BROKEN"), status(3, "PU")]
        for message in sent:
            assert await ask(line, message) == accept(message)
        await asyncio.sleep(20)
        assert host.received == [b"".join(sent)]
        assert states(world) == ["running", "maintenance"]
        assert await counts(world) == {"passed-unread": 1}
        failures = world.loop.failures.copy()
        world.loop.failures.clear()
        assert len(failures) == 1 and "BROKEN" not in failures[0] and "ValueError at" in failures[0]

    in_a_world(pki, scenario)


def test_a_parser_that_cannot_start_does_not_stop_the_bytes(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        Host(world)
        monkeypatch.setattr(roles, "make_observer", lambda *_: 1 / 0)
        world.restart_box()
        line = await world.connect()
        for number in range(3):
            assert await ask(line, status(number)) == accept(status(number))
        world.loop.failures.clear()

    in_a_world(pki, scenario)


@pytest.mark.parametrize("failure", ["read-only", "full", "slow", "hangs"])
def test_a_failing_disk_delays_no_answer(pki: Hierarchy, failure: str) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        host, disk = Host(world), world.disk.backend
        line = await world.connect()
        await ask(line, status(0))
        await asyncio.sleep(20)
        {
            "read-only": lambda: disk.set_read_only(True),
            "full": lambda: disk.set_capacity(disk.used_bytes),
            "slow": lambda: disk.set_latency(20 * 10**9, 0.0),
            "hangs": lambda: disk.set_latency(3600 * 10**9, 0.0),
        }[failure]()
        for number in range(1, 200):
            assert await ask(line, status(number, "OP")) == accept(status(number))
        assert host.received[0].count(b"MSH") == 200

    in_a_world(pki, scenario)


def test_findings_wait_until_the_disk_is_writable_again(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        Host(world)
        line = await world.connect()
        await ask(line, status(0))
        world.disk.backend.set_read_only(True)
        for number, state in enumerate(["OP", "ID", "PU"], 1):
            await ask(line, status(number, state))
        await asyncio.sleep(600)
        assert states(world) == ["idle"]
        world.disk.backend.set_read_only(False)
        await asyncio.sleep(120)
        assert states(world) == ["idle", "running", "idle", "maintenance"]
        assert await counts(world) == {}

    in_a_world(pki, scenario)


def test_findings_not_stored_after_the_end_of_their_connection_are_counted(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        Host(world)
        line = await world.connect()
        await ask(line, status(0))
        world.disk.backend.set_read_only(True)
        await ask(line, status(1, "OP"))
        line[1].close()
        await asyncio.sleep(2 * AFTER_END_SECONDS_MAX)
        world.disk.backend.set_read_only(False)
        await asyncio.sleep(60)
        assert (states(world), await counts(world)) == (["idle"], {"not-stored": 1})

    in_a_world(pki, scenario)


def test_parsing_that_lags_too_far_behind_is_counted_and_begins_again(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        Host(world)
        line = await world.connect()
        await ask(line, status(0))
        world.disk.backend.set_read_only(True)
        long = "x" * 1000
        for number in range(1, 3 * BEHIND_BYTES_MAX // 1000):
            await ask(line, status(number, "OP", long))
        world.disk.backend.set_read_only(False)
        await asyncio.sleep(600)
        assert (await counts(world))["passed-unread"] >= 2
        await ask(line, status(9999, "PU"))
        await asyncio.sleep(60)
        assert states(world)[-1] == "maintenance"

    in_a_world(pki, scenario)


@pytest.mark.parametrize("interrupt", [AdaptedWorld.restart_box, AdaptedWorld.cut_power])
def test_after_a_restart_the_instrument_repeats_and_the_message_is_stored_once(
    pki: Hierarchy, interrupt: Callable[[AdaptedWorld], None]
) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        host = Host(world)
        line = await world.connect()
        timed = status(1, "OP").replace(b"EQU|A|", b"EQU|A|%s" % time_of(world))
        await ask(line, timed)
        await asyncio.sleep(20)
        interrupt(world)
        line = await world.connect()
        assert await ask(line, timed) == accept(timed)
        await asyncio.sleep(60)
        assert states(world) == ["running"]
        assert host.received == [timed, timed]

    def time_of(world: AdaptedWorld) -> bytes:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(world.clock.now_ns() / 1e9, UTC).strftime("%Y%m%d%H%M%S").encode()

    in_a_world(pki, scenario)


def test_a_further_connection_ends_the_oldest(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        host = Host(world)
        lines = [await world.connect() for _ in range(CONNECTIONS_MAX)]
        for number, line in enumerate(lines):
            await ask(line, status(number))
        await ask(await world.connect(), status(99))
        with pytest.raises(ConnectionResetError):
            await lines[0][0].read()
        assert await ask(lines[1], status(100)) == accept(status(100))
        assert len(host.received) == CONNECTIONS_MAX + 1

    in_a_world(pki, scenario)


def test_a_command_to_an_observed_instrument_is_refused_and_not_sent(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        host = Host(world)
        world.queue(Command(3, SERIAL, "send-inventory"))
        line = await world.connect()
        await ask(line, status(1))
        await asyncio.sleep(60)
        assert world.results == [(SERIAL, 3, "refused")]
        assert host.received == [status(1)]
        line[1].close()
        assert await line[0].read() == b""  # no command has arrived after the answer

    in_a_world(pki, scenario)
