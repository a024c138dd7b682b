"""The time from power-on to the first report in the data center: `python -m bench.image.boot [--json]`. Needs root.

A box's image, built from its kickstart with packages of the mock repository, starts in QEMU without acceleration,
with two emulated processors on two of this machine's. It is the first start after flashing: the identity is taken
from its partition. The instrument has a report to send from the start. The clock starts with QEMU and stops when
the report is in the data center's database; BIOS, boot menu and kernel are included.

Two runs are made, and the faster one counts, because other work on the machine can only slow it down. The machine's
load is reported too.

Needs what `make setup-image` installs, and iproute2.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, run
from tests.support.imaging.emulated import Machine
from tests.support.imaging.first_report import CABLES, build_image, first_report, plug_in
from tests.support.namespaces import own_network

TURNS: Final = 2
SECONDS_MAX: Final = 300.0


def start(folder: Path, image: Path) -> float:
    """The duration of one start in seconds."""
    (folder / "reports.db").unlink(missing_ok=True)
    with own_network():
        plug_in()
        machine = Machine(folder, image, CABLES)
        try:
            return asyncio.run(first_report(folder, SECONDS_MAX)) - machine.powered_on
        finally:
            machine.stop()


def figures() -> list[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="rap-boot-", dir="/var/tmp") as place:
        folder = Path(place)
        image = build_image(folder)
        busy = os.getloadavg()[0]
        taken = [start(folder, image) for _ in range(TURNS)]
    return [
        figure("power-on to the first report stored", "s", min(taken), "<= 40"),
        figure("the slowest of these starts", "s", max(taken)),
        figure("load of this machine before", "processes", busy),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
