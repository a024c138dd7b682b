# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Builders of libnftables JSON, in the form in which the kernel's listing returns it (libnftables-json(5)).

A rule is a list of statements: first matches, then what happens to matching packets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from netfw.ruleset.names import (
    CONNECTIONS,
    CONNECTIONS_MAX,
    LOG_BURST,
    LOG_BYTES,
    LOG_GROUP,
    LOG_PER_SECOND,
    LOG_PREFIX,
    LOGGED,
)

Json: TypeAlias = Any
Statement: TypeAlias = dict[str, Json]
Rule: TypeAlias = tuple[Statement, ...]

ACCEPT: Final[Statement] = {"accept": None}
DROP: Final[Statement] = {"drop": None}
REJECT: Final[Statement] = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}

IIFNAME: Final[Json] = {"meta": {"key": "iifname"}}
OIFNAME: Final[Json] = {"meta": {"key": "oifname"}}
PROTOCOL: Final[Json] = {"meta": {"key": "l4proto"}}
SPORT: Final[Json] = {"payload": {"protocol": "th", "field": "sport"}}
DPORT: Final[Json] = {"payload": {"protocol": "th", "field": "dport"}}
TCP_FLAGS: Final[Json] = {"payload": {"protocol": "tcp", "field": "flags"}}
HOP_LIMIT: Final[Json] = {"payload": {"protocol": "ip6", "field": "hoplimit"}}
ICMPV6_TYPE: Final[Json] = {"payload": {"protocol": "icmpv6", "field": "type"}}

_IP: Final = {4: "ip", 6: "ip6"}


def saddr(version: int) -> Json:
    """Return the source address field."""
    return {"payload": {"protocol": _IP[version], "field": "saddr"}}


def daddr(version: int) -> Json:
    """Return the destination address field."""
    return {"payload": {"protocol": _IP[version], "field": "daddr"}}


def concat(*parts: Json) -> Json:
    """Return a concatenation of values."""
    return {"concat": list(parts)}


def any_of(*values: Json) -> Json:
    """Return an anonymous set."""
    return {"set": list(values)}


def where(left: Json, right: Json) -> Statement:
    """Match packets for which `left` equals `right`, or is in it."""
    return {"match": {"op": "==", "left": left, "right": right}}


def where_not(left: Json, right: Json) -> Statement:
    """Match packets for which `left` neither equals `right` nor is in it."""
    return {"match": {"op": "!=", "left": left, "right": right}}


def named(name: str) -> str:
    """Return a reference to a named set, as the right side of a match."""
    return f"@{name}"


def state(*states: str) -> Statement:
    """Match packets with one of these connection tracking states."""
    right = states[0] if len(states) == 1 else list(states)
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}}


def direction(which: str) -> Statement:
    """Match packets in this direction of their connection: "original" or "reply"."""
    return where({"ct": {"key": "direction"}}, which)


def not_a_first_segment() -> tuple[Statement, ...]:
    """Match TCP flags that do not begin a connection: anything but a bare SYN (RFC 9293, section 3.5)."""
    masked = {"&": [TCP_FLAGS, ["fin", "syn", "rst", "ack"]]}
    return (where_not(masked, "syn"),)


def icmp(version: int, first: int, last: int | None = None) -> tuple[Json, Json]:
    """Return ICMP types for a match of (PROTOCOL, SPORT): type and code are at the offset of the source port.

    Messages of both IP versions therefore fit into one match.
    """
    types = {"range": [first << 8, (first if last is None else last) << 8 | 0xFF]}
    return {4: "icmp", 6: "ipv6-icmp"}[version], types


def errors() -> Statement:
    """Match ICMP errors of either IP version (RFC 792, RFC 4443), excluding redirects."""
    types = icmp(4, 3, 4), icmp(4, 11, 12), icmp(6, 0, 127)
    return where(concat(PROTOCOL, SPORT), any_of(*(concat(*each) for each in types)))


def goto(chain: str) -> Statement:
    """Continue in another chain, without returning."""
    return {"goto": {"target": chain}}


def by(key: Json, verdicts: Mapping[str, Statement]) -> Statement:
    """Return a verdict map."""
    return {"vmap": {"key": key, "data": {"set": [[value, verdict] for value, verdict in verdicts.items()]}}}


def count(cause: str) -> Statement:
    """Count the packet in a named counter."""
    return {"counter": cause}


def log(cause: str, *, came_in: bool = True) -> Rule:
    """Return a rule that logs the packet's headers at a limited rate, without a verdict.

    Received packets (`came_in`) are limited per interface, the box's own in total.
    """
    limit = {"limit": {"rate": LOG_PER_SECOND, "burst": LOG_BURST, "per": "second"}}
    return (
        keep("update", LOGGED, limit) if came_in else limit,
        {"log": {"prefix": f"{LOG_PREFIX} {cause} ", "group": LOG_GROUP, "snaplen": LOG_BYTES}},
    )


def keep(operation: str, name: str, state: Statement) -> Statement:
    """Match packets by a state (a rate limit or connection count) that the set keeps for each receiving interface.

    `operation` is "add" or "update". The first packet of an interface creates its state.
    """
    return {"set": {"op": operation, "elem": IIFNAME, "set": named(name), "stmt": [state]}}


def too_many() -> Statement:
    """Match packets whose connection exceeds the maximum at their receiving interface."""
    return keep("add", CONNECTIONS, {"ct count": {"val": CONNECTIONS_MAX, "inv": True}})


def refuse(cause: str, *match: Statement, verdict: Statement = DROP) -> Rule:
    """Return a rule that counts matching packets under `cause` and refuses them."""
    return (*match, count(cause), verdict)
