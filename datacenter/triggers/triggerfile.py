"""Trigger files (TOML), one for each trigger, named <trigger>.toml. Unknown keys are errors.

model = "chemistry-analyzer"        # whose profile has the words of the condition
severity = "warning"
component = "lamp"                  # of the profile
text = "The photometer lamp will fail soon"
parts = ["Halogen lamp"]            # optional: what to bring; spare parts of the component
when = "ewma(lamp-intensity-pct, 64) < 70 and state is running"
lasts = "2h"                        # optional: how long the condition must hold before the alert begins
silent_in_maintenance = true        # optional: no notice of an alert that begins in a maintenance window
until = "ewma(lamp-intensity-pct, 64) > 75"     # optional: when the alert is resolved; default: when `when` is false
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from datacenter.triggers.syntax import ConditionError, parse_condition, parse_duration_ms
from datacenter.triggers.terms.base import Base
from datacenter.triggers.tree import Condition, check, mistakes, negated, terms
from settings.problems import Problems
from settings.profile import Model, Profile, Severity, Text, Word, load_profile, profile_problem
from settings.toml import load, loads, nearest
from settings.types import Table


class TriggerTable(Table, frozen=True):
    """The content of a trigger file."""

    model: Model
    severity: Severity
    component: Word
    text: Text
    when: str
    lasts: str = ""
    until: str = ""
    parts: list[Text] = []
    silent_in_maintenance: bool = False


@dataclass(frozen=True)
class Trigger:
    """A checked trigger. An alert begins when `fires` has held for `lasts_ms`, and ends when `clears` holds."""

    name: str
    table: TriggerTable
    fires: Condition
    clears: Condition
    lasts_ms: int

    @property
    def uses_base(self) -> bool:
        """Whether the trigger compares with the installed base."""
        return any(isinstance(term, Base) for term in (*terms(self.fires), *terms(self.clears)))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the trigger's decision and its parts; its texts are not included."""
        table = self.table
        decides = "\n".join(
            (table.model, table.when, table.until, table.lasts, table.component, *sorted(table.parts))
        )
        return sha256(decides.encode()).hexdigest()[:16]


def read_trigger(file: Path) -> Trigger:
    """Read a trigger file. Raises: SettingsError with all problems."""
    return make_trigger(file.stem, load(file, TriggerTable, _check))


def parse_trigger(text: str, file: Path) -> Trigger:
    """Parse the text of a trigger file; `file` is used for its name and for messages. Raises: SettingsError."""
    return make_trigger(file.stem, loads(text, file, TriggerTable, _check))


def make_trigger(name: str, table: TriggerTable) -> Trigger:
    """Return the trigger of a table that has been checked."""
    profile = load_profile(table.model)
    when = parse_condition(table.when)
    clears = check(parse_condition(table.until), profile) if table.until else negated(when, profile)
    lasts_ms = parse_duration_ms(table.lasts) if table.lasts else 0
    return Trigger(name, table, check(when, profile), clears, lasts_ms)


def _check(table: TriggerTable, problems: Problems) -> None:
    profile = None
    with problems.part():
        if problem := profile_problem(table.model):
            problems.add(("model",), problem)
        else:
            profile = load_profile(table.model)
    with problems.part():
        _check_condition(("when",), table.when, profile, problems)
    with problems.part():
        if table.until:
            _check_condition(("until",), table.until, profile, problems)
    with problems.part():
        if table.lasts:
            _check_duration(table.lasts, problems)
    if profile is not None:
        with problems.part():
            if table.component not in profile.components:
                problems.add(("component",), nearest(table.component, list(profile.components)))
        with problems.part():
            _check_parts(table, profile, problems)


def _check_condition(key: tuple[str, ...], text: str, profile: Profile | None, problems: Problems) -> None:
    """Check a condition; without a profile, because the model is unknown, only its grammar."""
    try:
        node = parse_condition(text)
    except ConditionError as error:
        problems.add(key, f"column {error.at + 1}: {error}")
        return
    for mistake in mistakes(node, profile) if profile is not None else ():
        problems.add(key, f"column {mistake.at + 1}: {mistake}")


def _check_duration(text: str, problems: Problems) -> None:
    try:
        parse_duration_ms(text)
    except ConditionError as error:
        problems.add(("lasts",), str(error))


def _check_parts(table: TriggerTable, profile: Profile, problems: Problems) -> None:
    """Check that the parts are spare parts of the component, or, if that is wrong, of any component."""
    component = profile.components.get(table.component)
    of = table.component if component else profile.model
    known = (
        component.parts
        if component
        else [p for component in profile.components.values() for p in component.parts]
    )
    for index, part in enumerate(table.parts):
        if part not in known:
            problems.add(("parts", index), f"{part} is not a spare part of {of}; {nearest(part, known)}")
