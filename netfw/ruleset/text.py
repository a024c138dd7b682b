# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Formats libnftables JSON as nft(8) text, for messages and for `rap fw render --nft`.

It supports what `netfw.ruleset.render` generates; other content, which another program may have added, stays JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from netfw.ruleset.names import FAMILY, TABLE
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import Ruleset

_QUOTED: Final = ("iifname", "oifname")
_BARE_META: Final = (*_QUOTED, "iif", "oif")


def ruleset_text(ruleset: Ruleset) -> str:
    """Return a complete file for `nft -f`."""
    return "\n".join([f"table {FAMILY} {TABLE} {{", *_lines(ruleset), "}", ""])


def _lines(ruleset: Ruleset) -> Iterator[str]:
    for counter in ruleset.counters:
        yield f"\tcounter {counter} {{ }}"
    for each in ruleset.sets:
        kind = " . ".join(each.kind) if isinstance(each.kind, list) else each.kind
        yield f"\n\tset {each.name} {{\n\t\ttype {kind}"
        if each.size is not None:
            yield f"\t\tsize {each.size}"
        if flags := (*each.flags, *(["dynamic"] if each.counts else [])):
            yield f"\t\tflags {', '.join(flags)}"
        if each.timeout is not None:
            yield f"\t\ttimeout {each.timeout}s"
        if each.elements:
            yield "\t\telements = {\n\t\t\t" + ",\n\t\t\t".join(map(value_text, each.elements)) + "\n\t\t}"
        yield "\t}"
    # a chain must exist before another one refers to it
    for chain in sorted(ruleset.chains, key=lambda chain: bool(chain.hook)):
        yield f"\n\tchain {chain.name} {{"
        if chain.hook:
            yield f"\t\ttype filter hook {chain.hook} priority {chain.priority}; policy drop;"
        for rule in chain.rules:
            mark = f' comment "{ruleset.mark}"' if rule is ruleset.chains[0].rules[0] else ""
            yield f"\t\t{rule_text(list(rule))}{mark}"
        yield "\t}"


def rule_text(statements: list[Json]) -> str:
    """Format a rule's statements."""
    return " ".join(map(_statement, statements))


def _statement(statement: Json) -> str:
    match statement:
        case {"match": {"op": op, "left": left, "right": right}}:
            relation = f"{op} " if op in ("!=", "<", ">", "<=", ">=") else ""
            return f"{value_text(left)} {relation}{_right(left, right)}"
        case {"vmap": {"key": key, "data": {"set": pairs}}}:
            verdicts = ", ".join(f"{_right(key, value)} : {_statement(verdict)}" for value, verdict in pairs)
            return f"{value_text(key)} vmap {{ {verdicts} }}"
        case {"counter": str(name)}:
            return f'counter name "{name}"'
        case {"limit": {"rate": rate, "burst": burst, "per": per}}:
            return f"limit rate {rate}/{per} burst {burst} packets"
        case {"set": {"op": operation, "elem": key, "set": name, "stmt": [state]}}:
            return f"{operation} {name} {{ {value_text(key)} {_statement(state)} }}"
        case {"ct count": {"val": number, **rest}}:
            return f"ct count {'over ' if rest.get('inv') else ''}{number}"
        case {"log": {"prefix": prefix, "group": group, "snaplen": snaplen}}:
            return f'log prefix "{prefix}" group {group} snaplen {snaplen}'
        case {"reject": {"type": kind, "expr": reason}}:
            return f"reject with {kind} {reason}"
        case {"goto": {"target": chain}} | {"jump": {"target": chain}}:
            return f"{next(iter(statement))} {chain}"
        case {"comment": str(comment)}:
            return f'comment "{comment}"'
        case {"accept": None} | {"drop": None} | {"return": None}:
            return str(next(iter(statement)))
    return json.dumps(statement)


def _right(left: Json, right: Json) -> str:
    """Format the right side of a match; interface names are quoted."""
    match left, right:
        case {"meta": {"key": key}}, str() if key in _QUOTED and not right.startswith("@"):
            return f'"{right}"'
        case {"meta": {"key": key}}, {"set": members} if key in _QUOTED:
            return "{ " + ", ".join(f'"{member}"' for member in members) + " }"
        case _, list():
            return ",".join(map(str, right))
    return value_text(right)


def value_text(value: Json) -> str:
    """Format an expression, or an element of a set."""
    match value:
        case {"concat": parts}:
            return " . ".join(map(value_text, parts))
        case {"set": members}:
            return "{ " + ", ".join(map(value_text, members)) + " }"
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
        case {"meta": {"key": key}}:
            return key if key in _BARE_META else f"meta {key}"
        case {"payload": {"protocol": protocol, "field": field}}:
            return f"{protocol} {field}"
        case {"ct": {"key": key}} | {"rt": {"key": key}}:
            return f"{next(iter(value))} {key}"
        case {"&": [left, list() as flags]}:
            return f"{value_text(left)} & ({'|'.join(flags)})"
        case {"elem": {"val": inner}}:
            return value_text(inner)
        case str() | int():
            return str(value)
    return json.dumps(value)
