"""The type of rules of the Apache STIGs, and the registry of all rules.

A rule is a function in a module of `rules/`, registered under each STIG identifier with the same requirement:

    @rule("AS24-U1-000590", "AS24-U2-000590")
    def timeout(server: ApacheServer) -> Findings:
        \"\"\"Idle connections are closed after at most a minute.\"\"\"
        yield ApacheFinding("rap.conf:7", "what is wrong", "how to correct it")

Requirements that cannot be checked in a configuration are listed in `firmware-image/stig/httpd.toml` with the reason.
A test checks that the rules and that file together cover both STIGs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from imaging.check.apache.httpd import ApacheServer
from imaging.check.reasons import FOLDER, LeftOutGroup, load
from settings.types import Table

DATA: Final = FOLDER / "httpd.toml"


@dataclass(frozen=True, slots=True)
class ApacheFinding:
    """A violation of a rule: the location ("FILE:LINE"), the problem, and the repair."""

    location: str
    problem: str
    repair: str

    def __str__(self) -> str:
        return f"{self.location}: {self.problem}; {self.repair}"


Findings: TypeAlias = Iterator[ApacheFinding]
Check: TypeAlias = Callable[[ApacheServer], Findings]


@dataclass(frozen=True, slots=True)
class ApacheRule:
    """A STIG rule and the function that checks it; `severity` is "high", "medium" or "low"."""

    id: str
    severity: str
    title: str
    check: Check


class ApacheRules(Table, frozen=True):
    """The content of httpd.toml: allowed modules with their purpose, and rules left out with the reason."""

    modules: dict[str, str]
    left_out: list[LeftOutGroup]


registered: dict[str, ApacheRule] = {}
"""The rules of the modules imported so far; `rules.all_rules` has all of them."""


def rule(*ids: str, severity: str = "medium") -> Callable[[Check], Check]:
    """Register a function as the check of these STIG rules; the first line of its docstring is their title."""

    def register(check: Check) -> Check:
        title = inspect.cleandoc(check.__doc__ or "").partition("\n")[0]
        for id in ids:
            assert id not in registered, f"{id} is registered twice"
            registered[id] = ApacheRule(id, severity, title, check)
        return check

    return register


def load_data(file: Path = DATA) -> ApacheRules:
    """Read httpd.toml. Raises: InvalidCheckInput."""
    return load(file, ApacheRules)
