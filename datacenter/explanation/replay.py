"""Evaluates the reports of an instrument again, and compares the result with the evidence of an alert."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from datacenter.base.snapshot import RecordedBases
from datacenter.evaluation.alerts import AlertEvidence
from datacenter.explanation.evidence import AlertRecord
from datacenter.explanation.reports import ReportId, ReportRange, StoredReports, TimedReport, load_reports
from datacenter.store.store import Store
from datacenter.triggers.functions import text_of
from datacenter.triggers.live import LiveEvaluator, LiveFunctions
from datacenter.triggers.terms.base import Bases
from datacenter.triggers.terms.term import ABSENT, Term
from datacenter.triggers.tree import terms
from datacenter.triggers.triggerfile import Trigger
from wire.messages import Status

HOUR_MS: Final = 3_600_000
SPAN_MS_MIN: Final = 6 * HOUR_MS
"""Minimum time before an alert that is explained, for conditions without windows."""
MOMENTS: Final = 12
"""Moments at equal distances before the beginning of an alert, for tables."""
WARM_UP_MS: Final = 14 * 24 * HOUR_MS
"""The time before the evidence that is also evaluated for averages without a window, if not all reports are."""


class Moment(NamedTuple):
    """The state of a trigger after a report; `values` are the values of all its terms, None while unknown."""

    id: ReportId
    at_ms: int
    values: dict[Term, float | None]
    readings: dict[str, int]
    """The readings of the report, if it is a status."""
    holds: bool
    """Whether the condition holds, or the alert lasts."""
    event: str = ""
    """The event at this moment; empty for a moment of the regular series."""


@dataclass
class Recomputation:
    """The result of evaluating the reports again."""

    trigger: Trigger
    reports: StoredReports
    first: ReportId | None = None
    began: tuple[ReportId, int] | None = None
    """The report with which the alert began, and the time; None if no alert begins with the recorded report."""
    ended: tuple[ReportId, int] | None = None
    terms: dict[str, float | None] = field(default_factory=dict)
    """The values with which the alert began."""
    holds_since_ms: int | None = None
    moments: list[Moment] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """The differences between result and record; empty if the result confirms the alert."""

    @property
    def is_confirmed(self) -> bool:
        """Whether the alert begins and ends with the recorded reports, and its terms have the recorded values."""
        return not self.differences


def evidence_span_ms(trigger: Trigger) -> int:
    """Return the time before an alert from which its terms have their values: the longest window and the duration."""
    return max(SPAN_MS_MIN, _window_ms(trigger)) + trigger.lasts_ms


def recompute(
    store: Store,
    record: AlertRecord,
    evidence: AlertEvidence,
    trigger: Trigger,
    *,
    is_whole: bool = True,
    count: int = MOMENTS,
) -> Recomputation:
    """Evaluate the reports of an alert's instrument again, up to its end.

    All reports since the terms began are evaluated, or only those of the evidence's span if `is_whole` is false: then
    averages without a window differ a little. `count` is the number of moments at equal distances.

    Raises: StoreError; UnexplainedError if reports were deleted.
    """
    starts = evidence.starts.values()
    first = min(map(tuple, starts), default=(0, 0))
    began = record.run, record.number
    end = (record.end_run, record.end_number) if record.end_run and record.end_number else None
    span_ms = evidence_span_ms(trigger)
    since_ms = 0 if is_whole else max(0, evidence.at_ms - span_ms - max(span_ms // 2, WARM_UP_MS))
    limits = record.raised_at_ms, record.resolved_at_ms
    stored_until_ms = max(limit for limit in limits if limit is not None)
    wanted = ReportRange(
        record.box, record.instrument, (first[0], first[1]), end or began, stored_until_ms, since_ms
    )
    reports = load_reports(store, wanted)
    result = Recomputation(trigger, reports)
    sampled = _SampleTimes(evidence.at_ms - span_ms, span_ms // count)
    bases = RecordedBases(store, record.model)
    _Replay(result, record, evidence, sampled, bases, is_whole=is_whole).run(reports.in_order())
    _compare(result, record, evidence, is_whole=is_whole)
    return result


class _SampleTimes:
    """Times at equal distances from `next_ms` on."""

    def __init__(self, first_ms: int, step_ms: int) -> None:
        self.first_ms = self.next_ms = first_ms
        self._step_ms = max(step_ms, 1)

    def is_due(self, now_ms: int) -> bool:
        """Return whether a report of this time is the first after one of the sample times."""
        if now_ms < self.next_ms:
            return False
        self.next_ms += ((now_ms - self.next_ms) // self._step_ms + 1) * self._step_ms
        return True


class _Replay:
    """Evaluates one trigger, and records moments."""

    def __init__(
        self,
        result: Recomputation,
        record: AlertRecord,
        evidence: AlertEvidence,
        sampled: _SampleTimes,
        bases: Bases,
        *,
        is_whole: bool,
    ) -> None:
        self._result, self._evidence, self._sampled = result, evidence, sampled
        self._alert_report = record.run, record.number
        self._functions = LiveFunctions([result.trigger])
        self._evaluator = LiveEvaluator(self._functions, bases)
        self._slots = self._evaluator.program.slots[0]
        starts = {text: (run, number) for text, (run, number) in evidence.starts.items()}
        self._starts = {term: starts.get(text_of(term), (0, 0)) for term in self._evaluator.program.terms}
        lasts_ms = result.trigger.lasts_ms
        holds_since_ms = evidence.holds_since_ms
        self._quiet_until_ms = (
            0 if is_whole else evidence.at_ms - lasts_ms if holds_since_ms is None else holds_since_ms
        )

    def run(self, reports: Iterable[TimedReport]) -> None:
        result, evaluator, slots = self._result, self._evaluator, self._slots
        held = False
        for timed in reports:
            if self._starts:
                self._start(timed.id)
            result.first = result.first or timed.id
            changes = evaluator.evaluate(timed.report, timed.latest_ms)
            if evaluator.now_ms < self._quiet_until_ms:
                evaluator.state[slots.since] = evaluator.state[slots.active] = 0
                changes = []
            holds = evaluator.state[slots.since] > 0
            event = ""
            for change in changes:
                event = self._note(timed.id, change.at_ms, is_active=change.is_active)
            if not event and holds != held and evaluator.now_ms >= self._sampled.first_ms:
                event = "the condition holds" if holds else "the condition does not hold"
            held = holds
            if event or self._sampled.is_due(evaluator.now_ms):
                result.moments.append(self._moment(timed, event, holds=holds))

    def _start(self, report: ReportId) -> None:
        """Reset the terms that began with this report in the recorded evaluation."""
        for term, start in list(self._starts.items()):
            if report >= start:
                program = self._evaluator.program
                for index in program.indexes_of(term):
                    self._evaluator.state[index] = program.initial[index]
                del self._starts[term]

    def _note(self, report: ReportId, at_ms: int, *, is_active: bool) -> str:
        result = self._result
        if not is_active:
            if result.began is not None and result.ended is None:
                result.ended = report, at_ms
            return "the alert ends"
        if report == self._alert_report:
            result.began = report, at_ms
            result.terms = self._evaluator.terms(result.trigger)
            result.holds_since_ms = self._evaluator.holds_since_ms(result.trigger)
        return "the alert begins"

    def _moment(self, timed: TimedReport, event: str, *, holds: bool) -> Moment:
        values = {}
        for term, function in self._functions.values.items():
            value = function(self._evaluator.state)
            values[term] = None if value == ABSENT else value / term.scale
        readings = timed.report.readings if isinstance(timed.report, Status) else {}
        return Moment(timed.id, self._evaluator.now_ms, values, readings, holds, event)


def _compare(result: Recomputation, record: AlertRecord, evidence: AlertEvidence, *, is_whole: bool) -> None:
    """Record a difference between recomputation and record."""
    note = result.differences.append
    report = f"run {record.run}, number {record.number}"
    if result.began is None:
        note(f"no alert begins with the report {report}")
        return
    if result.began[1] != record.began_at_ms:
        note(f"the alert begins at {result.began[1]} ms, recorded {record.began_at_ms} ms")
    if is_whole:
        for name in {**evidence.terms, **result.terms}:
            if (computed := result.terms.get(name)) != (recorded := evidence.terms.get(name)):
                note(f"{name} is {computed}, recorded {recorded}")
    if record.end_run is not None and result.ended != (
        (record.end_run, record.end_number),
        record.ended_at_ms,
    ):
        note("the alert does not end with the recorded report")


def _window_ms(trigger: Trigger) -> int:
    of_trigger = (*terms(trigger.fires), *terms(trigger.clears))
    return max((getattr(term, "duration_ms", 0) for term in of_trigger), default=0)
