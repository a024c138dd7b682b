# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Synchronous rtnetlink requests about network interfaces (RFC 3549).

The messages are encoded here (linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h) because only a few are needed, and
importing pyroute2 takes 10 MB and half the time of all other imports of the box program. The kernel replies before
`send` returns, so that requests do not block.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Final, NamedTuple

from hal.ethernet import Counters, PortTraffic

IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000
OPERSTATE_UP: Final = 6
"""The RFC 2863 ifOperStatus "up", as the kernel numbers it (linux/if.h)."""

_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR = 16, 18, 20, 22
_IFLA_IFNAME, _IFLA_OPERSTATE, _IFLA_STATS64 = 3, 16, 23
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTMGRP_LINK: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_STATS: Final = struct.Struct("=8Q")
_CODE: Final = struct.Struct("=i")
_REPLY_BYTES_MAX: Final = 1 << 17
"""More than the kernel puts into one datagram (at most 32 KiB: net/netlink/af_netlink.c)."""


class InterfaceInfo(NamedTuple):
    """State and counters of an interface."""

    number: int
    """The interface index."""
    flags: int
    """Interface flags, such as IFF_UP."""
    operstate: int
    counters: Counters


def interface_info(interface: str) -> InterfaceInfo:
    """Query the interface with this name. Raises: OSError (ENODEV: it does not exist)."""
    [(_, reply)] = _request(_GETLINK, _named(interface))
    _, _, number, flags, _ = _LINK.unpack_from(reply)
    attributes = _attributes(reply[_LINK.size :])
    # packets, bytes, errors, dropped; each received, then sent
    stats = _STATS.unpack_from(attributes[_IFLA_STATS64])
    received, sent = (
        PortTraffic(stats[2 + direction], stats[direction], stats[4 + direction], stats[6 + direction])
        for direction in (0, 1)
    )
    return InterfaceInfo(number, flags, attributes[_IFLA_OPERSTATE][0], Counters(received, sent))


def set_link_up(interface: str, up: bool) -> None:
    """Set or clear IFF_UP of `interface`; in effect on return. Raises: OSError (ENODEV, EPERM, the driver's)."""
    _request(_NEWLINK, _named(interface, flags=IFF_UP if up else 0, change=IFF_UP))


def addresses(interface: str) -> list[IPv4Interface | IPv6Interface]:
    """Return the addresses of `interface`. Raises: OSError (ENODEV: it does not exist)."""
    number = interface_info(interface).number
    result = []
    for kind, reply in _request(_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _DUMP):
        _, length, _, _, index = _ADDRESS.unpack_from(reply)
        if kind == _NEWADDR and index == number:
            attributes = _attributes(reply[_ADDRESS.size :])
            # on a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has IFA_ADDRESS only
            address = ip_address(attributes.get(_IFA_LOCAL, attributes[_IFA_ADDRESS]))
            result.append(ip_interface(f"{address}/{length}"))
    return result


def open_link_events() -> socket.socket:
    """Open a non-blocking socket, readable when an interface was changed, added or removed. Raises: OSError."""
    return _open(_RTMGRP_LINK, socket.SOCK_NONBLOCK)


def _open(groups: int = 0, flags: int = 0) -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | flags, socket.NETLINK_ROUTE
    )
    opened.bind((0, groups))
    return opened


def _named(interface: str, flags: int = 0, change: int = 0) -> bytes:
    """Encode the body of a request about the interface with this name."""
    name = interface.encode() + b"\0"
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(name), _IFLA_IFNAME) + name
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, flags, change) + _padded(attribute)


def _request(kind: int, body: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
    """Send a request; return all replies, which end with NLMSG_DONE after a dump, else with the acknowledgement."""
    replies: list[tuple[int, bytes]] = []
    with _open() as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 0, 0) + body)
        while True:
            for reply_kind, payload in _messages(kernel.recv(_REPLY_BYTES_MAX)):
                if reply_kind in (_DONE, _ERROR):
                    if code := -_CODE.unpack_from(payload)[0]:
                        raise OSError(code, os.strerror(code))
                    return replies
                replies.append((reply_kind, payload))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    result = {}
    while data:
        length, kind = _ATTRIBUTE.unpack_from(data)
        result[kind] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return result


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
