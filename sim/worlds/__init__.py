"""Worlds: where a lab runs. Each reaches the same verdict in its own way."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

from sim.lab.labfile import Lab
from sim.verdict.result import Result


class Progress(Protocol):
    """Told now and then how far a run has come."""

    def __call__(self, now_ns: int, *, stored: int, backlog: int) -> None:
        """The lab is at `now_ns`; so many records are stored, and so many wait on the box."""


def run_lab(
    lab: Lab,
    *,
    world: str = "virtual",
    seed: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run a lab to its end and judge it; `seed` instead of the lab file's.

    Raises Stalled, saying what the run waits for, if it cannot reach its end.
    """
    result = _RUNNERS[world](lab, seed, progress)
    # A lab is a web of cycles. Were they left to the next lab's allocations to find, both would be in memory at once
    gc.collect()
    return result


def _virtual(lab: Lab, seed: int | None, progress: Progress | None) -> Result:
    from sim.engine.watchdog import StallWatchdog
    from sim.worlds.virtual.world import VirtualWorld

    with StallWatchdog() as watchdog, VirtualWorld(lab, seed) as running:
        watchdog.watch(lambda: running.env.now, running.loop)

        def tell(now_ns: int) -> None:
            if progress is not None:
                waiting = running.loop.run_until_complete(running.backlog()) or ()
                progress(now_ns, stored=running.datacenter.stored, backlog=sum(waiting))

        return running.run(tell)


def _kernel(lab: Lab, seed: int | None, progress: Progress | None) -> Result:
    from sim.worlds.kernel.main import run_kernel_lab

    return run_kernel_lab(lab, seed, progress)


_RUNNERS: dict[str, Callable[[Lab, int | None, Progress | None], Result]] = {
    "virtual": _virtual,
    "kernel": _kernel,
}
"""A world's runner by its name."""
