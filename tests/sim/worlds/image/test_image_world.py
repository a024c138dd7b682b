"""A flashed image in QEMU reaches the verdict of the virtual world; `make bench-image` tries more labs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sim.worlds.kernel.live.state import LabState
from tests.support.imaging.signed_image import SignedImage, signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.paths import ROOT
from tests.support.sim.settled_lab import run_until

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("_machine", "_only_emulated_machine")]

LAB = ROOT / "labs/minutes/10-power-cut.toml"
OVER_NS = 40_000_000_000
"""A time after the last event of the lab."""
NOTED = {"started-after-crash", "uplink-restored"}
"""Audit events that the box must have recorded, which show that the faults had an effect."""


def virtual_result() -> dict[str, Any]:
    words = [sys.executable, "-m", "rap", "lab", "run", str(LAB), "--world", "virtual", "--json"]
    done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def named_files() -> set[str]:
    return {path.name for path in Path("/var/tmp").iterdir() if path.is_file()}


@pytest.mark.slow("an emulated machine starts and runs a lab in real time")
def test_an_image_reaches_the_verdicts_of_the_virtual_world(tmp_path: Path) -> None:
    need_tools()
    before = named_files()
    image, key = signed_image()
    back_at: list[int] = []

    def is_settled(state: LabState) -> bool:
        """Return whether the box has started again, and has delivered all reports that waited then."""
        is_back = state.now_ns > OVER_NS and not state.faults and state.box_runs and state.connected
        if is_back and not back_at:
            back_at.append(state.made)
        return bool(back_at) and state.stored > back_at[0]

    real = run_until(LAB, SignedImage(image, key), is_settled, tmp_path / "report")
    virtual = virtual_result()
    assert real["world"] == "image"
    assert real["verdict"] == virtual["verdict"] == "pass", (real["expectations"], real["failures"])
    limits = [[(e["name"], e["limit"], e["holds"]) for e in d["expectations"]] for d in (real, virtual)]
    assert limits[0] == limits[1]
    assert real["reports"]["stored"] > 0.9 * real["reports"]["made"]
    assert {note["text"].partition(",")[0] for note in real["notes"]} >= NOTED
    assert f"--image {image} --key {key}" in real["replay"]
    assert named_files() == before
