"""A lab with a hostile instrument passes, and fails if a limit of the box is switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import agents.box.intake.collector
from agents.box.intake.backlog import Backlog
from agents.box.intake.collector import port_limits
from sim.lab.labfile import parse_lab
from sim.worlds import run_lab
from wire.process.ratelimit import TokenBucket

LAB = """
[lab]
name = "limits"
duration = "{duration}"
start = "10:00"
[box]
board = "rap-4"
linger = "1s"
[uplink]
rate = "56kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10s"
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "2s"
[[event]]
at = "20s"
fault = "{fault}"
target = "instrument:1"
{parameters}
[expect]
other_ports_latency_p99 = "10s"
connections = {connections}
"""
Patch = pytest.MonkeyPatch
AT_BOTH_PORTS = 2 * port_limits(1).connections_max
OFF = 1e9


def with_limits(**changes: Any) -> Callable[[Patch], None]:
    """Return a function that changes the limits of each port."""

    def plant(patch: Patch) -> None:
        patch.setattr(
            agents.box.intake.collector, "port_limits", lambda n: replace(port_limits(n), **changes)
        )

    return plant


def any_backlog(patch: Patch) -> None:
    patch.setattr(Backlog, "take", lambda *_: 0.0)


def any_rate(patch: Patch) -> None:
    patch.setattr(TokenBucket, "take", lambda *_: 0.0)


no_connection_limit = with_limits(connections_max=10**6)
CASES = {
    "hoards without a limit": (
        "instrument-hoards-connections", 'every = "2s"', AT_BOTH_PORTS, no_connection_limit, "connections",
    ),
    "stalls without a limit": (
        "instrument-stalls-handshakes", 'every = "250ms"', AT_BOTH_PORTS, no_connection_limit, "connections",
    ),
    "drips without a limit": (
        "instrument-drips-requests", 'every = "500ms"', AT_BOTH_PORTS, no_connection_limit, "connections",
    ),
    "ignores without a limit": (
        "instrument-ignores-answers", 'every = "2s"', AT_BOTH_PORTS, no_connection_limit, "connections",
    ),
    # seven connections, which is below the limit: only the deadline ends them
    "stalls without a deadline": (
        "instrument-stalls-handshakes",
        'every = "5s"\nconnections = 7',
        5,
        with_limits(handshake_s=OFF),
        "connections",
    ),
    "drips without a deadline": (
        "instrument-drips-requests",
        'every = "10s"\nconnections = 7',
        7,
        with_limits(request_s=OFF, handshake_s=OFF),
        "connections",
    ),
    "floods a backlog without a limit": (
        "instrument-floods", 'rate = 400\nreport = "random"', AT_BOTH_PORTS, any_backlog, "other_ports_latency_p99",
    ),
    "floods without a limit": (
        "instrument-floods", 'rate = 400\nreport = "random"', AT_BOTH_PORTS, any_rate, "other_ports_latency_p99",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow("floods of 400 reports a second, in two runs")
def test_a_lab_detects_that_a_limit_is_switched_off(case: str) -> None:
    fault, parameters, connections, plant, expectation = CASES[case]
    duration = "100s" if fault == "instrument-floods" else "4min"
    text = LAB.format(fault=fault, parameters=parameters, connections=connections, duration=duration)
    lab = parse_lab(text, Path("limits.toml"))
    result = run_lab(lab)
    assert result.verdict == "pass", result.failures
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        result = run_lab(lab)
    assert expectation in [e.name for e in result.expectations if not e.holds], result.expectations
