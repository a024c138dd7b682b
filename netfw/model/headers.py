"""Summarizes a packet's headers in words, for users and logs: addresses, protocol, ports, flags.

Only the first bytes of the packet are needed. The rest is filled with zeros, so that `netfw.model.packet` can parse
it like a complete packet; transport headers that are not included are omitted.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from netfw.model.packet import (
    ACK,
    ESP,
    FIN,
    ICMP,
    ICMPV6,
    IPV4_HEADER_BYTES,
    IPV6_HEADER_BYTES,
    PSH,
    RST,
    SCTP,
    SYN,
    TCP,
    UDP,
    UDPLITE,
    URG,
    PacketError,
    parse,
)

_NAMES: Final = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6", ESP: "esp", SCTP: "sctp"}
_WITH_PORTS: Final = (TCP, UDP, UDPLITE, SCTP)
_FLAGS: Final = {SYN: "SYN", ACK: "ACK", FIN: "FIN", RST: "RST", PSH: "PSH", URG: "URG"}
_FLAGS_AT: Final = 13


class Headers(NamedTuple):
    """The header fields of a packet; None and "" stand for missing ones."""

    source: str
    destination: str
    protocol: str
    source_port: int | None = None
    destination_port: int | None = None
    detail: str = ""
    """TCP flags, or ICMP type and code."""

    def __str__(self) -> str:
        """Format like `tcp 203.0.113.9:4711 → 192.0.2.10:22 SYN`."""
        ends = _end(self.source, self.source_port), "→", _end(self.destination, self.destination_port)
        return " ".join((self.protocol, *ends, self.detail)).rstrip()


def headers(copied: bytes) -> Headers | None:
    """Parse the first bytes of an IP packet; None if they are not a valid packet."""
    try:
        packet = parse(_filled(copied))
    except PacketError:
        return None
    make = {4: IPv4Address, 6: IPv6Address}[packet.family]
    protocol = "ip" if packet.l4proto is None else _NAMES.get(packet.l4proto, f"protocol {packet.l4proto}")
    ends = str(make(packet.saddr)), str(make(packet.daddr)), protocol
    transport = b"" if packet.fragment_offset else copied[packet.at :]
    if packet.l4proto in _WITH_PORTS and len(transport) >= 4:
        ports = int.from_bytes(transport[:2], "big"), int.from_bytes(transport[2:4], "big")
        return Headers(*ends, *ports, _flags(transport) if packet.l4proto == TCP else "")
    if packet.l4proto in (ICMP, ICMPV6) and len(transport) >= 2:
        return Headers(*ends, detail=f"type {transport[0]} code {transport[1]}")
    return Headers(*ends)


def _filled(copied: bytes) -> bytes:
    """Return the bytes filled with zeros up to the length in the header, if the header is complete."""
    if copied[:1] < b"\x60":
        header, total = IPV4_HEADER_BYTES, int.from_bytes(copied[2:4], "big")
    else:
        header, total = IPV6_HEADER_BYTES, IPV6_HEADER_BYTES + int.from_bytes(copied[4:6], "big")
    return copied.ljust(total, b"\0") if len(copied) >= header else copied


def _flags(segment: bytes) -> str:
    if len(segment) <= _FLAGS_AT:
        return ""
    return " ".join(flag for bit, flag in _FLAGS.items() if segment[_FLAGS_AT] & bit) or "no flags"


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
