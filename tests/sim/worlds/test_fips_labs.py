"""FIPS mode in labs: a box that loses it closes its ports and its uplink until FIPS mode is restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal.crypto import FipsCheck
from sim.lab.labfile import load_lab, parse_lab
from sim.testing import LabUnderTest
from sim.worlds import run_lab

LABS = Path(__file__).parents[3] / "labs"
LAB = """
[lab]
name = "fips"
duration = "10min"
[box]
board = "rap-4"
{fips}
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10s"
[[event]]
at = "1min"
lasts = "3min"
fault = "fips-lost"
target = "box"
"""


def lab_with(fips: str) -> LabUnderTest:
    return LabUnderTest(parse_lab(LAB.format(fips=fips), Path("fips.toml")))


def test_without_fips_mode_ports_and_uplink_are_closed_until_it_is_restored() -> None:
    lab = lab_with('fips = "required"')
    box = lab.world.box
    lab.run_for("50s")
    assert box.is_connected
    assert any(port.carrier() for port in box.ports.values())
    lab.run_for("2min")
    assert not box.is_connected
    assert box.instrument_connections() == 0
    assert not any(port.carrier() for port in box.ports.values())
    assert f"fips: {FipsCheck.KERNEL}: the kernel is not in FIPS mode; start it with fips=1" in box.log
    lab.run_for("3min")
    assert box.is_connected
    assert any(port.carrier() for port in box.ports.values())
    lab.close()


def test_a_box_that_does_not_require_fips_mode_works_without_it() -> None:
    lab = lab_with("")
    lab.run_for("2min")
    assert lab.world.box.is_connected
    assert not [line for line in lab.world.box.log if line.startswith("fips")]
    lab.close()


@pytest.mark.slow("two hours of lab time")
def test_the_lab_of_lost_fips_mode_passes() -> None:
    assert run_lab(load_lab(LABS / "23-fips-lost.toml")).verdict == "pass"
