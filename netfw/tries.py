"""Membership in a set of numbers, as a formula: a trie over the bits.

A firewall's sets are intervals of numbers: addresses, ports, protocols. A disjunction of comparisons would cost z3 an
adder for each; a binary trie that tests one bit at each node costs it one clause. Ten thousand addresses are a
trie of twenty thousand nodes, written as SMT-LIB text, because parsing it takes a tenth of the time that building
it call by call does.

Equal sets give the same trie and z3 keeps one copy of equal terms: when the policy's addresses and the kernel's are
the same set, the proof sees one and the same proposition on both sides, and never looks inside. When they differ, it
looks, and what it finds is exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import z3

Interval: TypeAlias = tuple[int, int]
"""First and last number."""
Intervals: TypeAlias = tuple[Interval, ...]
"""Sorted, disjoint and not adjacent, so that equal sets are equal values."""


def union(intervals: Iterable[Interval]) -> Intervals:
    """The set of all these numbers."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(intervals: Intervals, width: int) -> Intervals:
    """All numbers of so many bits that are not in the set."""
    edges = [-1, *(edge for first, last in intervals for edge in (first - 1, last + 1)), 1 << width]
    gaps = [(edges[0] + 1, edges[1])] + [(edges[at], edges[at + 1]) for at in range(2, len(edges), 2)]
    return tuple((first, min(last, (1 << width) - 1)) for first, last in gaps if first <= last)


def member(value: z3.BitVecRef, intervals: Intervals) -> z3.BoolRef:
    """Whether the value is in the set."""
    text = "".join(_nodes(intervals, 0, value.size()))
    assertion = f"(assert (let ((x {value.sexpr()})) {text}))"
    return z3.parse_smt2_string(assertion, decls=dict(_constants(value)))[0]


def member_of_rows(values: Sequence[z3.BitVecRef], rows: Iterable[tuple[Intervals, ...]]) -> z3.BoolRef:
    """Whether the values, one a column, are together in one of the rows: an nftables concatenation."""
    rows = list(rows)
    if not rows:
        return z3.BoolVal(False)
    if len(values) == 1:
        return member(values[0], union(interval for (column,) in rows for interval in column))
    # the column with the fewest different entries first: ten thousand addresses on one port are one trie
    at = min(range(len(values)), key=lambda column: len({row[column] for row in rows}))
    groups: defaultdict[Intervals, list[tuple[Intervals, ...]]] = defaultdict(list)
    for row in rows:
        groups[row[at]].append(row[:at] + row[at + 1 :])
    others = [*values[:at], *values[at + 1 :]]
    return z3.Or(
        [z3.And(member(values[at], entry), member_of_rows(others, rest)) for entry, rest in groups.items()]
    )


def _nodes(intervals: Sequence[Interval], base: int, bits: int) -> Iterator[str]:
    """The trie of the intervals, all within the 2**bits numbers from `base`, as SMT-LIB text."""
    if not intervals:
        yield "false"
    elif intervals[0] == (base, base + (1 << bits) - 1):
        yield "true"
    elif len(intervals) == 1 and intervals[0][0] == intervals[0][1]:
        yield f"(= ((_ extract {bits - 1} 0) x) (_ bv{intervals[0][0] - base} {bits}))"
    else:
        bits -= 1
        middle = base + (1 << bits)
        yield f"(ite (= ((_ extract {bits} {bits}) x) #b1) "
        yield from _nodes([(max(i[0], middle), i[1]) for i in intervals if i[1] >= middle], middle, bits)
        yield " "
        yield from _nodes([(i[0], min(i[1], middle - 1)) for i in intervals if i[0] < middle], base, bits)
        yield ")"


def _constants(value: z3.ExprRef) -> Iterator[tuple[str, z3.ExprRef]]:
    if value.num_args() == 0 and value.decl().kind() == z3.Z3_OP_UNINTERPRETED:
        yield value.decl().name(), value
    for child in value.children():
        yield from _constants(child)
