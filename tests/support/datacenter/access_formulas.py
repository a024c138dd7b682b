"""Decisions by the SMT formulas of policies, with all unknowns set to the values of a request."""

from __future__ import annotations

from collections.abc import Sequence

import z3

from datacenter.access.policy import PolicySet
from datacenter.access.request import AccessRequest
from datacenter.access.smt import Names, SymbolicRequest


def proven(policies: PolicySet, pair: tuple[str, str], requests: Sequence[AccessRequest]) -> list[bool]:
    """Of each request for one action and type of resources whether the formula permits it."""
    symbolic = SymbolicRequest(pair, Names())
    formula = symbolic.permitted(policies.applicable[pair])
    solver = z3.Solver()
    found = []
    for request in requests:
        solver.push()
        solver.add(*symbolic.assignment(request))
        outcomes = solver.check(formula), solver.check(z3.Not(formula))
        assert z3.sat in outcomes and z3.unsat in outcomes, "the values decide the formula"
        found.append(outcomes[0] == z3.sat)
        solver.pop()
    return found
