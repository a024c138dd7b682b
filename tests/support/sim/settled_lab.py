"""A lab in the image world that is evaluated when its faults have had their effects, instead of after its duration.

The duration of a lab file must suffice on a busy machine, whose emulated boxes take minutes to start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.worlds.kernel import down, running
from sim.worlds.kernel.live.screen import request_state
from sim.worlds.kernel.live.state import LabState
from tests.support.eventually import poll_until
from tests.support.imaging.signed_image import SignedImage
from tests.support.namespaces import own_network
from tests.support.paths import ROOT

START_SECONDS_MAX = 900
SECONDS_MAX = 2400
"""Guards against hanging on a busy machine; not performance targets."""
_LOOK_SECONDS = 1.0


def run_until(
    lab: Path, image: SignedImage, is_settled: Callable[[LabState], bool], folder: Path
) -> dict[str, Any]:
    """Run a lab in the image world until its state is that; return its result. The report is in `folder`."""
    name = f"settles-{os.getpid()}"
    with own_network():  # labs are found by name in their network namespace
        try:
            in_lab("up", lab, "--world", "image", "--name", name, *_options(image))
            poll_until(lambda: is_settled(request_state(name)), SECONDS_MAX, every_s=_LOOK_SECONDS)
            done = in_lab("down", name, "--report", folder, "--json")
        finally:
            if name in running():
                down(name)
    document: dict[str, Any] = json.loads(done)
    return document


def _options(image: SignedImage) -> tuple[object, ...]:
    return "--image", image.image, "--key", image.key, "--start-seconds", START_SECONDS_MAX


def in_lab(*arguments: object) -> str:
    """Run `rap lab` in the network namespace of the lab; return its output."""
    command = [sys.executable, "-m", "rap", "lab", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.stdout or done.returncode == 0, done.stderr
    return done.stdout
