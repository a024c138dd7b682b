"""Proves theorems about policies with z3, and finds policies without effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import z3

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.language.evaluation import holds
from datacenter.access.language.expression import FALSE, specialize
from datacenter.access.language.policy import AccessPolicy, Applicable, Pair, PolicySet
from datacenter.access.proof.counterexample import describe, request_of, simplest, without
from datacenter.access.proof.smt import NameNumbers, SymbolicRequest
from datacenter.access.proof.theorems import AccessTheorem
from datacenter.access.request import AccessRequest


@dataclass(frozen=True)
class TheoremResult:
    """Whether a theorem holds; if it does not, a request that contradicts it, and that request in words."""

    theorem: AccessTheorem
    holds: bool
    request: AccessRequest | None = None
    words: str = ""


def prove(policies: PolicySet, theorems: Sequence[AccessTheorem]) -> Iterator[TheoremResult]:
    """Prove theorems, one after the other. Each counterexample is confirmed by the compiled policies."""
    searches: dict[Pair, _Search] = {}
    compiled = CompiledPolicies(policies)
    for theorem in theorems:
        yield _Proof(compiled, theorem, searches).result()


class _Search:
    """A solver for the permitted requests of one action and type of resources, which all theorems share."""

    def __init__(self, applicable: Applicable, pair: Pair) -> None:
        self.applicable = applicable
        self.symbolic = SymbolicRequest(pair, NameNumbers())
        self.solver = z3.Solver()
        self.solver.add(self.symbolic.permitted(applicable), *self.symbolic.possible())


class _Proof:
    """The proof of one theorem."""

    def __init__(
        self, compiled: CompiledPolicies, theorem: AccessTheorem, searches: dict[Pair, _Search]
    ) -> None:
        self._compiled, self._theorem, self._searches = compiled, theorem, searches

    def result(self) -> TheoremResult:
        """Return whether the theorem holds, with a counterexample if not."""
        counterexample = next(
            (request for pair in self._theorem.pairs if (request := self._search(pair))), None
        )
        if self._theorem.table.possible:
            words = "" if counterexample else "no request is permitted under this condition"
            return TheoremResult(self._theorem, counterexample is not None, None, words)
        if counterexample is None:
            return TheoremResult(self._theorem, True)
        return TheoremResult(self._theorem, False, counterexample, self._words(counterexample))

    def _search(self, pair: Pair) -> AccessRequest | None:
        """Return a permitted request that meets the theorem's condition, or needs the attribute of `without`."""
        condition = specialize(self._theorem.condition, *pair)
        if condition == FALSE:
            return None
        if pair not in self._searches:
            self._searches[pair] = _Search(self._compiled.policies.applicable[pair], pair)
        search = self._searches[pair]
        search.solver.push()
        try:
            search.solver.add(search.symbolic.formula(condition))
            if attribute := self._theorem.table.without:
                reduced = SymbolicRequest(pair, search.symbolic.names, frozenset({attribute}))
                search.solver.add(z3.Not(reduced.permitted(search.applicable)))
            if search.solver.check() != z3.sat:
                return None
            if self._theorem.table.possible:  # the request is not shown
                request = request_of(search.solver.model(), search.symbolic)
            else:
                request = simplest(search.solver, search.symbolic)
        finally:
            search.solver.pop()
        self._confirm(request, pair)
        return request

    def _confirm(self, request: AccessRequest, pair: Pair) -> None:
        """Stop if the formulas and the compiled policies differ, which is an error of this program."""
        attribute = self._theorem.table.without
        assert self._compiled.decide(request).permitted, f"formula and decision differ: {request}"
        assert holds(specialize(self._theorem.condition, *pair), request), (
            f"formula and condition differ: {request}"
        )
        if attribute:
            reduced = self._compiled.decide(without(request, attribute))
            assert not reduced.permitted, f"formula and decision differ: {request}"

    def _words(self, request: AccessRequest) -> str:
        words = describe(self._compiled.decide(request))
        if attribute := self._theorem.table.without:
            reduced = self._compiled.decide(without(request, attribute))
            words += f"; without {attribute}: {reduced.reason}"
        return words


def without_effect(policies: PolicySet) -> Iterator[tuple[AccessPolicy, str]]:
    """Yield policies that never apply, and `permit` policies whose requests are all forbidden by other policies."""
    met: set[str] = set()
    effective: set[str] = set()
    for pair, applicable in policies.applicable.items():
        symbolic = SymbolicRequest(pair, NameNumbers())
        solver = z3.Solver()
        solver.add(*symbolic.possible())
        permitted = z3.Not(symbolic.forbidden(applicable))
        for policy, condition in (*applicable.forbids, *applicable.permits):
            if policy.id not in effective and solver.check(symbolic.formula(condition)) == z3.sat:
                met.add(policy.id)
                if (
                    policy.effect == "forbid"
                    or solver.check(symbolic.formula(condition), permitted) == z3.sat
                ):
                    effective.add(policy.id)
    for policy in policies.policies:
        if policy.id not in met:
            yield policy, "never applies: no request meets its condition"
        elif policy.id not in effective:
            yield policy, "has no effect: other policies forbid every request that it permits"
