# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Words of libnftables' JSON, in the form in which the kernel's own listing comes back (libnftables-json(5)).

A rule is a list of statements: what a packet must match, then what becomes of it.
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
    """The source address."""
    return {"payload": {"protocol": _IP[version], "field": "saddr"}}


def daddr(version: int) -> Json:
    """The destination address."""
    return {"payload": {"protocol": _IP[version], "field": "daddr"}}


def concat(*parts: Json) -> Json:
    """Several values as one."""
    return {"concat": list(parts)}


def any_of(*values: Json) -> Json:
    """An anonymous set."""
    return {"set": list(values)}


def where(left: Json, right: Json) -> Statement:
    """Goes on only if `left` is `right`, or in it."""
    return {"match": {"op": "==", "left": left, "right": right}}


def where_not(left: Json, right: Json) -> Statement:
    """Goes on only if `left` is not `right`, nor in it."""
    return {"match": {"op": "!=", "left": left, "right": right}}


def named(name: str) -> str:
    """A named set, as the right side of a match."""
    return f"@{name}"


def state(*states: str) -> Statement:
    """Goes on only if connection tracking says one of these states."""
    right = states[0] if len(states) == 1 else list(states)
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}}


def direction(which: str) -> Statement:
    """Goes on only in this direction of the connection: "original" as it began, or "reply"."""
    return where({"ct": {"key": "direction"}}, which)


def not_a_beginning() -> tuple[Statement, ...]:
    """TCP flags with which no connection begins: anything but a bare SYN (RFC 9293, section 3.5)."""
    masked = {"&": [TCP_FLAGS, ["fin", "syn", "rst", "ack"]]}
    return (where_not(masked, "syn"),)


def icmp(version: int, first: int, last: int | None = None) -> tuple[Json, Json]:
    """ICMP messages of these types, for a match of (PROTOCOL, SPORT): type and code stand where others have the port.

    So messages of both IP versions fit into one match.
    """
    types = {"range": [first << 8, (first if last is None else last) << 8 | 0xFF]}
    return {4: "icmp", 6: "ipv6-icmp"}[version], types


def errors() -> Statement:
    """Goes on only if it is an ICMP error, of either IP version (RFC 792, RFC 4443). A redirect is none."""
    kinds = icmp(4, 3, 4), icmp(4, 11, 12), icmp(6, 0, 127)
    return where(concat(PROTOCOL, SPORT), any_of(*(concat(*kind) for kind in kinds)))


def goto(chain: str) -> Statement:
    """Go on in another chain, and do not come back."""
    return {"goto": {"target": chain}}


def by(key: Json, verdicts: Mapping[str, Statement]) -> Statement:
    """A verdict map."""
    return {"vmap": {"key": key, "data": {"set": [[value, verdict] for value, verdict in verdicts.items()]}}}


def count(cause: str) -> Statement:
    """Count the packet in a named counter."""
    return {"counter": cause}


def log(cause: str, *, came_in: bool = True) -> Rule:
    """A rule that logs the packet's headers, not more often than the limit, and goes on.

    What `came_in` has a limit for each interface; what the box sends, one for all.
    """
    limit = {"limit": {"rate": LOG_PER_SECOND, "burst": LOG_BURST, "per": "second"}}
    return (
        keep("update", LOGGED, limit) if came_in else limit,
        {"log": {"prefix": f"{LOG_PREFIX} {cause} ", "group": LOG_GROUP, "snaplen": LOG_BYTES}},
    )


def keep(operation: str, name: str, state: Statement) -> Statement:
    """Goes on only if the state that a set keeps of the packet's interface says so; begins to keep one if need be."""
    return {"set": {"op": operation, "elem": IIFNAME, "set": named(name), "stmt": [state]}}


def too_many() -> Statement:
    """Goes on only if this connection is one too many at the interface that it came in at."""
    return keep("add", CONNECTIONS, {"ct count": {"val": CONNECTIONS_MAX, "inv": True}})


def refuse(cause: str, *match: Statement, verdict: Statement = DROP) -> Rule:
    """A rule that counts what matches under `cause`, and refuses it."""
    return (*match, count(cause), verdict)
