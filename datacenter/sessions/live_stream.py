"""A raw TCP service of an instrument in an open session, such as RDP: the connections of the requester's program.

Both directions are recorded as they pass. The connections cannot be watched, and their content is not interpreted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from datacenter.sessions.recordings import FileRecording
from datacenter.sessions.session import DeskSession
from wire.desktop.stream import RAW_STREAM, encode_frame, encode_header
from wire.session.table import Actor, Event

CONNECTIONS_MAX: Final = 4
CHUNK_BYTES_MAX: Final = 16 * 1024
FLUSH_SECONDS: Final = 1.0
UNUSED_SECONDS: Final = 60.0
"""Time after which a session without a connection ends; programs reconnect after a change of settings."""
FROM_INSTRUMENT, TO_INSTRUMENT = 0, 1
"""The first byte of a recorded message; the second is the number of the connection."""


class RequesterEnd(Protocol):
    """The requester's end of a connection."""

    async def receive(self) -> bytes:
        """Return the next bytes; none at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Send bytes. Raises: OSError."""
        ...


class TooManyConnectionsError(Exception):
    """The session has CONNECTIONS_MAX connections."""


class LiveStream:
    """The connections of one session; `run` it once, when the session is open."""

    def __init__(self, session: DeskSession, recording: FileRecording) -> None:
        self.session, self._recording = session, recording
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._numbers = iter(range(2**31))
        self._open: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Keep the recording durable until the session ends."""
        self._recording.add(encode_header(RAW_STREAM))
        self._wait_for_connection()
        try:
            while not self.session.is_over:
                await asyncio.sleep(FLUSH_SECONDS)
                await self._recording.flush()
        except OSError:
            await self.session.recording_failed()
        finally:
            self._stop_waiting()
            self.ended.set()

    async def serve(self, end: RequesterEnd) -> None:
        """Connect the requester's program to the instrument, until either closes the connection.

        Raises: SessionClosed, OSError if the instrument cannot be reached; TooManyConnectionsError.
        """
        if len(self._open) >= CONNECTIONS_MAX:
            raise TooManyConnectionsError(f"a session has at most {CONNECTIONS_MAX} connections")
        number = next(self._numbers) % 256
        self._open.add(number)
        self._stop_waiting()
        try:
            await self._carry(end, number)
        finally:
            self._open.discard(number)
            if not self._open and not self.ended.is_set():
                self._wait_for_connection()

    async def _carry(self, end: RequesterEnd, number: int) -> None:
        reader = asyncio.StreamReader(CHUNK_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await self.session.connect(protocol)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)

        async def to_instrument(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        pumps = [
            asyncio.ensure_future(
                self._pump(bytes([FROM_INSTRUMENT, number]), lambda: reader.read(CHUNK_BYTES_MAX), end.send)
            ),
            asyncio.ensure_future(self._pump(bytes([TO_INSTRUMENT, number]), end.receive, to_instrument)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            transport.abort()

    async def _pump(
        self, head: bytes, receive: Callable[[], Awaitable[bytes]], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        with suppress(OSError):  # of either connection; bytes that cannot be recorded are not forwarded
            while data := await receive():
                for offset in range(0, len(data), CHUNK_BYTES_MAX):
                    part = data[offset : offset + CHUNK_BYTES_MAX]
                    time_ms = int(1000 * (self._loop.time() - self._started_at))
                    self._recording.add(encode_frame(head + part, time_ms))
                    await send(part)

    def _wait_for_connection(self) -> None:
        self._timer = self._loop.call_later(UNUSED_SECONDS, self.session.later, Event.VIEWER_LOST, Actor.LINE)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
