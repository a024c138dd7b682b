"""The thresholds of triggers in the unit of a reading, to draw them in the chart of the reading.

Only comparisons of one reading, or of its mean or extreme, have one. A threshold that is computed from other values,
such as the mean of four weeks, is the threshold for the latest report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from datacenter.evaluation.state import restored
from datacenter.explanation.sides import ComparedSides, ComparisonSide, is_level, with_sides_exchanged
from datacenter.triggers.functions import text_of
from datacenter.triggers.live import LiveFunctions
from datacenter.triggers.terms.term import Term
from settings.profile import Severity


class ReadingThreshold(NamedTuple):
    """A threshold of a trigger's condition: it compares `value`, as `mean(lamp-intensity-pct, 12h)`."""

    trigger: str
    severity: Severity
    value: str
    sign: str
    threshold: float
    """In the unit of the reading."""
    moves: bool
    """Whether it is computed from other values; then it is the threshold for the latest report."""


def reading_thresholds(
    functions: LiveFunctions, comparisons: Mapping[str, Sequence[ComparedSides]], evaluation: bytes
) -> dict[str, list[ReadingThreshold]]:
    """Return the thresholds by reading.

    `comparisons` are those of each trigger by its name; `evaluation` is the state of the instrument's triggers, empty
    before its first report.
    """
    known: dict[Term, float | None] = dict.fromkeys(functions.program.terms)
    if evaluation:
        evaluator = restored(functions, evaluation)
        known = {term: evaluator.value(term) for term in known}
    thresholds: defaultdict[str, list[ReadingThreshold]] = defaultdict(list)
    for trigger in functions.program.triggers:
        for comparison in comparisons[trigger.name]:
            term, *others = comparison.value.sum.coefficients
            threshold = _threshold(comparison.value, comparison.threshold, known)
            if others or not comparison.channel or not is_level(term) or threshold is None:
                continue
            turned = comparison.value.sum.coefficients[term] < 0
            thresholds[comparison.channel].append(
                ReadingThreshold(
                    trigger.name,
                    trigger.table.severity,
                    text_of(term),
                    with_sides_exchanged(comparison.sign) if turned else comparison.sign,
                    threshold,
                    bool(comparison.threshold.sum.coefficients),
                )
            )
    return dict(thresholds)


def _threshold(
    value: ComparisonSide, threshold: ComparisonSide, known: Mapping[Term, float | None]
) -> float | None:
    """Return the reading at which the sides are equal; None while a term is unknown."""
    total = threshold.value(known)
    factor = next(iter(value.sum.coefficients.values()))
    return None if total is None else (total - float(value.sum.constant)) / float(factor)
