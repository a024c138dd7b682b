"""The time from power-on to the first report in the data center: `python -m bench.image.boot [--json]`. Needs root.

A box's image, built from its kickstart with packages of the mock repository, starts in QEMU without acceleration,
with two emulated processors on two processors of this machine. It is the first start after flashing, so that the box
reads its identity from the identity partition. The instrument has a report to send from the start. The clock starts
with QEMU and stops when the report is in the data center's database; BIOS, boot menu and kernel are included.

Three starts are made, each after a bare start of systemd (`bench.image.bare`). The fastest start of each kind counts,
also for the ratio, because other work on the machine can only delay a start. The machine's load is reported too.

Needs what `make setup-image` installs, and iproute2.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, run
from bench.image.bare import make_bare, prompt_seconds
from tests.support.imaging.starts.emulated import Machine
from tests.support.imaging.starts.first_report import CABLES, build_image, first_report, plug_in
from tests.support.namespaces import own_network

TURNS: Final = 3
SECONDS_MAX: Final = 300.0


def start(folder: Path, image: Path) -> float:
    """Return the duration of one start in seconds."""
    (folder / "reports.db").unlink(missing_ok=True)
    with own_network():
        plug_in()
        machine = Machine(folder, image, CABLES)
        try:
            return asyncio.run(first_report(folder, SECONDS_MAX)) - machine.powered_on
        finally:
            machine.stop()


def bare_start(folder: Path, image: Path) -> float:
    """Return the duration of one bare start in seconds."""
    with own_network():
        plug_in()
        return prompt_seconds(folder, image, CABLES, SECONDS_MAX)


def figures() -> list[Figure]:
    """Return all figures."""
    with tempfile.TemporaryDirectory(prefix="rap-boot-", dir="/var/tmp") as name:
        folder = Path(name)
        image, bare = build_image(folder), folder / "bare.raw"
        make_bare(image, bare)
        busy = os.getloadavg()[0]
        pairs = [(bare_start(folder, bare), start(folder, image)) for _ in range(TURNS)]
    bare_durations, durations = zip(*pairs, strict=True)
    return [
        figure("power-on to the first report stored", "s", min(durations), "<= 24"),
        figure("a bare start of systemd, to the login prompt", "s", min(bare_durations)),
        figure("ratio of both", "", min(durations) / min(bare_durations), "<= 1.5"),
        figure("the slowest of these starts", "s", max(durations)),
        figure("load of this machine before", "processes", busy),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
