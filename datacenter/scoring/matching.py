"""Compares the alerts of one instrument with the actual degradations of its parts.

A degradation is one episode, however many alerts begin during it. An alert belongs to a degradation of its trigger's
component that is under way when it begins: alerts of other components, those that began before, and those after the
failure predict nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from datacenter.triggers.triggerfile import TriggerTable

Course: TypeAlias = Literal["failing", "stable", "sudden"]
Verdict: TypeAlias = Literal["right", "false", "late", "repeated"]


class TrueDegradation(Struct, frozen=True):
    """The truth about one degradation of a part; times are on the time scale of the reports.

    A `failing` degradation ends in a failure unless the part is replaced before, a `stable` one does not, and a
    `sudden` failure has no symptoms.
    """

    component: str
    part: str
    course: Course
    began_ms: int
    failed_ms: int | None = None
    ended_ms: int | None = None
    """The time at which the part was replaced."""

    @property
    def is_predictable(self) -> bool:
        """Whether it led to a failure that was preceded by symptoms."""
        return self.course == "failing" and self.failed_ms is not None

    def is_under_way(self, at_ms: int) -> bool:
        """Return whether it has begun, and the part is not replaced yet."""
        return self.began_ms <= at_ms and (self.ended_ms is None or at_ms < self.ended_ms)


class AlertStart(NamedTuple):
    """An alert that began."""

    trigger: str
    at_ms: int


class AlertMatch(NamedTuple):
    """The evaluation of an alert.

    `degradation` is the degradation to which the alert belongs; None if there was none.
    """

    alarm: AlertStart
    verdict: Verdict
    degradation: TrueDegradation | None


def match(
    alarms: Iterable[AlertStart],
    degradations: Sequence[TrueDegradation],
    triggers: Mapping[str, TriggerTable],
) -> list[AlertMatch]:
    """Match the alerts of one instrument, in the order of their beginning."""
    seen: set[tuple[str, TrueDegradation]] = set()
    matches = []
    for alarm in sorted(alarms, key=lambda alarm: alarm.at_ms):
        degradation = _degradation(alarm, degradations, triggers[alarm.trigger])
        is_first = degradation is None or (alarm.trigger, degradation) not in seen
        matches.append(AlertMatch(alarm, _verdict(alarm, degradation, is_first), degradation))
        if degradation is not None:
            seen.add((alarm.trigger, degradation))
    return matches


def first_of_each(matches: Iterable[AlertMatch]) -> Iterator[AlertMatch]:
    """Yield the alerts of a set of triggers: of the alerts of one degradation, only the first is new."""
    seen: set[TrueDegradation] = set()
    for match in matches:
        if match.degradation in seen:
            yield match if match.verdict == "late" else match._replace(verdict="repeated")
        else:
            yield match
        if match.degradation is not None:
            seen.add(match.degradation)


def _degradation(
    alarm: AlertStart, degradations: Sequence[TrueDegradation], table: TriggerTable
) -> TrueDegradation | None:
    """Return the alert's degradation, preferring parts that the trigger names, and degradations that fail."""
    candidates = [
        degradation
        for degradation in degradations
        if degradation.component == table.component and degradation.is_under_way(alarm.at_ms)
    ]
    order = ("failing", "sudden", "stable")
    return min(
        candidates,
        key=lambda found: (found.part not in table.parts, order.index(found.course), -found.began_ms),
        default=None,
    )


def _verdict(alarm: AlertStart, degradation: TrueDegradation | None, is_first: bool) -> Verdict:
    if degradation is None:
        return "false"
    if degradation.failed_ms is not None and alarm.at_ms >= degradation.failed_ms:
        return "late"
    if not is_first:
        return "repeated"
    return "false" if degradation.course == "stable" else "right"
