"""No acknowledged report is lost or stored twice, with each fault alone and with many faults at the same time."""

from __future__ import annotations

from random import Random

import pytest

from sim.verdict.result import Result
from sim.worlds import run_lab
from sim.worlds.virtual.world import VirtualWorld
from tests.support.sim import fault_labs
from tests.support.sim.fault_labs import MOMENTARY, REPORT_FAULTS, lab_with_expectations


def event(kind: str, at_min: float, lasts_min: float) -> str:
    return fault_labs.event(kind, int(at_min * 60), None if kind in MOMENTARY else int(lasts_min * 60))


def assert_passes(result: Result) -> None:
    assert result.verdict == "pass", (result.failures, [event.kind for event in result.faults])
    assert result.reports.stored > 0


@pytest.mark.parametrize("kind", REPORT_FAULTS)
def test_no_report_is_lost_or_duplicated_by_a_fault(kind: str) -> None:
    result = run_lab(lab_with_expectations(event(kind, 2, 8), duration="20min", report_every="20s"))
    assert_passes(result)
    assert result.faults[0].kind == kind
    if kind != "disk-rot":
        assert result.reports.dropped == 0


@pytest.mark.parametrize("kind", REPORT_FAULTS)
def test_no_report_is_lost_or_duplicated_by_a_fault_at_the_end_of_an_outage(kind: str) -> None:
    outage = '[[event]]\nat = "5min"\nfault = "link-down"\ntarget = "uplink"\nlasts = "10min"\n'
    lab = lab_with_expectations(outage + event(kind, 14, 2), seed=2, duration="25min", report_every="20s")
    assert_passes(run_lab(lab))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow("labs of an hour with eight faults, with TLS")
def test_no_report_is_lost_or_duplicated_by_many_faults_at_the_same_time(seed: int) -> None:
    random = Random(seed)
    kinds = random.sample(REPORT_FAULTS, 8)
    events = "".join(event(kind, random.uniform(1, 30), random.uniform(0.5, 10)) for kind in kinds)
    assert_passes(run_lab(lab_with_expectations(events, seed, duration="50min", report_every="20s")))


BACKLOG_BEHIND_AN_MTU_BLACK_HOLE = """
[[event]]
at = "10min"
fault = "mtu-black-hole"
target = "uplink"
bytes = "1300B"
[[event]]
at = "11min"
fault = "link-down"
target = "uplink"
lasts = "30min"
"""


def test_a_backlog_is_delivered_over_a_path_that_drops_long_packets() -> None:
    lab = lab_with_expectations(BACKLOG_BEHIND_AN_MTU_BLACK_HOLE, loss="0%", report_every="2s")
    with VirtualWorld(lab) as world:
        result = world.run()
        assert world.link("uplink").forward.lost > 0, "no packet was dropped, so the test proves nothing"
    assert result.reports.acknowledged > 4500
    assert result.reports.waiting < 20
