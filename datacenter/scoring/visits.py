"""Scores the parts lists of visits against the truth about the parts.

A visit takes place a day after an alert with parts, with the parts that alerts have named since the previous visit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from datacenter.scoring.matching import TrueDegradation
from datacenter.scoring.outcome import InstrumentOutcome
from datacenter.triggers.triggerfile import Trigger

VISIT_AFTER_MS: Final = 86_400_000


class VisitScore(Struct, frozen=True):
    """The figures of parts lists; None if there are no data to compute them from."""

    visits: int
    parts: int
    """The parts on all lists."""
    precision: float | None
    """The share of them that were worn and had failed or would have failed."""
    complete: float | None
    """The share of the visits whose list has every failing part of the components that had an alert."""


def score_visits(triggers: Sequence[Trigger], instruments: Iterable[InstrumentOutcome]) -> VisitScore:
    """Return the figures of the visits to instruments that were back-tested with the triggers."""
    tables = {trigger.name: trigger.table for trigger in triggers}
    visits = parts = right = complete = 0
    for instrument in instruments:
        alarms = sorted(
            (alarm for alarm in instrument.alarms if tables[alarm.trigger].parts), key=lambda a: a.at_ms
        )
        while alarms:
            visit_ms = alarms[0].at_ms + VISIT_AFTER_MS
            named = [alarm for alarm in alarms if alarm.at_ms <= visit_ms]
            alarms = alarms[len(named) :]
            listed = {
                (tables[alarm.trigger].component, part): alarm.at_ms
                for alarm in named
                for part in tables[alarm.trigger].parts
            }
            failing = {
                (worn.component, worn.part)
                for worn in instrument.degradations
                if any(_is_failing(worn, alarm.at_ms) for alarm in named)
            }
            components = {component for component, _ in listed}
            visits += 1
            parts += len(listed)
            right += len(failing & listed.keys())
            complete += {part for part in failing if part[0] in components} <= listed.keys()
    return VisitScore(
        visits,
        parts,
        round(right / parts, 3) if parts else None,
        round(complete / visits, 3) if visits else None,
    )


def _is_failing(worn: TrueDegradation, at_ms: int) -> bool:
    return worn.course != "stable" and worn.is_under_way(at_ms)
