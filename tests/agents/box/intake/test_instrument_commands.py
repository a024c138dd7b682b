"""Commands to an HL7 instrument: the running box sends each once, and returns its result to the data center once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from settings.adapted import AdaptedPort
from settings.profile import Verb
from tests.support.agents.adapted_world import SERIAL, AdaptedWorld, Streams
from tests.support.crypto.hierarchy import Hierarchy
from wire.messages import Audit, Command

SITE = AdaptedPort(tests={"GLU": "glu"})
INVENTORY, UPLOAD = Command(7, SERIAL, "send-inventory"), Command(8, SERIAL, "data-upload")
TRIES_S = 90.0


def acknowledgement(message: bytes, code: str) -> bytes:
    own_id = message.split(b"|")[9].decode()
    text = f"MSH|^~\\&|A||RAP||20310304||ACK|{own_id}|P|2.5.1\rMSA|{code}|{own_id}\r"
    return b"\x0b" + text.encode() + b"\x1c\r"


async def receive(line: Streams) -> bytes:
    """Return the next command that arrives at the instrument."""
    return await line[0].readuntil(b"\x1c\r")


async def nothing_for(line: Streams, seconds: float) -> bool:
    """Return whether no byte arrives within this time."""
    try:
        async with asyncio.timeout(seconds):
            return not await line[0].read(1)
    except TimeoutError:
        return True


def in_a_world(pki: Hierarchy, scenario: Callable[[AdaptedWorld], Coroutine[Any, Any, None]]) -> AdaptedWorld:
    world = AdaptedWorld(pki, SITE)
    world.run(lambda: scenario(world))
    return world


@pytest.mark.parametrize(
    ("command", "kind"), [(INVENTORY, b"|INR^U06^INR_U06|"), (UPLOAD, b"|LSR^U13^LSU_U12|")]
)
@pytest.mark.parametrize(("code", "outcome"), [("AA", "done"), ("AE", "failed"), ("AR", "refused")])
def test_a_command_is_sent_once_and_its_result_stored_once(
    pki: Hierarchy, command: Command, kind: bytes, code: str, outcome: str
) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(command)
        line = await world.connect()
        message = await receive(line)
        assert kind in message
        line[1].write(acknowledgement(message, code))
        assert await nothing_for(line, 300)  # although the data center repeats the command
        assert world.results == [(SERIAL, command.id, outcome)]

    in_a_world(pki, scenario)


def test_a_command_waits_for_the_instrument(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        await asyncio.sleep(600)
        assert world.results == []
        line = await world.connect()
        line[1].write(acknowledgement(await receive(line), "AA"))
        await asyncio.sleep(60)
        assert world.results == [(SERIAL, 7, "done")]

    in_a_world(pki, scenario)


def test_an_instrument_that_always_sends_gets_its_command(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        line = await world.connect()
        sending = asyncio.ensure_future(send_continuously(line[1]))
        while b"INR^U06" not in await receive(line):
            pass
        assert not sending.done()

    async def send_continuously(writer: asyncio.StreamWriter) -> None:
        for number in range(1000):
            status = f"MSH|^~\\&|A||B||||ESU^U01|{number}|P|2.5.1\rEQU|A||ID\r"
            writer.write(b"\x0b" + status.encode() + b"\x1c\r")
            await asyncio.sleep(1)

    in_a_world(pki, scenario)


def test_a_silent_instrument_is_asked_three_times_and_the_result_is_unknown(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        line = await world.connect()
        sent = [await receive(line) for _ in range(3)]
        assert sent == sent[:1] * 3
        assert await nothing_for(line, 600)
        assert world.results == [(SERIAL, 7, "unknown")]

    in_a_world(pki, scenario)


def test_a_late_answer_ends_no_other_command(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        line = await world.connect()
        late, *_ = [await receive(line) for _ in range(3)]
        await asyncio.sleep(TRIES_S)
        world.queue(UPLOAD)
        second = await receive(line)
        line[1].write(acknowledgement(late, "AA"))
        await asyncio.sleep(20)
        assert world.results == [(SERIAL, 7, "unknown")]
        line[1].write(acknowledgement(second, "AR"))
        await asyncio.sleep(20)
        assert world.results == [(SERIAL, 7, "unknown"), (SERIAL, 8, "refused")]

    in_a_world(pki, scenario)


def test_two_commands_are_distinguished_by_their_answers(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY, UPLOAD)
        line = await world.connect()
        first, second = await receive(line), await receive(line)
        line[1].write(acknowledgement(second, "AE") + acknowledgement(first, "AA"))
        await asyncio.sleep(20)
        assert sorted(world.results) == [(SERIAL, 7, "done"), (SERIAL, 8, "failed")]

    in_a_world(pki, scenario)


def test_a_connection_that_ends_before_the_answer_leaves_the_result_unknown(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        line = await world.connect()
        await receive(line)
        line[1].close()
        await asyncio.sleep(60)
        assert await nothing_for(await world.connect(), 300)
        assert world.results == [(SERIAL, 7, "unknown")]

    in_a_world(pki, scenario)


@pytest.mark.parametrize("interrupt", [AdaptedWorld.restart_box, AdaptedWorld.cut_power])
@pytest.mark.parametrize("answered", [False, True])
def test_a_restart_of_the_box_neither_repeats_a_command_nor_its_result(
    pki: Hierarchy, interrupt: Callable[[AdaptedWorld], None], answered: bool
) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        line = await world.connect()
        message = await receive(line)
        if answered:
            line[1].write(acknowledgement(message, "AA"))
            await asyncio.sleep(20)
        interrupt(world)
        assert await nothing_for(await world.connect(), 300)
        assert world.results == [(SERIAL, 7, "done" if answered else "unknown")]
        assert started(world) == [7]

    def started(world: AdaptedWorld) -> list[int]:
        audits = [entry.body for entry in world.center.stored.values() if isinstance(entry.body, Audit)]
        return [audit.value for audit in audits if audit.event == "command-started" and audit.port == 1]

    in_a_world(pki, scenario)


def test_results_wait_until_the_disk_is_writable(pki: Hierarchy) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(INVENTORY)
        line = await world.connect()
        message = await receive(line)
        world.disk.backend.set_read_only(True)
        line[1].write(acknowledgement(message, "AA"))
        await asyncio.sleep(600)
        assert world.results == []
        world.disk.backend.set_read_only(False)
        await asyncio.sleep(60)
        assert world.results == [(SERIAL, 7, "done")]

    in_a_world(pki, scenario)


@pytest.mark.parametrize("verb", ["help-file", "test-menu"])
def test_a_command_that_the_standard_lacks_is_refused(pki: Hierarchy, verb: Verb) -> None:
    async def scenario(world: AdaptedWorld) -> None:
        world.queue(Command(9, SERIAL, verb))
        assert await nothing_for(await world.connect(), 60)
        assert world.results == [(SERIAL, 9, "refused")]

    in_a_world(pki, scenario)


def test_a_command_to_an_instrument_whose_standard_has_none_is_refused(pki: Hierarchy) -> None:
    world = AdaptedWorld(pki, AdaptedPort(), "blood-cell-counter")
    world.queue(INVENTORY)

    async def scenario() -> None:
        await asyncio.sleep(60)
        assert world.results == [(SERIAL, 7, "refused")]

    world.run(scenario)
