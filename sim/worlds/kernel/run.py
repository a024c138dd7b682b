"""Running a lab file in the kernel world from an outside process: to its end, or until `rap lab down`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from settings.problems import Problem, SettingsError
from sim.faults import AnyFault
from sim.faults.proxy.inspects import ProxyInspects
from sim.lab.labfile import Lab
from sim.proxies.kind import proxy_kind
from sim.proxies.squid import CANNOT_INSPECT, can_inspect
from sim.verdict.result import Result
from sim.worlds.kernel.live.console import Console
from sim.worlds.kernel.namespaces.missing import MachineLacksError, require
from sim.worlds.kernel.namespaces.vpn import PROGRAMS as VPN_PROGRAMS
from sim.worlds.kernel.supervision.control import RequestRefused, ask
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.kernel.supervision.registry import NoSuchLab
from sim.worlds.kernel.supervision.supervisor import run, up
from sim.worlds.kernel.world import CHECK_SECONDS_MAX, KernelWorld
from sim.worlds.shared.progress import LabProgress

_LOOK_SECONDS: Final = 0.5
_START_LOOK_SECONDS: Final = 0.02
START_SECONDS_MAX: Final = 180.0
"""The time limit for the start of a lab; on a busy machine it takes ten seconds."""
_GRACE_SECONDS: Final = 60.0
_NS: Final = 1_000_000_000


@dataclass(frozen=True)
class RunParameters:
    """The parameters of a run: the factory of its world, the time limit of its start, and its folders (`run`)."""

    make: Callable[[KernelLab], KernelWorld]
    start_seconds_max: float = START_SECONDS_MAX
    writable: Sequence[Path] = ()
    readable: Sequence[Path] = ()


def run_kernel_lab(lab: Lab, seed: int | None, progress: LabProgress | None) -> Result:
    """Run a lab to its end in real time, and evaluate it. Raises: SettingsError, MachineLacksError, Stalled."""
    check(lab)
    return run_to_the_end(lab, _kernel(lab, seed), progress)


def _kernel(lab: Lab, seed: int | None) -> RunParameters:
    return RunParameters(lambda namespaces: KernelWorld(namespaces, lab, seed))


def run_to_the_end(lab: Lab, parameters: RunParameters, progress: LabProgress | None) -> Result:
    """Run a lab in a new supervisor for its duration, and evaluate it."""
    name = f"{lab.name[:40]}-{os.getpid()}"
    ended = threading.Event()
    watcher = threading.Thread(target=_pass_progress, args=(name, progress, ended))
    if progress is not None:
        watcher.start()
    try:
        return run(
            name,
            partial(_to_the_end, lab, parameters),
            writable=parameters.writable,
            readable=parameters.readable,
            seconds_max=_total_seconds_max(lab, parameters),
        )
    finally:
        ended.set()
        if progress is not None:
            watcher.join()


async def _to_the_end(lab: Lab, parameters: RunParameters, namespaces: KernelLab) -> Result:
    world = await _begin(parameters, namespaces)
    namespaces.deadline.within(lab.about.duration / _NS + _GRACE_SECONDS, "running the lab")
    await asyncio.sleep(lab.about.duration / _NS)
    return world.finish()


def _total_seconds_max(lab: Lab, parameters: RunParameters) -> float:
    """Return a time limit in seconds, longer than all time limits of the lab itself together."""
    return parameters.start_seconds_max + lab.about.duration / _NS + CHECK_SECONDS_MAX + 3 * _GRACE_SECONDS


def start_kernel_lab(lab: Lab, name: str, seed: int | None, *, events: bool = True) -> None:
    """Start a lab that runs under a name until `down`; its faults are injected unless `events` is false.

    Returns when all its programs run. Raises: SettingsError, MachineLacksError, LabExists, LabEnded; ValueError for
    an invalid name.
    """
    check(lab)
    start_detached(lab, name, lambda lab: _kernel(lab, seed), events=events)


def start_detached(
    lab: Lab, name: str, make_parameters: Callable[[Lab], RunParameters], *, events: bool = True
) -> None:
    """Start a lab that keeps running: see `start_kernel_lab`."""
    parameters = make_parameters(lab if events else msgspec.structs.replace(lab, events=()))
    up(
        name,
        partial(_run_detached, parameters),
        writable=parameters.writable,
        readable=parameters.readable,
        seconds_max=parameters.start_seconds_max + _GRACE_SECONDS,
    )


async def _run_detached(parameters: RunParameters, namespaces: KernelLab) -> None:
    world = await _begin(parameters, namespaces)
    while await world.box.status() is None:  # noqa: ASYNC110 - the program's start has no event
        await asyncio.sleep(_START_LOOK_SECONDS)
    namespaces.deadline.cancel()
    namespaces.is_up()
    await asyncio.Event().wait()


async def _begin(parameters: RunParameters, namespaces: KernelLab) -> KernelWorld:
    namespaces.deadline.within(parameters.start_seconds_max, "starting the lab")
    world = parameters.make(namespaces)
    await world.start()
    namespaces.control.handler = Console(world).answer
    return world


def check(lab: Lab) -> None:
    """Check that the lab can run in this world and on this machine. Raises: SettingsError, MachineLacksError."""
    problems = [
        Problem("event.fault", f"{event.fault.kind} needs {_required_hardware(event.fault)}")
        for event in lab.events
        if event.fault.emulated
    ]
    if problems:
        raise SettingsError(lab.path, *dict.fromkeys(problems))
    proxy = lab.uplink.proxy
    programs = dict(proxy_kind(proxy.kind).packages) if proxy else {}
    require(programs | (VPN_PROGRAMS if lab.uplink.vpn else {}))
    if any(isinstance(event.fault, ProxyInspects) for event in lab.events) and not can_inspect():
        raise MachineLacksError(CANNOT_INSPECT)


def _required_hardware(fault: AnyFault) -> str:
    if fault.of_machine:
        return "a box with a disk and a clock of its own; run it with --world virtual or image"
    return "emulated hardware; run it with --world virtual"


def _pass_progress(name: str, progress: LabProgress, ended: threading.Event) -> None:
    """Pass the progress of the lab to `progress` periodically, until `ended` is set."""
    while not ended.wait(_LOOK_SECONDS):
        try:
            progress(**ask(name, {"verb": "far"}))
        except (NoSuchLab, RequestRefused, OSError):
            continue  # the lab is starting, or has just ended
