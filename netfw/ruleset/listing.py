# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Compares the kernel's listing with a ruleset, both in a canonical form.

Handles, counters, remaining times and the order of set members are ignored; the rest is compared object by object.
Open sessions are not part of a ruleset and are not compared.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from netfw.ruleset.names import MARK, SESSIONS
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import Ruleset
from netfw.ruleset.text import rule_text, value_text

_TRANSIENT: Final = frozenset({"handle", "packets", "bytes", "elem", "family", "table", "name"})
_SHOWN_MAX: Final = 3
"""Maximum number of elements that a difference lists; of the others, it gives only the number."""


@dataclass(slots=True)
class Listing:
    """The comparable content of a table."""

    declarations: dict[str, str] = field(default_factory=dict)
    """Attributes by kind and name, as in "set authorized4"."""
    elements: defaultdict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))
    rules: defaultdict[str, list[Json]] = field(default_factory=lambda: defaultdict(list))


def of_ruleset(ruleset: Ruleset) -> Listing:
    """Return the listing that the kernel should have."""
    return of_objects([*ruleset.declarations(), *ruleset.contents()])


def of_objects(objects: Iterable[Json]) -> Listing:
    """Convert the kernel's objects: `{"set": …}`, `{"rule": …}`, …"""
    listing = Listing()
    for each in objects:
        ((kind, body),) = each.items()
        if kind == "rule":
            extra = {key: body[key] for key in ("comment",) if key in body}
            expressions = body.get("expr", [])  # the kernel accepts a rule without expressions
            listing.rules[body["chain"]].append([*map(_settled, expressions), *([extra] if extra else [])])
            continue
        if kind != "element":
            attributes = {key: value for key, value in body.items() if key not in _TRANSIENT}
            attributes["flags"] = _flags(body.get("flags", []))
            listing.declarations[f"{kind} {body['name']}"] = _dump(attributes)
        if body["name"] not in SESSIONS.values():
            listing.elements[body["name"]] += body.get("elem", [])
    return listing


def lines(listing: Listing, without: Container[str] = ()) -> Iterator[str]:
    """Yield a listing as text, a line for each declaration, element and rule; no elements of the sets in `without`.

    Equal rulesets give equal lines, whether the policy made them or the kernel listed them.
    """
    for name, attributes in sorted(listing.declarations.items()):
        yield f"{name} {attributes}"
    for name, elements in sorted(listing.elements.items()):
        if name not in without:
            yield from (
                f"set {name}: {text}" for text in sorted(map(value_text, _members(elements).values()))
            )
    for chain, rules in sorted(listing.rules.items()):
        yield from (f"chain {chain}: {rule_text(rule)}" for rule in rules)


def mark(objects: Iterable[Json]) -> str:
    """Return the mark of the policy from which a listed table was generated; "" if it has none."""
    comments = [body["comment"] for each in objects for body in each.values() if "comment" in body]
    return next((comment for comment in comments if comment.startswith(MARK)), "")


def differences(policy: Listing, kernel: Listing, sets: Container[str] | None = None) -> Iterator[str]:
    """Yield the differences, a line each; none if the kernel holds exactly the policy's ruleset.

    The elements of all sets are compared, or only those of `sets`.
    """
    for name in sorted({*policy.declarations, *kernel.declarations}):
        expected, actual = policy.declarations.get(name), kernel.declarations.get(name)
        if actual is None:
            yield f"{name} is missing"
        elif expected is None:
            yield f"{name} is not the policy's"
        elif expected != actual:
            yield f"{name} should be {expected}, and is {actual}"
    for name in sorted({*policy.elements, *kernel.elements}):
        if sets is None or name in sets:
            yield from _element_differences(name, policy.elements[name], kernel.elements[name])
    for chain in sorted({*policy.rules, *kernel.rules}):
        yield from _rule_differences(chain, policy.rules[chain], kernel.rules[chain])


def _element_differences(name: str, policy: list[Json], kernel: list[Json]) -> Iterator[str]:
    expected, actual = _members(policy), _members(kernel)
    for first, second, verb in ((expected, actual, "lacks"), (actual, expected, "has beyond the policy")):
        differing = [value_text(first[key]) for key in sorted(first.keys() - second.keys())]
        if differing:
            more = f" and {len(differing) - _SHOWN_MAX} more" if len(differing) > _SHOWN_MAX else ""
            yield f"set {name} {verb} {', '.join(differing[:_SHOWN_MAX])}{more}"


def _rule_differences(chain: str, policy: list[Json], kernel: list[Json]) -> Iterator[str]:
    expected, actual = [[_dump(rule) for rule in rules] for rules in (policy, kernel)]
    for _, e0, e1, a0, a1 in SequenceMatcher(None, expected, actual, autojunk=False).get_opcodes():
        if expected[e0:e1] != actual[a0:a1]:
            for number in range(e0, e1):
                yield f"chain {chain} lacks its rule {number + 1}: {rule_text(policy[number])}"
            for number in range(a0, a1):
                yield f"chain {chain} has beyond the policy, as rule {number + 1}: {rule_text(kernel[number])}"


def _members(elements: Iterable[Json]) -> dict[str, Json]:
    """Return elements by their canonical text; adjacent intervals are joined, because some kernels do so."""
    plain: list[tuple[int, int, int]] = []
    others: dict[str, Json] = {}
    for element in elements:
        # fast path for nearly all elements: several plain values
        if type(element) is dict and "{" not in (text := repr(element.get("concat", {}))):
            others[text] = element
        elif interval := _interval(element):
            plain.append(interval)
        else:
            others[_dump(_settled(element))] = element
    return others | {f"{v} {lo} {hi}": _span(v, lo, hi) for v, lo, hi in _joined(plain)}


def _interval(element: Json) -> tuple[int, int, int] | None:
    match element:
        case {"prefix": {"addr": address, "len": length}}:
            try:
                network = ip_network(f"{address}/{length}")
            except ValueError:
                return None
            return network.version, int(network.network_address), int(network.broadcast_address)
        case {"range": [str(first), str(last)]}:
            return _between(first, last)
        case str():
            return _between(element, element)
    return None


def _between(first: str, last: str) -> tuple[int, int, int] | None:
    """Return IP version, first and last address; None if these are not two addresses of one version."""
    try:
        start, end = ip_address(first), ip_address(last)
    except ValueError:  # ports, interfaces, hardware addresses
        return None
    return (start.version, int(start), int(end)) if start.version == end.version else None


def _joined(intervals: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    joined: list[tuple[int, int, int]] = []
    for version, low, high in sorted(intervals):
        if joined and joined[-1][0] == version and joined[-1][2] + 1 >= low:
            joined[-1] = (version, joined[-1][1], max(high, joined[-1][2]))
        else:
            joined.append((version, low, high))
    return joined


def _span(version: int, low: int, high: int) -> Json:
    make = {4: IPv4Address, 6: IPv6Address}[version]
    return {"range": [str(make(low)), str(make(high))]}


def _settled(value: Json) -> Json:
    """Sort unordered parts: members of anonymous sets, flags."""
    match value:
        case {"match": {"op": op, "left": left, "right": right}}:
            same = "==" if op == "in" else op
            return {"match": {"op": same, "left": _settled(left), "right": _settled(_sorted(right))}}
        case {"set": list() as members}:
            return {"set": sorted(map(_settled, members), key=_dump)}
        case {"&": [left, flags]}:
            return {"&": [left, _sorted(flags)]}
        case dict():
            return {key: _settled(inner) for key, inner in value.items() if key not in ("expires",)}
    return value


def _flags(flags: Json) -> Json:
    """Return the flags of an object in one order; libnftables lists `dynamic` since release 1.1."""
    return sorted(set(flags if isinstance(flags, list) else [flags]) - {"dynamic"})


def _sorted(value: Json) -> Json:
    """Sort flags."""
    return sorted(value, key=_dump) if isinstance(value, list) else value


def _dump(value: Json) -> str:
    return json.dumps(value, sort_keys=True)
