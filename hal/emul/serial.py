"""A serial port in memory; a cable joins two of them.

Bytes take the time they take on the line, by the running event loop's clock. Ends that are set differently hear each
other as line errors, as UARTs do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from hal.serial import SerialError, SerialErrorKind, SerialSettings

BAUD_MAX = 115_200


class _Cable(NamedTuple):
    """A null-modem cable, between two ports for as long as both have it."""

    ends: tuple[EmulSerialPort, EmulSerialPort]

    def deliver(self, sender: EmulSerialPort, data: bytes, settings: SerialSettings) -> None:
        receiver = self.ends[self.ends[0] is sender]
        if sender._cable is self:  # else it was pulled with this on its way
            receiver.backend._arrive(data, settings)


class EmulSerialPortBackend:
    """What the world does to a port. For the simulator and for tests."""

    def __init__(self, port: EmulSerialPort) -> None:
        self._port = port
        self._spoilt = 0
        self.busy = False
        """Another program has the port."""

    def connect(self, other: EmulSerialPort) -> None:
        """Join this port and `other` by a null-modem cable."""
        self.disconnect()
        other.backend.disconnect()
        self._port._cable = other._cable = _Cable((self._port, other))

    def disconnect(self) -> None:
        """Pull the cable: neither end is told, and what is on the line is lost."""
        if self._port._cable is not None:
            for end in self._port._cable.ends:
                end._cable = None

    def vanish(self) -> None:
        """Take the adapter away; bytes that were received and not yet read stay readable."""
        self._port._present = False
        self._port._end("it was unplugged")

    def come_back(self) -> None:
        """Plug the adapter in again; the port is closed."""
        self._port._present = True

    def send_break(self) -> None:
        """Let the partner hold the line: this port hears a break."""
        self._port._hear(SerialErrorKind.BREAK)

    def spoil(self, count: int) -> None:
        """Let noise hit the next `count` bytes that arrive here: each becomes a line error."""
        self._spoilt += count

    def _arrive(self, data: bytes, settings: SerialSettings) -> None:
        """`data`, sent with `settings`, has come over the line."""
        port = self._port
        if port._settings is None:
            return
        if port._settings != settings:
            self._spoilt += len(data)
        spoilt = min(self._spoilt, len(data))
        self._spoilt -= spoilt
        for _ in range(spoilt):
            port._hear(SerialErrorKind.LINE)
        if data[spoilt:]:
            port._hear(data[spoilt:])


class EmulSerialPort:
    """`hal.serial.SerialPort`, of `BAUD_MAX` at most."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._cable: _Cable | None = None
        self._settings: SerialSettings | None = None
        self._present = True
        self._heard: deque[bytes | SerialErrorKind] = deque()
        self._news: asyncio.Event = asyncio.Event()
        self._line_free_at = 0.0
        self._why_gone = "it is closed"
        self.backend = EmulSerialPortBackend(self)

    @property
    def name(self) -> str:
        """See `SerialPort.name`."""
        return self._name

    def open(self, settings: SerialSettings) -> None:
        """See `SerialPort.open`."""
        assert self._settings is None, f"{self._name} is open"
        if not self._present:
            raise self._error(SerialErrorKind.MISSING, "there is no such device")
        if self.backend.busy:
            raise self._error(SerialErrorKind.BUSY, "another program has it open")
        if settings.baud > BAUD_MAX:
            raise self._error(SerialErrorKind.SETTINGS, f"the driver does not do {settings.baud} baud")
        self._settings, self._news, self._line_free_at = settings, asyncio.Event(), 0.0
        self._heard.clear()

    async def read(self, limit: int = 4096) -> bytes:
        """See `SerialPort.read`."""
        while not self._heard:
            if self._settings is None:
                raise self._error(SerialErrorKind.GONE, self._why_gone)
            self._news.clear()
            await self._news.wait()
        piece = self._heard.popleft()
        if isinstance(piece, SerialErrorKind):
            raise self._error(piece, f"{piece} on the line")
        if len(piece) > limit:
            self._heard.appendleft(piece[limit:])
        return piece[:limit]

    async def write(self, data: bytes) -> None:
        """See `SerialPort.write`. The driver has room for all; the bytes arrive when the last has left."""
        if self._settings is None:
            raise self._error(SerialErrorKind.GONE, self._why_gone)
        loop = asyncio.get_running_loop()
        begins = max(loop.time(), self._line_free_at)
        self._line_free_at = begins + len(data) * self._settings.byte_seconds()
        if self._cable is not None:
            loop.call_at(self._line_free_at, self._cable.deliver, self, data, self._settings)

    def close(self) -> None:
        """See `SerialPort.close`."""
        self._heard.clear()
        self._end("it is closed")

    def _hear(self, piece: bytes | SerialErrorKind) -> None:
        if self._settings is not None:
            self._heard.append(piece)
            self._news.set()

    def _end(self, why: str) -> None:
        self._settings, self._why_gone = None, why
        self._news.set()

    def _error(self, kind: SerialErrorKind, message: str) -> SerialError:
        return SerialError(kind, f"{self._name}: {message}")
