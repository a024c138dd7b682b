"""A serial port in memory; a cable joins two of them.

Transfers take as long as on a real line, by the running event loop's clock. Ends with different settings receive
line errors from each other, as UARTs do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from hal.serial import SerialError, SerialErrorKind, SerialSettings

BAUD_MAX = 115_200


class _Cable(NamedTuple):
    """A null-modem cable, joining two ports as long as both refer to it."""

    ends: tuple[EmulSerialPort, EmulSerialPort]

    def deliver(self, sender: EmulSerialPort, data: bytes, settings: SerialSettings) -> None:
        receiver = self.ends[self.ends[0] is sender]
        if sender._cable is self:  # otherwise the cable was unplugged during the transfer
            receiver.backend._arrive(data, settings)


class EmulSerialPortBackend:
    """Control of an emulated serial port. For the simulator and for tests."""

    def __init__(self, port: EmulSerialPort) -> None:
        self._port = port
        self._bytes_to_corrupt = 0
        self.busy = False
        """Whether another program has the port open."""

    def connect(self, other: EmulSerialPort) -> None:
        """Join this port and `other` with a null-modem cable."""
        self.disconnect()
        other.backend.disconnect()
        self._port._cable = other._cable = _Cable((self._port, other))

    def disconnect(self) -> None:
        """Unplug the cable: neither end is notified, and data on the line is lost."""
        if self._port._cable is not None:
            for end in self._port._cable.ends:
                end._cable = None

    def remove_device(self) -> None:
        """Remove the adapter; received bytes that were not read yet remain readable."""
        self._port._present = False
        self._port._end("it was unplugged")

    def restore_device(self) -> None:
        """Plug the adapter in again; the port is closed."""
        self._port._present = True

    def send_break(self) -> None:
        """Have the partner send a break to this port."""
        self._port._receive(SerialErrorKind.BREAK)

    def corrupt(self, count: int) -> None:
        """Turn each of the next `count` received bytes into a line error, as noise does."""
        self._bytes_to_corrupt += count

    def _arrive(self, data: bytes, settings: SerialSettings) -> None:
        """Deliver `data`, which was sent with `settings`."""
        port = self._port
        if port._settings is None:
            return
        if port._settings != settings:
            self._bytes_to_corrupt += len(data)
        corrupted = min(self._bytes_to_corrupt, len(data))
        self._bytes_to_corrupt -= corrupted
        for _ in range(corrupted):
            port._receive(SerialErrorKind.LINE)
        if data[corrupted:]:
            port._receive(data[corrupted:])


class EmulSerialPort:
    """`hal.serial.SerialPort` with at most `BAUD_MAX`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._cable: _Cable | None = None
        self._settings: SerialSettings | None = None
        self._present = True
        self._received: deque[bytes | SerialErrorKind] = deque()
        self._data_ready: asyncio.Event = asyncio.Event()
        self._line_free_at = 0.0
        self._closed_reason = "it is closed"
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
            raise self._error(SerialErrorKind.SETTINGS, f"the driver does not support {settings.baud} baud")
        self._settings, self._data_ready, self._line_free_at = settings, asyncio.Event(), 0.0
        self._received.clear()

    async def read(self, limit: int = 4096) -> bytes:
        """See `SerialPort.read`."""
        while not self._received:
            if self._settings is None:
                raise self._error(SerialErrorKind.UNAVAILABLE, self._closed_reason)
            self._data_ready.clear()
            await self._data_ready.wait()
        piece = self._received.popleft()
        if isinstance(piece, SerialErrorKind):
            raise self._error(piece, f"{piece} on the line")
        if len(piece) > limit:
            self._received.appendleft(piece[limit:])
        return piece[:limit]

    async def write(self, data: bytes) -> None:
        """See `SerialPort.write`. The driver's buffer is unlimited; data arrives when its last byte has left."""
        if self._settings is None:
            raise self._error(SerialErrorKind.UNAVAILABLE, self._closed_reason)
        loop = asyncio.get_running_loop()
        begins = max(loop.time(), self._line_free_at)
        self._line_free_at = begins + len(data) * self._settings.byte_seconds()
        if self._cable is not None:
            loop.call_at(self._line_free_at, self._cable.deliver, self, data, self._settings)

    def close(self) -> None:
        """See `SerialPort.close`."""
        self._received.clear()
        self._end("it is closed")

    def _receive(self, piece: bytes | SerialErrorKind) -> None:
        if self._settings is not None:
            self._received.append(piece)
            self._data_ready.set()

    def _end(self, reason: str) -> None:
        self._settings, self._closed_reason = None, reason
        self._data_ready.set()

    def _error(self, kind: SerialErrorKind, message: str) -> SerialError:
        return SerialError(kind, f"{self._name}: {message}")
