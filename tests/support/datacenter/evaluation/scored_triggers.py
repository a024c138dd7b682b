"""Folders of triggers with scores, which a data center requires."""

from __future__ import annotations

from pathlib import Path

from datacenter.scoring.outcome import InstrumentOutcome, scores
from datacenter.scoring.scorefile import trigger_files, write_scores
from datacenter.scoring.tally import YEAR_MS
from datacenter.triggers.triggerfile import read_trigger


def write_triggers(folder: Path, **texts: str) -> None:
    """Write trigger files by name, and the scores of a year without alerts."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    score_triggers(folder)


def score_triggers(folder: Path, *names: str) -> None:
    """Write the scores of a year without alerts for the named triggers of a folder, by default for all."""
    triggers = [read_trigger(file) for file in trigger_files(folder) if not names or file.stem in names]
    models = {trigger.table.model for trigger in triggers}
    recorded = scores(triggers, [InstrumentOutcome(model, YEAR_MS, 0, 0.0, [], []) for model in models])
    write_scores(folder, triggers, recorded, "nothing happened", is_whole=not names)
