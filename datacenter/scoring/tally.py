"""Counts correct, false and missed alerts of a trigger or a set of triggers, and computes its score.

Tallies of different instruments can be added, so that back-tests can be divided among processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp
from statistics import median
from typing import Final

from msgspec import Struct, field

from datacenter.scoring.matching import AlertMatch, TrueDegradation
from datacenter.triggers.triggerfile import TriggerTable

YEAR_MS: Final = 365 * 86_400_000
HOUR_MS: Final = 3_600_000


class PredictableFailure(Struct, frozen=True):
    """A predictable failure, with the possible and the actual lead time."""

    possible_ms: int
    """The time from the beginning of the degradation to the failure."""
    lead_ms: int = 0
    """The time from the first alert to the failure; 0 if it was missed."""


class Tally(Struct):
    """Counts of the alerts of a trigger or a set, over many instruments."""

    instrument_ms: int = 0
    """Total evaluated time of all instruments."""
    failures: list[PredictableFailure] = field(default_factory=list)
    right: int = 0
    false_stable: int = 0
    """Alerts about degradations that never lead to a failure."""
    false_none: int = 0
    """Alerts without any degradation of the component."""
    late: int = 0
    repeated: int = 0
    parts_named: int = 0
    parts_right: int = 0
    notices: int = 0
    """Alerts of triggers without parts, which state a condition and predict no failure."""

    def add(self, other: Tally) -> None:
        """Add the tally of other instruments."""
        self.failures.extend(other.failures)
        for name in self.__struct_fields__:
            if name != "failures":
                setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def years(self) -> float:
        """The instrument-years."""
        return self.instrument_ms / YEAR_MS

    @property
    def false(self) -> int:
        """The false alarms."""
        return self.false_stable + self.false_none


class Score(Struct, frozen=True, omit_defaults=True):
    """The score of a trigger or a set; figures that are undefined are None."""

    instrument_years: float
    failures: int = 0
    recall: float | None = None
    """The share of the predictable failures that were predicted."""
    recall_by_chance: float | None = None
    """The recall of the same number of alerts at random times."""
    precision: float | None = None
    """The share of correct alerts among correct and false alerts."""
    lead_h: float | None = None
    """Median hours from the first alert to the failure; a missed failure counts as 0."""
    lead_share: float | None = None
    """Median lead time as a share of the time from the beginning of the degradation to the failure."""
    false_per_year: float = 0.0
    """False alarms per instrument-year."""
    false_stable_per_year: float = 0.0
    """False alarms, per instrument-year, about degradations that never lead to a failure."""
    parts_right: float | None = None
    """The share of correct parts among the parts that correct alerts name."""
    notices_per_year: float = 0.0
    """Alerts of triggers without parts, per instrument-year."""


def tally(
    matches: Sequence[AlertMatch],
    degradations: Iterable[TrueDegradation],
    tables: Sequence[TriggerTable],
    instrument_ms: int,
    parts: dict[str, list[str]],
) -> Tally:
    """Return the tally of one instrument. `tables` are its triggers, `parts` the parts that each names."""
    total = Tally(instrument_ms)
    covered = {(table.component, part) for table in tables for part in table.parts}
    right: dict[TrueDegradation, int] = {}
    for alarm, verdict, degradation in matches:
        named = parts[alarm.trigger]
        if not named:
            total.notices += 1
        elif verdict == "false":
            total.false_none += degradation is None
            total.false_stable += degradation is not None
        elif verdict == "late":
            total.late += 1
        elif verdict == "repeated":
            total.repeated += 1
        elif degradation is not None:
            total.right += 1
            total.parts_named += len(named)
            total.parts_right += degradation.part in named
            right[degradation] = alarm.at_ms
    for degradation in degradations:
        if (
            degradation.failed_ms is not None
            and degradation.is_predictable
            and (degradation.component, degradation.part) in covered
        ):
            lead_ms = degradation.failed_ms - right.get(degradation, degradation.failed_ms)
            total.failures.append(PredictableFailure(degradation.failed_ms - degradation.began_ms, lead_ms))
    return total


def score(tally: Tally) -> Score:
    """Return the score of a tally."""
    failures, alerts = tally.failures, tally.right + tally.false
    years = tally.years
    return Score(
        instrument_years=round(years, 1),
        failures=len(failures),
        recall=_share(sum(failure.lead_ms > 0 for failure in failures), len(failures)),
        recall_by_chance=_by_chance(tally),
        precision=_share(tally.right, alerts),
        lead_h=round(median(failure.lead_ms for failure in failures) / HOUR_MS, 1) if failures else None,
        lead_share=round(median(failure.lead_ms / failure.possible_ms for failure in failures), 3)
        if failures
        else None,
        false_per_year=round(tally.false / years, 3),
        false_stable_per_year=round(tally.false_stable / years, 3),
        parts_right=_share(tally.parts_right, tally.parts_named),
        notices_per_year=round(tally.notices / years, 2),
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _by_chance(tally: Tally) -> float | None:
    """Return the expected recall of a Poisson process with the same rate of alerts."""
    if not tally.failures:
        return None
    rate = (tally.right + tally.false) / tally.instrument_ms
    missed = sum(exp(-rate * failure.possible_ms) for failure in tally.failures)
    return round(1 - missed / len(tally.failures), 3)
