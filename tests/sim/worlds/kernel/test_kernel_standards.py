"""Instruments that speak their own standards in the kernel world: TCP through the firewall, and serial lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.lab.labfile import parse_lab
from sim.worlds import run_lab
from tests.support.sim.kernel_labs import small_lab

INSTRUMENTS = """
[[instrument]]
port = 2
model = "modular-analyzer"
report_every = "1s"
dialect = ["images", "charset-absent", "many-writes"]
[[instrument]]
port = 3
model = "electrolyte-analyzer"
report_every = "1s"
dialect = ["first-frame-0", "log-between-messages"]
[[event]]
at = "5s"
fault = "instrument-floods"
target = "instrument:3"
report = "alert"
rate = 1
lasts = "10s"
"""


@pytest.mark.kernel
@pytest.mark.slow("half a minute of real time")
def test_instruments_report_over_tcp_and_over_a_serial_line() -> None:
    text = small_lab("standards", "1s", duration="35s", more=INSTRUMENTS)
    result = run_lab(parse_lab(text, Path("standards.toml")), world="kernel")
    assert [one.name for one in result.expectations if not one.holds] == []
    stored = {one.model: one.stored for one in result.instruments}
    assert stored["modular-analyzer"] > 10
    assert stored["electrolyte-analyzer"] > 5
