"""An instrument's end of its line to the box: a TCP connection or a serial line."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

from agents.box.intake.adapter import SerialInstrumentChannel
from hal.serial import SerialError, SerialPort, SerialSettings
from sim.worlds.shared.instruments.reporter import Workplace

CONNECT_SECONDS_MAX: Final = 30.0
READ_BYTES_MAX: Final = 4096


class HostLine(ABC):
    """A line to the host. An unfinished read continues in the next call of `read`."""

    def __init__(self) -> None:
        self._reading: asyncio.Task[bytes] | None = None

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send bytes. Raises: OSError."""

    @abstractmethod
    async def _read(self) -> bytes:
        """Return the next bytes; empty at the end of the line."""

    @abstractmethod
    def _close(self) -> None:
        """Close the line."""

    async def read(self, deadline: float | None, queued: asyncio.Event) -> bytes | None:
        """Return the next bytes; empty at the deadline or when a message was queued, None at the end of the line."""
        queued.clear()
        wakeup = asyncio.ensure_future(queued.wait())
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        timeout = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        try:
            await asyncio.wait({wakeup, self._reading}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wakeup.cancel()
        if not self._reading.done():
            return b""
        data, self._reading = self._reading.result(), None
        return data or None

    def close(self) -> None:
        """Close the line."""
        if self._reading is not None:
            self._reading.cancel()
        self._close()


class TcpHostLine(HostLine):
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader, self._writer = reader, writer

    async def write(self, data: bytes) -> None:
        """See `HostLine`."""
        self._writer.write(data)
        await self._writer.drain()

    async def _read(self) -> bytes:
        with suppress(OSError):
            return await self._reader.read(READ_BYTES_MAX)
        return b""

    def _close(self) -> None:
        self._writer.close()


class SerialHostLine(HostLine):
    """A serial line."""

    def __init__(self, port: SerialPort) -> None:
        super().__init__()
        self._port, self._line = port, SerialInstrumentChannel(port)

    async def write(self, data: bytes) -> None:
        """See `HostLine`."""
        await self._line.write(data)

    async def _read(self) -> bytes:
        return await self._line.read()

    def _close(self) -> None:
        self._port.close()


async def open_line(workplace: Workplace) -> HostLine:
    """Open the instrument's line. Raises: OSError."""
    if workplace.serial is not None:
        try:
            workplace.serial.open(SerialSettings())
        except SerialError as error:
            raise OSError(str(error)) from None
        return SerialHostLine(workplace.serial)
    async with asyncio.timeout(CONNECT_SECONDS_MAX):
        return TcpHostLine(*await asyncio.open_connection(workplace.box.address, workplace.box.port))
