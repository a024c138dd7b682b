"""The triggers that this version ships with, which the data center of a lab or a demonstration evaluates."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from datacenter.evaluation.triggerset import TriggerSet, read_triggers
from datacenter.scoring.scorefile import trigger_files

SHIPPED_TRIGGERS: Final = Path(__file__).parents[2] / "triggers"


@cache
def shipped_triggers() -> TriggerSet:
    """Return the triggers with their compiled functions. Raises: SettingsError."""
    return read_triggers(SHIPPED_TRIGGERS)


@cache
def models_of_triggers() -> dict[str, str]:
    """Return the model of each trigger by its name, without compiling it; "" for a trigger of boxes or sites."""
    files = trigger_files(SHIPPED_TRIGGERS)
    return {file.stem: str(tomllib.loads(file.read_text()).get("model", "")) for file in files}
