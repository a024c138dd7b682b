"""A process with some boxes of a fleet: it writes their past, and then sends their reports as time passes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from datacenter.evaluation.triggerset import read_triggers
from sim.fleet.box import FleetBox
from sim.fleet.clock import FastClock
from sim.fleet.live import send_forever
from sim.fleet.past import write_past
from sim.fleet.plan import PlannedBox
from wire.tls.context import Identity


class Task(NamedTuple):
    """The task of a worker: its boxes, and their history, which it writes to `folder` as one database per box."""

    boxes: Sequence[PlannedBox]
    seed: int
    start_ms: int
    end_ns: int
    folder: Path
    triggers: Path


class GoLive(NamedTuple):
    """Sent when the data center serves: from then on the worker sends reports as `clock` advances."""

    clock: FastClock
    port: int
    identity: Identity


def part_file(folder: Path, box: str) -> Path:
    """Return the database with the past of a box."""
    return folder / f"{box}.db"


def work(task: Task, pipe: Connection) -> None:
    """Report each box whose past is written; then wait for GoLive, and send until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    triggers = read_triggers(task.triggers)
    boxes = [FleetBox(plan, task.seed, task.start_ms) for plan in task.boxes]
    try:
        for box in boxes:
            write_past(box, part_file(task.folder, box.plan.serial), triggers, task.start_ms, task.end_ns)
            pipe.send(box.plan.serial)
        live = pipe.recv()
    except (EOFError, OSError):
        return  # the parent process has ended
    assert isinstance(live, GoLive)
    asyncio.run(_until_parent_ends(boxes, task, live, pipe))


async def _until_parent_ends(boxes: list[FleetBox], task: Task, live: GoLive, pipe: Connection) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        try:
            pipe.recv()
        except (EOFError, OSError):
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    sending = asyncio.create_task(send_forever(boxes, task.start_ms, live.clock, live.port, live.identity))
    stop = asyncio.create_task(ended.wait())
    await asyncio.wait([sending, stop], return_when=asyncio.FIRST_COMPLETED)
    sending.cancel()
    stop.cancel()
