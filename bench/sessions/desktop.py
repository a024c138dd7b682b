"""The desktop of a session: `python -m bench.sessions.desktop [--json]`.

A synthetic analyzer draws the eight steps of `tests.support.desktop.screens` on TigerVNC's server. Its screen is
carried by the box's bridge, and side by side by TigerVNC itself: in Tight as noVNC requests it (JPEG), and in Tight
without loss. The line of 128 kbit/s with 40 ms one way is a relay. Everything but the VNC server runs in one process,
so that a busy machine adds to the times.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from PIL import Image

from agents.box.desktop.bridge import DesktopBridge
from agents.box.desktop.warm_content import make_warm_content
from bench.figures import Figure, figure, run
from bench.sessions.line import SlowLine
from bench.sessions.tight import LOSSLESS, NOVNC, TightViewer
from datacenter.desktop.receiver import DesktopReceiver
from tests.support.desktop.screens import HEIGHT, WIDTH, Analyzer, Step, to_picture
from tests.support.desktop.vnc_server import VncServer, vnc_server
from tests.support.desktop.x11 import FullWindow
from wire.desktop.connection import TcpChannel
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import KeyEvent
from wire.desktop.stream import Update
from wire.desktop.warm import COLD, WarmContent

BYTES_PER_SECOND: Final = 13_500
"""The session's share of the line; the rest is for alerts and reports."""
QUIET_SECONDS: Final = 1.5
"""Time without further data after which a step counts as completely received."""
KEYS: Final = 40
KEY_SECONDS: Final = 0.7
LOAD_SECONDS: Final = 1.0
PLOTS: Final = int((KEYS * KEY_SECONDS + 6) / LOAD_SECONDS)
ECHO: Final = Area(740, 700, 60, 20)
"""The area in which the analyzer shows a pressed key."""
LOAD: Final = Area(20, 120, 681, 601)
"""Area in which plots change continuously during the measurement."""
KEY: Final = 0x61
FIRST_PICTURES: Final = 3


class NoRecorder:
    """Records nothing."""

    def add(self, part: bytes) -> None:
        """Ignore a part."""


async def connect(port: int) -> TcpChannel:
    return TcpChannel(*await asyncio.open_connection("127.0.0.1", port))


@asynccontextmanager
async def session(
    server: VncServer, line: SlowLine | None = None, warm: WarmContent = COLD
) -> AsyncIterator[DesktopReceiver]:
    """Run the bridge and the receiver; the data center's end of the connection is a server at the end of the line."""
    received: asyncio.Future[TcpChannel] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(TcpChannel(reader, writer))

    async with _listening(accept) as port, _through(line or SlowLine(1e9, 0.0), port) as box_port:
        channels = [await connect(server.port), await connect(box_port), await received]
        rate = BYTES_PER_SECOND if line else 1e9
        bridge = DesktopBridge(*channels[:2], bytes_per_second=rate, has_control=True, warm=warm)
        receiver = DesktopReceiver(channels[2], NoRecorder(), {warm.identity: warm})
        tasks = [asyncio.create_task(bridge.run()), asyncio.create_task(receiver.run())]
        try:
            yield receiver
        finally:
            await _stop(*tasks)
            for channel in channels:
                channel.writer.close()


@asynccontextmanager
async def _listening(
    accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def _through(line: SlowLine, port: int) -> AsyncIterator[int]:
    async with line.to(port) as near:
        yield near


async def _stop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _quiet(count: Callable[[], int]) -> float:
    """Wait until a count stops growing; return the seconds until its last growth."""
    began = grew = time.monotonic()
    last = count()
    while time.monotonic() - grew < QUIET_SECONDS:
        await asyncio.sleep(0.01)
        if count() != last:
            last, grew = count(), time.monotonic()
    return grew - began


async def _each_step(window: FullWindow, steps: list[Step], count: Callable[[], int]) -> list[int]:
    """Return the bytes of each step. Only the areas that the application redraws are drawn."""
    lengths = []
    for step in steps:
        before = count()
        for area in step.drawn:
            part = step.screen.crop((area.x, area.y, area.right, area.bottom))
            await asyncio.to_thread(window.show, part, area.x, area.y)
        await _quiet(count)
        lengths.append(count() - before)
    return lengths


@contextmanager
def desktop() -> Iterator[tuple[VncServer, FullWindow]]:
    """Run TigerVNC with a window of the analyzer, black at first."""
    with (
        tempfile.TemporaryDirectory() as folder,
        vnc_server(Path(folder)) as server,
        FullWindow(server.display) as window,
    ):
        yield server, window


async def bytes_of_stream(server: VncServer, window: FullWindow, steps: list[Step]) -> tuple[list[int], int]:
    """Return the bytes of each step in the box's stream, and 1 if the picture differs after the last step, else 0."""
    line = SlowLine(1e9, 0.0)
    async with session(server, line) as receiver:
        await _quiet(lambda: line.bytes["down"])
        lengths = await _each_step(window, steps, lambda: line.bytes["down"])
        return lengths, int(receiver.picture != to_picture(steps[-1].screen))


async def bytes_of_tight(
    server: VncServer, window: FullWindow, steps: list[Step], encodings: tuple[int, ...]
) -> list[int]:
    viewer = TightViewer(await connect(server.port), encodings)
    task = asyncio.create_task(viewer.run())
    await _quiet(lambda: viewer.bytes)
    lengths = await _each_step(window, steps, lambda: viewer.bytes)
    await _stop(task)
    return lengths


async def first_picture(server: VncServer, expected: Picture, warm: WarmContent) -> float:
    """Return the seconds from the start of the session on the slow line until the picture is complete and exact."""
    began = time.monotonic()
    async with session(server, SlowLine(), warm) as receiver:
        while receiver.picture != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return time.monotonic() - began


async def first_tight_picture(server: VncServer, encodings: tuple[int, ...]) -> float:
    line = SlowLine()
    async with line.to(server.port) as port:
        viewer = TightViewer(await connect(port), encodings)
        task = asyncio.create_task(viewer.run())
        seconds = await _quiet(lambda: viewer.bytes)
        await _stop(task)
        return seconds


class BusyAnalyzer(threading.Thread):
    """Continuously draws new plots, and a new colour at `ECHO` for each pressed key."""

    def __init__(self, window: FullWindow) -> None:
        super().__init__()
        self._window = window
        self._stops = threading.Event()
        self._plots = []
        for seed in range(PLOTS):
            screen, draw = Analyzer(seed=seed).tab(4)
            Analyzer(seed=seed).plots(draw, seed)
            self._plots.append(screen.crop((LOAD.x, LOAD.y, LOAD.right, LOAD.bottom)))

    def run(self) -> None:
        number = presses = 0
        draws_at = time.monotonic()
        while not self._stops.is_set():
            if time.monotonic() >= draws_at:
                self._window.show(self._plots[number % len(self._plots)], LOAD.x, LOAD.y)
                number, draws_at = number + 1, draws_at + LOAD_SECONDS
            if (
                self._window.has_event(max(0.0, draws_at - time.monotonic()))
                and self._window.next_event().is_press
            ):
                presses += 1
                self._window.show(
                    Image.new("RGB", (ECHO.width, ECHO.height), (0, 0, presses)), ECHO.x, ECHO.y
                )

    def stop(self) -> None:
        self._stops.set()
        self.join()


class EchoClock:
    """Measures the time from a key to its echo."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._pressed_at = 0.0
        self._is_waiting = False

    def press(self) -> None:
        """Record that a key is sent. If the echo of the previous key is missing, its time counts until now."""
        if self._is_waiting:
            self.echo()
        self._pressed_at, self._is_waiting = time.monotonic(), True

    def echo(self) -> None:
        """Record that the echo is shown."""
        if self._is_waiting:
            self.seconds.append(time.monotonic() - self._pressed_at)
        self._is_waiting = False

    def p95(self) -> float:
        return quantiles(self.seconds, n=20)[-1]


class EchoObserver:
    """Detects the colour of a key's echo in the received picture."""

    def __init__(self, receiver: DesktopReceiver, clock: EchoClock) -> None:
        self._receiver, self._clock, self._shown = receiver, clock, 0

    def updated(self, _update: Update) -> None:
        """Check the picture after an update."""
        picture = self._receiver.picture
        colour = picture.pixels[(ECHO.y + 5) * picture.width + ECHO.x + 5]
        if colour != self._shown:
            self._shown = colour
            self._clock.echo()


async def _press_keys(clock: EchoClock, send: Callable[[bytes], Awaitable[None]]) -> None:
    for _ in range(KEYS):
        clock.press()
        await send(KeyEvent(KEY, is_down=True).encode() + KeyEvent(KEY, is_down=False).encode())
        await asyncio.sleep(KEY_SECONDS)


async def echo_of_stream(server: VncServer, window: FullWindow) -> tuple[EchoClock, list[float]]:
    """Press keys during load; return their echoes, and the round trips of another connection on the line."""
    line, clock = SlowLine(), EchoClock()
    async with session(server, line) as receiver, _echo_server(line) as port:
        busy = BusyAnalyzer(window)
        await _quiet(lambda: receiver.updates)
        receiver.watch(EchoObserver(receiver, clock))
        busy.start()
        trips: list[float] = []
        pinging = asyncio.create_task(_ping(port, trips))
        await asyncio.sleep(3 * LOAD_SECONDS)

        async def send(data: bytes) -> None:
            for start in (0, 8):
                is_down, key = struct.unpack(">xBxxI", data[start : start + 8])
                await receiver.send(KeyEvent(key, bool(is_down)))

        await _press_keys(clock, send)
        await _stop(pinging)
        await asyncio.to_thread(busy.stop)
    return clock, trips


async def echo_of_tight(server: VncServer, window: FullWindow, encodings: tuple[int, ...]) -> EchoClock:
    line, clock = SlowLine(), EchoClock()
    async with line.to(server.port) as port:
        channel = await connect(port)
        viewer = TightViewer(
            channel, encodings, lambda area: clock.echo() if area.common(ECHO).pixels else None
        )
        task = asyncio.create_task(viewer.run())
        busy = BusyAnalyzer(window)
        await _quiet(lambda: viewer.bytes)
        busy.start()
        await asyncio.sleep(3 * LOAD_SECONDS)
        await _press_keys(clock, channel.write)
        await asyncio.to_thread(busy.stop)
        await _stop(task)
    return clock


@asynccontextmanager
async def _echo_server(line: SlowLine) -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):  # asyncio reports a cancelled handler as an error
            while data := await reader.read(1000):
                writer.write(data)

    async with _listening(echo) as port, line.to(port) as near:
        yield near


async def _ping(port: int, trips: list[float]) -> None:
    """Measure round trips of an alert's size (300 bytes) during the session, one every 200 ms."""
    channel = await connect(port)
    while True:
        began = time.monotonic()
        await channel.write(bytes(300))
        await channel.read_exactly(300)
        trips.append(time.monotonic() - began)
        await asyncio.sleep(0.2)


def measure_bytes() -> list[Figure]:
    steps = list(Analyzer().script())
    lengths_by_name: dict[str, list[int]] = {}
    with desktop() as (server, window):
        lengths_by_name["stream"], differs = asyncio.run(bytes_of_stream(server, window, steps))
    for name, encodings in (("noVNC", NOVNC), ("lossless", LOSSLESS)):
        with desktop() as (server, window):
            lengths_by_name[name] = asyncio.run(bytes_of_tight(server, window, steps, encodings))
    figures = [figure("pictures that differ after the script", "", differs, "<= 0")]
    for index, step in enumerate(steps):
        for name, lengths in lengths_by_name.items():
            label = {"stream": step.name, "noVNC": "  noVNC's request", "lossless": "  Tight lossless"}[name]
            figures.append(figure(label, "bytes", lengths[index]))
    stream, novnc, lossless = lengths_by_name.values()
    worst = max(a / b for a, b in zip(stream, lossless, strict=True))
    return [
        *figures,
        figure("script: bytes", "", sum(stream)),
        figure("  of those of noVNC's request", "", sum(stream) / sum(novnc), "<= 0.25"),
        figure("  of those of Tight lossless", "", sum(stream) / sum(lossless), "<= 0.5"),
        figure("  worst step, of Tight lossless", "", worst, "<= 1.3"),
    ]


def measure_first_picture() -> list[Figure]:
    screen = next(Analyzer().script()).screen
    # the same tabs with other results, as an earlier session of another day had them
    other_day = [step.screen for step in Analyzer(seed=5).script()]
    warm = make_warm_content([to_picture(other_day[index]) for index in (6, 5, 0)])
    with desktop() as (server, window):
        window.show(screen)
        expected = to_picture(screen)
        cold = [asyncio.run(first_picture(server, expected, COLD)) for _ in range(FIRST_PICTURES)]
        warmed = [asyncio.run(first_picture(server, expected, warm)) for _ in range(FIRST_PICTURES)]
        novnc = asyncio.run(first_tight_picture(server, NOVNC))
        lossless = asyncio.run(first_tight_picture(server, LOSSLESS))
    return [
        figure(f"first picture {WIDTH}×{HEIGHT}, exact, cold", "s", median(cold), "<= 3.0"),
        figure("  with starting content of another day's screens", "s", median(warmed), "<= 1.0"),
        figure("  noVNC's request, until no more data arrive", "s", novnc),
        figure("  Tight lossless", "s", lossless),
    ]


def measure_echo() -> list[Figure]:
    with desktop() as (server, window):
        clock, trips = asyncio.run(echo_of_stream(server, window))
    with desktop() as (server, window):
        novnc = asyncio.run(echo_of_tight(server, window, NOVNC))
    return [
        figure("key to echo during load, p95", "s", clock.p95(), "<= 0.2"),
        figure("  median", "s", median(clock.seconds)),
        figure("  noVNC's request, p95", "s", novnc.p95()),
        figure(
            "  another connection's round trip meanwhile, p99", "s", quantiles(trips, n=100)[-1], "<= 2.0"
        ),
    ]


def figures() -> list[Figure]:
    """Return all figures."""
    return [*measure_bytes(), *measure_first_picture(), *measure_echo()]


if __name__ == "__main__":
    run(figures, __doc__)
