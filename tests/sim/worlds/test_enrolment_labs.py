"""Enrolment in labs: a flashed box, one that was off for two years, one on the deny-list, instruments."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from datacenter.store.tables.schema import certificates
from settings.problems import SettingsError
from sim.lab.labfile import load_lab, parse_lab
from sim.testing import LabUnderTest
from sim.worlds import run_lab

LABS = Path(__file__).parents[3] / "labs"
LAB = """
[lab]
name = "enrolment"
duration = "10min"
[box]
board = "rap-4"
enrolment = "flashed"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
"""


def issued(lab: LabUnderTest) -> list[str]:
    return [row.cause for row in lab.world.datacenter.store.read(select(certificates.c.cause))]


@pytest.mark.slow("two hours of lab time, with full TLS handshakes while the box is refused")
@pytest.mark.parametrize(
    "name",
    ["20-enrolment-day", "21-expired-box", "22-revoked-box", "24-dead-rtc", "26-instrument-certificates"],
)
def test_an_enrolment_lab_passes(name: str) -> None:
    result = run_lab(load_lab(LABS / f"{name}.toml"))
    assert result.verdict == "pass"


def test_a_flashed_box_is_enrolled_within_seconds() -> None:
    lab = LabUnderTest(parse_lab(LAB, Path("enrolment.toml")))
    lab.run_for("30s")
    assert issued(lab) == ["first"]
    assert lab.world.box.traffic().connections == 2, "one with each certificate"
    lab.close()


def test_an_instrument_is_enrolled_through_the_box_at_once_and_an_expired_one_after_an_approval() -> None:
    instruments = """enrolment = "flashed"
[[instrument]]
port = 2
model = "hematology-analyzer"
enrolment = "expired"
[[event]]
at = "60s"
fault = "enrolment-approved"
target = "datacenter"
"""
    lab = LabUnderTest(parse_lab(LAB + instruments, Path("enrolment.toml")))
    columns = certificates.c.instrument, certificates.c.cause

    def of_instruments() -> dict[str, str]:
        query = select(*columns).where(certificates.c.instrument != "")
        return {row.instrument: row.cause for row in lab.world.datacenter.store.read(query)}

    lab.run_for("50s")
    assert of_instruments() == {"CHEM-0001": "first"}
    lab.run_for("2min")
    assert of_instruments() == {"CHEM-0001": "first", "HEMA-0002": "approved"}
    lab.close()


def test_an_instrument_can_enrol_only_if_its_box_enrols() -> None:
    text = LAB.replace('enrolment = "flashed"', "") + 'enrolment = "flashed"\n'
    with pytest.raises(SettingsError, match="requests go through the box"):
        parse_lab(text, Path("enrolment.toml"))
