"""Running a lab file in the kernel world, from a process outside of it."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from sim.labfile import Lab
from sim.labkeys import LabFileError
from sim.result import Result
from sim.worlds.kernel.control import Refused, ask
from sim.worlds.kernel.missing import missing
from sim.worlds.kernel.proxy import PROGRAMS
from sim.worlds.kernel.registry import NoSuchLab
from sim.worlds.kernel.supervisor import run
from sim.worlds.kernel.world import run_world

if TYPE_CHECKING:
    from sim.worlds import Progress

_LOOK_SECONDS: Final = 0.5


class MachineLacksError(Exception):
    """This machine cannot run labs in the kernel world; says what is missing, and what gives it."""


def run_kernel_lab(lab: Lab, seed: int | None, progress: Progress | None) -> Result:
    """Run a lab to its end, in real time, and judge it. Errors: LabFileError, MachineLacksError."""
    check(lab)
    name = f"{lab.name[:40]}-{os.getpid()}"
    over = threading.Event()
    watcher = threading.Thread(target=_tell, args=(name, progress, over))
    if progress is not None:
        watcher.start()
    try:
        return run(name, partial(run_world, lab, seed))
    finally:
        over.set()
        if progress is not None:
            watcher.join()


def check(lab: Lab) -> None:
    """Whether the lab can run in this world, on this machine. Errors: LabFileError, MachineLacksError."""
    wrong = [
        f"{lab.path}: event.fault: {event.fault.kind} takes emulated parts; run it with --world virtual"
        for event in lab.events
        if event.fault.emulated
    ]
    if wrong:
        raise LabFileError("\n".join(dict.fromkeys(wrong)))
    proxy = lab.uplink.proxy
    if lacking := missing(PROGRAMS[proxy.kind] if proxy else None):
        raise MachineLacksError("\n".join(lacking))


def _tell(name: str, progress: Progress, over: threading.Event) -> None:
    """Ask the lab now and then how far it is."""
    while not over.wait(_LOOK_SECONDS):
        try:
            progress(**ask(name, {"how": "far"}))
        except (NoSuchLab, Refused, OSError):
            continue  # it is beginning, or just over
