"""Updates of a real image in QEMU: `python -m bench.update --only boots`. Needs root, and 40 minutes of real time.

The box fetches a release from a real data center over a line of 128 kbit/s, loses its power while it writes the other
slot, ends in the new slot, and leaves a release that does not start (`bench/update/labs/boots.toml`). Another box
takes a release of the application without a restart, and then new profiles (`bench/update/labs/application.toml`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, figure, run
from tests.support.imaging.signed_image import signed_image
from tests.support.paths import ROOT

LABS: Final = ("boots", "application")
START_SECONDS_MAX: Final = "900"
"""A limit that prevents hanging on a busy machine; it is not a target."""


def figures() -> list[Figure]:
    """Run the labs, and return their figures."""
    return [line for name in LABS for line in _run(name)]


def _run(name: str) -> list[Figure]:
    image, key = signed_image()
    lab = Path(__file__).with_name("labs") / f"{name}.toml"
    words = ["lab", "run", str(lab), "--world", "image", "--json", "--start-seconds", START_SECONDS_MAX]
    command = [sys.executable, "-m", "rap", *words, "--image", str(image), "--key", str(key)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    for failure in found.get("failures", []):
        print(f"{failure['expectation']}: {failure['explanation']}", file=sys.stderr)
    reports = found["reports"]
    return [
        figure(
            f"{name}: expectations that do not hold",
            "",
            sum(not each["holds"] for each in found["expectations"]),
            "<= 0",
        ),
        figure("  reports stored", "", reports["stored"]),
        figure("  reports lost", "", reports["lost"], "<= 0"),
        figure("  reports stored twice", "", reports["duplicates"], "<= 0"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
