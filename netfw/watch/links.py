# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Network interfaces that let packets bypass the ruleset: bridges, stacked interfaces, XDP, tc, renamed interfaces.

The ruleset identifies zones by interface name and sees packets at the IP layer. If an interface is a port of a
bridge, frames cross to other ports without passing the ruleset; a macvlan receives frames itself; XDP and tc programs
see packets first. Read with rtnetlink (linux/rtnetlink.h, linux/if_link.h).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from netfw.kernel import netlink
from netfw.kernel.netlink import attributes
from netfw.watch.foreign import NotCovered

_GET_LINK, _GET_FILTER, _GET_RULE = 18, 46, 34
_LINK: Final = struct.Struct("=BxHiII")
_FILTER: Final = struct.Struct("=BxxxiIII")
_FAMILY_MESSAGE_BYTES: Final = 12
_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_XDP = 3, 5, 10, 18, 43
_INFO_KIND: Final = 1
_XDP_ATTACHED: Final = 2
_FRA_PRIORITY: Final = 6
_ROUTING_RULES: Final = frozenset({0, 1000, 32766, 32767})
"""Priorities of the rules that the kernel creates: local, l3mdev, main, default."""
_STACKED: Final = ("macvlan", "macvtap", "ipvlan", "ipvtap")
_PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
"""Parents of tc filters: TC_H_CLSACT with TC_H_MIN_INGRESS or TC_H_MIN_EGRESS."""


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface; 0 and "" stand for missing attributes."""

    index: int
    name: str
    kind: str
    master: int
    lower: int
    """The interface that it is stacked on."""
    runs_xdp: bool


def route_socket() -> socket.socket:
    """Open an rtnetlink socket in this network namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def interfaces(sock: socket.socket) -> dict[int, Interface]:
    """Return all interfaces of the network namespace by index. `sock` is a `route_socket`. Raises: OSError."""
    query = netlink.plain_request(_GET_LINK, netlink.F_DUMP, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    links = {}
    for message in netlink.dump(sock, query):
        _, _, index, _, _ = _LINK.unpack_from(message.payload)
        fields = attributes(message.payload[_LINK.size :])
        info = attributes(fields.get(_IFLA_LINKINFO, b""))
        xdp = attributes(fields.get(_IFLA_XDP, b""))
        links[index] = Interface(
            index,
            _text(fields.get(_IFNAME, b"")),
            _text(info.get(_INFO_KIND, b"")),
            int.from_bytes(fields.get(_IFLA_MASTER, b""), "little"),
            int.from_bytes(fields.get(_IFLA_LINK, b""), "little"),
            any(xdp.get(_XDP_ATTACHED, b"")),
        )
    return links


def link_effects(
    sock: socket.socket, links: Mapping[int, Interface], zones: Collection[str]
) -> Iterator[NotCovered]:
    """Yield the settings that let packets bypass the ruleset at the zones' interfaces. Raises: OSError."""
    for each in links.values():
        if each.name in zones:
            yield from _of_zone(sock, each, links)
        lower = links.get(each.lower)
        if each.kind in _STACKED and lower and lower.name in zones:
            yield NotCovered(f"{each.kind} {each.name} receives frames that arrive at {lower.name}", True)


def _of_zone(sock: socket.socket, zone: Interface, links: Mapping[int, Interface]) -> Iterator[NotCovered]:
    if zone.master:
        master = links.get(zone.master)
        name = f"{master.kind or 'interface'} {master.name}" if master else f"interface {zone.master}"
        yield NotCovered(f"{zone.name} belongs to {name}, where frames bypass the ruleset", True)
    if zone.runs_xdp:
        yield NotCovered(f"an XDP program processes packets at {zone.name} before the ruleset", True)
    for side, parent in _PARENTS.items():
        if _has_filters(sock, zone.index, parent):
            yield NotCovered(f"tc filters ({side}) process packets at {zone.name} outside the ruleset", True)


def _has_filters(sock: socket.socket, index: int, parent: int) -> bool:
    body = _FILTER.pack(socket.AF_UNSPEC, index, 0, parent, 0)
    try:
        return any(
            True for _ in list(netlink.dump(sock, netlink.plain_request(_GET_FILTER, netlink.F_DUMP, body)))
        )
    except OSError:  # no tc in the kernel, or no such queueing discipline at the interface
        return False


def routing_rules(sock: socket.socket) -> Iterator[NotCovered]:
    """Yield policy routing rules that the kernel did not create. Raises: OSError."""
    for family, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
        body = bytes((family,)).ljust(_FAMILY_MESSAGE_BYTES, b"\0")
        for message in netlink.dump(sock, netlink.plain_request(_GET_RULE, netlink.F_DUMP, body)):
            fields = attributes(message.payload[_FAMILY_MESSAGE_BYTES:])
            priority = int.from_bytes(fields.get(_FRA_PRIORITY, b""), "little")
            if priority not in _ROUTING_RULES:
                yield NotCovered(
                    f"a rule of {name} policy routing (priority {priority}) selects other routes", False
                )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="backslashreplace")
