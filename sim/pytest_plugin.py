"""The pytest fixture `lab`: a simulated lab in the virtual world, for tests of anything on the box.

    import pytest

    @pytest.mark.lab("labs/02-satellite-socks.toml")     # without this marker: a small lab without events
    def test_outage(lab):
        lab.uplink.down()
        lab.run_for("3h")
        lab.uplink.up()
        lab.wait_until(lambda: lab.box.backlog == 0, within="10min")
        lab.expect_nothing_lost()

The messages of a failing test contain the seed; `pytest --lab-seed N` runs tests with the seed N.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sim.testing import LabUnderTest

SMALL_LAB = """
[lab]
name = "small"
duration = "30d"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
[[instrument]]
port = 2
model = "hematology-analyzer"
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--lab-seed`."""
    help_text = "the seed of every `lab` of this run, instead of that of its lab file"
    parser.getgroup("rap").addoption("--lab-seed", type=int, default=None, help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `lab`."""
    config.addinivalue_line("markers", "lab(path): the lab file that the `lab` fixture runs")


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[LabUnderTest]:
    """A lab that has just started; see the module's docstring."""
    from sim.lab.labfile import load_lab, parse_lab
    from sim.testing import LabUnderTest

    marker = request.node.get_closest_marker("lab")
    spec = load_lab(Path(marker.args[0])) if marker else parse_lab(SMALL_LAB, Path("small.toml"))
    running = LabUnderTest(spec, request.config.getoption("--lab-seed"))
    try:
        yield running
    finally:
        running.close()
