# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Tables of other programs: effects of their chains that the proof of the firewall's own table does not cover.

A foreign chain that only accepts, drops, counts and logs cannot weaken the firewall: a packet must pass both. One
that changes, duplicates, redirects or forwards packets can: a packet that the firewall's output chain accepted for
the time server may then go anywhere. Rules are read from the kernel's dump. Harmless expressions are listed here; all
others, including unknown ones, are reported.

Only rules that a base chain can reach are considered, through jumps and verdict maps (which may lead to any chain of
the table).
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from netfw.kernel import netlink
from netfw.kernel.netlink import attributes
from netfw.kernel.snapshot import split
from netfw.ruleset.names import FAMILY, TABLE

_SUBSYSTEM: Final = 10 << 8
_GET_CHAIN, _GET_RULE, _GET_FLOWTABLE = 4, 7, 23
FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_NETDEV_HOOKS: Final = ("ingress", "egress")
_ARP_HOOKS: Final = ("input", "output")

# Attribute numbers from linux/netfilter/nf_tables.h
_TABLE, _NAME = 1, 2
_CHAIN_NAME, _CHAIN_HOOK = 3, 4
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE = 1, 2, 3
_RULE_CHAIN, _RULE_EXPRESSIONS = 2, 4
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_IMMEDIATE_DATA, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 2, 1, 2
_LOOKUP_DESTINATION: Final = 3
_NF_QUEUE: Final = 3

_HARMLESS: Final = frozenset(
    {
        *("bitwise", "byteorder", "cmp", "connlimit", "counter", "dynset", "fib", "hash", "immediate"),
        *("last", "limit", "log", "lookup", "match", "numgen", "osf", "quota", "range", "reject", "rt"),
        *("socket", "tunnel", "xfrm"),
    }
)
"""Expressions that only read, count, log or refuse."""
_SOURCE_REGISTER: Final = {"payload": 5, "exthdr": 7, "ct": 4, "meta": 3}
"""Expressions that read, or write if they have this attribute."""
_EXTHDR_DESTINATION: Final = 1
_KEY: Final = {"ct": 2, "meta": 2}
_CT_ZONE: Final = 17
_META_MARK: Final = 3
_META_HARMLESS: Final = (2, 12, 14)
"""Priority, tracing, security mark (NFT_META_*)."""
_OBJECT_TYPE, _OBJECT_MAP = 1, 4
_OBJECTS_HARMLESS: Final = {1, 2, 4, 5, 7, 8}
"""Counter, quota, limit, connection limit, timeout, security mark."""
_KNOWN_OBJECTS: Final = {3: "assigns a connection tracking helper", 9: "expects connections"}
_TARGETS_HARMLESS: Final = frozenset({"LOG", "NFLOG", "REJECT", "AUDIT", "TRACE", "SECMARK", "CONNSECMARK"})
_KNOWN_TARGETS: Final = {
    "MARK": "marks packets, which can change their route",
    "CONNMARK": "marks packets, which can change their route",
    "MASQUERADE": "changes the source address of outgoing packets",
    "SNAT": "changes the source address of outgoing packets",
    "CT": "changes connection tracking",
    "NOTRACK": "excludes packets from connection tracking",
    "TCPMSS": "changes TCP options",
}


class Effect(NamedTuple):
    """The effect of an expression on packets; `breaks` if it can make a theorem false."""

    description: str
    breaks: bool


class NotCovered(NamedTuple):
    """Something outside the scope of the proof; if it `breaks`, the proved theorems may be false."""

    description: str
    breaks: bool


_EFFECTS: Final = {
    "dup": Effect("duplicates packets (dup)", True),
    "fwd": Effect("forwards packets to another interface (fwd)", True),
    "nat": Effect("changes addresses (nat)", True),
    "masq": Effect("changes the source address of outgoing packets (masquerade)", False),
    "redir": Effect("redirects packets to the box (redirect)", True),
    "notrack": Effect("excludes packets from connection tracking (notrack)", False),
    "queue": Effect("passes packets to a program (queue)", True),
    "flow_offload": Effect("lets packets bypass all chains (flow table)", True),
    "tproxy": Effect("redirects packets to a program (tproxy)", True),
    "synproxy": Effect("answers instead of the destination (synproxy)", True),
}


@dataclass(slots=True)
class _Chain:
    hook: str = ""
    targets: set[str] = field(default_factory=set)
    effects: dict[Effect, None] = field(default_factory=dict)
    jumps_anywhere: bool = False
    """Whether a verdict map may lead to any chain of the table."""


_Tables = dict[tuple[int, str], defaultdict[str, _Chain]]


def foreign_effects(sock: socket.socket) -> list[NotCovered]:
    """Return effects of foreign base chains and flow tables outside the scope of the proof. Raises: OSError.

    `sock` is a netfilter socket without other use.
    """
    tables: _Tables = {}
    for message in _dump(sock, _GET_CHAIN):
        fields = message.attributes()
        chains = tables.setdefault((message.family(), _text(fields, _TABLE)), defaultdict(_Chain))
        chains[_text(fields, _CHAIN_NAME)].hook = _hook(message.family(), fields.get(_CHAIN_HOOK, b""))
    for message in _dump(sock, _GET_RULE):
        fields = message.attributes()
        chains = tables.setdefault((message.family(), _text(fields, _TABLE)), defaultdict(_Chain))
        _add_rule(chains[_text(fields, _RULE_CHAIN)], fields.get(_RULE_EXPRESSIONS, b""))
    return [*_of_chains(tables), *_of_flow_tables(sock)]


def _of_chains(tables: _Tables) -> Iterator[NotCovered]:
    for (family, table), chains in tables.items():
        if (FAMILIES.get(family), table) == (FAMILY, TABLE):
            continue
        for name, chain in chains.items():
            effects = {
                effect: None for each in _reached(name, chains) for effect in chains[each].effects
            } if chain.hook else {}  # fmt: skip
            location = f"table {_family(family)} {_shown(table)}, chain {_shown(name)} ({chain.hook})"
            yield from (NotCovered(f"{location} {effect.description}", effect.breaks) for effect in effects)


def _of_flow_tables(sock: socket.socket) -> Iterator[NotCovered]:
    try:
        flow_tables = _dump(sock, _GET_FLOWTABLE)
    except OSError:  # the kernel does not support flow tables
        return
    for message in flow_tables:
        fields = message.attributes()
        table, name = _shown(_text(fields, _TABLE)), _shown(_text(fields, _NAME))
        text = f"table {_family(message.family())} {table} has flow table {name}, which bypasses all chains"
        yield NotCovered(text, True)


def _reached(base: str, chains: Mapping[str, _Chain]) -> set[str]:
    reached, waiting = {base}, [base]
    while waiting:
        chain = chains[waiting.pop()]
        new = (set(chains) if chain.jumps_anywhere else chain.targets & set(chains)) - reached
        reached |= new
        waiting += new
    return reached


def _add_rule(chain: _Chain, expressions: bytes) -> None:
    for element in split(expressions):
        expression = attributes(element[4:])
        name, data = _text(expression, _EXPRESSION_NAME), attributes(expression.get(_EXPRESSION_DATA, b""))
        if name == "immediate":
            verdict = attributes(attributes(data.get(_IMMEDIATE_DATA, b"")).get(_DATA_VERDICT, b""))
            if _VERDICT_CHAIN in verdict:
                chain.targets.add(_text(verdict, _VERDICT_CHAIN))
            if int.from_bytes(verdict.get(_VERDICT_CODE, b""), "big") & 0xFF == _NF_QUEUE:
                chain.effects[_EFFECTS["queue"]] = None
        if name == "lookup" and _LOOKUP_DESTINATION in data and not any(data[_LOOKUP_DESTINATION]):
            chain.jumps_anywhere = True
        if effect := effect_of(name, data):
            chain.effects[effect] = None


def effect_of(name: str, data: Mapping[int, bytes]) -> Effect | None:
    """Return the effect of an expression with these attributes; None if it only reads, counts, logs or decides."""
    if name in _HARMLESS:
        return None
    if name in _EFFECTS:
        return _EFFECTS[name]
    if name == "objref":
        return _object(data)
    if name == "target":
        return _target(_text(data, 1))
    if name in _SOURCE_REGISTER:
        writes = _SOURCE_REGISTER[name] in data or (name == "exthdr" and _EXTHDR_DESTINATION not in data)
        return _written(name, data) if writes else None
    return Effect(f"has an unknown effect ({_shown(name)})", True)


def _written(name: str, data: Mapping[int, bytes]) -> Effect | None:
    key = int.from_bytes(data.get(_KEY.get(name, 0), b""), "big")
    match name, key:
        case "payload", _:
            return Effect("changes packets (payload)", True)
        case "exthdr", _:
            return Effect("changes options of packets (exthdr)", False)
        case "ct", _ if key == _CT_ZONE:
            return Effect("moves connections into another zone (ct zone)", False)
        case "ct", _:
            return Effect("changes connection tracking (ct set)", False)
        case "meta", _ if key == _META_MARK:
            return Effect("marks packets, which can change their route (mark)", False)
        case "meta", _ if key in _META_HARMLESS:
            return None
    return Effect(f"changes how packets are handled ({name} key {key})", True)


def _object(data: Mapping[int, bytes]) -> Effect | None:
    if _OBJECT_MAP in data:
        return Effect("refers to objects of a map", False)
    kind = int.from_bytes(data.get(_OBJECT_TYPE, b""), "big")
    if kind in _OBJECTS_HARMLESS:
        return None
    if kind in _KNOWN_OBJECTS:
        return Effect(_KNOWN_OBJECTS[kind], False)
    return Effect(f"changes packets (object of type {kind})", True)


def _target(name: str) -> Effect | None:
    if name in _TARGETS_HARMLESS:
        return None
    if name in _KNOWN_TARGETS:
        return Effect(f"{_KNOWN_TARGETS[name]} ({name})", False)
    return Effect(f"may change, duplicate or redirect packets ({_shown(name)})", True)


def _hook(family: int, nested: bytes) -> str:
    """Format like "output, priority 10"; "" for a chain without hook."""
    if not nested:
        return ""
    fields = attributes(nested)
    number = int.from_bytes(fields.get(_HOOK_NUMBER, b""), "big")
    priority = int.from_bytes(fields.get(_HOOK_PRIORITY, b""), "big", signed=True)
    names = {"netdev": _NETDEV_HOOKS, "arp": _ARP_HOOKS}.get(_family(family), _HOOKS)
    device = f" of {_shown(_text(fields, _HOOK_DEVICE))}" if _HOOK_DEVICE in fields else ""
    return f"{names[number] if number < len(names) else f'hook {number}'}{device}, priority {priority}"


def _dump(sock: socket.socket, kind: int) -> Iterable[netlink.NetlinkMessage]:
    return list(netlink.dump(sock, netlink.request(_SUBSYSTEM | kind, netlink.F_DUMP, socket.AF_UNSPEC)))


def _family(number: int) -> str:
    return FAMILIES.get(number, f"family {number}")


def _text(fields: Mapping[int, bytes], number: int) -> str:
    return fields.get(number, b"").rstrip(b"\0").decode(errors="backslashreplace")


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
