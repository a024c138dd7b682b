"""The result of a back-test: the alerts and the truth of each instrument, and the scores that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from datacenter.scoring.matching import AlertStart, TrueDegradation, first_of_each, match
from datacenter.scoring.tally import Score, Tally, score, tally
from datacenter.triggers.triggerfile import Trigger


class InstrumentOutcome(Struct, frozen=True):
    """One instrument: the alerts of its triggers, and the actual failures."""

    model: str
    instrument_ms: int
    """The time that was evaluated."""
    reports: int
    seconds: float
    """The processor time of the evaluation."""
    alarms: list[AlertStart]
    degradations: list[TrueDegradation]


class Scores(NamedTuple):
    """The scores of each trigger, by its name, and of the set."""

    triggers: dict[str, Score]
    whole: Score


def scores(triggers: Sequence[Trigger], instruments: Iterable[InstrumentOutcome]) -> Scores:
    """Return the scores of triggers from the back-tests of instruments."""
    alone = {trigger.name: Tally() for trigger in triggers}
    whole = Tally()
    for instrument in instruments:
        chosen = {
            trigger.name: trigger.table for trigger in triggers if trigger.table.model == instrument.model
        }
        parts = {name: table.parts for name, table in chosen.items()}
        matches = match(instrument.alarms, instrument.degradations, chosen)
        for name, table in chosen.items():
            own = [match for match in matches if match.alarm.trigger == name]
            alone[name].add(tally(own, instrument.degradations, [table], instrument.instrument_ms, parts))
        firsts = [match for match in matches if not parts[match.alarm.trigger]] + list(
            first_of_each(match for match in matches if parts[match.alarm.trigger])
        )
        whole.add(
            tally(firsts, instrument.degradations, list(chosen.values()), instrument.instrument_ms, parts)
        )
    return Scores({name: score(match) for name, match in alone.items()}, score(whole))
