# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Questions to the kernel about its interfaces, over netlink (RFC 3549), answered while the caller waits.

The messages are written out (linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h), because few are needed: importing
pyroute2 for them took as long as half of all else that the box program imports, and 10 MB. The kernel answers before
`send` returns, so that a question never blocks.
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
"""RFC 2863, ifOperStatus, as the kernel numbers it (linux/if.h)."""

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
_ANSWER_BYTES_MAX: Final = 1 << 17
"""More than the kernel puts into one datagram (NLMSG_GOODSIZE is at most 32 KiB)."""


class InterfaceInfo(NamedTuple):
    """What the kernel says of an interface."""

    number: int
    """Its index."""
    flags: int
    operstate: int
    counters: Counters


def link(interface: str) -> InterfaceInfo:
    """The interface of this name. Raises: OSError (ENODEV: there is none)."""
    [(_, answer)] = _ask(_GETLINK, _named(interface))
    _, _, number, flags, _ = _LINK.unpack_from(answer)
    told = _attributes(answer[_LINK.size :])
    stats = _STATS.unpack_from(told[_IFLA_STATS64])  # packets, bytes, errors, dropped; in and out in turn
    received, sent = (
        PortTraffic(stats[2 + way], stats[way], stats[4 + way], stats[6 + way]) for way in (0, 1)
    )
    return InterfaceInfo(number, flags, told[_IFLA_OPERSTATE][0], Counters(received, sent))


def set_link_up(interface: str, up: bool) -> None:
    """Set or clear `interface`'s IFF_UP; in force on return. Raises: OSError (ENODEV, EPERM, the driver's)."""
    _ask(_NEWLINK, _named(interface, flags=IFF_UP if up else 0, change=IFF_UP))


def addresses(interface: str) -> list[IPv4Interface | IPv6Interface]:
    """The addresses of `interface`. Raises: OSError (ENODEV: there is none)."""
    number = link(interface).number
    found = []
    for kind, answer in _ask(_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _DUMP):
        _, length, _, _, of = _ADDRESS.unpack_from(answer)
        if kind == _NEWADDR and of == number:
            told = _attributes(answer[_ADDRESS.size :])
            # of a point-to-point link IFA_ADDRESS is the far end's and IFA_LOCAL ours; IPv6 has only the former
            address = ip_address(told.get(_IFA_LOCAL, told[_IFA_ADDRESS]))
            found.append(ip_interface(f"{address}/{length}"))
    return found


def open_link_events() -> socket.socket:
    """A non-blocking socket that is readable when any interface has changed, appeared or gone. Raises: OSError."""
    return _open(_RTMGRP_LINK, socket.SOCK_NONBLOCK)


def _open(groups: int = 0, flags: int = 0) -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | flags, socket.NETLINK_ROUTE
    )
    opened.bind((0, groups))
    return opened


def _named(interface: str, flags: int = 0, change: int = 0) -> bytes:
    """The body of a question about the interface of this name, or of an order to it."""
    name = interface.encode() + b"\0"
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(name), _IFLA_IFNAME) + name
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, flags, change) + _padded(attribute)


def _ask(kind: int, body: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
    """All the answers; the kernel ends them with NLMSG_DONE after a dump, and else with the acknowledgement."""
    answers: list[tuple[int, bytes]] = []
    with _open() as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 0, 0) + body)
        while True:
            for answer, said in _messages(kernel.recv(_ANSWER_BYTES_MAX)):
                if answer in (_DONE, _ERROR):
                    if code := -_CODE.unpack_from(said)[0]:
                        raise OSError(code, os.strerror(code))
                    return answers
                answers.append((answer, said))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
