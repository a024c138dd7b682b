"""A slow line between two programs: a relay on loopback with a rate and a delay, which all its connections share.

Each connection has a queue of `QUEUE_PACKETS` in each direction; when it is full, the sender has to wait, as with a
modem that has a short buffer. Each packet counts with its IP and TCP headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

PACKET_BYTES: Final = 1360
HEADER_BYTES: Final = 40
QUEUE_PACKETS: Final = 4
RECEIVE_BUFFER_BYTES: Final = 4096


class SlowLine:
    """A line. `bytes` counts the bytes sent in each direction, without headers."""

    def __init__(self, bits_per_second: float = 128_000, one_way_s: float = 0.040) -> None:
        self._bytes_per_second, self._one_way_s = bits_per_second / 8, one_way_s
        self._free_at = {"up": 0.0, "down": 0.0}
        self._turn = {"up": asyncio.Lock(), "down": asyncio.Lock()}
        self.bytes = {"up": 0, "down": 0}

    @asynccontextmanager
    async def to(self, port: int) -> AsyncIterator[int]:
        """Yield a port that is relayed over the line to `port` on loopback; `up` is the direction from `port`."""
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", port, limit=RECEIVE_BUFFER_BYTES
            )
            tasks.add(asyncio.create_task(self._carry(reader, far_writer, "down")))
            tasks.add(asyncio.create_task(self._carry(far_reader, writer, "up")))

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=RECEIVE_BUFFER_BYTES)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        packets: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_PACKETS)
        sending = asyncio.create_task(self._send(packets, writer, direction))
        try:
            with suppress(OSError):
                while data := await reader.read(PACKET_BYTES):  # as TCP segments: one for each small write
                    await packets.put(data)
            await packets.join()
        finally:
            sending.cancel()
        asyncio.get_running_loop().call_later(self._one_way_s, writer.close)

    async def _send(
        self, packets: asyncio.Queue[bytes], writer: asyncio.StreamWriter, direction: str
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await packets.get()
            async with self._turn[direction]:
                seconds = (len(data) + HEADER_BYTES) / self._bytes_per_second
                self._free_at[direction] = max(self._free_at[direction], loop.time()) + seconds
                self.bytes[direction] += len(data)
                loop.call_at(self._free_at[direction] + self._one_way_s, _write, writer, data)
                await asyncio.sleep(self._free_at[direction] - loop.time())
            packets.task_done()


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
