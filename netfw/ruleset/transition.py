# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Changes the table in force into a ruleset, in one transaction and without losing packets.

A table can be deleted and added in one transaction. But for a moment, packets still run through its old base chains,
which have lost their rules but not their `policy drop`, and drop packets that both rulesets accept. Therefore the
table and its base chains stay: all chains are flushed and refilled, and other objects that differ (sets, counters,
other chains) are deleted and added. A table that cannot be changed in place, such as one with a chain at another
hook, is replaced as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Final

from netfw.ruleset import listing, names
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import Ruleset
from netfw.ruleset.sessions import KernelSessions, OpenSession

_REMOVABLE: Final = ("set", "map", "counter", "chain")
"""Kinds of objects that can be deleted from a table, referring kinds before referenced kinds."""


def transition(
    ruleset: Ruleset,
    wanted: Mapping[str, str],
    outline: list[Json],
    sessions: KernelSessions,
    changed: Container[str] | None = None,
) -> Iterator[Json]:
    """Yield the commands that change the table with this outline and these sessions into the ruleset.

    `wanted` has the ruleset's declarations (`netfw.ruleset.listing`). Of the sets that stay, those that may be
    `changed` are refilled; None means all.
    """
    current = listing.of_objects(outline).declarations
    differing = {key for key, text in current.items() if text != wanted.get(key)}
    if any(_is_foreign(key, current[key], wanted.get(key)) for key in differing):
        counters = [listed["counter"] for listed in outline if "counter" in listed]
        counts = {each["name"]: (each["packets"], each["bytes"]) for each in counters}
        return replacement(ruleset, counts, sessions.open)
    return _in_place(ruleset, current, differing, sessions, changed)


def removal() -> list[Json]:
    """Return commands that remove the table if it exists: adding it first has no effect if it does."""
    table = {"table": {"family": names.FAMILY, "name": names.TABLE}}
    return [{"add": table}, {"delete": table}]


def _is_foreign(key: str, current: str, wanted: str | None) -> bool:
    """Return whether an object cannot be changed as required while the table stays."""
    kind, _ = _kind_and_name(key)
    if kind == "chain" and wanted:
        return bool(_without_policy(current) != _without_policy(wanted))
    return kind not in _REMOVABLE


def _without_policy(declaration: str) -> Json:
    """Return a chain's declaration without its policy, which adding an existing chain can change."""
    return json.loads(declaration) | {"policy": None}


def _in_place(
    ruleset: Ruleset,
    current: Collection[str],
    differing: Collection[str],
    sessions: KernelSessions,
    changed: Container[str] | None,
) -> Iterator[Json]:
    """Yield the commands if the table stays. Sets are refilled, since listing 10,000 elements takes longer."""
    declared = {
        f"{kind} {body['name']}": each for each in ruleset.declarations() for kind, body in each.items()
    }
    chains = [name for kind, name in map(_kind_and_name, current) if kind == "chain"]
    same = set(current).difference(differing)
    yield from ({"flush": {"chain": _ours(name)}} for name in chains)
    for kind, name in sorted(map(_kind_and_name, differing), key=_order):
        if f"{kind} {name}" not in declared or kind != "chain":
            yield {"delete": {kind: _ours(name)}}
    yield from ({"add": declaration} for key, declaration in declared.items() if key not in same)
    kept = {each.name for each in ruleset.sets if f"set {each.name}" in same}
    filled = {name for name in kept.difference(names.SESSIONS.values()) if changed is None or name in changed}
    yield from ({"flush": {"set": _ours(name)}} for name in sorted(filled))
    yield from ({"delete": element} for element in sessions.unexpected if element["element"]["name"] in kept)
    for content in ruleset.contents():
        if (
            "rule" in content
            or content["element"]["name"] in filled
            or content["element"]["name"] not in kept
        ):
            yield {"add": content}
    for session in sessions.open:
        element = session.element()
        if element["element"]["name"] not in kept:
            yield {"add": element}


def replacement(
    ruleset: Ruleset, counts: Mapping[str, tuple[int, int]], sessions: Sequence[OpenSession]
) -> Iterator[Json]:
    """Yield commands that replace any table with the ruleset. Counters continue from `counts` (packets, bytes)."""
    yield from removal()
    for each in (*ruleset.declarations(), *ruleset.contents()):
        if "counter" in each:
            packets, size = counts.get(each["counter"]["name"], (0, 0))
            yield {"add": {"counter": each["counter"] | {"packets": packets, "bytes": size}}}
        else:
            yield {"add": each}
    yield from ({"add": session.element()} for session in sessions)


def _kind_and_name(key: str) -> tuple[str, str]:
    kind, _, name = key.rpartition(" ")
    return kind, name


def _order(kind_and_name: tuple[str, str]) -> tuple[int, str]:
    kind, name = kind_and_name
    return _REMOVABLE.index(kind), name


def _ours(name: str) -> Json:
    return {"family": names.FAMILY, "table": names.TABLE, "name": name}
