"""Encodes membership in a set of numbers as a formula: a binary trie over the bits.

A firewall's sets are intervals of numbers: addresses, ports, protocols. A disjunction of comparisons would cost z3
one adder for each; a binary trie that tests one bit per node costs one clause per node. Tries are written as SMT-LIB
text, because parsing ten thousand nodes takes a tenth of the time of API calls.

A large set is first represented by a free proposition ("name"), the same for every test of the same set on the same
field. If no packet refutes the theorem then, none does whatever the set contains, so the proof is sound without the
set's content. A set that differs from another in a few numbers is represented by that set's name, plus or minus these
numbers. If the solver finds a packet, it is checked against the real sets. For each wrong guess, the actual
membership of the numbers around the packet's is added as a formula, so that the final result is exact. Ten thousand
addresses therefore cost almost nothing if the kernel's set is the policy's, or nearly so.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import z3

Interval: TypeAlias = tuple[int, int]
"""First and last number, inclusive."""
Intervals: TypeAlias = tuple[Interval, ...]
"""Sorted, disjoint and not adjacent, so that equal sets are equal values."""

LARGE: Final = 64
"""Sets with more intervals are first represented by a name."""
GUESSES_MAX: Final = 50
"""Wrong guesses about large sets that are corrected one by one, before the complete sets are added."""


def union(intervals: Iterable[Interval]) -> Intervals:
    """Return the set of all these numbers."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(intervals: Intervals, width: int) -> Intervals:
    """Return all numbers of `width` bits that are not in the set."""
    edges = [-1, *(edge for first, last in intervals for edge in (first - 1, last + 1)), 1 << width]
    gaps = [(edges[0] + 1, edges[1])] + [
        (edges[index], edges[index + 1]) for index in range(2, len(edges), 2)
    ]
    return tuple((first, min(last, (1 << width) - 1)) for first, last in gaps if first <= last)


def difference(minuend: Intervals, subtrahend: Intervals) -> Intervals:
    """Return the numbers of `minuend` that are not in `subtrahend`."""
    result: list[Interval] = []
    index = 0
    for first, last in minuend:
        while index < len(subtrahend) and subtrahend[index][1] < first:
            index += 1
        hole = index
        while hole < len(subtrahend) and subtrahend[hole][0] <= last:
            if first < subtrahend[hole][0]:
                result.append((first, subtrahend[hole][0] - 1))
            first = subtrahend[hole][1] + 1
            hole += 1
        if first <= last:
            result.append((first, last))
    return tuple(result)


class _Named(NamedTuple):
    value: z3.BitVecRef
    intervals: Intervals
    name: z3.BoolRef


class Memberships:
    """Membership tests; equal tests are the same formula."""

    def __init__(self) -> None:
        self._asked: dict[tuple[int, Intervals], z3.BoolRef] = {}
        self._named: list[_Named] = []
        self._values: list[z3.BitVecRef] = []
        """Referenced here, because z3 reuses the id of a value that was freed."""

    def member(self, value: z3.BitVecRef, intervals: Intervals) -> z3.BoolRef:
        """Return the formula that the value is in the set."""
        key = (value.get_id(), intervals)
        if key not in self._asked:
            self._values.append(value)
            self._asked[key] = (
                self._name(value, intervals) if len(intervals) > LARGE else _trie(value, intervals)
            )
        return self._asked[key]

    def _name(self, value: z3.BitVecRef, intervals: Intervals) -> z3.BoolRef:
        """Return a new name for the set, or the name of a similar set with the differences."""
        for other in self._named:
            beyond, lacking = difference(intervals, other.intervals), difference(other.intervals, intervals)
            if other.value.eq(value) and len(beyond) + len(lacking) <= LARGE:
                more, less = self.member(value, beyond), self.member(value, lacking)
                return z3.And(z3.Or(other.name, more), z3.Not(less))
        self._named.append(_Named(value, intervals, z3.FreshConst(z3.BoolSort(), "set")))
        return self._named[-1].name

    def search(self, solver: z3.Solver) -> z3.ModelRef | None:
        """Return a model of the solver's formulas that is consistent with all sets; None if there is none."""
        for _ in range(GUESSES_MAX):
            if (model := _model(solver)) is None:
                return None
            mistakes = [lemma for named in self._named for lemma in self._corrections(model, named)]
            if not mistakes:
                return model
            solver.add(mistakes)
        solver.add([named.name == _trie(named.value, named.intervals) for named in self._named])
        return _model(solver)

    def _corrections(self, model: z3.ModelRef, named: _Named) -> Iterator[z3.BoolRef]:
        """If the model has the wrong membership of the value, yield the right one up to the set's next boundaries."""
        number = model.eval(named.value, model_completion=True).as_long()
        index = bisect(named.intervals, number, key=lambda interval: interval[0])
        inside = index > 0 and number <= named.intervals[index - 1][1]
        if z3.is_true(model.eval(named.name, model_completion=True)) == inside:
            return
        after = (
            named.intervals[index][0] - 1 if index < len(named.intervals) else (1 << named.value.size()) - 1
        )
        before = named.intervals[index - 1][1] + 1 if index > 0 else 0
        interval = named.intervals[index - 1] if inside else (before, after)
        yield z3.Implies(self.member(named.value, (interval,)), named.name if inside else z3.Not(named.name))

    def member_of_rows(
        self, values: Sequence[z3.BitVecRef], rows: Iterable[tuple[Intervals, ...]]
    ) -> z3.BoolRef:
        """Return the formula that the values, one per column, are in one of the rows: an nftables concatenation."""
        rows = list(rows)
        if len(values) == 1:
            return self.member(values[0], union(interval for (column,) in rows for interval in column))
        # group by the column with the fewest different entries: ten thousand addresses on one port are one trie
        chosen = min(range(len(values)), key=lambda column: len({row[column] for row in rows}))
        groups: defaultdict[Intervals, list[tuple[Intervals, ...]]] = defaultdict(list)
        for row in rows:
            groups[row[chosen]].append(row[:chosen] + row[chosen + 1 :])
        others = [*values[:chosen], *values[chosen + 1 :]]
        return z3.Or(
            [
                z3.And(self.member(values[chosen], entry), self.member_of_rows(others, rest))
                for entry, rest in groups.items()
            ]
        )


def _model(solver: z3.Solver) -> z3.ModelRef | None:
    answer = solver.check()
    assert answer != z3.unknown, "every formula here is decidable, and no time limit is set"
    return solver.model() if answer == z3.sat else None


def _trie(value: z3.BitVecRef, intervals: Intervals) -> z3.BoolRef:
    text: list[str] = []
    _write(text, intervals, 0, value.size())
    assertion = f"(assert (let ((x {value.sexpr()})) {''.join(text)}))"
    return z3.parse_smt2_string(assertion, decls=dict(_constants(value)))[0]


def _write(text: list[str], intervals: Sequence[Interval], base: int, bits: int) -> None:
    """Write the trie of the intervals, all within the 2**bits numbers from `base`, as SMT-LIB text."""
    if not intervals:
        text.append("false")
        return
    first, last = intervals[0][0], intervals[-1][1]
    fork = (first ^ last).bit_length()  # all members are equal in the bits from here upward
    is_full = len(intervals) == 1 and last - first == (1 << fork) - 1
    if fork < bits:
        text.append(
            f"(and (= ((_ extract {bits - 1} {fork}) x) (_ bv{(first - base) >> fork} {bits - fork})) "
        )
        if is_full:
            text.append("true)")
        else:
            _write(text, intervals, first >> fork << fork, fork)
            text.append(")")
    elif is_full:
        text.append("true")
    else:
        middle = base + (1 << bits - 1)
        text.append(f"(ite (= ((_ extract {bits - 1} {bits - 1}) x) #b1) ")
        _write(text, [(max(i[0], middle), i[1]) for i in intervals if i[1] >= middle], middle, bits - 1)
        text.append(" ")
        _write(text, [(i[0], min(i[1], middle - 1)) for i in intervals if i[0] < middle], base, bits - 1)
        text.append(")")


def _constants(value: z3.ExprRef) -> Iterator[tuple[str, z3.ExprRef]]:
    if value.num_args() == 0 and value.decl().kind() == z3.Z3_OP_UNINTERPRETED:
        yield value.decl().name(), value
    for child in value.children():
        yield from _constants(child)
