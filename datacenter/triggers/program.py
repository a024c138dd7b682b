"""The triggers of one model as a program: the terms they share, numbered, and each condition as an expression.

Variables of all terms and triggers are in one list, the state of an instrument: `s[0]`, `s[1]` …
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from datacenter.triggers.terms.inputs import Input
from datacenter.triggers.terms.term import ABSENT, Term
from datacenter.triggers.tree import AllOf, Comparison, Condition, terms
from datacenter.triggers.triggerfile import Trigger


class BoundStep(NamedTuple):
    """A step of one term: guard and assignments as expressions over the state `s`, `x` and `now`."""

    term: Term
    guard: ast.expr | None
    """None: the step is taken for each report that has the term's input."""
    assignments: tuple[tuple[int, ast.expr], ...]


@dataclass(frozen=True)
class Slots:
    """The indexes of a trigger's variables in the state.

    `since` is 1 ms after the time since which the condition has held, 0 if it does not hold; `active` is 1 during an
    alert.
    """

    since: int
    active: int


class Program:
    """The triggers of one model, which share terms."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self.triggers = tuple(triggers)
        used = (
            term
            for trigger in triggers
            for condition in (trigger.fires, trigger.clears)
            for term in terms(condition)
        )
        self.terms: tuple[Term, ...] = tuple(dict.fromkeys(used))
        self.initial: list[int] = []
        self._indexes: dict[Term, dict[str, int]] = {}
        for term in self.terms:
            self._indexes[term] = {
                name: self._add_variable(value) for name, value in term.variables().items()
            }
        self.slots = [Slots(self._add_variable(0), self._add_variable(0)) for _ in triggers]
        self.names = self._names()

    @staticmethod
    def name_of(term: Term) -> str:
        """Return a name of a term that is the same in all programs."""
        return repr(term)

    def indexes_of(self, term: Term) -> tuple[int, ...]:
        """Return the indexes of a term's variables in the state."""
        return tuple(self._indexes[term].values())

    def _names(self) -> list[str]:
        """Return a name for each variable of the state. Equal names in two programs have equal meaning."""
        names = [""] * len(self.initial)
        for term, indexes in self._indexes.items():
            for variable, index in indexes.items():
                names[index] = f"{self.name_of(term)}.{variable}"
        for trigger, slots in zip(self.triggers, self.slots, strict=True):
            names[slots.since] = f"{trigger.name} {trigger.fingerprint}.since"
            names[slots.active] = f"{trigger.name} {trigger.fingerprint}.active"
        return names

    def _add_variable(self, initial: int) -> int:
        self.initial.append(initial)
        return len(self.initial) - 1

    def terms_of(self, trigger: Trigger) -> tuple[Term, ...]:
        """Return the terms of a trigger's condition, each once."""
        return tuple(dict.fromkeys(terms(trigger.fires)))

    def steps(self) -> Iterator[BoundStep]:
        """Yield the steps of all terms; a term's steps that depend only on time precede those with its input."""
        for term in self.terms:
            indexes = self._indexes[term]
            for step in term.steps():
                guard = self._bound(step.guard, term) if step.guard else None
                assignments = [(indexes[name], self._bound(text, term)) for name, text in step.assignments]
                yield BoundStep(term, guard, tuple(assignments))

    def value(self, term: Term) -> ast.expr:
        """Return the value of a term as an expression over the state."""
        return self._bound(term.value(), term)

    def inputs(self) -> tuple[Input, ...]:
        """Return the inputs of all terms, each once."""
        return tuple(dict.fromkeys(term.input for term in self.terms))

    def condition(self, condition: Condition) -> ast.expr:
        """Return a condition as an expression over the terms' values `v[0]`, …; false while a term is unknown."""
        if not isinstance(condition, Comparison):
            sign = ast.And() if isinstance(condition, AllOf) else ast.Or()
            return ast.BoolOp(sign, [self.condition(part) for part in condition.parts])
        named = [(f"v[{self.terms.index(term)}]", factor) for term, factor in condition.coefficients]
        if len(named) == 1 and condition.relation in (">", ">="):
            return _parsed(_bound_of(*named[0], condition))
        if len(named) == 1 and condition.relation == "==" and named[0][1] == 1:
            return _parsed(f"{named[0][0]} == {-condition.constant}")  # ABSENT is less than any constant
        known = [f"{name} != {ABSENT}" for name, _ in named]
        total = " + ".join(name if factor == 1 else f"{name} * {factor}" for name, factor in named)
        return _parsed(" and ".join([f"{total} {condition.relation} {-condition.constant}", *known]))

    def _bound(self, text: str, term: Term) -> ast.expr:
        bound: ast.expr = _Binding(self._indexes[term]).visit(_parsed(text))
        return bound


def _bound_of(name: str, factor: int, condition: Comparison) -> str:
    """Return the comparison of one term with a constant; an unknown term is less than any constant."""
    limit, is_strict = -condition.constant, condition.relation == ">"
    if factor > 0:
        return f"{name} > {limit // factor}" if is_strict else f"{name} >= {-(-limit // factor)}"
    most = f"{name} < {-(limit // -factor)}" if is_strict else f"{name} <= {-limit // -factor}"
    return f"{most} and {name} != {ABSENT}"


def with_shift(node: ast.BinOp) -> ast.BinOp:
    """Return a division by a power of two as a shift, and any other operation unchanged."""
    match node:
        case ast.BinOp(left, ast.FloorDiv(), ast.Constant(int(divisor))) if divisor.bit_count() == 1:
            return ast.BinOp(left, ast.RShift(), ast.Constant(divisor.bit_length() - 1))
    return node


class _Binding(ast.NodeTransformer):
    """Replaces variables by elements of the state, and ABSENT by its value."""

    def __init__(self, indexes: dict[str, int]) -> None:
        self._indexes = indexes

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id == "ABSENT":
            return ast.Constant(ABSENT)
        if (index := self._indexes.get(node.id)) is None:
            return node
        return ast.Subscript(ast.Name("s", ast.Load()), ast.Constant(index), ast.Load())


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
