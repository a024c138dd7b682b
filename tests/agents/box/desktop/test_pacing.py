"""The bridge's use of its line, in simulated time, so that the figures are exact and equal in each run."""

from __future__ import annotations

import asyncio
import struct

import pytest

from agents.box.desktop.bridge import (
    ACKNOWLEDGEMENT_SECONDS_MAX,
    PROBE_SECONDS,
    WINDOW_SECONDS,
    DesktopBridge,
    DesktopEndedError,
)
from agents.box.desktop.encoder import MESSAGE_BYTES
from agents.box.desktop.pace import PAUSE_SECONDS_MAX, WRITE_BYTES_MAX
from sim.net.loop import SimLoop
from tests.support.desktop.memory_channel import MemoryChannel
from tests.support.desktop.screens import Analyzer, to_picture
from wire.desktop.connection import converse
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import Encoding
from wire.desktop.rfb_server import UpdateRequest, viewer_handshake, viewer_message
from wire.desktop.stream import FRAME, HEADER_BYTES, Acknowledged, FrameHead

RATE = 13_500


class Instrument:
    """A VNC server in memory that answers requests with a picture."""

    def __init__(self, channel: MemoryChannel, picture: Picture) -> None:
        self.channel, self.picture = channel, picture
        self.changed: asyncio.Queue[Area] = asyncio.Queue()
        self.is_frozen = False

    async def run(self) -> None:
        await converse(self.channel, viewer_handshake(self.picture.width, self.picture.height, ""))
        requests: asyncio.Queue[UpdateRequest] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer(requests))
            while True:
                message = await converse(self.channel, viewer_message())
                if isinstance(message, UpdateRequest):
                    requests.put_nowait(message)
                    if not message.is_incremental:
                        self.changed.put_nowait(message.area)

    async def _answer(self, requests: asyncio.Queue[UpdateRequest]) -> None:
        while True:
            await requests.get()
            area = await self.changed.get()
            if self.is_frozen:
                return
            head = struct.pack(">BxHHHHHi", 0, 1, *area, Encoding.RAW)
            await self.channel.write(head + self.picture.read(area))


async def begin(
    picture: Picture,
) -> tuple[Instrument, MemoryChannel, MemoryChannel, list[asyncio.Task[None]]]:
    """Start a bridge; return the instrument, both ends of the line, and the tasks (the bridge's is the first)."""
    server, instrument_end = MemoryChannel.pair()
    line, datacenter = MemoryChannel.pair()
    instrument = Instrument(instrument_end, picture)
    bridge = DesktopBridge(server, line, bytes_per_second=RATE, has_control=True)
    tasks = [asyncio.create_task(bridge.run()), asyncio.create_task(instrument.run())]
    return instrument, line, datacenter, tasks


async def acknowledge(datacenter: MemoryChannel, delay_s: float) -> None:
    await datacenter.read_exactly(HEADER_BYTES)
    updates = 0
    while True:
        await datacenter.read_exactly(FrameHead.parse(await datacenter.read_exactly(FRAME.size)).length)
        updates += 1
        asyncio.get_running_loop().call_later(delay_s, datacenter.put, Acknowledged(updates).encode())


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_the_line_is_used_at_its_rate_in_small_writes() -> None:
    async def send() -> list[tuple[float, bytes]]:
        _, line, datacenter, tasks = await begin(to_picture(next(Analyzer().script()).screen))
        tasks.append(asyncio.create_task(acknowledge(datacenter, 0.1)))
        await asyncio.sleep(10)
        await stop(tasks)
        return line.writes

    writes = SimLoop().run_until_complete(send())
    assert max(len(data) for _, data in writes) <= WRITE_BYTES_MAX
    began = writes[0][0]
    sent = 0
    for written_at, data in writes:
        assert sent <= RATE * (written_at - began + PAUSE_SECONDS_MAX), (
            "never more than the rate before a write"
        )
        sent += len(data)
    duration = writes[-1][0] - began
    assert sent / RATE <= duration + 0.1 <= 1.1 * sent / RATE + 0.1, "and at least 90 % of the rate"


def test_unacknowledged_bytes_are_limited_and_a_dead_line_ends_the_desktop() -> None:
    async def send() -> tuple[int, float]:
        _, line, _, tasks = await begin(to_picture(next(Analyzer().script()).screen))
        began = asyncio.get_running_loop().time()
        with pytest.raises(DesktopEndedError, match="has acknowledged nothing for 25 s"):
            await tasks[0]
        await stop(tasks[1:])
        return sum(len(data) for _, data in line.writes), asyncio.get_running_loop().time() - began

    sent, seconds = SimLoop().run_until_complete(send())
    assert sent <= RATE * WINDOW_SECONDS + 5 * MESSAGE_BYTES
    assert ACKNOWLEDGEMENT_SECONDS_MAX <= seconds <= 30


def test_an_unchanged_screen_costs_almost_nothing() -> None:
    async def idle() -> int:
        _, line, datacenter, tasks = await begin(Picture(320, 200))
        tasks.append(asyncio.create_task(acknowledge(datacenter, 0.1)))
        await asyncio.sleep(10)
        before = len(line.writes)
        await asyncio.sleep(600)
        await stop(tasks)
        return len(line.writes) - before

    assert SimLoop().run_until_complete(idle()) == 0


def test_a_frozen_instrument_is_reported_once() -> None:
    async def freeze() -> list[float]:
        instrument, line, datacenter, tasks = await begin(Picture(64, 48))
        tasks.append(asyncio.create_task(acknowledge(datacenter, 0.1)))
        await asyncio.sleep(2)
        instrument.is_frozen = True
        frozen_at, before = asyncio.get_running_loop().time(), len(line.writes)
        await asyncio.sleep(60)
        await stop(tasks)
        return [written_at - frozen_at for written_at, _ in line.writes[before:]]

    stalled = SimLoop().run_until_complete(freeze())
    assert len(stalled) == 1
    assert stalled[0] <= 2 * PROBE_SECONDS + 1


def test_two_runs_are_equal() -> None:
    async def send() -> list[tuple[float, bytes]]:
        instrument, line, datacenter, tasks = await begin(Picture(200, 100))
        tasks.append(asyncio.create_task(acknowledge(datacenter, 0.05)))
        for number in range(20):
            area = Area(number, number, 30, 10)
            instrument.picture.write(area, struct.pack("<I", 5000 * number) * area.pixels)
            instrument.changed.put_nowait(area)
            await asyncio.sleep(0.03)
        await stop(tasks)
        return line.writes

    first, second = (SimLoop().run_until_complete(send()) for _ in range(2))
    assert first == second
    assert len(first) > 10
