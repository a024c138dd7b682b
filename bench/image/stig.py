"""The STIG on a box's image: `python -m bench.image.stig [--json]`.

The image is built from the box's own kickstart with packages of the mock repository, and evaluated by `rap image
check --mock-repo`. Rules that these packages cannot pass are left out by name, and counted. Needs root, and the
packages of `make setup-image`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.figures import Figure, figure, run
from tests.support.imaging.first_report import build_image

FOLDER = Path("build/bench-stig")


def figures() -> list[Figure]:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    try:
        return compare(judged(build_image(FOLDER)))
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def judged(image: Path) -> dict[str, Any]:
    """The JSON document of `rap image check`."""
    command = [sys.executable, "-m", "rap", "image", "check", str(image), "--mock-repo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def compare(document: dict[str, Any]) -> list[Figure]:
    counts = document["counts"]
    unexplained = [one for one in document["fails"] if not one["reason"]]
    return [
        *(
            figure(f"rules, {severity}: {verdict}", "", counts[severity][verdict])
            for severity in counts
            for verdict in counts[severity]
        ),
        figure("high-severity rules that fail", "", counts["high"]["fail"], "<= 0"),
        figure("share of the decided rules that pass", "%", 100 * document["passed_share"], ">= 90"),
        figure("fails without a written reason", "", len(unexplained), "<= 0"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
