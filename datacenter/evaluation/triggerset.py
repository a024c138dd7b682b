"""The triggers in force: one program for each model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datacenter.scoring.scorefile import require_scores, trigger_files
from datacenter.triggers.live import LiveFunctions
from datacenter.triggers.triggerfile import Trigger, read_trigger


class TriggerSet:
    """Triggers by model."""

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self.triggers = {trigger.name: trigger for trigger in triggers}
        models = dict.fromkeys(trigger.table.model for trigger in triggers)
        self._functions = {
            model: LiveFunctions([one for one in triggers if one.table.model == model]) for model in models
        }

    def functions(self, model: str | None) -> LiveFunctions | None:
        """Return the compiled triggers of a model; None if it has none."""
        return self._functions.get(model or "")


def read_triggers(folder: Path | None) -> TriggerSet:
    """Read the trigger files of a folder; None is a set without triggers.

    Raises: SettingsError for the first file that is wrong, and for triggers without a score.
    """
    if folder is None:
        return TriggerSet([])
    triggers = [read_trigger(file) for file in trigger_files(folder)]
    require_scores(folder, triggers)
    return TriggerSet(triggers)
