"""The desktop of an open session: received once, recorded, and shown to viewers.

The connection to the box exists from the opening to the end of the session; a lost connection ends the session.
Received data is durable within FLUSH_SECONDS, and only recorded data is displayed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from datacenter.desktop.receiver import DesktopReceiver, ShownDesktop
from datacenter.desktop.second_person import PEOPLE_MIN, SecondPersonDesktop
from datacenter.sessions.recordings import FileRecording
from datacenter.sessions.session import DeskSession, SessionClosed
from wire.desktop.connection import TcpChannel
from wire.desktop.stream import DesktopStreamError
from wire.session.table import Actor, Event

FLUSH_SECONDS: Final = 1.0
FIRST_VIEWER_SECONDS: Final = 60.0
"""Time from the opening of a session until it ends if nobody views the desktop."""
VIEWER_SECONDS: Final = 3.0
"""Time after the requester's last viewer disconnects until the session ends; reloading the page takes less."""
RATE_SECONDS: Final = 5
"""Period over which the rate is averaged, in s."""
_TCP_INFO_RTT: Final = struct.Struct("=68xI")
"""The smoothed round-trip time in microseconds in `struct tcp_info` of Linux."""


class LiveDesktop:
    """The desktop of one session; `run` it once, when the session is open."""

    def __init__(self, session: DeskSession, recording: FileRecording, *, needs_second: bool = False) -> None:
        """`needs_second`: the desktop is shown and operated only while two people watch."""
        self.session, self._recording, self.needs_second = session, recording, needs_second
        self._shown: asyncio.Future[ShownDesktop] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self._channel: _CountingChannel | None = None
        self._viewers: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def kbit_s(self) -> float | None:
        """The rate at which the desktop arrives, in kbit/s; None before the first data."""
        return self._channel.kbit_s(self._loop.time()) if self._channel else None

    @property
    def round_trip_ms(self) -> float | None:
        """The round-trip time to the box in milliseconds; None if it is not known."""
        return self._channel.round_trip_ms if self._channel else None

    @property
    def viewers(self) -> list[str]:
        """The people who are watching the desktop."""
        return sorted(self._viewers)

    @property
    def awaits_second(self) -> bool:
        """Whether the desktop is hidden until a second person watches."""
        return self.needs_second and len(self._viewers) < PEOPLE_MIN

    async def shown(self) -> ShownDesktop:
        """Return the desktop for viewers, once the box is connected."""
        return await asyncio.shield(self._shown)

    async def run(self) -> None:
        """Receive until the session ends; end the session when the desktop ends."""
        session = self.session
        self._wait_for_viewer(FIRST_VIEWER_SECONDS)
        try:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport = await session.connect(protocol)
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            self._channel = channel = _CountingChannel(reader, writer)
            receiver = DesktopReceiver(channel, self._recording)
            self._shown.set_result(SecondPersonDesktop(receiver) if self.needs_second else receiver)
            async with asyncio.TaskGroup() as tasks:
                flushing = tasks.create_task(self._flush())
                try:
                    await receiver.run()
                finally:
                    flushing.cancel()
        except* (EOFError, OSError, DesktopStreamError, SessionClosed):
            pass
        finally:
            self.ended.set()
            if self._timer is not None:
                self._timer.cancel()
        if self._recording.is_writable:
            await session.event(Event.LINE_LOST, Actor.LINE)
        else:
            await session.recording_failed()

    @asynccontextmanager
    async def viewing(self, staff: str) -> AsyncIterator[None]:
        """Register a person as a viewer within the block.

        The session ends soon after the requester's last block ends.
        """
        self._viewers[staff] += 1
        if staff == self.session.offer.staff and self._timer is not None:
            self._timer.cancel()
        await self._count_people()
        try:
            yield
        finally:
            self._viewers[staff] -= 1
            self._viewers += Counter()  # removes disconnected viewers
            await self._count_people()
            if staff == self.session.offer.staff and staff not in self._viewers and not self.ended.is_set():
                self._wait_for_viewer(VIEWER_SECONDS)

    async def _count_people(self) -> None:
        shown = self._shown.result() if self._shown.done() else None
        if isinstance(shown, SecondPersonDesktop):
            with suppress(OSError):  # the connection to the box is lost, which ends the session
                await shown.set_people(len(self._viewers))

    async def _flush(self) -> None:
        """Make received data durable, periodically. Raises: OSError."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._recording.flush()

    def _wait_for_viewer(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self.session.later, Event.VIEWER_LOST, Actor.LINE)


class _CountingChannel:
    """A connection to the box whose received bytes are counted per second."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._inner, self._writer = TcpChannel(reader, writer), writer
        self._loop = asyncio.get_running_loop()
        self._counts: deque[tuple[int, int]] = deque(maxlen=RATE_SECONDS + 1)

    async def read_exactly(self, length: int) -> bytes:
        data = await self._inner.read_exactly(length)
        second = int(self._loop.time())
        before = self._counts.pop()[1] if self._counts and self._counts[-1][0] == second else 0
        self._counts.append((second, before + length))
        return data

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    def kbit_s(self, now: float) -> float:
        """Return the rate over the last RATE_SECONDS whole seconds, in kbit/s."""
        last = int(now)
        return sum(count for second, count in tuple(self._counts) if last - RATE_SECONDS <= second < last) * (
            8 / 1000 / RATE_SECONDS
        )

    @property
    def round_trip_ms(self) -> float | None:
        own = self._writer.get_extra_info("socket")
        if own is None or not hasattr(socket, "TCP_INFO"):
            return None
        try:
            info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_RTT.size)
        except OSError:
            return None
        microseconds: int = _TCP_INFO_RTT.unpack(info)[0]
        return microseconds / 1000
