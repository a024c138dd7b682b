"""The comparisons in the text of a condition, each as a compared value and its threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from datacenter.triggers.functions import text_of
from datacenter.triggers.syntax import Binary, Call, Node, Unary, parse_condition
from datacenter.triggers.terms.base import Base
from datacenter.triggers.terms.ewma import Ewma
from datacenter.triggers.terms.inputs import Reading
from datacenter.triggers.terms.latest import Latest
from datacenter.triggers.terms.term import Term
from datacenter.triggers.terms.window import Greatest, Jitter, Least, Mean
from datacenter.triggers.tree import Linear, linear
from datacenter.triggers.triggerfile import Trigger
from settings.profile import load_profile

_SIGNS = ("<", "<=", ">", ">=")
_EXCHANGED = str.maketrans("<>", "><")
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_SMOOTHED = (Mean, Ewma, Least, Greatest)


def is_level(term: Term) -> bool:
    """Return whether a term is a level in the unit of its input, such as a mean, not a difference."""
    return isinstance(term, (Latest, *_SMOOTHED)) and not isinstance(term, Jitter)


class ComparisonSide(NamedTuple):
    """One side of a comparison: a constant plus multiples of terms."""

    sum: Linear

    @property
    def text(self) -> str:
        """The side as a condition has it."""
        parts = [_written(factor, text_of(term)) for term, factor in self.sum.coefficients.items()]
        if self.sum.constant or not parts:
            parts.append(_written(self.sum.constant, ""))
        first, *others = parts
        return first.removeprefix("+ ") + "".join(f" {part}" for part in others)

    def value(self, values: Mapping[Term, float | None]) -> float | None:
        """Return the value of the side; None while a term is unknown."""
        total = float(self.sum.constant)
        for term, factor in self.sum.coefficients.items():
            if (value := values[term]) is None:
                return None
            total += float(factor) * value
        return total


class ComparedSides(NamedTuple):
    """A comparison: `value` `sign` `threshold`. The side that changes more slowly is the threshold."""

    value: ComparisonSide
    sign: str
    threshold: ComparisonSide

    @property
    def channel(self) -> str:
        """The channel in whose unit both sides are; empty if they have another unit."""
        terms = [*self.value.sum.coefficients, *self.threshold.sum.coefficients]
        channels = {
            term.input.word
            if isinstance(term.input, Reading) and isinstance(term, (Latest, *_SMOOTHED, Base))
            else ""
            for term in terms
        }
        return channels.pop() if len(channels) == 1 else ""

    @property
    def is_smoothed(self) -> bool:
        """Whether the value is a mean or extreme of readings, which can be drawn beside it."""
        first, *others = self.value.sum.coefficients
        return bool(self.channel) and not others and is_level(first) and not isinstance(first, Latest)


def compared_sides(trigger: Trigger) -> list[ComparedSides]:
    """Return the comparisons of numbers in a trigger's condition, from left to right."""
    profile = load_profile(trigger.table.model)
    comparisons = []
    for node, sign in _comparisons(parse_condition(trigger.table.when)):
        left, right = ComparisonSide(linear(node.left, profile)), ComparisonSide(linear(node.right, profile))
        if left.sum.coefficients:
            comparisons.append(ComparedSides(left, sign, right))
        else:
            comparisons.append(ComparedSides(right, with_sides_exchanged(sign), left))
    return comparisons


def with_sides_exchanged(sign: str) -> str:
    """Return the sign of the same comparison with its sides exchanged."""
    return sign.translate(_EXCHANGED)


def _comparisons(node: Node, *, negated: bool = False) -> Iterator[tuple[Binary, str]]:
    """Yield the comparisons with their signs, which are the opposite under `not`."""
    match node:
        case Binary() if node.sign in _SIGNS:
            yield node, _OPPOSITE[node.sign] if negated else node.sign
        case Binary():
            yield from _comparisons(node.left, negated=negated)
            yield from _comparisons(node.right, negated=negated)
        case Unary():
            yield from _comparisons(node.operand, negated=negated is not (node.sign == "not"))
        case Call():
            return


def _written(factor: Fraction, name: str) -> str:
    """Return a summand with its sign."""
    sign, size = ("-" if factor < 0 else "+"), abs(factor)
    number = f"{float(size):.6g}"
    if not name:
        return f"{sign} {number}"
    return f"{sign} {name}" if size == 1 else f"{sign} {number} * {name}"
