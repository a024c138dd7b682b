# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""A packet as seen by the firewall: interfaces, and bytes from the IP header on; a parser and builders.

`parse` refuses what the kernel's IP layer drops before any hook (RFC 791, RFC 8200: version, lengths, header
checksum, hop-by-hop options of received packets), so that every Packet is one that a chain can see. nftables and
connection tracking read IPv6 extension headers differently: nftables stops at an authentication header (`l4proto` is
then 51), connection tracking continues after it, and gives up at "no next header". A Packet contains both readings.
The builders produce valid packets; for invalid ones, modify the bytes.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import pack, unpack_from
from typing import Final, TypeAlias

import msgspec

from netfw.model.ip_options import hop_by_hop_options_are_valid

Address: TypeAlias = IPv4Address | IPv6Address

HOP_BY_HOP: Final = 0
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ROUTING: Final = 43
FRAGMENT: Final = 44
GRE: Final = 47
ESP: Final = 50
AH: Final = 51
ICMPV6: Final = 58
NO_NEXT: Final = 59
DESTINATION: Final = 60
SCTP: Final = 132
UDPLITE: Final = 136

EXTENSIONS: Final = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, AH, NO_NEXT, DESTINATION})

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20

IPV4_HEADER_BYTES: Final = 20
IPV6_HEADER_BYTES: Final = 40
MORE_FRAGMENTS: Final = 0x2000
OFFSET_MASK: Final = 0x1FFF


class PacketError(ValueError):
    """The bytes are a packet that the kernel's IP layer drops before netfilter; the message gives the reason."""


class Packet(msgspec.Struct, frozen=True, gc=False):
    """A packet. `data` starts at the IP header and ends where that header says. Addresses are integers.

    `l4proto` is None where nftables finds no transport header, and `at` is its offset; `tracked_proto` and
    `tracked_at` are the same for connection tracking. `fragment_offset` is nonzero only if defragmentation failed.
    """

    data: bytes
    iif: str
    oif: str
    family: int
    saddr: int
    daddr: int
    l4proto: int | None
    at: int
    fragment_offset: int
    tracked_proto: int | None
    tracked_at: int

    def leaving(self, oif: str) -> Packet:
        """Return the same packet after routing has chosen `oif`."""
        return msgspec.structs.replace(self, oif=oif)


def parse(data: bytes, *, iif: str = "", oif: str = "") -> Packet:
    """Parse a packet that starts with an IP header; bytes after its end are cut off. Raises: PacketError."""
    if not data:
        raise PacketError("empty packet")
    version = data[0] >> 4
    if version == 4:
        return _parse_ipv4(data, iif, oif)
    if version == 6:
        return _parse_ipv6(data, iif, oif)
    raise PacketError(f"IP version {version}: must be 4 or 6")


def _parse_ipv4(data: bytes, iif: str, oif: str) -> Packet:
    header = (data[0] & 15) * 4
    if header < IPV4_HEADER_BYTES or len(data) < header:
        raise PacketError(f"IPv4 header of {header} bytes in a packet of {len(data)}")
    total = data[2] << 8 | data[3]
    if not header <= total <= len(data):
        raise PacketError(f"IPv4 total length {total}: header of {header}, packet of {len(data)} bytes")
    if ones_sum(data[:header]) != 0xFFFF:
        raise PacketError("IPv4 header checksum is wrong")
    offset = (data[6] << 8 | data[7]) & OFFSET_MASK
    protocol = data[9]
    return Packet(
        data if len(data) == total else data[:total],
        iif,
        oif,
        4,
        int.from_bytes(data[12:16], "big"),
        int.from_bytes(data[16:20], "big"),
        protocol,
        header,
        offset,
        None if offset else protocol,
        header,
    )


def _parse_ipv6(data: bytes, iif: str, oif: str) -> Packet:
    if len(data) < IPV6_HEADER_BYTES:
        raise PacketError(f"IPv6 packet of {len(data)} bytes: the header alone has {IPV6_HEADER_BYTES}")
    total = IPV6_HEADER_BYTES + (data[4] << 8 | data[5])
    if total == IPV6_HEADER_BYTES and data[6] == HOP_BY_HOP:  # possibly a jumbogram, RFC 2675
        total = len(data)
    if total > len(data):
        raise PacketError(f"IPv6 packet with a length of {total} bytes has only {len(data)}")
    if len(data) != total:
        data = data[:total]
    if iif and data[6] == HOP_BY_HOP and not hop_by_hop_options_are_valid(data):
        raise PacketError("IPv6 hop-by-hop options that the kernel does not accept")
    if data[6] not in EXTENSIONS:
        rules: tuple[int | None, int, int] = data[6], IPV6_HEADER_BYTES, 0
        tracking: tuple[int | None, int] = data[6], IPV6_HEADER_BYTES
    else:
        rules, tracking = _read_for_rules(data), read_for_tracking(data)
    return Packet(
        data,
        iif,
        oif,
        6,
        int.from_bytes(data[8:24], "big"),
        int.from_bytes(data[24:40], "big"),
        *rules,
        *tracking,
    )


def extension_bytes(data: bytes, kind: int, at: int) -> int:
    """Return the length of the IPv6 extension header of type `kind` at `at`."""
    if kind == FRAGMENT:
        return 8
    return (data[at + 1] + 2) * 4 if kind == AH else (data[at + 1] + 1) * 8


def _read_for_rules(data: bytes) -> tuple[int | None, int, int]:
    """Return (protocol, offset, fragment offset) as read by nftables; net/ipv6/exthdrs_core.c ipv6_find_hdr."""
    kind, at = data[6], IPV6_HEADER_BYTES
    while kind in EXTENSIONS and kind not in (NO_NEXT, AH):
        if at + (4 if kind in (ROUTING, FRAGMENT) else 2) > len(data):
            return None, 0, 0
        following = data[at]
        if kind == FRAGMENT and (offset := (data[at + 2] << 8 | data[at + 3]) & ~7):
            final = following not in EXTENSIONS or following == NO_NEXT
            return (following, 0, offset) if final else (None, 0, 0)
        at += extension_bytes(data, kind, at)
        kind = following
    if kind == AH and at + 2 > len(data):
        return None, 0, 0
    return kind, at, 0


def read_for_tracking(data: bytes, start: int = IPV6_HEADER_BYTES, kind: int = -1) -> tuple[int | None, int]:
    """Return (protocol, offset) as read by connection tracking; exthdrs_core.c ipv6_skip_exthdr."""
    at = start
    kind = data[6] if kind < 0 else kind
    while kind in EXTENSIONS:
        if kind == NO_NEXT or at + (4 if kind == FRAGMENT else 2) > len(data):
            return None, 0
        if kind == FRAGMENT and (data[at + 2] << 8 | data[at + 3]) & ~7:
            return None, 0
        kind, at = data[at], at + extension_bytes(data, kind, at)
    return kind, at


def embedded(data: bytes, at: int, family: int) -> tuple[int, int, int, int] | None:
    """Return (source, destination, protocol, offset) of the packet that an ICMP error quotes at offset `at`."""
    if family == 4:
        if at + IPV4_HEADER_BYTES > len(data) or (data[at + 6] << 8 | data[at + 7]) & OFFSET_MASK:
            return None
        source, destination = unpack_from("!II", data, at + 12)
        return source, destination, data[at + 9], at + (data[at] & 15) * 4
    if at + IPV6_HEADER_BYTES > len(data):
        return None
    protocol, offset = read_for_tracking(data, at + IPV6_HEADER_BYTES, data[at + 6])
    if protocol is None:
        return None
    source = int.from_bytes(data[at + 8 : at + 24], "big")
    return source, int.from_bytes(data[at + 24 : at + 40], "big"), protocol, offset


def ones_sum(data: bytes) -> int:
    """Return the ones' complement sum (RFC 1071): 0xFFFF for data with a correct checksum."""
    if len(data) & 1:
        data += b"\0"
    # 2**16 is 1 modulo 2**16 - 1, so the sum of the 16-bit words is the remainder of the number that they form.
    number = int.from_bytes(data, "big")
    return (number % 0xFFFF or 0xFFFF) if number else 0


def checksum(data: bytes) -> int:
    """Return the Internet checksum of `data`, whose own checksum field is 0 (RFC 1071)."""
    return ~ones_sum(data) & 0xFFFF


def pseudo_header(family: int, saddr: int, daddr: int, protocol: int, length: int) -> bytes:
    """Return the pseudo header of transport checksums (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    if family == 4:
        return pack("!IIBBH", saddr, daddr, 0, protocol, length)
    return saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big") + pack("!II", length, protocol)


def ip(
    source: Address | str,
    destination: Address | str,
    protocol: int,
    payload: bytes,
    *,
    hops: int = 64,
    fragment: int = 0,
    identifier: int = 0,
    options: bytes = b"",
) -> bytes:
    """Build an IP packet. IPv4 only: `fragment` has flags and offset, `options` a multiple of 4 bytes."""
    saddr, daddr = ip_address(source), ip_address(destination)
    if saddr.version != daddr.version:
        raise ValueError(f"{saddr} and {daddr} are of different families")
    if saddr.version == 6:
        head = pack("!IHBB", 6 << 28, len(payload), protocol, hops)
        return head + saddr.packed + daddr.packed + payload
    header = IPV4_HEADER_BYTES + len(options)
    head = pack(
        "!BBHHHBBH", 64 + header // 4, 0, header + len(payload), identifier, fragment, hops, protocol, 0
    )
    head += saddr.packed + daddr.packed + options
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def with_checksum(
    source: Address | str, destination: Address | str, protocol: int, segment: bytes, field: int
) -> bytes:
    """Return `segment` with its transport checksum at offset `field`."""
    saddr, daddr = ip_address(source), ip_address(destination)
    covered = segment[:field] + b"\0\0" + segment[field + 2 :]
    if protocol == ICMP:
        value = checksum(covered)
    else:
        pseudo = pseudo_header(saddr.version, int(saddr), int(daddr), protocol, len(segment))
        value = checksum(pseudo + covered)
    return (
        segment[:field]
        + ((value or 0xFFFF) if protocol == UDP else value).to_bytes(2, "big")
        + segment[field + 2 :]
    )


def tcp(
    source: Address | str,
    sport: int,
    destination: Address | str,
    dport: int,
    flags: int = SYN,
    *,
    seq: int = 1000,
    ack: int = 0,
    window: int = 65535,
    payload: bytes = b"",
) -> bytes:
    """Build a TCP segment without options, in an IP packet (RFC 9293)."""
    segment = pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, window, 0, 0) + payload
    return ip(source, destination, TCP, with_checksum(source, destination, TCP, segment, 16))


def udp(
    source: Address | str, sport: int, destination: Address | str, dport: int, payload: bytes = b""
) -> bytes:
    """Build a UDP datagram in an IP packet (RFC 768)."""
    datagram = pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    return ip(source, destination, UDP, with_checksum(source, destination, UDP, datagram, 6))


def icmp(
    source: Address | str,
    destination: Address | str,
    kind: int,
    code: int = 0,
    rest: bytes = bytes(4),
    *,
    hops: int = 64,
) -> bytes:
    """Build an ICMP or ICMPv6 message, by the family of the addresses; `rest` follows the checksum."""
    protocol = ICMP if ip_address(source).version == 4 else ICMPV6
    message = with_checksum(source, destination, protocol, bytes((kind, code, 0, 0)) + rest, 2)
    return ip(source, destination, protocol, message, hops=hops)
