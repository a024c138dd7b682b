"""Updates of a real image in QEMU: `python -m bench.update --only boots`. Needs root, and an hour of real time.

The box fetches a release from a real data center over a line of 128 kbit/s, loses its power while it writes the
other slot, ends in the new slot, and leaves a release that does not start (`bench/update/labs/boots.toml`). Other
boxes take releases of the application without a restart, leave those that cannot run, and take new profiles.
`python -m bench.update.boots LAB…` runs some of these labs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.figures import Figure, figure, show
from sim.worlds.kernel.live.state import LabState
from tests.support.imaging.signed_image import signed_image
from tests.support.sim.settled_lab import run_until

FOLDER: Final = Path(__file__).with_name("labs")
LABS: Final = ("boots", "application", "left", "unhealthy")
_ENDED: Final = frozenset({"committed", "returned", "refused", "failed"})


def figures(names: Sequence[str] = LABS) -> list[Figure]:
    """Run the labs, and return their figures."""
    return [line for name in names for line in _run(name)]


class _Settled:
    """Whether all updates of a lab have ended, and the box has delivered a report since."""

    def __init__(self) -> None:
        self._steps: list[str] = []
        self._made: int | None = None

    def __call__(self, state: LabState) -> bool:
        if state.updates != self._steps:
            self._steps = state.updates
            shown = ", ".join(step or "nothing" for step in self._steps)
            print(f"{state.now_ns / 1e9:6.0f} s: {shown}", file=sys.stderr)
        if self._made is None and _ENDED.issuperset(self._steps):
            self._made = state.made
        return self._made is not None and state.stored > self._made


def _run(name: str) -> list[Figure]:
    with TemporaryDirectory(prefix="rap-boots-") as folder:
        result = run_until(FOLDER / f"{name}.toml", signed_image(), _Settled(), Path(folder))
    print(json.dumps([result["failures"], result["reports"]]), file=sys.stderr)
    reports = result["reports"]
    return [
        figure(
            f"{name}: expectations that do not hold",
            "",
            sum(not expectation["holds"] for expectation in result["expectations"]),
            "<= 0",
        ),
        figure("  reports stored", "", reports["stored"]),
        figure("  reports lost", "", reports["lost"], "<= 0"),
        figure("  reports stored twice", "", reports["duplicates"], "<= 0"),
    ]


if __name__ == "__main__":
    show(figures(sys.argv[1:] or LABS))
