"""Proves with z3 whether a trigger can ever fire, and whether one trigger implies another.

Each term is an unknown integer within its bounds, which follow from the possible values of its input. Percentiles of
the same input are constrained to ascend; otherwise terms are treated as independent, even terms of the same input.
Therefore the results "cannot fire" and "is implied" are proven; their opposites are not.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any

import z3

from datacenter.triggers.terms.base import Base
from datacenter.triggers.terms.term import Term
from datacenter.triggers.tree import AllOf, Comparison, Condition, comparisons, terms
from datacenter.triggers.triggerfile import Trigger
from settings.profile import load_profile


def can_fire(trigger: Trigger) -> bool:
    """Return whether the condition of the trigger is possible."""
    solver = _solver(trigger)
    solver.add(_formula(trigger.fires))
    return bool(solver.check() == z3.sat)


def implies(first: Trigger, second: Trigger) -> bool:
    """Return whether `second` is certain to be active when `first` begins; False if their models differ."""
    if first.table.model != second.table.model or first.lasts_ms < second.lasts_ms:
        return False
    solver = _solver(first, second)
    solver.add(_formula(first.fires), z3.Not(_formula(second.fires)))
    return bool(solver.check() == z3.unsat)


def _solver(*triggers: Trigger) -> z3.Solver:
    solver = z3.Solver()
    profile = load_profile(triggers[0].table.model)
    for trigger in triggers:
        for comparison in comparisons(trigger.fires):
            for term, _ in comparison.coefficients:
                low, high = term.bounds(*term.input.bounds(profile))
                solver.add(*([_unknown(term) >= int(low * term.scale)] if low > -inf else []))
                solver.add(*([_unknown(term) <= int(high * term.scale)] if high < inf else []))
    used = {term for trigger in triggers for term in terms(trigger.fires) if isinstance(term, Base)}
    ordered = sorted(used, key=lambda term: (term.input.word, term.percentile))
    for lower, higher in pairwise(ordered):
        if lower.input == higher.input:
            solver.add(_unknown(lower) <= _unknown(higher))
    return solver


def _unknown(term: Term) -> Any:
    return z3.Int(repr(term))


def _formula(condition: Condition) -> Any:
    if not isinstance(condition, Comparison):
        parts = [_formula(part) for part in condition.parts]
        return z3.And(parts) if isinstance(condition, AllOf) else z3.Or(parts)
    total = z3.Sum([_unknown(term) * factor for term, factor in condition.coefficients]) + condition.constant
    match condition.relation:
        case ">":
            return total > 0
        case ">=":
            return total >= 0
        case "==":
            return total == 0
    return total != 0
