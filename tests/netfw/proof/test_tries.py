"""Sets of numbers as formulas are exact, even if they are large or differ in a single number."""

from __future__ import annotations

from random import Random

import pytest
import z3

from netfw.proof.tries import GUESSES_MAX, LARGE, Intervals, Memberships, complement, difference, union

RANDOM = Random(20)


def numbers(intervals: Intervals) -> set[int]:
    return {number for first, last in intervals for number in range(first, last + 1)}


def some(count: int, span: int) -> Intervals:
    starts = (RANDOM.randrange(span) for _ in range(count))
    return union((start, min(start + RANDOM.choice((0, 0, 1, 7)), span - 1)) for start in starts)


def holding(formula: z3.BoolRef, value: z3.BitVecRef) -> set[int]:
    """Return the 8-bit numbers for which the formula holds, by substituting each."""
    substituted = {n: z3.substitute(formula, (value, z3.BitVecVal(n, 8))) for n in range(256)}
    return {n for n, closed in substituted.items() if z3.is_true(z3.simplify(closed))}


def members(sets: Memberships, formula: z3.BoolRef, value: z3.BitVecRef) -> set[int]:
    """Return all values for which the formula holds, from one model of the solver after the other."""
    values: set[int] = set()
    solver = z3.Solver()
    solver.add(formula)
    while (model := sets.search(solver)) is not None:
        values.add(model.eval(value, model_completion=True).as_long())
        solver.add(z3.And([value != number for number in values]))
    return values


@pytest.mark.parametrize("count", [0, 1, 3, 20, 60])
def test_the_formula_holds_exactly_for_the_members(count: int) -> None:
    value, intervals = z3.BitVec("value", 8), some(count, 256)
    formula = Memberships().member(value, intervals)
    assert holding(formula, value) == numbers(intervals)


def test_the_complete_range_and_its_ends_are_encoded() -> None:
    value, sets = z3.BitVec("value", 8), Memberships()
    for intervals in (
        (),
        ((0, 255),),
        ((0, 0),),
        ((255, 255),),
        ((0, 0), (255, 255)),
        ((0, 127),),
        ((64, 200),),
    ):
        assert holding(sets.member(value, intervals), value) == numbers(intervals)


def test_differences_and_complements_of_sets_are_exact() -> None:
    for _ in range(50):
        one, other = some(12, 256), some(12, 256)
        assert numbers(difference(one, other)) == numbers(one) - numbers(other)
        assert numbers(complement(one, 8)) == set(range(256)) - numbers(one)


def test_membership_of_a_large_set_is_encoded_when_needed() -> None:
    value, sets = z3.BitVec("value", 12), Memberships()
    large = union((number, number) for number in range(0, 4096, 16))
    assert len(large) > LARGE
    below = z3.And(sets.member(value, large), z3.ULT(value, 100))
    assert members(sets, below, value) == {0, 16, 32, 48, 64, 80, 96}


def test_large_sets_that_differ_in_one_number_differ_in_exactly_this_number() -> None:
    value, sets = z3.BitVec("value", 12), Memberships()
    large = union((number, number) for number in range(0, 4096, 16))
    more, less = union((*large, (7, 7))), large[1:]
    ours = sets.member(value, large)
    assert members(sets, z3.Xor(ours, sets.member(value, more)), value) == {7}
    assert members(sets, z3.Xor(ours, sets.member(value, less)), value) == {0}


def test_the_intersection_of_disjoint_large_sets_is_empty_beyond_the_limit_of_refinements() -> None:
    value, sets = z3.BitVec("value", 16), Memberships()
    even = union((number, number) for number in range(0, 65536, 64))
    odd = union((number, number) for number in range(1, 65536, 64))
    assert len(even) > GUESSES_MAX
    assert members(sets, z3.And(sets.member(value, even), sets.member(value, odd)), value) == set()


def test_a_concatenation_matches_only_complete_rows() -> None:
    one, other, sets = z3.BitVec("one", 8), z3.BitVec("other", 8), Memberships()
    rows = [(((1, 1),), ((10, 12),)), (((2, 2),), ((20, 20),))]
    formula = sets.member_of_rows([one, other], rows)
    assert members(sets, z3.And(formula, one == 1), other) == {10, 11, 12}
    assert members(sets, z3.And(formula, other == 20), one) == {2}
    assert members(sets, sets.member_of_rows([one, other], []), one) == set()
