"""A lab with instruments that speak their own standard passes, and fails if a fault is planted in the box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agents.box.intake.high_water_marks import AdaptedMark
from agents.box.intake.intake import Intake, Source
from sim.instruments.host_interface.dialects import options_of
from sim.lab.labfile import parse_lab
from sim.verdict.result import Result
from sim.worlds import run_lab
from tests.support.sim.standard_models import MODELS
from wire.messages import Quality, Status
from wire.standards.engine import Outcome
from wire.standards.extract import Extract, Finding

LAB = """
[lab]
name = "standards"
duration = "2h"
start = "05:30"
[box]
board = "rap-4"
linger = "5s"
spool_bytes_max = "16MiB"
[uplink]
rate = "1Mbit"
delay = "20ms"
[[instrument]]
port = 1
model = "{model}"
report_every = "2min"
dialect = {dialect}
"""


def verdict(speaks: str, *dialect: str, more: str = "") -> Result:
    names = ", ".join(f'"{name}"' for name in dialect)
    text = LAB.format(model=MODELS[speaks], dialect=f"[{names}]") + more
    return run_lab(parse_lab(text, Path("standards.toml")))


def failed(result: Result) -> list[str]:
    return [expectation.name for expectation in result.expectations if not expectation.holds]


@pytest.mark.parametrize("speaks", MODELS)
def test_each_report_of_an_instrument_is_acknowledged_and_stored_once(speaks: str) -> None:
    result = verdict(speaks)
    assert failed(result) == []
    assert result.reports.made == result.reports.acknowledged > 5
    assert result.contents is not None
    assert result.contents.compared >= result.reports.made - 1


@pytest.mark.slow("a lab for each of a hundred options of dialects")
@pytest.mark.parametrize(("speaks", "option"), [(name, one) for name in MODELS for one in options_of(name)])
def test_each_option_of_a_dialect_is_understood(speaks: str, option: str) -> None:
    assert failed(verdict(speaks, option)) == []


@pytest.mark.slow("an instrument that loses power is off for minutes")
def test_nothing_is_lost_or_stored_twice_when_the_cable_is_pulled_and_the_box_is_killed() -> None:
    events = "".join(
        f'[[event]]\nat = "{minute}min"\nfault = "{fault}"\ntarget = "{target}"\n{lasts}\n'
        for minute, fault, target, lasts in [
            (20, "link-down", "instrument:1", 'lasts = "90s"'),
            (40, "program-killed", "box", ""),
            (60, "instrument-unplugged", "instrument:1", 'lasts = "4min"'),
        ]
    )
    result = verdict("hl7", "repeats-unasked", "aborts-transfers", more=events)
    assert failed(result) == []
    assert len(result.faults) == 3


def _change(patch: pytest.MonkeyPatch, change: Callable[[list[Finding]], list[Finding]]) -> None:
    """Let the box change the findings of each message before it stores them."""
    accept = Intake.accept

    async def changed(self: Intake, source: Source, extract: Extract) -> Outcome:
        return await accept(self, source, Extract(change(extract.findings), extract.counts))

    patch.setattr(Intake, "accept", changed)


def _lose_controls(patch: pytest.MonkeyPatch) -> None:
    _change(patch, lambda findings: [one for one in findings if one.kind is not Quality])


def _change_the_state(patch: pytest.MonkeyPatch) -> None:
    def stopped(findings: list[Finding]) -> list[Finding]:
        return [replace(one, fields=("stopped", 0, {})) if one.kind is Status else one for one in findings]

    _change(patch, stopped)


def _forget_accepted_reports(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AdaptedMark, "unknown", lambda _self, digests: list(range(len(digests))))


def _refuse_controls(patch: pytest.MonkeyPatch) -> None:
    accept = Intake.accept

    async def refuse(self: Intake, source: Source, extract: Extract) -> Outcome:
        if any(finding.kind is Quality for finding in extract.findings):
            return Outcome.REFUSED
        return await accept(self, source, extract)

    patch.setattr(Intake, "accept", refuse)


@pytest.mark.parametrize(
    ("plant", "expectation"),
    [
        (_lose_controls, "lost"),
        (_forget_accepted_reports, "duplicates"),
        (_refuse_controls, "refused"),
        (_change_the_state, "altered"),
    ],
)
def test_the_verdict_detects_a_fault_of_the_box(
    plant: Callable[[pytest.MonkeyPatch], None], expectation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert expectation in failed(verdict("hl7", "repeats-unasked"))
