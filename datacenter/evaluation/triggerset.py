"""The triggers in force: one program for each model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datacenter.scoring.scorefile import require_scores, trigger_files
from datacenter.triggers.live import LiveFunctions
from datacenter.triggers.silencefile import SilenceTrigger, is_silence, read_silence
from datacenter.triggers.triggerfile import Trigger, read_trigger
from settings.problems import SettingsError


class TriggerSet:
    """Triggers by model, and silence triggers."""

    def __init__(self, triggers: Sequence[Trigger], silences: Sequence[SilenceTrigger] = ()) -> None:
        self.silences: dict[tuple[str, str], SilenceTrigger] = {
            (trigger.table.model, trigger.table.of): trigger for trigger in silences
        }
        self.triggers = {trigger.name: trigger for trigger in triggers}
        models = dict.fromkeys(trigger.table.model for trigger in triggers)
        self._functions = {
            model: LiveFunctions([trigger for trigger in triggers if trigger.table.model == model])
            for model in models
        }

    def all(self) -> list[Trigger | SilenceTrigger]:
        """Return all triggers."""
        return [*self.triggers.values(), *self.silences.values()]

    def functions(self, model: str | None) -> LiveFunctions | None:
        """Return the compiled triggers of a model; None if it has none."""
        return self._functions.get(model or "")

    def silence(self, model: str | None, of: str) -> SilenceTrigger | None:
        """Return the silence trigger of boxes, of sites or of the instruments of a model; None if there is none."""
        return self.silences.get((model or "", of) if of == "instrument" else ("", of))


def read_triggers(folder: Path | None) -> TriggerSet:
    """Read the trigger files of a folder; without a folder the set is empty.

    Raises: SettingsError for the first invalid file, and for triggers without a score.
    """
    if folder is None:
        return TriggerSet([])
    files = trigger_files(folder)
    silent = [file for file in files if is_silence(file)]
    silences: dict[tuple[str, str], SilenceTrigger] = {}
    for file in silent:
        trigger = read_silence(file)
        first = silences.setdefault((trigger.table.model, trigger.table.of), trigger)
        if first is not trigger:
            raise SettingsError.at(
                file, "of", f"is the same as in {first.name}.toml; remove one of the files"
            )
    triggers = [read_trigger(file) for file in files if file not in silent]
    require_scores(folder, triggers)
    return TriggerSet(triggers, list(silences.values()))
