"""Serial port: an RS-232 line to an instrument that has no Ethernet.

What analyzers need of it is little (CLSI LIS1-A, chapter 5): three wires, 7 or 8 data bits, any parity, 1200 to 9600
baud and upwards. Flow control is for instruments that insist on it; modem lines are for modems, and left out.
Each port has one reader and one writer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Protocol

import msgspec


class Parity(StrEnum):
    """The bit that makes the number of ones even or odd."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class FlowControl(StrEnum):
    """How a receiver says that it cannot keep up."""

    NONE = "none"
    RTS_CTS = "rts-cts"  # by two more wires
    XON_XOFF = "xon-xoff"  # by the characters DC1 and DC3, which then are no data


class SerialSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How both ends of the line must be set. The defaults are LIS1-A's."""

    baud: Annotated[int, msgspec.Meta(ge=50, le=4_000_000)] = 9600
    data_bits: Literal[7, 8] = 8
    parity: Parity = Parity.NONE
    stop_bits: Literal[1, 2] = 1
    flow_control: FlowControl = FlowControl.NONE

    def byte_seconds(self) -> float:
        """How long one byte is on the line, with its start bit."""
        return (1 + self.data_bits + (self.parity is not Parity.NONE) + self.stop_bits) / self.baud


class SerialErrorKind(StrEnum):
    """What the caller can do about it."""

    MISSING = "missing"  # no such device, or nothing behind it
    BUSY = "busy"  # another program has it open
    DENIED = "denied"  # this process may not
    SETTINGS = "settings"  # the port cannot be set so: other settings may do
    BREAK = "break"  # the partner held the line: begin the exchange anew, and read on
    LINE = "line"  # wrong parity or stop bit: a byte is lost; ask for it again, and read on
    GONE = "gone"  # closed, or the adapter was unplugged: opening it may help
    IO = "io"  # the driver failed


class SerialError(Exception):
    """An operating error of a serial port; callers branch on `kind` alone."""

    def __init__(self, kind: SerialErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class SerialPort(Protocol):
    """One serial port of the board, known by the board file's name ("serial1", …). It begins closed."""

    @property
    def name(self) -> str:
        """The board's name for the port."""
        ...

    def open(self, settings: SerialSettings) -> None:
        """On return the line runs with exactly these settings, and what came in before is forgotten.

        The port is this caller's alone until `close`. Raises: MISSING, BUSY, DENIED, SETTINGS (all leave it closed).
        """
        ...

    async def read(self, limit: int = 4096) -> bytes:
        """The next bytes from the line: at least one, at most `limit`. A read that is cancelled loses none.

        Errors, each told once, in its place between the bytes: BREAK, LINE. Errors for good: GONE, IO; what came in
        before the port went has been read by then.
        """
        ...

    async def write(self, data: bytes) -> None:
        """On return the driver has all of `data`, which leaves in this order; the last may not have left yet.

        Waits while the partner's flow control says so, or the driver has no room. Whether it arrives, nobody
        knows: a pulled cable is no error. Raises: GONE, IO.
        """
        ...

    def close(self) -> None:
        """On return the port is free, and a read or write under way raises GONE. Twice is harmless."""
        ...
