"""Remote sessions with the real programs: the box program, the data center, OpenVPN and the firewall."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.lab.labfile import parse_lab
from sim.verdict.result import Result
from sim.worlds import run_lab
from tests.support.sim.kernel_labs import small_lab

SESSIONS = """
[[session]]
at = "3s"
target = "instrument:1"
lasts = "1min"
answers_after = "2s"
wrong_codes = 1
open_for = "4s"
[[session]]
at = "25s"
target = "instrument:1"
lasts = "1min"
answers_after = "1s"
person = "refuses"
acts_at = "display"
"""


def outcome(result: Result) -> list[tuple[object, ...]]:
    """What must be the same in both worlds."""
    expectations = [(one.name, one.holds) for one in result.expectations]
    sessions = [
        (one.opened_ns is not None, one.ended_ns is not None, set(one.causes) - {"line lost"}, one.problems)
        for one in result.sessions
    ]
    return [*expectations, *sessions]


@pytest.mark.kernel
@pytest.mark.slow("a lab of 40 s, in real time")
def test_sessions_have_the_same_outcome_in_the_virtual_and_in_the_kernel_world() -> None:
    text = small_lab("sessions", "1s", duration="40s", more=SESSIONS)
    lab = parse_lab(text, Path("sessions.toml"))
    real = run_lab(lab, world="kernel")
    assert real.verdict == "pass", real.failures
    first, second = real.sessions
    assert first.causes == ("ended by the person",)
    assert first.tunnel_seconds > 3
    assert second.causes == ("refused",)
    assert outcome(real) == outcome(run_lab(lab))
