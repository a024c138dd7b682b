"""Packet captures for Wireshark: pcapng (draft-ietf-opsawg-pcapng), one section with one Ethernet interface.

Each packet is written when it is seen, so that a file can be read while it grows and is valid after its writer was
killed. Writing never blocks the link: packets for which the receiver has no room are dropped and counted, and the
capture ends when the receiver is closed.
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
    """Writes frames to a file, each with its time and direction; thread-safe.

    `file` is a descriptor of a file or of a message socket (SOCK_SEQPACKET), which is closed with the capture.
    """

    def __init__(self, file: int, interface: str) -> None:
        self._file = file
        self._lock = Lock()
        self.left_out = 0
        """The number of packets that were dropped for lack of room."""
        section = struct.pack("=IHHQ", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        options = _option(_OPTION_NAME, interface.encode()) + _option(_OPTION_TIME_RESOLUTION, _NANOSECONDS)
        description = struct.pack("=HHI", _ETHERNET, 0, 0) + options + _option(0, b"")
        self._write(_block(_SECTION_HEADER, section) + _block(_INTERFACE_DESCRIPTION, description))

    def add(self, frame: bytes, at_ns: int, *, outbound: bool) -> None:
        """Write a frame seen at `at_ns`, in ns since 1970; does nothing after `close`."""
        header = struct.pack("=IIIII", 0, at_ns >> 32, at_ns & 0xFFFFFFFF, len(frame), len(frame))
        flags = struct.pack("=I", _OUTBOUND if outbound else _INBOUND)
        options = _option(_OPTION_FLAGS, flags) + _option(0, b"")
        self._write(_block(_ENHANCED_PACKET, header + _padded(frame) + options))

    def close(self) -> None:
        """Write the number of dropped packets, and close the file."""
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
            except OSError:  # the disk is full, or the receiver is closed
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
