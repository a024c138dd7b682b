"""Recorded conversations of `tests/fixtures/instruments`, and an engine that is fed with one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from settings.adapted import AdaptedPort
from settings.problems import Problems
from settings.toml import read_table
from sim.conversations.casefile import Conversation, expected_reports, read_conversations
from tests.support.paths import FIXTURES
from wire.standards.engine import Action, Count, Deliver, Engine, Outcome, Send
from wire.standards.extract import Finding, Reason

FOLDER = FIXTURES / "instruments"


@dataclass(frozen=True)
class InstrumentCase:
    """One conversation, and its expected results."""

    name: str
    standard: str
    port: AdaptedPort
    data: bytes
    script: list[str]
    reports: list[dict[str, Any]]
    """The expected reports, with times in milliseconds."""
    audit: Counter[str]
    patient_data: list[tuple[int, int]]

    @property
    def pieces(self) -> list[bytes]:
        """The pieces that the instrument sends, as in the script."""
        sends = (re.fullmatch(r"send (\d+) (\d+)", step) for step in self.script)
        return [self.data[int(send[1]) : int(send[2])] for send in sends if send]


@dataclass
class Played:
    """The result of an engine: its deliveries and counts together, and the bytes sent."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[Reason] = field(default_factory=Counter)
    sent: list[bytes] = field(default_factory=list)

    def as_reports(self) -> list[dict[str, Any]]:
        """Return the findings in the form of a case's `reports`."""
        return [_as_report(finding) for finding in self.findings]

    def audit(self) -> Counter[str]:
        """Return the counts in the form of a case's `audit`, which does not list litter."""
        return Counter(
            {reason.value: n for reason, n in self.counts.items() if reason is not Reason.LITTER and n}
        )


def port_of(config: dict[str, Any]) -> AdaptedPort:
    """Read the settings of a port from a table."""
    problems = Problems(Path("config"), "")
    port = read_table(AdaptedPort, config, (), problems)
    assert port is not None, problems.found
    return port


@cache
def instrument_cases(*standards: str) -> tuple[InstrumentCase, ...]:
    """Return the cases of some standards."""
    return tuple(
        _case(conversation)
        for conversation in read_conversations(FOLDER / "index.toml")
        if conversation.standard in standards
    )


def _case(conversation: Conversation) -> InstrumentCase:
    return InstrumentCase(
        name=conversation.name,
        standard=conversation.standard,
        port=conversation.config,
        data=conversation.file.read_bytes(),
        script=conversation.script,
        reports=expected_reports(conversation),
        audit=conversation.counts(),
        patient_data=[(int(str(first)), int(str(end))) for first, end, _ in conversation.patient_data],
    )


def play(
    engine: Engine, pieces: Iterable[bytes], outcome: Callable[[int], Outcome] = lambda _: Outcome.STORED
) -> Played:
    """Feed pieces of bytes to an engine; `outcome` returns the outcome of the n-th delivery, counted from 0."""
    played, deliveries = Played(), 0
    for piece in pieces:
        actions: Sequence[Action] = engine.receive(piece, 0.0)
        while note(played, actions):
            actions = engine.decided(outcome(deliveries), 0.0)
            deliveries += 1
    note(played, engine.closed(0.0))
    return played


def note(played: Played, actions: Sequence[Action]) -> bool:
    """Record actions; return whether a delivery must be decided. `Deliver` must be the last of a list."""
    for position, action in enumerate(actions):
        if isinstance(action, Send):
            played.sent.append(action.data)
        elif isinstance(action, Count):
            played.counts[action.reason] += action.number
        elif isinstance(action, Deliver):
            played.findings += action.extract.findings
            played.counts += action.extract.counts
            assert position == len(actions) - 1
            return True
    return False


def _as_report(finding: Finding) -> dict[str, Any]:
    fields = finding.kind.__struct_fields__[2:]
    report = {"kind": finding.kind.__struct_config__.tag, **dict(zip(fields, finding.fields, strict=False))}
    for free in ("samples", "readings"):
        report.pop(free, None)
    if finding.at_ms is not None:
        report["at"] = finding.at_ms
    return report
