# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Deletes tracked connections of the kernel (linux/netfilter/nfnetlink_conntrack.h).

A deleted entry is not recreated: a packet in the middle of a TCP connection cannot begin an entry.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, NamedTuple

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel import netlink
from netfw.policy.policy import Address

_SUBSYSTEM: Final = 1 << 8
_GET: Final = _SUBSYSTEM | 1
_DELETE: Final = _SUBSYSTEM | 2
# attributes: CTA_*, CTA_TUPLE_*, CTA_IP_*, CTA_PROTO_*
_TUPLE_ORIGINAL: Final = 1
_ZONE: Final = 18
_IP, _PROTO = 1, 2
_V4_SOURCE, _V4_DESTINATION, _V6_SOURCE, _V6_DESTINATION = 1, 2, 3, 4
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_PROTOCOLS: Final = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


class TrackedFlow(NamedTuple):
    """A tracked connection in its original direction. `protocol` is "tcp", "udp", or another protocol's number."""

    source: Address
    destination: Address
    protocol: str
    source_port: int
    destination_port: int


def delete_connections(matches: Callable[[TrackedFlow], bool]) -> int:
    """Delete the matching connections; return their number. Raises: FirewallError."""
    deleted = 0
    with netlink.netfilter_socket() as sock:
        try:
            entries = [*netlink.dump(sock, netlink.request(_GET, netlink.F_DUMP, socket.AF_UNSPEC))]
            for entry in entries:
                attributes = entry.attributes()
                if matches(_flow(attributes[_TUPLE_ORIGINAL])):
                    deleted += _delete_entry(sock, entry.family(), attributes)
        except OSError as error:
            kind = (
                FirewallErrorKind.DENIED if isinstance(error, PermissionError) else FirewallErrorKind.REFUSED
            )
            raise FirewallError(
                kind, f"the kernel's tracked connections cannot be changed: {error.strerror}"
            ) from error
    return deleted


def _delete_entry(sock: socket.socket, family: int, attributes: dict[int, bytes]) -> int:
    key = netlink.attribute(_TUPLE_ORIGINAL | netlink.NESTED, attributes[_TUPLE_ORIGINAL])
    key += netlink.attribute(_ZONE, attributes[_ZONE]) if _ZONE in attributes else b""
    try:
        netlink.acknowledged(sock, netlink.request(_DELETE, netlink.F_ACK, family, key))
    except FileNotFoundError:
        return 0  # the connection has ended in the meantime
    return 1


def _flow(tuple_: bytes) -> TrackedFlow:
    outer = netlink.attributes(tuple_)
    ip, proto = netlink.attributes(outer[_IP]), netlink.attributes(outer[_PROTO])
    number = proto[_NUMBER][0]
    return TrackedFlow(
        ip_address(ip.get(_V4_SOURCE) or ip[_V6_SOURCE]),
        ip_address(ip.get(_V4_DESTINATION) or ip[_V6_DESTINATION]),
        _PROTOCOLS.get(number, str(number)),
        int.from_bytes(proto.get(_SOURCE_PORT, b""), "big"),
        int.from_bytes(proto.get(_DESTINATION_PORT, b""), "big"),
    )
