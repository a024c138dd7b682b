"""Serial port: an RS-232 line to an instrument without Ethernet.

Analyzers need (CLSI LIS1-A, chapter 5): three wires, 7 or 8 data bits, any parity, 1200 to 9600 baud and more. Flow
control is for the instruments that require it; modem control lines are not supported. Each port has one reader and
one writer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Protocol

import msgspec


class Parity(StrEnum):
    """The parity bit of each byte."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class FlowControl(StrEnum):
    """The method by which a receiver stops the sender when its buffer is full."""

    NONE = "none"
    RTS_CTS = "rts-cts"  # in hardware, on two more wires
    XON_XOFF = "xon-xoff"  # by the characters DC1 and DC3, which then cannot be data


class SerialSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Line settings, equal at both ends. The defaults are those of LIS1-A."""

    baud: Annotated[int, msgspec.Meta(ge=50, le=4_000_000)] = 9600
    data_bits: Literal[7, 8] = 8
    parity: Parity = Parity.NONE
    stop_bits: Literal[1, 2] = 1
    flow_control: FlowControl = FlowControl.NONE

    def byte_seconds(self) -> float:
        """Return the transmission time of one byte in seconds, including start, parity and stop bits."""
        return (1 + self.data_bits + (self.parity is not Parity.NONE) + self.stop_bits) / self.baud


class SerialErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    MISSING = "missing"  # no such device, or no hardware behind it
    BUSY = "busy"  # another program has it open
    DENIED = "denied"  # this process lacks permission
    SETTINGS = "settings"  # the port does not support these settings; others may work
    BREAK = "break"  # the partner sent a break: restart the exchange, and continue reading
    LINE = "line"  # wrong parity or stop bit: a byte is lost; request it again, and continue reading
    UNAVAILABLE = "unavailable"  # closed, or the adapter was unplugged: opening it may help
    IO = "io"  # the driver failed


class SerialError(Exception):
    """An operating error of a serial port; callers branch on `kind` alone."""

    def __init__(self, kind: SerialErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class SerialPort(Protocol):
    """One serial port of the board, with its name in the board file ("serial1", …). It is initially closed."""

    @property
    def name(self) -> str:
        """The board's name for the port."""
        ...

    def open(self, settings: SerialSettings) -> None:
        """Open the port with exactly these settings, and discard earlier input.

        The port is exclusive until `close`. Raises: MISSING, BUSY, DENIED, SETTINGS; the port is then closed.
        """
        ...

    async def read(self, limit: int = 4096) -> bytes:
        """Return the next bytes from the line: at least one, at most `limit`. Cancelling a read loses no data.

        Raises: BREAK and LINE, each once, in order with the bytes; UNAVAILABLE and IO permanently, after all earlier
        bytes have been returned.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Hand all of `data` to the driver before returning; the last bytes may not have been transmitted yet.

        Waits while the partner's flow control or a full driver buffer requires it. There is no confirmation that data
        arrives: an unplugged cable is not detected. Raises: UNAVAILABLE, IO.
        """
        ...

    def close(self) -> None:
        """Release the port; a pending read or write raises UNAVAILABLE. Repetition is harmless."""
        ...
