"""Running a lab in the virtual world from its start to its verdict."""

from __future__ import annotations

from sim.engine.watchdog import StallWatchdog
from sim.lab.labfile import Lab
from sim.verdict.result import Result
from sim.worlds.shared.progress import LabProgress
from sim.worlds.virtual.world import VirtualWorld


def run_virtual_lab(lab: Lab, seed: int | None, progress: LabProgress | None) -> Result:
    """Run a lab in simulated time and evaluate it. Raises: Stalled if the run cannot end."""
    with StallWatchdog() as watchdog, VirtualWorld(lab, seed) as running:
        watchdog.watch(lambda: running.env.now, running.loop)

        def report(now_ns: int) -> None:
            if progress is not None:
                waiting = running.loop.run_until_complete(running.backlog()) or ()
                progress(now_ns, stored=running.datacenter.stored, backlog=sum(waiting))

        return running.run(report)
