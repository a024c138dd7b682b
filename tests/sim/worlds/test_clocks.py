"""A box whose clock starts in any year from 1970 to 2100 enrols, renews, forwards and is updated."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from datacenter.store.tables.schema import certificates
from sim.lab.labfile import parse_lab
from sim.worlds.virtual.world import VirtualWorld

STARTS = datetime(2026, 1, 5)
LAB = """
[lab]
name = "clocks"
duration = "20min"
[box]
board = "rap-4"
enrolment = "{enrolment}"
[uplink]
rate = "1mbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
enrolment = "flashed"
[[event]]
at = "0s"
fault = "clock-jump"
target = "clock"
by = "{days}d"
direction = "{direction}"
[[event]]
at = "30s"
fault = "enrolment-approved"
target = "datacenter"
[[event]]
at = "2min"
update = "healthy"
"""
DATES = [
    *("1970-01-01", "1985-06-01", "2000-02-29", "2025-12-31", "2026-07-01", "2028-03-01"),
    *("2038-01-20", "2050-01-01", "2069-12-31", "2100-01-01"),
]
"""Dates near the limits of the times in file systems, certificates (UTCTime ends in 2049) and programs."""


@pytest.mark.slow("twenty minutes of lab time with an update, for each clock")
@pytest.mark.parametrize(("number", "date"), list(enumerate(DATES)))
def test_a_box_with_any_clock_enrols_forwards_and_is_updated(number: int, date: str) -> None:
    enrolment = "expired" if number % 2 else "flashed"
    days = (datetime.fromisoformat(date) - STARTS).days
    direction = "forwards" if days >= 0 else "backwards"
    lab = parse_lab(LAB.format(enrolment=enrolment, days=abs(days), direction=direction), Path("clocks.toml"))
    with VirtualWorld(lab) as world:
        result = world.run()
        columns = certificates.c.instrument, certificates.c.cause
        rows = world.datacenter.store.read(select(*columns).order_by(columns[0]))
        issued = {row.instrument: row.cause for row in rows}
    assert result.verdict == "pass", result.failures
    assert issued == {"": "approved" if enrolment == "expired" else "first", "CHEM-0001": "first"}
