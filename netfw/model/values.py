"""The values that rules compare: packet fields, and libnftables' literals for them.

A field is a function from a packet and its connection tracking to a number or an interface name; None where the
kernel ends the rule: an IPv4 field of an IPv6 packet, a port beyond the packet's end. Each field has a kind, which
determines how literals are read. Content that is not in these tables is refused: a model that skipped it could agree
with any ruleset.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from netfw.model.packet import ICMP, ICMPV6, TCP, UDP, UDPLITE, Packet

Json: TypeAlias = Any
Scalar: TypeAlias = int | str
Value: TypeAlias = Scalar | tuple[Scalar, ...]


class RulesetError(ValueError):
    """The model does not support this part of a ruleset; the message quotes it."""


class ConnectionFields(Protocol):
    """The attributes of a tracked connection that rules count."""

    @property
    def expires_ns(self) -> int:
        """The time at which the entry expires; 0 if it was deleted."""
        ...

    @property
    def confirmed(self) -> bool:
        """Whether its first packet was accepted."""
        ...


class Tracking(NamedTuple):
    """The connection tracking of a packet: `state` is a bit of STATES; `reply` is None without an entry."""

    state: int
    reply: bool | None = None
    connection: ConnectionFields | None = None
    """The connection to count; None if there is none."""


STATES: Final = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
NOT_TRACKED_YET: Final = Tracking(STATES["invalid"])
"""Before connection tracking, `ct state` reads as invalid."""

Field: TypeAlias = Callable[[Packet, Tracking], "Value | None"]


class Typed(NamedTuple):
    """A field, and the kind of its literals."""

    field: Field
    kind: str


_PROTOCOLS: Final = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47,
    "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "comp": 108, "vrrp": 112, "sctp": 132,
    "udplite": 136,
}  # fmt: skip
_ICMP_TYPES: Final = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16,
    "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip
_ICMPV6_TYPES: Final = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
    "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
    "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
    "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip
_TCP_FLAGS: Final = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}

SYMBOLS: Final[Mapping[str, Mapping[str, int]]] = {
    "inet_proto": _PROTOCOLS,
    "nf_proto": {"ipv4": 2, "ipv6": 10},
    "icmp_type": _ICMP_TYPES,
    "icmpv6_type": _ICMPV6_TYPES,
    "tcp_flag": _TCP_FLAGS,
    "ct_state": STATES,
    "ct_dir": {"original": 0, "reply": 1},
    "boolean": {"exists": 1, "missing": 0},
    "ether_type": {"ip": 0x0800, "ip6": 0x86DD},
}
"""The symbolic constants of each kind that has some; a literal of these kinds may also be a number."""

_NUMBERS: Final = frozenset({"inet_service", "integer", "icmp_code", "icmpv6_code", "mark"})

_WIDTHS: Final = {"ipv4_addr": 32, "ipv6_addr": 128}


def literal(kind: str, expression: Json) -> Scalar:
    """Return the number or interface name of a JSON literal of this kind. Raises: RulesetError."""
    if kind == "ifname" and isinstance(expression, str):
        if expression.endswith("*"):
            raise RulesetError(f"interface {expression!r}: patterns are not modelled")
        return expression
    if isinstance(expression, bool):
        return int(expression)
    if isinstance(expression, int) and (kind in SYMBOLS or kind in _NUMBERS):
        return expression
    if isinstance(expression, str):
        if kind in _WIDTHS:
            address = ip_address(expression)
            if address.max_prefixlen == _WIDTHS[kind]:
                return int(address)
        if expression in SYMBOLS.get(kind, ()):
            return SYMBOLS[kind][expression]
        if (kind in SYMBOLS or kind in _NUMBERS) and re.fullmatch(r"\d+|0x[0-9a-f]+", expression):
            return int(expression, 0)
    raise RulesetError(f"{expression!r} is not a known literal of kind {kind}")


def bounds(kind: str, expression: Json) -> tuple[Scalar, Scalar]:
    """Return the smallest and largest value of a literal, range or prefix. Raises: RulesetError."""
    match expression:
        case {"range": [low, high]}:
            return literal(kind, low), literal(kind, high)
        case {"prefix": {"addr": address, "len": int(length)}} if kind in _WIDTHS:
            network = ip_network(f"{address}/{length}")
            return int(network[0]), int(network[-1])
        case str() if "/" in expression and kind in _WIDTHS:
            network = ip_network(expression)
            return int(network[0]), int(network[-1])
        case _:
            value = literal(kind, expression)
            return value, value


def bits(kind: str, expression: Json) -> int:
    """Return a mask: one literal, several, or several joined by `|`. Raises: RulesetError."""
    match expression:
        case [*parts] | {"|": [*parts]} | {"set": [*parts]}:
            mask = 0
            for part in parts:
                mask |= bits(kind, part)
            return mask
        case _:
            value = literal(kind, expression)
            assert isinstance(value, int), "only interface names are not numbers, and they have no masks"
            return value


def _number(family: int | None, protocols: tuple[int, ...], offset: int, size: int) -> Field:
    """Return a field of the network header, or of the transport header if `protocols` are given.

    libnftables implies a match of the family for such a field: ICMPv6 in an IPv4 packet has no type.
    """
    if not protocols:

        def in_network_header(packet: Packet, _: Tracking) -> int | None:
            if packet.family != family:
                return None
            return int.from_bytes(packet.data[offset : offset + size], "big")

        return in_network_header

    def in_transport_header(packet: Packet, _: Tracking) -> int | None:
        if packet.l4proto not in protocols or packet.fragment_offset or family not in (None, packet.family):
            return None
        start = packet.at + offset
        if start + size > len(packet.data):
            return None
        return int.from_bytes(packet.data[start : start + size], "big")

    return in_transport_header


def _port(offset: int) -> Field:
    def port(packet: Packet, _: Tracking) -> int | None:
        if packet.l4proto is None or packet.fragment_offset:
            return None
        start = packet.at + offset
        data = packet.data
        return data[start] << 8 | data[start + 1] if start + 2 <= len(data) else None

    return port


def _address(family: int, source: bool) -> Field:
    if source:
        return lambda packet, _: packet.saddr if packet.family == family else None
    return lambda packet, _: packet.daddr if packet.family == family else None


def _ports_of(protocol: int) -> dict[str, Typed]:
    return {
        "sport": Typed(_number(None, (protocol,), 0, 2), "inet_service"),
        "dport": Typed(_number(None, (protocol,), 2, 2), "inet_service"),
    }


PAYLOADS: Final[Mapping[str, Mapping[str, Typed]]] = {
    "ip": {
        "saddr": Typed(_address(4, True), "ipv4_addr"),
        "daddr": Typed(_address(4, False), "ipv4_addr"),
        "protocol": Typed(_number(4, (), 9, 1), "inet_proto"),
        "ttl": Typed(_number(4, (), 8, 1), "integer"),
    },
    "ip6": {
        "saddr": Typed(_address(6, True), "ipv6_addr"),
        "daddr": Typed(_address(6, False), "ipv6_addr"),
        "nexthdr": Typed(_number(6, (), 6, 1), "inet_proto"),
        "hoplimit": Typed(_number(6, (), 7, 1), "integer"),
    },
    "th": {"sport": Typed(_port(0), "inet_service"), "dport": Typed(_port(2), "inet_service")},
    "tcp": _ports_of(TCP) | {"flags": Typed(_number(None, (TCP,), 13, 1), "tcp_flag")},
    "udp": _ports_of(UDP),
    "udplite": _ports_of(UDPLITE),
    "icmp": {
        "type": Typed(_number(4, (ICMP,), 0, 1), "icmp_type"),
        "code": Typed(_number(4, (ICMP,), 1, 1), "icmp_code"),
    },
    "icmpv6": {
        "type": Typed(_number(6, (ICMPV6,), 0, 1), "icmpv6_type"),
        "code": Typed(_number(6, (ICMPV6,), 1, 1), "icmpv6_code"),
    },
}

METAS: Final[Mapping[str, Typed]] = {
    "iifname": Typed(lambda packet, _: packet.iif, "ifname"),
    "oifname": Typed(lambda packet, _: packet.oif, "ifname"),
    "l4proto": Typed(lambda packet, _: packet.l4proto, "inet_proto"),
    "nfproto": Typed(lambda packet, _: 2 if packet.family == 4 else 10, "nf_proto"),
    "protocol": Typed(lambda packet, _: 0x0800 if packet.family == 4 else 0x86DD, "ether_type"),
    "length": Typed(lambda packet, _: len(packet.data), "integer"),
}

CONNECTIONS: Final[Mapping[str, Typed]] = {
    "state": Typed(lambda _, tracking: tracking.state, "ct_state"),
    "direction": Typed(lambda _, tracking: None if tracking.reply is None else int(tracking.reply), "ct_dir"),
}


def field(expression: Json) -> Typed:
    """Return the field of a libnftables expression. Raises: RulesetError."""
    match expression:
        case {"payload": {"protocol": str(protocol), "field": str(name)}} if name in PAYLOADS.get(
            protocol, ()
        ):
            return PAYLOADS[protocol][name]
        case {"meta": {"key": str(key)}} if key in METAS:
            return METAS[key]
        case {"ct": {"key": str(key), **rest}} if key in CONNECTIONS and not rest:
            return CONNECTIONS[key]
    raise RulesetError(f"expression {expression!r} is not modelled")
