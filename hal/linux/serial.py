"""A serial port by its device file: opened and configured with pyserial, then read and written on the event loop.

Line errors are marked in the data (termios(3), PARMRK): ``FF 00 xx`` is a byte with wrong parity or without its stop
bit, ``FF 00 00`` a break, and ``FF FF`` a byte FF. `decode_marks` decodes these marks.

The kernel ignores unsupported settings silently (`tcsetattr` succeeds if any setting was applied), so the settings
are read back.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import termios
from collections import deque
from collections.abc import Callable

import serial

from hal.serial import FlowControl, Parity, SerialError, SerialErrorKind, SerialSettings

_READ_BYTES = 4096
_IFLAG, _CFLAG, _OSPEED, _CC = 0, 2, 5, 6  # indices into the result of termios.tcgetattr
_KINDS = {
    errno.ENOENT: SerialErrorKind.MISSING,
    errno.ENODEV: SerialErrorKind.MISSING,
    errno.ENXIO: SerialErrorKind.MISSING,
    errno.EBUSY: SerialErrorKind.BUSY,
    errno.EAGAIN: SerialErrorKind.BUSY,  # locked by another program's flock
    errno.EACCES: SerialErrorKind.DENIED,
    errno.EPERM: SerialErrorKind.DENIED,
}
_UNAVAILABLE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESHUTDOWN)
_PARITIES = {Parity.NONE: serial.PARITY_NONE, Parity.EVEN: serial.PARITY_EVEN, Parity.ODD: serial.PARITY_ODD}
_PIECE = re.compile(rb"[^\xff]+|\xff\xff|\xff\x00.", re.DOTALL)

Piece = bytes | SerialErrorKind


def decode_marks(raw: bytes) -> tuple[list[Piece], bytes]:
    """Decode marked input into bytes and line errors, in order; also return an incomplete mark at the end."""
    pieces: list[Piece] = []
    end = 0
    while piece := _PIECE.match(raw, end):
        end = piece.end()
        marked = piece.group()
        if marked[0] != 0xFF:
            pieces.append(marked)
        elif len(marked) == 2:
            pieces.append(b"\xff")
        else:
            pieces.append(SerialErrorKind.LINE if marked[2] else SerialErrorKind.BREAK)
    return pieces, raw[end:]


class LinuxSerialPort:
    """`hal.serial.SerialPort`: `name` is the board's, `device` the kernel's ("/dev/ttyS0")."""

    def __init__(self, name: str, device: str) -> None:
        self._name, self._device = name, device
        self._line: _Line | None = None

    @property
    def name(self) -> str:
        """See `SerialPort.name`."""
        return self._name

    def open(self, settings: SerialSettings) -> None:
        """See `SerialPort.open`. Requires a running event loop."""
        assert self._line is None, f"{self._name} is open"
        port = serial.Serial(
            baudrate=settings.baud,
            bytesize=settings.data_bits,
            parity=_PARITIES[settings.parity],
            stopbits=settings.stop_bits,
            rtscts=settings.flow_control is FlowControl.RTS_CTS,
            xonxoff=settings.flow_control is FlowControl.XON_XOFF,
            exclusive=True,
        )
        port.port = self._device
        try:
            port.open()
            refused = _finish_settings(port.fileno(), settings)
        except ValueError as error:
            raise self._error(SerialErrorKind.SETTINGS, str(error)) from error
        except (OSError, termios.error) as error:
            # a device file that opens but cannot be configured is not a serial port, or its hardware is not populated
            kind = _KINDS.get(getattr(error, "errno", None) or errno.ENODEV, SerialErrorKind.MISSING)
            port.close()
            raise self._error(kind, str(error)) from error
        if refused:
            port.close()
            raise self._error(SerialErrorKind.SETTINGS, f"the driver does not support {refused}")
        self._line = _Line(port, self._error)

    async def read(self, limit: int = 4096) -> bytes:
        """See `SerialPort.read`."""
        return await self._open_line().read(limit)

    async def write(self, data: bytes) -> None:
        """See `SerialPort.write`."""
        await self._open_line().write(data)

    def close(self) -> None:
        """See `SerialPort.close`."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _open_line(self) -> _Line:
        if self._line is None:
            raise self._error(SerialErrorKind.UNAVAILABLE, "it is closed")
        return self._line

    def _error(self, kind: SerialErrorKind, message: str) -> SerialError:
        return SerialError(kind, f"{self._name} ({self._device}): {message}")


def _finish_settings(fd: int, settings: SerialSettings) -> str:
    """Enable marking of line errors and detection of hang-ups; return the settings that the driver ignored."""
    attributes = termios.tcgetattr(fd)
    attributes[_IFLAG] |= termios.PARMRK | termios.INPCK
    attributes[_IFLAG] &= ~(termios.BRKINT | termios.IGNPAR)
    attributes[_CC][termios.VMIN] = 1  # an empty read is then EAGAIN, and zero bytes mean a hang-up
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    termios.tcflush(fd, termios.TCIFLUSH)
    attributes = termios.tcgetattr(fd)
    flags, speed = attributes[_CFLAG], attributes[_OSPEED]
    parity = Parity.NONE
    if flags & termios.PARENB:
        parity = Parity.ODD if flags & termios.PARODD else Parity.EVEN
    bits = {termios.CS7: 7, termios.CS8: 8}.get(flags & termios.CSIZE)
    ignored = {
        f"{settings.baud} baud": speed != getattr(termios, f"B{settings.baud}", speed),
        f"parity {settings.parity}": parity is not settings.parity,
        f"{settings.data_bits} data bits": bits != settings.data_bits,
        f"{settings.stop_bits} stop bits": bool(flags & termios.CSTOPB) != (settings.stop_bits == 2),
    }
    return ", ".join(setting for setting, is_ignored in ignored.items() if is_ignored)


class _Line:
    """An open port, until `close`."""

    def __init__(self, port: serial.Serial, error: Callable[[SerialErrorKind, str], SerialError]) -> None:
        self._port, self._error = port, error
        self._fd: int = port.fileno()
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[Piece] = deque()
        self._unfinished = b""
        self._waiting: set[asyncio.Future[None]] = set()

    async def read(self, limit: int) -> bytes:
        while not self._pieces:
            await self._until(self._loop.add_reader, self._loop.remove_reader)
            pieces, self._unfinished = decode_marks(self._unfinished + self._receive())
            self._pieces.extend(pieces)
        piece = self._pieces.popleft()
        if isinstance(piece, SerialErrorKind):
            event = "break" if piece is SerialErrorKind.BREAK else "a byte with wrong parity or stop bit"
            raise self._error(piece, f"{event} on the line")
        if len(piece) > limit:
            self._pieces.appendleft(piece[limit:])
        return piece[:limit]

    async def write(self, data: bytes) -> None:
        unwritten = memoryview(data)
        while unwritten:
            try:
                unwritten = unwritten[os.write(self._fd, unwritten) :]
            except BlockingIOError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)
            except OSError as error:
                raise self._failure(error) from error

    def close(self) -> None:
        for remove in (self._loop.remove_reader, self._loop.remove_writer):
            remove(self._fd)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(self._error(SerialErrorKind.UNAVAILABLE, "it was closed"))
        self._port.close()
        self._fd = -1

    def _receive(self) -> bytes:
        """Read available bytes; b"" if there are none after all. Raises: SerialError."""
        try:
            raw = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._failure(error) from error
        if not raw:
            raise self._error(SerialErrorKind.UNAVAILABLE, "it was unplugged")
        return raw

    async def _until(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        """Wait until the port is readable, or writable. Raises: SerialError (UNAVAILABLE) if it is closed."""
        ready: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(ready)
        add(self._fd, _settle, ready)
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._fd >= 0:
                remove(self._fd)
        if self._fd < 0:  # closed after it became ready and before this ran
            raise self._error(SerialErrorKind.UNAVAILABLE, "it was closed")

    def _failure(self, error: OSError) -> SerialError:
        kind = SerialErrorKind.UNAVAILABLE if error.errno in _UNAVAILABLE else SerialErrorKind.IO
        return self._error(kind, error.strerror or str(error))


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
