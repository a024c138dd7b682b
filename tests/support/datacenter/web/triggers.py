"""The triggers that pages show in tests: one for a model in Europe, one for a model in America, one for boxes."""

from __future__ import annotations

from functools import cache

from datacenter.evaluation.knowledge import TriggerKnowledge
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.scoring.scorefile import RecordedScore, ScoreFile
from datacenter.triggers.silencefile import SilenceTable, make_silence
from datacenter.triggers.triggerfile import TriggerTable, make_trigger
from settings.toml import dumps

LAMP = TriggerTable(
    "chemistry-analyzer",
    "warning",
    "lamp",
    "The photometer lamp will fail soon",
    "mean(lamp-intensity-pct, 12h) < 80 and state is running",
    "3h",
    "mean(lamp-intensity-pct, 12h) > 85",
    ["Halogen lamp"],
)
HEATER = TriggerTable(
    "blood-gas-analyzer", "error", "cartridge-slot", "The heater is weak", "slot-temp-mc < 36000"
)
SILENCE = SilenceTable("box", "1h", "error", "The box sends nothing")
HISTORY = "simulated: seeds 1001 to 1014, 365 days each"


@cache
def known_triggers() -> TriggerKnowledge:
    """Return the triggers in force; the trigger of the lamp has a score."""
    lamp, heater = make_trigger("chemistry-lamp", LAMP), make_trigger("gas-slot-heater", HEATER)
    silence = make_silence("silent-box", SILENCE)
    score = RecordedScore(
        instrument_years=14.0,
        failures=10,
        recall=0.9,
        precision=0.857,
        lead_h=361.7,
        lead_share=0.588,
        false_per_year=0.143,
        parts_right=1.0,
        fingerprint=lamp.fingerprint,
        history=HISTORY,
    )
    texts = {one.name: dumps(one.table) for one in (lamp, heater, silence)}
    triggers = TriggerSet([lamp, heater], [silence])
    return TriggerKnowledge(triggers, ScoreFile(triggers={lamp.name: score}), None, texts, 1_763_000_000_000)
