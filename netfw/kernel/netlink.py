# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Netlink messages of netfilter (linux/netlink.h, linux/netfilter/nfnetlink.h), as far as they are needed here.

Implemented here because pyroute2 runs an event loop in every socket, which conflicts with the program's loop.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

NETLINK_NETFILTER: Final = 12

F_REQUEST: Final = 0x1
F_ACK: Final = 0x4
F_DUMP: Final = 0x300
F_CREATE: Final = 0x400
ERROR: Final = 2
DONE: Final = 3
NESTED: Final = 0x8000
FAMILIES: Final = {"inet": 1}
"""Table families (NFPROTO_INET)."""

_SIOCGSKNS: Final = 0x894C
"""ioctl for a descriptor of a socket's network namespace (linux/sockios.h); requires CAP_NET_ADMIN there."""

RECEIVE_BYTES: Final = 1 << 18
_HEADER: Final = struct.Struct("=IHHII")
_FAMILY: Final = struct.Struct("!BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")


class NetlinkMessage(NamedTuple):
    """One message: its type, its netlink header, and the payload after it."""

    kind: int
    header: bytes
    payload: bytes

    def family(self) -> int:
        """Return the address family (or NFPROTO) of a netfilter message."""
        return self.payload[0]

    def flags(self) -> int:
        """Return the flags in the netlink header."""
        flags: int = _HEADER.unpack(self.header)[2]
        return flags

    def port(self) -> int:
        """Return the port of the socket that sent the request; 0 for the kernel."""
        port: int = _HEADER.unpack(self.header)[4]
        return port

    def attributes(self) -> dict[int, bytes]:
        """Return the attributes after a netfilter message's own header."""
        return attributes(self.payload[_FAMILY.size :])

    def beginning(self, *first: int) -> bytes:
        """Return the start of a message with these first attributes: both headers, and the attributes."""
        values = self.attributes()
        return (
            self.header
            + self.payload[: _FAMILY.size]
            + b"".join(attribute(kind, values[kind]) for kind in first if kind in values)
        )


def netfilter_socket() -> socket.socket:
    """Open a netfilter socket in this network namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)


def is_ours(port: int, here: socket.socket) -> bool:
    """Return whether the port belongs to a netfilter socket of this process in the network namespace of `here`.

    A port is more reliable than a process id: ids in the kernel's messages belong to the initial PID namespace, which
    differs from ours in a container, and to threads, which may have ended.
    """
    for path in Path("/proc/self/fd").iterdir():
        try:
            sock = socket.socket(fileno=int(path.name))
        except OSError:  # not a socket, or closed in the meantime
            continue
        try:
            netfilter = (sock.family, sock.proto) == (socket.AF_NETLINK, NETLINK_NETFILTER)
            if netfilter and sock.getsockname()[0] == port and _namespace(sock) == _namespace(here):
                return True
        finally:
            sock.detach()  # the descriptor belongs to other code
    return False


def _namespace(sock: socket.socket) -> int:
    """Return the identity of a socket's network namespace."""
    descriptor = fcntl.ioctl(sock, _SIOCGSKNS)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def request(kind: int, flags: int, family: int, body: bytes = b"", resource: int = 0) -> bytes:
    """Encode a netfilter message; some concern a `resource`, such as a group."""
    return plain_request(kind, flags, _FAMILY.pack(family, 0, resource) + body)


def plain_request(kind: int, flags: int, payload: bytes) -> bytes:
    """Encode a message to another subsystem; the payload begins with that subsystem's header."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, F_REQUEST | flags, 0, 0) + payload


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Decode attributes, by type; nested attributes are left as bytes."""
    result = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        result[kind & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[max(length + 3 & ~3, _ATTRIBUTE.size) :]
    return result


def messages(data: bytes, skipped: bytes = b"") -> Iterator[NetlinkMessage]:
    """Decode the messages of one datagram, except those that begin with `skipped`, which includes their header.

    Skipping thousands of similar messages by their beginning takes a tenth of the time of decoding them.
    """
    offset, skipped_length = 0, _length(skipped) if skipped else 0
    while len(data) >= offset + _HEADER.size:
        if skipped and data.startswith(skipped, offset):
            offset += skipped_length
            continue
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        start = offset + _HEADER.size
        yield NetlinkMessage(kind, data[offset:start], data[start : offset + length])
        offset += _length(data, offset)


def _length(data: bytes, offset: int = 0) -> int:
    """Return the distance in bytes from a message to the next one."""
    length: int = _HEADER.unpack_from(data, offset)[0]
    return max(length + 3 & ~3, _HEADER.size)


def dump(sock: socket.socket, query: bytes) -> Iterator[NetlinkMessage]:
    """Yield all replies to a dump request. Raises: OSError."""
    sock.send(query)
    while True:
        for message in messages(sock.recv(RECEIVE_BYTES)):
            if message.kind == DONE:
                return
            _raise_if_error(message)
            yield message


def acknowledged(sock: socket.socket, commands: bytes, count: int = 1) -> None:
    """Send `count` commands that request acknowledgements, and check that all arrive.

    The kernel executes the commands before the send returns. Raises: OSError.
    """
    sock.send(commands)
    replies = [message for datagram in _waiting(sock) for message in messages(datagram)]
    for reply in replies:
        _raise_if_error(reply)
    if len(replies) < count:
        raise OSError(errno.EPROTO, f"{len(replies)} of {count} commands were acknowledged")


def _waiting(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield sock.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return


def _raise_if_error(message: NetlinkMessage) -> None:
    if message.kind == ERROR:
        (number,) = struct.unpack_from("=i", message.payload)
        if number:
            raise OSError(-number, os.strerror(-number))
