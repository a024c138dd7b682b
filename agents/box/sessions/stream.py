"""The raw TCP service of one session, such as RDP: the box listens in the tunnel, and forwards bytes unparsed.

The data center connects to the box's own address in the tunnel, and the box to the instrument. Therefore, no packet
of the data center reaches the instrument's network, and the data center needs no addresses of instruments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agents.box.desktop.pace import LinePace
from agents.box.sessions.desktop import CONNECT_SECONDS_MAX, DesktopNetwork
from wire.desktop.connection import ByteChannel, TcpChannel

CONNECTIONS_MAX: Final = 4
"""Maximum number of connections; a further one is closed at once."""
CHUNK_BYTES_MAX: Final = 16 * 1024


class SharedStream:
    """The raw TCP service of one session, from `start` to `close`. The end of a connection does not end the session.

    Without control, no data may pass: the session closes its path through the firewall.
    """

    chain = b""
    """Empty, because only the data center records the bytes."""

    def __init__(
        self,
        address: str,
        tcp_port: int,
        bytes_per_second: float,
        network: DesktopNetwork,
        refused: Callable[[str], object],
    ) -> None:
        """`bytes_per_second` is the session's share of the uplink's rate.

        `refused` is called with the reason when the instrument cannot be reached.
        """
        self._address, self._tcp_port, self._network = address, tcp_port, network
        self._refused = refused
        self._pace = LinePace(bytes_per_second)
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. Raises: OSError."""
        self._server = await self._network.listen(self._accept, self._tcp_port)

    def set_control(self, *, has_control: bool) -> None:
        """Do nothing: the session closes its path if control is lost."""

    async def close(self) -> None:
        """Stop. On return, no data passes."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio calls this in a task"
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(TcpChannel(reader, writer))
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, datacenter: TcpChannel) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                instrument = TcpChannel(*await self._network.connect(self._address, self._tcp_port))
        except OSError as error:
            self._refused(f"the desktop of the instrument cannot be reached: {str(error) or 'no response'}")
            return
        self._writers.add(instrument.writer)
        pumps = (
            asyncio.ensure_future(_pump(datacenter.reader, instrument)),
            asyncio.ensure_future(_pump(instrument.reader, datacenter, self._pace)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            instrument.writer.close()
            self._writers.discard(instrument.writer)


async def _pump(reader: asyncio.StreamReader, to: ByteChannel, pace: LinePace | None = None) -> None:
    """Forward bytes until either connection ends."""
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES_MAX):
            await (to.write(data) if pace is None else pace.write(to, data))
