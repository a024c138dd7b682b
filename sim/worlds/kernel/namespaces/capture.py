"""Captures that Wireshark opens: pcapng (draft-ietf-opsawg-pcapng), one section with one Ethernet interface.

Each packet is written as it comes, so that a file can be watched while it grows, and is whole when its writer
was killed. What takes them must never hold up the line: packets that it has no room for are left out and counted,
and when it takes no more, the capture ends.
"""

from __future__ import annotations

import os
import struct
import time
from threading import Lock
from typing import Final

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_INTERFACE_STATISTICS: Final = 5
_ENHANCED_PACKET: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_LENGTH_UNKNOWN: Final = 0xFFFFFFFFFFFFFFFF
_ETHERNET: Final = 1
_OPTION_NAME: Final = 2
_OPTION_DROPPED: Final = 5
_OPTION_FLAGS: Final = 2
_OPTION_TIME_RESOLUTION: Final = 9
_NANOSECONDS: Final = bytes([9])
_INBOUND: Final = 1
_OUTBOUND: Final = 2


class Capture:
    """A file that gets frames, with the time and the direction of each. Any thread may add and close.

    `file` is a descriptor, closed with the capture: a file's, or that of a socket that keeps messages apart.
    """

    def __init__(self, file: int, interface: str) -> None:
        self._file = file
        self._lock = Lock()
        self.left_out = 0
        """Packets for which there was no room."""
        section = struct.pack("=IHHQ", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        options = _option(_OPTION_NAME, interface.encode()) + _option(_OPTION_TIME_RESOLUTION, _NANOSECONDS)
        description = struct.pack("=HHI", _ETHERNET, 0, 0) + options + _option(0, b"")
        self._write(_block(_SECTION_HEADER, section) + _block(_INTERFACE_DESCRIPTION, description))

    def add(self, frame: bytes, at_ns: int, *, outbound: bool) -> None:
        """Add a frame, seen `at_ns` since 1970; ignored once the file is closed."""
        header = struct.pack("=IIIII", 0, at_ns >> 32, at_ns & 0xFFFFFFFF, len(frame), len(frame))
        flags = struct.pack("=I", _OUTBOUND if outbound else _INBOUND)
        options = _option(_OPTION_FLAGS, flags) + _option(0, b"")
        self._write(_block(_ENHANCED_PACKET, header + _padded(frame) + options))

    def close(self) -> None:
        """Write how many packets were left out, and then no more."""
        now_ns = time.time_ns()
        statistics = struct.pack("=III", 0, now_ns >> 32, now_ns & 0xFFFFFFFF)
        dropped = _option(_OPTION_DROPPED, struct.pack("=Q", self.left_out))
        self._write(_block(_INTERFACE_STATISTICS, statistics + dropped + _option(0, b"")))
        with self._lock:
            self._end()

    def _write(self, blocks: bytes) -> None:
        with self._lock:
            if self._file < 0:
                return
            try:
                os.write(self._file, blocks)
            except BlockingIOError:
                self.left_out += 1
            except OSError:  # the disk is full, or nobody listens any more
                self._end()

    def _end(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("=II", kind, length) + body + struct.pack("=I", length)
