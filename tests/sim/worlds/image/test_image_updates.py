"""A real box installs a release over the line, and its reports come from the new slot.

`python -m bench.update --only boots` also cuts the power meanwhile, and lets a release fail to start.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.problems import SettingsError
from sim.lab.labfile import load_lab
from sim.worlds.image.refusals import check_lab
from sim.worlds.kernel.live.state import LabState
from sim.worlds.kernel.run import check as check_in_kernel_world
from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.sim.settled_lab import run_until

LAB = """\
[lab]
name = "update"
description = "A box fetches a release, writes its other slot, and commits the release after its start."
duration = "10min"
[box]
board = "rap-4"
[uplink]
rate = "128kbit"
delay = "40ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "10s"
[[event]]
at = "5s"
update = "healthy"
lasts = "9min"
[expect]
lost = 0
duplicates = 0
dropped = 0
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (file := tmp_path / "update.toml").write_text(LAB)
    return file


def test_the_image_world_has_updates_and_the_kernel_world_has_not(lab: Path) -> None:
    check_lab(load_lab(lab), "bios")
    with pytest.raises(SettingsError, match="update needs a box with a disk and a clock of its own"):
        check_in_kernel_world(load_lab(lab))


@pytest.mark.kernel
@pytest.mark.usefixtures("_machine", "_only_emulated_machine")
@pytest.mark.slow("an emulated machine is updated in real time")
def test_a_real_box_is_updated_over_the_line(lab: Path, tmp_path: Path) -> None:
    need_tools()
    committed_at: list[int] = []

    def is_settled(state: LabState) -> bool:
        """Return whether the box has committed the release, and has delivered a report since."""
        if state.updates == ["committed"] and not committed_at:
            committed_at.append(state.made)
        return bool(committed_at) and state.stored > committed_at[0]

    found = run_until(lab, signed_image(), is_settled, tmp_path / "report")
    assert found["verdict"] == "pass", (found["expectations"], found["failures"])
