"""Recorded conversations with the laboratory's host that a box relays or taps, over TCP connections and ptys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from sim.conversations.casefile import Conversation
from sim.conversations.player import Played, ScriptLine, Split, check_reports, play_over
from sim.conversations.port import ConversationPort
from tests.support.eventually import eventually
from tests.support.sim.conversations.lines import without_long_waits
from tests.support.sim.conversations.recorded import IN_REAL_TIME as CASES
from tests.support.sim.conversations.relays import ObservingBox

RS_232 = [case for case in CASES if case.standard in ("astm-tcp", "astm-serial", "au-serial")]
Observe = Callable[[ObservingBox, ConversationPort], Awaitable[ScriptLine]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def in_sevens(data: bytes) -> list[bytes]:
    return [data[offset : offset + 7] for offset in range(0, len(data), 7)]


async def observed(case: Conversation, observe: Observe, split: Split) -> tuple[Played, Played]:
    """Play a case; return the results of the host and of the observing box."""
    box, seen = ObservingBox(case), Played()

    async def connect(host: ConversationPort) -> ScriptLine:
        return await observe(box, host)

    at_host = await play_over(connect, case, case.file.read_bytes(), split, without_long_waits)
    await eventually(lambda: box.port.source.accepted >= len(case.reports))
    await check_reports(box.port, case, seen, box.port.source.counts)
    await box.port.close()
    return at_host, seen


def problems(cases: Sequence[Conversation], observe: Observe, split: Split) -> dict[str, list[str]]:
    """Play all cases at the same time; return the problems by case."""

    async def main() -> list[tuple[Played, Played]]:
        return await asyncio.gather(*(observed(case, observe, split) for case in cases))

    played = asyncio.run(main())
    found = {
        case.name: [*host.problems, *seen.problems] for case, (host, seen) in zip(cases, played, strict=True)
    }
    return {name: each for name, each in found.items() if each}


@pytest.mark.slow("real lines in real time: an AU record is answered after 0.5 s")
@pytest.mark.parametrize("split", [whole, in_sevens])
def test_a_pass_through_over_tcp_changes_nothing_and_stores_the_accepted_reports(split: Split) -> None:
    assert problems(CASES, ObservingBox.pass_through_by_tcp, split) == {}


@pytest.mark.slow("real lines in real time: an AU record is answered after 0.5 s")
@pytest.mark.parametrize("split", [whole, in_sevens])
def test_a_pass_through_of_serial_lines_changes_nothing_and_stores_the_accepted_reports(
    split: Split,
) -> None:
    assert problems(CASES, ObservingBox.pass_through_by_pty, split) == {}


@pytest.mark.slow("real lines in real time: an AU record is answered after 0.5 s")
@pytest.mark.parametrize("split", [whole, in_sevens])
def test_a_listener_on_both_directions_stores_the_accepted_reports(split: Split) -> None:
    assert problems(RS_232, ObservingBox.listen_to_both, split) == {}


@pytest.mark.slow("real lines in real time: an AU record is answered after 0.5 s")
@pytest.mark.parametrize("split", [whole, in_sevens])
def test_a_listener_that_does_not_observe_the_host_stores_the_same(split: Split) -> None:
    assert problems(RS_232, ObservingBox.listen_to_the_instrument, split) == {}


def test_a_slow_instrument_gets_all_bytes_that_the_host_sent_before_it_closed_the_connection() -> None:
    data = bytes(range(256)) * (1 << 15)

    async def main() -> None:
        async def send_all(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            writer.close()

        box, received = ObservingBox(CASES[0]), bytearray()
        host = await asyncio.start_server(send_all, "127.0.0.1", 0)
        relay = await box.relay_to(host.sockets[0].getsockname()[1])
        reader, writer = await asyncio.open_connection(*relay.sockets[0].getsockname(), limit=1024)
        while piece := await reader.read(4096):
            received += piece
        assert received == data
        for endpoint in (writer, relay, host):
            endpoint.close()

    asyncio.run(main())
