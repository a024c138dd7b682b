"""A proxy that requires NTLM or Negotiate accepts the box in both worlds; if it refuses, no report is delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.lab.labfile import parse_lab
from sim.worlds.kernel.run import run_kernel_lab
from sim.worlds.virtual.run import run_virtual_lab

pytestmark = pytest.mark.kernel

LAB = """
[lab]
name = "spnego-{scheme}-{refused}"
duration = "20s"
[box]
board = "rap-4"
linger = "200ms"
spool_bytes_max = "16MiB"
[uplink]
rate = "1Mbit"
proxy = {{ kind = "http", auth = "{scheme}" }}
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "1s"
"""
REFUSED = """
[[event]]
at = "0s"
fault = "proxy-refuses"
target = "proxy"
"""


@pytest.mark.parametrize("scheme", ["ntlm", "negotiate"])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.slow("a lab runs in real time")
def test_both_worlds_deliver_unless_the_proxy_refuses(scheme: str, refused: bool) -> None:
    """The lab with a refusing proxy fails: a lab in which nothing is stored fails, regardless of the cause."""
    text = LAB.format(scheme=scheme, refused=str(refused).lower()) + REFUSED * refused
    lab = parse_lab(text, Path("spnego.toml"))
    for result in (run_virtual_lab(lab, None, None), run_kernel_lab(lab, None, None)):
        failed = {expectation.name for expectation in result.expectations if not expectation.holds}
        assert failed == ({"undelivered", "duplicates"} if refused else set())
        assert (result.reports.stored == 0) == refused
        assert result.reports.lost == 0
