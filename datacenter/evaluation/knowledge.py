"""The triggers in force with the texts of their files and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datacenter.evaluation.triggerset import TriggerSet, read_triggers
from datacenter.scoring.scorefile import SCORES, ScoreFile, read_scores, trigger_files
from settings.toml import read_text


@dataclass(frozen=True)
class TriggerKnowledge:
    """The triggers in force and their scores, with the folder and the texts that they were read from."""

    triggers: TriggerSet
    scores: ScoreFile
    folder: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    scored_at_ms: int | None = None
    """The time at which the file of scores was changed last."""

    @property
    def trigger_texts(self) -> dict[str, str]:
        """The description of each trigger in force, by name."""
        return {trigger.name: trigger.table.text for trigger in self.triggers.all()}


NO_KNOWLEDGE: Final = TriggerKnowledge(TriggerSet([]), ScoreFile())


def read_knowledge(folder: Path | None) -> TriggerKnowledge:
    """Read the triggers of a folder and their scores; without a folder there are none. Raises: SettingsError."""
    if folder is None:
        return NO_KNOWLEDGE
    triggers, scores = read_triggers(folder), read_scores(folder)
    texts = {file.stem: read_text(file) for file in trigger_files(folder)}
    file = folder / SCORES
    changed_ms = int(file.stat().st_mtime * 1000) if file.exists() else None
    return TriggerKnowledge(triggers, scores, folder, texts, changed_ms)
