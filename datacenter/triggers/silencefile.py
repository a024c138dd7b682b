"""Silence triggers (TOML, in the folder of trigger files): alerts about instruments, boxes and sites that send
nothing.

of = "instrument"                   # or "box", or "site"
model = "chemistry-analyzer"        # of the instruments; only with of = "instrument"
silence = "30min"                   # time without a received record after which the alert begins
severity = "error"
text = "The instrument sends no reports although its box is connected"
silent_in_maintenance = true        # optional: no notice of an alert that begins in a maintenance window

Unknown keys are errors. A file with `of = "site"` raises one alert for the outage of a site instead of one for each
box and instrument; `silence` is then the time within which all of them must have sent their last reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from datacenter.triggers.syntax import ConditionError, parse_duration_ms
from settings.problems import Problems
from settings.profile import Severity, Text, profile_problem
from settings.toml import load, parse, read_text
from settings.types import Table


class SilenceTable(Table, frozen=True):
    """The content of a silence trigger."""

    of: Literal["instrument", "box", "site"]
    silence: str
    severity: Severity
    text: Text
    model: str = ""
    silent_in_maintenance: bool = False


@dataclass(frozen=True)
class SilenceTrigger:
    """A checked silence trigger: an alert begins after `lasts_ms` without a record."""

    name: str
    table: SilenceTable
    lasts_ms: int

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the trigger's decision; its texts are not included."""
        decides = "\n".join((self.table.of, self.table.model, self.table.silence))
        return sha256(decides.encode()).hexdigest()[:16]


def is_silence(file: Path) -> bool:
    """Return whether a trigger file is a silence trigger. Raises: SettingsError."""
    return "silence" in parse(read_text(file), file)


def read_silence(file: Path) -> SilenceTrigger:
    """Read a silence trigger. Raises: SettingsError with all problems."""
    return make_silence(file.stem, load(file, SilenceTable, _check))


def make_silence(name: str, table: SilenceTable) -> SilenceTrigger:
    """Return the trigger of a checked table."""
    return SilenceTrigger(name, table, parse_duration_ms(table.silence))


def _check(table: SilenceTable, problems: Problems) -> None:
    with problems.part():
        if table.of == "instrument" and (problem := profile_problem(table.model)):
            problems.add(("model",), problem)
        if table.of != "instrument" and table.model:
            problems.add(("model",), f"is not possible with of = {table.of!r}; remove it")
    with problems.part():
        try:
            parse_duration_ms(table.silence)
        except ConditionError as error:
            problems.add(("silence",), str(error))
