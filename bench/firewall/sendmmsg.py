"""Sending many packets with one system call: sendmmsg(2), through ctypes.

With `socket.send` for each packet, Python would take a third of the time of sending and filtering short packets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from struct import pack
from typing import Any, Final

PACKETS_MAX: Final = 1 << 16
STRIDE_BYTES: Final = 128
"""Space for one packet, its Ethernet header included."""
PACKETS_PER_CALL: Final = 1024
"""The kernel's own limit (UIO_MAXIOV)."""
_HEADER_BYTES: Final = 64
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_BUFFER: Final = ctypes.create_string_buffer(PACKETS_MAX * STRIDE_BYTES)


def send_all(sock: socket.socket, packets: Sequence[bytes]) -> int:
    """Send packets of equal length on a connected or bound socket. Returns how many the firewall accepted.

    Raises: OSError.
    """
    length = len(packets[0])
    assert len(packets) <= PACKETS_MAX and length <= STRIDE_BYTES
    padding = bytes(STRIDE_BYTES - length)
    content = padding.join(packets)
    ctypes.memmove(_BUFFER, content, len(content))
    headers, _ = _headers(length)
    done = refused = 0
    while done < len(packets):
        header, count = (
            ctypes.addressof(headers) + done * _HEADER_BYTES,
            min(PACKETS_PER_CALL, len(packets) - done),
        )
        sent = _LIBC.sendmmsg(sock.fileno(), ctypes.c_void_p(header), count, 0)
        if sent < 0 and ctypes.get_errno() != errno.EPERM:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        refused += sent < 0
        done += abs(sent)
    return done - refused


@lru_cache
def _headers(length: int) -> tuple[Any, Any]:
    """Return a `struct mmsghdr` for each packet, and the `struct iovec` to which it points."""
    buffer = ctypes.addressof(_BUFFER)
    vectors = ctypes.create_string_buffer(
        b"".join(pack("=QQ", buffer + at * STRIDE_BYTES, length) for at in range(PACKETS_MAX))
    )
    first = ctypes.addressof(vectors)
    headers = ctypes.create_string_buffer(
        b"".join(pack("=QQQQQQQQ", 0, 0, first + at * 16, 1, 0, 0, 0, 0) for at in range(PACKETS_MAX))
    )
    return headers, vectors
