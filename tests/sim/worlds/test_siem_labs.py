"""A SIEM that is down in a lab; the data center's own forwarder sends to it by TLS over simulated TCP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.lab.labfile import load_lab, parse_lab
from sim.verdict.found.siem import SiemFindings
from sim.worlds import run_lab
from sim.worlds.virtual.world import VirtualWorld

LABS = Path(__file__).parents[3] / "labs"
LAB = """
[lab]
name = "siem"
duration = "2h"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10min"
[[event]]
at = "10min"
lasts = "{lasts}"
fault = "siem-down"
target = "siem"
[[event]]
at = "20min"
fault = "program-killed"
target = "box"
"""


def run(lasts: str, tamper: Any = lambda _received: None) -> tuple[int, str]:
    """Run the lab and tamper with the records that the SIEM has received; return the problems' number and text."""
    with VirtualWorld(parse_lab(LAB.format(lasts=lasts), Path("siem.toml"))) as world:
        world.run_until(world.lab.about.duration)
        assert world.datacenter.siem is not None
        tamper(world.datacenter.siem.received)
        result = world.finish()
    (expectation,) = (one for one in result.expectations if one.name == "siem")
    return int(expectation.measured or 0), expectation.explanation


def test_records_that_wait_for_the_siem_arrive_once() -> None:
    measured, text = run("1h")
    assert measured == 0
    assert int(text.split()[2]) > 3, "records of the time without the SIEM"


def test_a_record_that_the_siem_does_not_have_is_named() -> None:
    measured, text = run("1h", lambda received: received.remove(received[3]))
    assert measured == 1
    assert "has not arrived" in text


def test_nothing_is_due_while_the_siem_is_down() -> None:
    measured, text = run("110min")
    assert measured == 0, text


@pytest.mark.parametrize(
    ("received", "problem"),
    [
        (["B/5/1", "B/5/2", "B/5/3"], ""),
        (["B/5/1", "C/5/1", "B/5/2", "B/5/3", "C/5/2"], ""),
        (["B/5/1", "B/5/3"], "B/5/2 has not arrived"),
        (["B/5/1", "B/5/2", "B/5/2", "B/5/3"], "B/5/2 has arrived 2 times"),
        (["B/5/2", "B/5/1", "B/5/3"], "B/5/1 has arrived after 2"),
    ],
)
def test_missing_repeated_and_disordered_records_are_detected(received: list[str], problem: str) -> None:
    assert SiemFindings(["B/5/1", "B/5/2", "B/5/3"], received).problems == ([problem] if problem else [])


@pytest.mark.slow("nine days of virtual time, with TLS")
def test_the_lab_of_a_siem_that_is_down_for_a_week_passes() -> None:
    result = run_lab(load_lab(LABS / "25-siem-week.toml"))
    assert result.verdict == "pass", result.failures
    assert "siem" in {one.name for one in result.expectations}
