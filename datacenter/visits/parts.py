"""The list of parts: pure functions, without database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Final, NamedTuple

from datacenter.scoring.scorefile import RecordedScore
from datacenter.triggers.terms.term import ABSENT, Term
from datacenter.triggers.tree import AllOf, Comparison, Condition
from datacenter.triggers.triggerfile import Trigger

NEAR_SHARE: Final = 0.7
"""The nearness to its threshold from which a part is due soon."""


class PartReason(NamedTuple):
    """The reason for a part: an open alert, or a trigger that is close to one (`alert` is empty)."""

    box: str
    instrument: str
    component: str
    part: str
    trigger: str
    alert: str
    probability: float | None
    """Probability that the part is worn: the trigger's precision on known histories; None without a valid score."""
    share: float = 1.0
    """The share of the way to the threshold; 1 for an alert."""


class VisitPart(NamedTuple):
    """A part of the list. `probability` is that of the instrument needing the part, given all reasons."""

    box: str
    instrument: str
    component: str
    part: str
    probability: float | None
    reasons: tuple[PartReason, ...]

    @property
    def is_due_soon(self) -> bool:
        """Whether no alert names the part yet."""
        return not any(reason.alert for reason in self.reasons)


class PartTotal(NamedTuple):
    """A part over all instruments of a visit; `expected` is the expected need, as far as known."""

    part: str
    quantity: int
    expected: float


def probability_of(score: RecordedScore | None, fingerprint: str) -> float | None:
    """Return the probability that an alert names the correct part: the precision times the share of correct parts."""
    if score is None or score.fingerprint != fingerprint or score.precision is None:
        return None
    return score.precision * (1.0 if score.parts_right is None else score.parts_right)


def combine(reasons: Iterable[PartReason]) -> list[VisitPart]:
    """Return the list, with each part once per instrument: alerts first, the most probable first.

    Reasons are treated as independent. If an alert names a part, reasons without an alert have no effect.
    """
    by_part: dict[tuple[str, str, str, str], list[PartReason]] = {}
    for reason in reasons:
        by_part.setdefault((reason.box, reason.instrument, reason.component, reason.part), []).append(reason)
    parts = []
    for key, of_part in by_part.items():
        alerts = [reason for reason in of_part if reason.alert]
        known = [alert.probability for alert in alerts if alert.probability is not None]
        probability = 1 - prod(1 - chance for chance in known) if known else None
        parts.append(VisitPart(*key, probability, tuple(alerts or of_part)))
    return sorted(
        parts, key=lambda part: (part.is_due_soon, -(part.probability or 0), -part.reasons[0].share)
    )


def totals(parts: Iterable[VisitPart]) -> list[PartTotal]:
    """Return the number of each part that the alerts name, the highest first."""
    by_part: dict[str, list[VisitPart]] = {}
    for visit_part in parts:
        if not visit_part.is_due_soon:
            by_part.setdefault(visit_part.part, []).append(visit_part)
    rows = [
        PartTotal(part, len(them), sum(visit_part.probability or 0.0 for visit_part in them))
        for part, them in by_part.items()
    ]
    return sorted(rows, key=lambda row: (-row.quantity, row.part))


def nearness(trigger: Trigger, values: Mapping[Term, int]) -> float:
    """Return the nearness to a trigger's condition, from 0.0 to 1.0, given the integer values of its terms."""
    return _nearness(trigger.fires, values)


def _nearness(condition: Condition, values: Mapping[Term, int]) -> float:
    if not isinstance(condition, Comparison):
        parts = [_nearness(part, values) for part in condition.parts]
        return min(parts) if isinstance(condition, AllOf) else max(parts)
    known = [(values[term], factor) for term, factor in condition.coefficients]
    if any(value == ABSENT for value, _ in known):
        return 0.0
    total = sum(value * factor for value, factor in known)
    holds = {
        ">": total + condition.constant > 0,
        ">=": total + condition.constant >= 0,
        "==": total + condition.constant == 0,
        "!=": total + condition.constant != 0,
    }[condition.relation]
    if holds:
        return 1.0
    # the share of the limit that the deviation has reached, as in "mean(a, 1d) > mean(a, 28d) + limit"
    limit = -condition.constant
    return max(0.0, total / limit) if limit > 0 and condition.relation in (">", ">=") else 0.0
