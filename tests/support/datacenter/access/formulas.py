"""Decisions by the SMT formulas of policies, with all unknowns set to the values of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import z3

from datacenter.access.language.policy import PolicySet
from datacenter.access.proof.smt import NameNumbers, SymbolicRequest
from datacenter.access.request import AccessRequest, Resource


def proven(policies: PolicySet, request: AccessRequest, resources: Sequence[Resource]) -> list[bool]:
    """Return for each resource whether the formula permits the request for it; all are of the request's type."""
    pair = (request.action, request.resource.kind)
    symbolic = SymbolicRequest(pair, NameNumbers())
    formula = symbolic.permitted(policies.applicable[pair])
    assignments = [list(symbolic.assigned_resource(resource)) for resource in resources]
    solver = z3.Solver()
    solver.add(*symbolic.assigned_circumstances(replace(request, resource=resources[0])))
    permitted = []
    for assignment in assignments:
        outcomes = [solver.check(*assignment, wanted) for wanted in (formula, z3.Not(formula))]
        assert sorted(map(str, outcomes)) == ["sat", "unsat"], "the values do not determine the formula"
        permitted.append(outcomes[0] == z3.sat)
    return permitted
