"""The labs of labs/minutes in three worlds: `python -m bench.image.labs [--json]`. Needs root.

Each lab runs in the virtual, the kernel and the image world, one after the other. The verdicts are compared. The
median time from the creation of a report to its storage in the image world is compared with that in the kernel world,
except in labs with an outage: there it is the time that half of the reports wait for the end of the outage.
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

LABS: Final = sorted((ROOT / "labs/minutes").glob("*.toml"))
WORLDS: Final = ("virtual", "kernel", "image")
START_SECONDS_MAX: Final = "900"
"""A limit that prevents hanging on a busy machine; it is not a target."""
OUTAGES: Final = ("link-down", "power-cut")


def _run_lab(lab: Path, world: str, options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "rap", "lab", "run", str(lab), "--world", world, "--json", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not result.stdout:
        return {"verdict": f"none: {result.stderr.strip()}", "latencies": [], "wall_seconds": 0.0}
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def _median(document: dict[str, Any]) -> float | None:
    """Return the median time from the creation of routine reports to their storage, in seconds, or None."""
    medians = [
        latency["p50_ns"] / 1e9 for latency in document["latencies"] if latency["priority"] == "routine"
    ]
    return medians[0] if medians else None


def figures() -> list[Figure]:
    """Return all figures, and print the table of verdicts to standard error."""
    image, key = signed_image()
    options = {"image": ["--image", str(image), "--key", str(key), "--start-seconds", START_SECONDS_MAX]}
    alike, ratios = 0, []
    for lab in LABS:
        documents = {world: _run_lab(lab, world, options.get(world, [])) for world in WORLDS}
        verdicts = [document["verdict"] for document in documents.values()]
        alike += len(set(verdicts)) == 1
        kernel, real = _median(documents["kernel"]), _median(documents["image"])
        if kernel and real and not any(fault in lab.read_text("utf-8") for fault in OUTAGES):
            ratios.append(100 * (real / kernel - 1))
        shown = "  ".join(f"{world}: {verdict}" for world, verdict in zip(WORLDS, verdicts, strict=True))
        print(f"{lab.stem:28} {shown}  median {kernel} s and {real} s", file=sys.stderr)
        for world, document in documents.items():
            for failure in document.get("failures", []):
                print(f"    {world}: {failure['expectation']}: {failure['explanation']}", file=sys.stderr)
    return [
        figure("labs with the same verdict in three worlds", "", alike, ">= 6"),
        figure("labs tried", "", len(LABS)),
        figure("largest difference of transfer times, image against kernel", "%", max(ratios), "<= 5"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
