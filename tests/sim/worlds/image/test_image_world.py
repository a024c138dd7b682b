"""A flashed image in QEMU reaches the verdict of the virtual world; `make bench-image` tries more labs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.paths import ROOT

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("_machine", "_only_emulated_machine")]

SECONDS_MAX = 1500
"""A guard against hanging on a busy machine; not a performance target."""
LAB = "10-power-cut"
NOTED = {"started-after-crash", "uplink-restored"}
"""Audit events that the box must have recorded, which show that the faults had an effect."""


def result_of(world: str, *more: object) -> dict[str, Any]:
    words = ["-m", "rap", "lab", "run", ROOT / f"labs/minutes/{LAB}.toml", "--world", world, "--json", *more]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def named_files() -> set[str]:
    return {path.name for path in Path("/var/tmp").iterdir() if path.is_file()}


@pytest.mark.slow("an emulated machine starts and runs a lab in real time")
def test_an_image_reaches_the_verdicts_of_the_virtual_world() -> None:
    need_tools()
    before = named_files()
    image, key = signed_image()
    real = result_of("image", "--image", image, "--key", key, "--start-seconds", 900)
    virtual = result_of("virtual")
    assert real["world"] == "image"
    assert real["verdict"] == virtual["verdict"] == "pass", (real["expectations"], real["failures"])
    limits = [[(e["name"], e["limit"], e["holds"]) for e in d["expectations"]] for d in (real, virtual)]
    assert limits[0] == limits[1]
    assert real["reports"]["stored"] > 0.9 * real["reports"]["made"]
    assert {note["text"].partition(",")[0] for note in real["notes"]} >= NOTED
    assert f"--image {image} --key {key}" in real["replay"]
    assert named_files() == before
