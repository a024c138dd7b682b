"""The `lab` fixture of the pytest plugin."""

from __future__ import annotations

import pytest

from sim.testing import LabUnderTest
from tests.support.paths import LABS

pytest_plugins = ["pytester"]


def test_the_box_delivers_its_backlog_after_an_outage(lab: LabUnderTest) -> None:
    lab.wait_until(lambda: lab.box.connected, within="10s")
    lab.uplink.down()
    lab.run_for("1h")
    assert not lab.box.connected
    assert lab.box.backlog >= 100
    lab.uplink.up()
    lab.wait_until(lambda: lab.box.backlog == 0, within="2min")
    lab.expect_nothing_lost()


def test_a_power_cut_during_the_delivery_of_a_backlog_loses_nothing(lab: LabUnderTest) -> None:
    lab.run_for("1min")
    lab.uplink.down()
    lab.run_for("10h")
    lab.uplink.up()
    lab.wait_until(lambda: 0 < lab.box.backlog < 1000, within="2min")
    lab.box.cut_power()
    lab.run_for("1h")
    lab.box.restore_power()
    lab.wait_until(lambda: lab.box.connected and lab.box.backlog == 0, within="10min")
    lab.expect_nothing_lost()


def test_a_fault_is_injected_by_its_kind(lab: LabUnderTest) -> None:
    end = lab.datacenter.inject("datacenter-errors", status=500)
    lab.run_for("10min")
    assert lab.box.backlog > 10
    end()
    lab.wait_until(lambda: lab.box.backlog == 0, within="5min")


@pytest.mark.lab(str(LABS / "02-satellite-socks.toml"))
def test_a_marker_selects_the_lab_file(lab: LabUnderTest) -> None:
    assert lab.world.proxy is not None
    lab.run_for("5min")
    lab.expect_nothing_lost()


def test_an_unknown_fault_or_parameter_is_refused_with_a_suggestion(lab: LabUnderTest) -> None:
    with pytest.raises(ValueError, match="did you mean link-down"):
        lab.uplink.inject("link-dwon")
    with pytest.raises(ValueError, match="loss"):
        lab.uplink.inject("link-degraded", los="5%")


def test_a_condition_that_stays_false_fails_with_the_state_of_the_lab(lab: LabUnderTest) -> None:
    with pytest.raises(
        AssertionError, match=r"within 1min of lab time; at 1min: backlog \d+, connected, seed 1"
    ):
        lab.wait_until(lambda: False, within="1min")


def test_an_acknowledged_report_that_a_dishonest_disk_loses_is_reported(lab: LabUnderTest) -> None:
    lab.run_for("10min")
    lab.uplink.down()
    lab.disk.inject("disk-lies", holds="1h")
    lab.run_for("10min")
    lab.box.cut_power()
    lab.box.restore_power()
    lab.uplink.up()
    lab.run_for("10min")
    with pytest.raises(AssertionError, match="reports are lost"):
        lab.expect_nothing_lost()


def test_the_seed_of_the_command_line_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_seed(lab):\n    assert lab.world.seed == 42\n")
    result = pytester.runpytest_subprocess("--lab-seed", "42", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
