"""Model of the kernel's connection tracking: it assigns each packet a state and a direction.

A packet is looked up by its tuple: addresses, protocol, and ports or ICMP identifier. If an entry exists, the packet
is established, or new (in the original direction before any reply); otherwise it may begin an entry. A new entry is
kept only once its packet was accepted by the last chain of its path (`confirm`). A packet is invalid if it is
malformed, its checksum is wrong (verified on input only), its protocol's rules forbid it here, or it has no tuple.
Dropping invalid packets is left to the rules. Source: Linux net/netfilter/nf_conntrack_core.c and
nf_conntrack_proto_{tcp,udp,icmp,icmpv6,gre,generic}.c, 6.x.

Packets must be defragmented beforehand (`netfw.model.fragments`). Not modelled: helpers and expectations, zones, NAT,
and SCTP associations, of which only the beginning is detected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from struct import unpack_from
from typing import Final, NamedTuple, TypeAlias

from crc32c import crc32c

from netfw.model.conntrack_tcp import TcpConnection, segment
from netfw.model.packet import (
    GRE,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
    Packet,
    embedded,
    ones_sum,
    pseudo_header,
)
from netfw.model.values import NOT_TRACKED_YET, STATES, Tracking

Tuple: TypeAlias = tuple[int, int, int, int, int, int]
"""Family, protocol, source, destination, and two numbers: ports, or identifier and type with code."""

ICMP_TIMEOUT_S: Final = 30
GENERIC_TIMEOUT_S: Final = 600
UDP_TIMEOUT_S: Final = 30
UDP_ANSWERED_TIMEOUT_S: Final = 120
SECOND_NS: Final = 1_000_000_000

_ICMP_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
_ICMP_TYPE_MAX: Final = 18
_ANSWERS: Final = {
    ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17},
    ICMPV6: {128: 129, 129: 128, 139: 140, 140: 139},
}
_REQUESTS: Final = {ICMP: frozenset({8, 13, 15, 17}), ICMPV6: frozenset({128, 139})}
UNTRACKED_ICMPV6: Final = frozenset({130, 131, 132, 133, 134, 135, 136, 143, 151, 152})
"""Neighbour discovery, multicast listeners, multicast router discovery."""

_INVALID: Final = NOT_TRACKED_YET
_UNTRACKED: Final = Tracking(STATES["untracked"])


@dataclass(slots=True)
class ConntrackEntry:
    """One connection. `original` and `reply` are the tuples of its two directions."""

    original: Tuple
    reply: Tuple
    tcp: TcpConnection | None = None
    answered: bool = False
    confirmed: bool = False
    expires_ns: int = 0


class Tracked(NamedTuple):
    """The result for a packet: the values that rules match, and the connection's entry."""

    tracking: Tracking
    entry: ConntrackEntry | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the kernel with the prefix net.netfilter.nf_conntrack_."""

    tcp_loose: bool = True
    checksum: bool = True
    timeouts: Mapping[str, int] = field(default_factory=dict)
    """Seconds by name; missing ones have the kernel's defaults."""


class Conntrack:
    """The table of connections. Each call gets the time in nanoseconds, which never decreases."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._entries: dict[Tuple, ConntrackEntry] = {}

    def __len__(self) -> int:
        return len(self._entries) // 2

    def __iter__(self) -> Iterator[ConntrackEntry]:
        """Iterate over the tracked connections."""
        return (entry for tuple_, entry in self._entries.items() if tuple_ == entry.original)

    def track(self, packet: Packet, now_ns: int, *, incoming: bool) -> Tracked:
        """Return the tracking of a packet that is received (`incoming`) or sent by the box."""
        protocol = packet.tracked_proto
        if protocol is None or (packet.family == 4 and packet.tracked_at > len(packet.data)):
            return Tracked(_INVALID)
        checked = incoming and self.settings.checksum
        if protocol == (ICMP if packet.family == 4 else ICMPV6):
            early = self._icmp(packet, checked, now_ns)
            if early is not None:
                return early
        tuple_ = tuple_of(packet)
        if tuple_ is None or not _well_formed(packet, checked):
            return Tracked(_INVALID)
        return self._follow(packet, tuple_, now_ns)

    def confirm(self, entry: ConntrackEntry | None) -> None:
        """Keep the entry of a packet that was accepted at its last hook."""
        if entry is not None and not entry.confirmed:
            entry.confirmed = True
            self._entries[entry.original] = self._entries[entry.reply] = entry

    def find(self, tuple_: Tuple, now_ns: int) -> ConntrackEntry | None:
        """Return the unexpired entry of that tuple, in either direction."""
        entry = self._entries.get(tuple_)
        if entry is not None and entry.expires_ns <= now_ns:
            self.delete(entry)
            return None
        return entry

    def delete(self, entry: ConntrackEntry) -> None:
        """Delete one connection, and mark the entry as expired for other holders."""
        entry.expires_ns = 0
        self._entries.pop(entry.original, None)
        self._entries.pop(entry.reply, None)

    def flush(self) -> None:
        """Delete all connections."""
        for entry in self._entries.values():
            entry.expires_ns = 0
        self._entries.clear()

    def _follow(self, packet: Packet, tuple_: Tuple, now_ns: int) -> Tracked:
        entry = self.find(tuple_, now_ns)
        if entry is None:
            reply = inverse(tuple_)
            if reply is None:
                return Tracked(_INVALID)
            entry = ConntrackEntry(tuple_, reply)
        backwards = tuple_ == entry.reply and tuple_ != entry.original
        if packet.tracked_proto == TCP:
            early = self._follow_tcp(packet, entry, tuple_, backwards, now_ns)
            if early is not None:
                return early
        elif packet.tracked_proto in (ICMP, ICMPV6):
            wrong_family = (packet.tracked_proto == ICMP) is not (packet.family == 4)
            if wrong_family or entry.original[5] >> 8 not in _REQUESTS[packet.tracked_proto]:
                return Tracked(_INVALID)
        elif packet.tracked_proto == SCTP and not entry.confirmed and not _begins_sctp(packet):
            return Tracked(_INVALID)
        return self._seen(entry, backwards, now_ns)

    def _seen(self, entry: ConntrackEntry, backwards: bool, now_ns: int) -> Tracked:
        state = "established" if backwards or entry.answered else "new"
        entry.answered = entry.answered or backwards
        entry.expires_ns = now_ns + _timeout_s(entry, self.settings.timeouts) * SECOND_NS
        return Tracked(Tracking(STATES[state], backwards, entry), entry)

    def _follow_tcp(
        self, packet: Packet, entry: ConntrackEntry, tuple_: Tuple, backwards: bool, now_ns: int
    ) -> Tracked | None:
        """Return the result if the segment decides it, or None."""
        seg = segment(packet.data, packet.tracked_at)
        if seg is None:
            return Tracked(_INVALID)
        if entry.tcp is None:
            entry.tcp = TcpConnection.begin(seg, self.settings.tcp_loose)
            if entry.tcp is None:
                return Tracked(_INVALID)
        answer = entry.tcp.follow(seg, int(backwards))
        if answer == "invalid":
            return Tracked(_INVALID)
        if answer == "reopen":
            self.delete(entry)
            return self._follow(packet, tuple_, now_ns)
        entry.tcp.answered = entry.tcp.answered or backwards
        if answer == "delete":
            self.delete(entry)
        return None

    def _icmp(self, packet: Packet, checked: bool, now_ns: int) -> Tracked | None:
        """Return the result if ICMP decides it before tuples are looked up, or None."""
        data, at = packet.data, packet.tracked_at
        if at + 8 > len(data):
            return Tracked(_INVALID)
        if checked and not _checksum_is_valid(packet, len(data) - at):
            return Tracked(_INVALID)
        kind = data[at]
        if packet.family == 6:
            if kind in UNTRACKED_ICMPV6:
                return Tracked(_UNTRACKED)
            return None if kind >= 128 else self._error(packet, at + 8, now_ns)
        if kind > _ICMP_TYPE_MAX:
            return Tracked(_INVALID)
        return self._error(packet, at + 8, now_ns) if kind in _ICMP_ERRORS else None

    def _error(self, packet: Packet, at: int, now_ns: int) -> Tracked:
        """Relate an ICMP error to the connection of the packet it quotes, if it is sent to that packet's sender."""
        quoted = embedded(packet.data, at, packet.family)
        if quoted is None or (packet.family == 4 and quoted[3] > len(packet.data)):
            return Tracked(_INVALID)
        source, destination, protocol, offset = quoted
        numbers = _numbers(packet.data, protocol, offset)
        inner = None if numbers is None else (packet.family, protocol, source, destination, *numbers)
        wanted = None if inner is None else inverse(inner)
        entry = None if wanted is None else self.find(wanted, now_ns)
        if entry is None or packet.daddr != source:
            return Tracked(_INVALID)
        return Tracked(Tracking(STATES["related"], wanted == entry.reply and wanted != entry.original), entry)


def tuple_of(packet: Packet) -> Tuple | None:
    """Return the tuple of a packet; None if it is too short."""
    protocol = packet.tracked_proto
    numbers = None if protocol is None else _numbers(packet.data, protocol, packet.tracked_at)
    if protocol is None or numbers is None:
        return None
    return (packet.family, protocol, packet.saddr, packet.daddr, *numbers)


def inverse(tuple_: Tuple) -> Tuple | None:
    """Return the tuple of the other direction; None for ICMP messages that are neither request nor reply."""
    family, protocol, source, destination, first, second = tuple_
    if protocol in (ICMP, ICMPV6):
        answer = _ANSWERS[protocol].get(second >> 8)
        return (
            None
            if answer is None
            else (family, protocol, destination, source, first, answer << 8 | second & 255)
        )
    return family, protocol, destination, source, second, first


def _numbers(data: bytes, protocol: int, at: int) -> tuple[int, int] | None:
    if protocol in (TCP, UDP, UDPLITE, SCTP):
        return unpack_from("!HH", data, at) if at + 4 <= len(data) else None
    if protocol in (ICMP, ICMPV6):
        if at + 8 > len(data):
            return None
        kind, code, identifier = unpack_from("!BBxxH", data, at)
        return identifier, kind << 8 | code
    if protocol == GRE and at + 8 <= len(data) and data[at + 1] & 7 == 1:
        return (0, unpack_from("!H", data, at + 6)[0]) if data[at + 2 : at + 4] == b"\x88\x0b" else None
    return 0, 0


def _well_formed(packet: Packet, checked: bool) -> bool:
    """Return whether a packet satisfies its protocol's checks that do not depend on connections."""
    data, at = packet.data, packet.tracked_at
    length = len(data) - at
    match packet.tracked_proto:
        case 6:
            return not checked or _checksum_is_valid(packet, length)  # further checks need the connection
        case 17:
            if length < 8 or not 8 <= unpack_from("!H", data, at + 4)[0] <= length:
                return False
            return not checked or data[at + 6 : at + 8] == b"\0\0" or _checksum_is_valid(packet, length)
        case 136:
            return _udplite_is_valid(packet, length, checked)
        case 132:
            return length >= 12 and (not checked or _sctp_checksum_is_valid(data[at:]))
        case _:
            return True


def _checksum_is_valid(packet: Packet, covered: int) -> bool:
    """Verify the Internet checksum over the IP payload, regardless of the length in the transport header."""
    protocol = packet.tracked_proto
    assert protocol is not None, "a packet without a protocol has no checksum"
    if protocol == UDPLITE:
        protocol = UDP  # wrong by RFC 3828 section 3.1, but what the kernel does, in nf_conntrack_proto_udp.c
    body = packet.data[packet.tracked_at : packet.tracked_at + covered]
    if protocol == ICMP:
        return ones_sum(body) == 0xFFFF
    length = len(packet.data) - packet.tracked_at
    return (
        ones_sum(pseudo_header(packet.family, packet.saddr, packet.daddr, protocol, length) + body) == 0xFFFF
    )


def _udplite_is_valid(packet: Packet, length: int, checked: bool) -> bool:
    """Verify UDP-Lite (RFC 3828): the length field is the checksum's coverage, 0 for all; a checksum is mandatory."""
    if length < 8:
        return False
    covered, check = unpack_from("!HH", packet.data, packet.tracked_at + 4)
    covered = covered or length
    if not 8 <= covered <= length or not check:
        return False
    return not checked or _checksum_is_valid(packet, covered)


def _sctp_checksum_is_valid(body: bytes) -> bool:
    """Verify the CRC-32C of an SCTP packet (RFC 9260 appendix A)."""
    return int.from_bytes(body[8:12], "little") == crc32c(body[:8] + bytes(4) + body[12:])


_SCTP_ALONE: Final = frozenset({1, 2, 14})
"""INIT, INIT ACK and SHUTDOWN COMPLETE must be the only chunk of their packet (RFC 9260 section 6.10)."""
_SCTP_FIRST: Final = frozenset({10, 11})
_SCTP_BEGINS: Final = frozenset({1, 4, 8})


def _begins_sctp(packet: Packet) -> bool:
    """Return whether an SCTP packet can begin an association."""
    kinds: list[int] = []
    at = packet.tracked_at + 12
    while at + 4 <= len(packet.data):
        kind, length = unpack_from("!BxH", packet.data, at)
        alone = kind in _SCTP_FIRST or any(k in _SCTP_ALONE for k in (*kinds, kind))
        if not length or (alone and kinds):
            return False
        kinds.append(kind)
        at += length + 3 & ~3
    return bool(kinds) and all(kind in _SCTP_BEGINS for kind in kinds)


def _timeout_s(entry: ConntrackEntry, timeouts: Mapping[str, int]) -> int:
    if entry.tcp is not None:
        return entry.tcp.timeout_s(timeouts)
    match entry.original[1]:
        case 1 | 58:
            return ICMP_TIMEOUT_S
        case 17 | 136 if entry.answered:
            return timeouts.get("udp_timeout_stream", UDP_ANSWERED_TIMEOUT_S)
        case 17 | 136:
            return timeouts.get("udp_timeout", UDP_TIMEOUT_S)
        case _:
            return timeouts.get("generic_timeout", GENERIC_TIMEOUT_S)
