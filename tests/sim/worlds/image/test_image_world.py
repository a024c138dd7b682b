"""A flashed image in QEMU installs an update and reaches the verdict of the virtual world.

The line fails during the download, and the power during the restart into the new slot. `make bench-image` tries more
labs, and `python -m bench.update --only boots` power cuts meanwhile, and a release that does not start.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from settings.problems import SettingsError
from sim.lab.labfile import load_lab
from sim.worlds.image.refusals import check_lab
from sim.worlds.kernel.live.state import LabState
from sim.worlds.kernel.run import check as check_in_kernel_world
from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.paths import ROOT
from tests.support.sim.settled_lab import in_lab, run_until

LAB = """\
[lab]
name = "update"
description = "A box fetches a release, writes its other slot, and commits the release after its start."
duration = "10min"
[box]
board = "rap-4"
[uplink]
rate = "256kbit"
delay = "20ms"
[[instrument]]
port = 1
model = "chemistry-analyzer"
report_every = "5s"
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "5s"
[[event]]
at = "5s"
update = "healthy"
lasts = "9min"
[[event]]
at = "8s"
fault = "link-down"
target = "uplink"
lasts = "10s"
[expect]
lost = 0
duplicates = 0
dropped = 0
acknowledged_within = "5min"
"""
AUDIT_EVENTS = {"uplink-restored"}
"""Audit events that the box must have recorded, which show that the fault had an effect."""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (file := tmp_path / "update.toml").write_text(LAB)
    return file


def virtual_result(lab: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "rap", "lab", "run", str(lab), "--world", "virtual", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def files_in_var_tmp() -> set[str]:
    return {path.name for path in Path("/var/tmp").iterdir() if path.is_file()}


def test_the_image_world_has_updates_and_the_kernel_world_has_not(lab: Path) -> None:
    check_lab(load_lab(lab), "bios")
    with pytest.raises(SettingsError, match="update needs a box with a disk and a clock of its own"):
        check_in_kernel_world(load_lab(lab))


@pytest.mark.kernel
@pytest.mark.usefixtures("_machine", "_only_emulated_machine")
@pytest.mark.slow("an emulated machine starts twice and runs a lab in real time")
def test_an_image_is_updated_and_reaches_the_verdicts_of_the_virtual_world(lab: Path, tmp_path: Path) -> None:
    need_tools()
    before = files_in_var_tmp()
    image = signed_image()
    off_at: list[int] = []
    committed_at: list[int] = []

    def is_settled(state: LabState) -> bool:
        """Return whether the box has committed the release, and has delivered a report since."""
        if not state.box_runs and not off_at:
            in_lab("fault", "power-cut", "box", "--lasts", "2s")
            off_at.append(state.made)
        if state.updates == ["committed"] and not committed_at:
            committed_at.append(state.made)
        return bool(committed_at) and state.stored > committed_at[0]

    real = run_until(lab, image, is_settled, tmp_path / "report")
    virtual = virtual_result(lab)
    assert real["world"] == "image"
    assert real["verdict"] == virtual["verdict"] == "pass", (real["expectations"], real["failures"])
    limits = [[(e["name"], e["limit"], e["holds"]) for e in d["expectations"]] for d in (real, virtual)]
    assert limits[0] == limits[1]
    assert real["reports"]["stored"] > 0.9 * real["reports"]["made"]
    assert {note["text"].partition(",")[0] for note in real["notes"]} >= AUDIT_EVENTS
    assert off_at
    assert f"--image {image.image} --key {image.key}" in real["replay"]
    assert files_in_var_tmp() == before
