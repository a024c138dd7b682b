# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Describes the differences between two snapshots of the table, without interpreting foreign content."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from netfw.kernel.snapshot import SnapshotRule, TableSnapshot


def differing_sets(wanted: TableSnapshot, found: TableSnapshot) -> tuple[frozenset[str], bool]:
    """Return the sets whose elements differ, and whether anything else differs."""
    names = wanted.elements.keys() | found.elements.keys()
    sets = frozenset(name for name in names if wanted.elements.get(name) != found.elements.get(name))
    return sets, (wanted.objects, wanted.rules) != (found.objects, found.rules)


def lines(wanted: TableSnapshot, found: TableSnapshot) -> list[str]:
    """Describe the differences, a line each; none if the snapshots are equal."""
    return [*_objects(wanted, found), *_elements(wanted, found), *_rules(wanted, found)]


def _objects(wanted: TableSnapshot, found: TableSnapshot) -> Iterator[str]:
    for key in sorted(wanted.objects.keys() | found.objects.keys()):
        here, there = wanted.objects.get(key), found.objects.get(key)
        if there is None:
            yield f"{key} is missing"
        elif here is None:
            yield f"{key} is not the policy's"
        elif here != there:
            yield f"{key} has other properties than the policy's"


def _elements(wanted: TableSnapshot, found: TableSnapshot) -> Iterator[str]:
    for name in sorted(wanted.elements.keys() | found.elements.keys()):
        here, there = (each.elements.get(name, frozenset()) for each in (wanted, found))
        if here != there:
            yield f"set {name} lacks {len(here - there)} elements and has {len(there - here)} beyond the policy"


def _rules(wanted: TableSnapshot, found: TableSnapshot) -> Iterator[str]:
    for chain in sorted(wanted.rules.keys() | found.rules.keys()):
        here, there = wanted.rules.get(chain, []), found.rules.get(chain, [])
        matcher = SequenceMatcher(
            None, [rule.content for rule in here], [rule.content for rule in there], autojunk=False
        )
        for tag, w0, w1, f0, f1 in matcher.get_opcodes():
            if tag != "equal":
                yield from (
                    f"chain {chain} lacks its rule {at + 1}{_kinds(here[at])}" for at in range(w0, w1)
                )
                yield from (
                    f"chain {chain} has beyond the policy, as rule {at + 1}{_kinds(there[at])}"
                    for at in range(f0, f1)
                )


def _kinds(rule: SnapshotRule) -> str:
    return f": expressions {', '.join(rule.expressions)}" if rule.expressions else ": no expressions"
