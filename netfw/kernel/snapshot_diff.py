# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Describes the differences between two snapshots of the table, without interpreting foreign content."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from netfw.kernel.snapshot import SnapshotRule, TableSnapshot


def differing_sets(wanted: TableSnapshot, current: TableSnapshot) -> tuple[frozenset[str], bool]:
    """Return the sets whose elements differ, and whether anything else differs."""
    names = wanted.elements.keys() | current.elements.keys()
    sets = frozenset(name for name in names if wanted.elements.get(name) != current.elements.get(name))
    return sets, (wanted.objects, wanted.rules) != (current.objects, current.rules)


def lines(wanted: TableSnapshot, current: TableSnapshot) -> list[str]:
    """Describe the differences, a line each; none if the snapshots are equal."""
    return [*_objects(wanted, current), *_elements(wanted, current), *_rules(wanted, current)]


def _objects(wanted: TableSnapshot, current: TableSnapshot) -> Iterator[str]:
    for key in sorted(wanted.objects.keys() | current.objects.keys()):
        expected, actual = wanted.objects.get(key), current.objects.get(key)
        if actual is None:
            yield f"{key} is missing"
        elif expected is None:
            yield f"{key} is not the policy's"
        elif expected != actual:
            yield f"{key} has other properties than the policy's"


def _elements(wanted: TableSnapshot, current: TableSnapshot) -> Iterator[str]:
    for name in sorted(wanted.elements.keys() | current.elements.keys()):
        expected, actual = (each.elements.get(name, frozenset()) for each in (wanted, current))
        if expected != actual:
            missing, surplus = len(expected - actual), len(actual - expected)
            yield f"set {name} lacks {missing} elements and has {surplus} beyond the policy"


def _rules(wanted: TableSnapshot, current: TableSnapshot) -> Iterator[str]:
    for chain in sorted(wanted.rules.keys() | current.rules.keys()):
        expected, actual = wanted.rules.get(chain, []), current.rules.get(chain, [])
        matcher = SequenceMatcher(
            None, [rule.content for rule in expected], [rule.content for rule in actual], autojunk=False
        )
        for tag, e0, e1, a0, a1 in matcher.get_opcodes():
            if tag != "equal":
                yield from (
                    f"chain {chain} lacks its rule {index + 1}{_kinds(expected[index])}"
                    for index in range(e0, e1)
                )
                yield from (
                    f"chain {chain} has beyond the policy, as rule {index + 1}{_kinds(actual[index])}"
                    for index in range(a0, a1)
                )


def _kinds(rule: SnapshotRule) -> str:
    return f": expressions {', '.join(rule.expressions)}" if rule.expressions else ": no expressions"
