"""The serial ports of a box's machine: a line for each RS-232 instrument, and the console.

QEMU's machine has up to four UARTs, which Linux names /dev/ttyS0 to /dev/ttyS3. Each is connected to a socket. The
console is the first that no instrument uses, so that it is the board's first serial port unless an instrument
uses that. Bytes pass without delay: QEMU emulates neither the baud rate nor wrong parity.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hal.serial import SerialError, SerialErrorKind, SerialSettings

CONSOLE: Final = "console"
"""The character device of the console: see `sim.worlds.image.machine.qemu`."""
UARTS: Final = 4
_DEVICE: Final = re.compile(r"/dev/ttyS([0-3])")


def uart_of(device: str) -> int | None:
    """Return the number of the UART that Linux gives this name; None if QEMU has none."""
    match = _DEVICE.fullmatch(device)
    return int(match[1]) if match else None


def line_socket(folder: Path, number: int) -> Path:
    """Return the socket of the board's serial port `number`, for one client at a time."""
    return folder / f"serial-{number}.sock"


def serial_lines(folder: Path, uarts: Mapping[int, int]) -> list[str]:
    """Return QEMU's arguments for the console, and for each of the board's serial ports in `uarts` with its UART."""
    free = next(uart for uart in range(UARTS) if uart not in uarts.values())
    arguments = ["-device", f"isa-serial,chardev={CONSOLE},index={free}"]
    for number, uart in sorted(uarts.items()):
        path = line_socket(folder, number)
        arguments += ["-chardev", f"socket,id=serial-{number},path={path},server=on,wait=off"]
        arguments += ["-device", f"isa-serial,chardev=serial-{number},index={uart}"]
    return arguments


class SocketSerialPort:
    """`hal.serial.SerialPort`: the instrument's end of a line, while the box has power."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._connection: socket.socket | None = None

    def open(self, settings: SerialSettings) -> None:
        """See `SerialPort`; all settings are accepted."""
        del settings
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(str(self._path))
        except BlockingIOError:  # QEMU serves one client, and another one waits already
            connection.close()
            raise SerialError(SerialErrorKind.BUSY, f"{self.name}: another program uses the line") from None
        except OSError as error:
            connection.close()
            raise SerialError(
                SerialErrorKind.MISSING, f"{self.name}: the box has no power: {error}"
            ) from None
        self._connection = connection

    async def read(self, limit: int = 4096) -> bytes:
        """See `SerialPort`."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._opened(), limit)
        except OSError:
            data = b""
        if not data:
            raise self._unavailable()
        return data

    async def write(self, data: bytes) -> None:
        """See `SerialPort`."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._opened(), data)
        except OSError:
            raise self._unavailable() from None

    def close(self) -> None:
        """See `SerialPort`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> socket.socket:
        if self._connection is None:
            raise self._unavailable()
        return self._connection

    def _unavailable(self) -> SerialError:
        return SerialError(SerialErrorKind.UNAVAILABLE, f"{self.name}: the line is closed")
