"""Checks a parsed condition against a profile, and reduces it to comparisons of integers.

The result has no negations: `not` is moved inwards to the comparisons. A comparison with an unknown term is false,
also under `not`, so that a trigger never fires for lack of data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Final, Literal, TypeAlias

from datacenter.triggers.functions import call_input, call_term, constant_of, word_input
from datacenter.triggers.syntax import Binary, Call, ConditionError, Name, Node, Number, Text, Unary
from datacenter.triggers.terms.inputs import InstrumentState
from datacenter.triggers.terms.latest import Latest
from datacenter.triggers.terms.term import Term
from datacenter.triggers.terms.westgard import Rule
from settings.profile import Profile
from settings.toml import nearest
from wire.messages import STATES

Relation: TypeAlias = Literal[">", ">=", "==", "!="]
_OPPOSITE: Final[dict[Relation, Relation]] = {">": ">=", ">=": ">", "==": "!=", "!=": "=="}
SUM_MAX: Final = 2**62
"""Limit of the sum that a comparison computes."""


@dataclass(frozen=True)
class Comparison:
    """The sum of coefficients times terms, plus a constant, in relation to 0."""

    coefficients: tuple[tuple[Term, int], ...]
    constant: int
    relation: Relation


@dataclass(frozen=True)
class AllOf:
    """True if all parts are true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """True if at least one part is true."""

    parts: tuple[Condition, ...]


Condition: TypeAlias = Comparison | AllOf | AnyOf


@dataclass(frozen=True)
class Linear:
    """A number: a constant plus multiples of terms."""

    constant: Fraction = Fraction(0)
    coefficients: Mapping[Term, Fraction] = field(default_factory=dict)

    def plus(self, other: Linear, factor: Fraction) -> Linear:
        added = dict(self.coefficients)
        for term, coefficient in other.coefficients.items():
            added[term] = added.get(term, Fraction(0)) + factor * coefficient
        return Linear(self.constant + factor * other.constant, added)


def check(node: Node, profile: Profile) -> Condition:
    """Return the condition of a parsed text. Raises: ConditionError."""
    return _condition(node, profile, negated=False)


def mistakes(node: Node, profile: Profile) -> list[ConditionError]:
    """Return all mistakes of a parsed condition, at most one for each comparison, in the order of the text."""
    if isinstance(node, Unary) and node.sign == "not":
        return mistakes(node.operand, profile)
    if isinstance(node, Binary) and node.sign in ("and", "or"):
        return mistakes(node.left, profile) + mistakes(node.right, profile)
    try:
        check(node, profile)
    except ConditionError as error:
        return [error]
    return []


def negated(node: Node, profile: Profile) -> Condition:
    """Return the opposite of the condition, which is also false while a term is unknown. Raises: ConditionError."""
    return _condition(node, profile, negated=True)


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """Yield all comparisons of a condition, from left to right."""
    if isinstance(condition, Comparison):
        yield condition
    else:
        for part in condition.parts:
            yield from comparisons(part)


def terms(condition: Condition) -> Iterator[Term]:
    """Return all terms of a condition, from left to right."""
    return (term for comparison in comparisons(condition) for term, _ in comparison.coefficients)


def _condition(node: Node, profile: Profile, *, negated: bool) -> Condition:
    match node:
        case Unary("not"):
            return _condition(node.operand, profile, negated=not negated)
        case Binary("and" | "or"):
            parts = tuple(_condition(part, profile, negated=negated) for part in (node.left, node.right))
            return AllOf(parts) if (node.sign == "and") is not negated else AnyOf(parts)
        case Binary("is"):
            return _state_is(node, negated=negated)
        case Binary("<" | "<=" | ">" | ">="):
            return _comparison(node, profile, negated=negated)
        case Call():
            term = call_term(node, profile)
            if isinstance(term, Rule):
                return Comparison(((term, 1),), 0, "==" if negated else ">")
    raise ConditionError(node.at, "is a number, not a condition; compare it with < <= > or >=")


def _state_is(node: Binary, *, negated: bool) -> Comparison:
    if not (isinstance(node.left, Name) and node.left.word == "state"):
        raise ConditionError(node.at, '"is" compares the state only: "state is stopped"')
    states: tuple[str, ...] = STATES
    if not (isinstance(node.right, Name) and node.right.word in states):
        word = node.right.word if isinstance(node.right, Name) else "this"
        raise ConditionError(node.right.at, f"{word} is not a state; {nearest(word, list(states))}")
    term = Latest(InstrumentState())
    return Comparison(((term, 1),), -states.index(node.right.word), "!=" if negated else "==")


def _comparison(node: Binary, profile: Profile, *, negated: bool) -> Comparison:
    left, right = linear(node.left, profile), linear(node.right, profile)
    more, less = (left, right) if node.sign in (">", ">=") else (right, left)
    relation: Relation = ">=" if node.sign in ("<=", ">=") else ">"
    if negated:
        more, less, relation = less, more, _OPPOSITE[relation]
    difference = more.plus(less, Fraction(-1))
    scaled = {term: value / term.scale for term, value in difference.coefficients.items() if value}
    if not scaled:
        raise ConditionError(node.at, "compares constants only; name a reading or another term")
    factor = lcm(difference.constant.denominator, *(value.denominator for value in scaled.values()))
    coefficients = tuple((term, int(value * factor)) for term, value in scaled.items())
    constant = int(difference.constant * factor)
    if abs(constant) + sum(abs(n) * term.value_max() for term, n in coefficients) > SUM_MAX:
        raise ConditionError(node.at, "needs integers of more than 64 bits; round the numbers")
    return Comparison(coefficients, constant, relation)


def linear(node: Node, profile: Profile) -> Linear:
    """Return the number of a parsed text. Raises: ConditionError."""
    match node:
        case Number():
            if node.is_duration:
                raise ConditionError(node.at, "is a duration; it can only be the window of a function")
            return Linear(node.value)
        case Unary("-"):
            return Linear().plus(linear(node.operand, profile), Fraction(-1))
        case Binary("+" | "-"):
            sign = Fraction(1 if node.sign == "+" else -1)
            return linear(node.left, profile).plus(linear(node.right, profile), sign)
        case Binary("*" | "/"):
            return _product(node, profile)
        case Name():
            return Linear(coefficients={Latest(word_input(node, profile)): Fraction(1)})
        case Call():
            if (constant := constant_of(node, profile)) is not None:
                return Linear(Fraction(constant))
            if (source := call_input(node, profile)) is not None:
                return Linear(coefficients={Latest(source): Fraction(1)})
            term = call_term(node, profile)
            if not isinstance(term, Rule):
                return Linear(coefficients={term: Fraction(1)})
        case Text():
            raise ConditionError(node.at, f'"{node.value}" is a text; only westgard() takes one')
    raise ConditionError(node.at, "is a condition, not a number")


def _product(node: Binary, profile: Profile) -> Linear:
    left, right = linear(node.left, profile), linear(node.right, profile)
    if node.sign == "/":
        if right.coefficients or not right.constant:
            raise ConditionError(node.at, "divide by a constant other than 0")
        return Linear().plus(left, 1 / right.constant)
    if left.coefficients and right.coefficients:
        raise ConditionError(node.at, "one of the two factors must be a constant")
    constant, other = (right, left) if left.coefficients else (left, right)
    return Linear().plus(other, constant.constant)
