"""The Apache 2.4 STIG (UNIX Server AS24-U1, Site AS24-U2) on the box's local page: its rules, and judging by them.

A rule is a function in `apache_rules`, under each identifier that asks for the same:

    @rule("AS24-U1-000590", "AS24-U2-000590")
    def timeout(server: Server) -> Findings:
        \"\"\"Whoever sends nothing is let go after a minute at most.\"\"\"
        yield Finding("rap.conf:7", "what is wrong", "what would be right")

Rules that a configuration cannot answer are in `firmware-image/stig/httpd.toml` with the reason. Together they are
the whole of both STIGs, which a test counts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from imaging.check.httpd import ApacheServer, Directive
from imaging.check.reasons import FOLDER, LeftOutGroup, by_rule, load
from imaging.check.types import Judged, Judgement, RuleVerdict

DATA: Final = FOLDER / "httpd.toml"


@dataclass(frozen=True, slots=True)
class ApacheFinding:
    """Something that is not as the rule wants it: where, what, and the repair."""

    spot: str
    problem: str
    repair: str

    def __str__(self) -> str:
        return f"{self.spot}: {self.problem}; {self.repair}"


Findings: TypeAlias = Iterator[ApacheFinding]
Check: TypeAlias = Callable[[ApacheServer], Findings]


@dataclass(frozen=True, slots=True)
class ApacheRule:
    """A rule of the STIG with the function that asks it."""

    id: str
    severity: str
    title: str
    check: Check


class ApacheRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """httpd.toml."""

    modules: dict[str, str]
    left_out: list[LeftOutGroup]


RULES: Final[dict[str, ApacheRule]] = {}


def rule(*ids: str, severity: str = "medium") -> Callable[[Check], Check]:
    """Make a function the one that asks these rules."""

    def register(check: Check) -> Check:
        title = inspect.cleandoc(check.__doc__ or "").partition("\n")[0]
        for id in ids:
            assert id not in RULES, f"two answers to {id}"
            RULES[id] = ApacheRule(id, severity, title, check)
        return check

    return register


def at(server: ApacheServer, directive: Directive | None) -> str:
    """The spot of a directive, or of a configuration that lacks it."""
    return directive.spot if directive else str(server.conf)


def load_data(file: Path = DATA) -> ApacheRules:
    """httpd.toml. Errors: WrongCheck."""
    return load(file, ApacheRules)


def judge_server(server: ApacheServer) -> Judgement:
    """What a server comes to. Errors: WrongCheck, for httpd.toml."""
    import imaging.check.apache_rules  # noqa: F401 - registers them, and imports this module

    judged = [_judge(one, server) for one in RULES.values()]
    for id, reason in by_rule(load_data().left_out, DATA):
        judged.append(Judged(id, "medium", "", RuleVerdict.LEFT_OUT, reason))
    return Judgement(sorted(judged, key=lambda one: one.rule))


def _judge(one: ApacheRule, server: ApacheServer) -> Judged:
    found = tuple(map(str, one.check(server)))
    verdict = RuleVerdict.FAIL if found else RuleVerdict.PASS
    return Judged(one.id, one.severity, one.title, verdict, findings=found)
