"""Theorem files (TOML): guarantees of the policies for all staff, resources and moments.

[[theorem]]
name = "training"
text = "Nobody without a valid training opens a session."
actions = ["open-session"]          # actions or groups; default: all
never = "!principal.hasTag(resource.model)"       # Cedar: no request is permitted under this condition

Instead of `never`, `possible` requires that a request is permitted under the condition, and `without` names an
optional attribute of the context ("token", "approval") without which every permitted request is still permitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from datacenter.access.language.expression import TRUE, Condition
from datacenter.access.language.policy import Pair
from datacenter.access.language.policyfile import parse_policies
from datacenter.access.vocabulary import ACTIONS, GROUPS, PAIRS, members
from settings.problems import Problems, SettingsError
from settings.profile import Text, Word
from settings.toml import load, nearest
from settings.types import Table

SHIPPED_THEOREMS: Final = Path(__file__).parents[1] / "policies" / "theorems.toml"
"""The theorems that ship with the program."""


class TheoremTable(Table, frozen=True):
    """A theorem in a file: one of `never`, `possible` and `without`."""

    name: Word
    text: Text
    actions: Annotated[list[str], Meta(min_length=1)] | None = None
    never: str = ""
    possible: str = ""
    without: Literal["", "token", "approval"] = ""

    def __post_init__(self) -> None:
        """Raise ValueError unless there is exactly one claim."""
        if sum(map(bool, (self.never, self.possible, self.without))) != 1:
            raise ValueError("must have exactly one of `never`, `possible` and `without`")


class TheoremFile(Table, frozen=True):
    """The content of a theorem file."""

    theorem: Annotated[list[TheoremTable], Meta(min_length=1)]


@dataclass(frozen=True)
class AccessTheorem:
    """A checked theorem, about the requests of `pairs` that meet `condition`."""

    table: TheoremTable
    pairs: tuple[Pair, ...]
    condition: Condition


def read_theorems(file: Path = SHIPPED_THEOREMS) -> tuple[AccessTheorem, ...]:
    """Read a theorem file. Raises: SettingsError with all problems."""
    return tuple(_theorem(table, file) for table in load(file, TheoremFile, _check).theorem)


def _check(content: TheoremFile, problems: Problems) -> None:
    names: set[str] = set()
    for index, table in enumerate(content.theorem):
        with problems.part():
            if table.name in names:
                problems.add(
                    ("theorem", index, "name"),
                    f"{table.name} is the name of another theorem; choose a different name",
                )
            names.add(table.name)
        with problems.part():
            _check_claim(index, table, problems)


def _check_claim(index: int, table: TheoremTable, problems: Problems) -> None:
    unknown = [name for name in table.actions or () if name not in ACTIONS and name not in GROUPS]
    for name in unknown:
        problems.add(
            ("theorem", index, "actions"), f"unknown action {name}: {nearest(name, [*ACTIONS, *GROUPS])}"
        )
    if not unknown:
        key = "never" if table.never else "possible" if table.possible else "without"
        try:
            _theorem(table, problems.file)
        except SettingsError as error:
            for problem in error.problems:
                problems.add(("theorem", index, key), problem.message)


def _theorem(table: TheoremTable, file: Path) -> AccessTheorem:
    actions = {action for name in table.actions or ACTIONS for action in members(name)}
    pairs = tuple(pair for pair in PAIRS if pair[0] in actions)
    condition = table.never or table.possible
    return AccessTheorem(table, pairs, parse_condition(condition, pairs, file) if condition else TRUE)


def parse_condition(text: str, pairs: tuple[Pair, ...], file: Path) -> Condition:
    """Parse a condition about requests of some actions and types. Raises: SettingsError."""
    actions = ", ".join(f'Action::"{action}"' for action in dict.fromkeys(action for action, _ in pairs))
    policy = f'@id("condition") permit (principal, action in [{actions}], resource) when {{ (\n{text}\n) }};'
    return parse_policies(policy, file)[0].condition
