"""Starts the data center's program with a simulated fleet on this machine, reachable from loopback only."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final, NamedTuple, cast

from datacenter.main import Ports, run_datacenter
from datacenter.store.store import Store
from sim.fleet.clock import FastClock
from sim.fleet.past import create_fleet, merge
from sim.fleet.plan import PlannedBox, plan_fleet
from sim.fleet.sign_on import local_provider, sign_on_table
from sim.fleet.staff import FRONT_END, configuration, staff_directory, write_triggers
from sim.fleet.worker import GoLive, Task, part_file, work
from sim.units import DAY_NS, MILLISECOND_NS
from wire.pki.hierarchy import Authority, make_key
from wire.tls.context import Identity

DAY_MS: Final = DAY_NS // MILLISECOND_NS


class Demo(NamedTuple):
    """The settings of a demo: the size of the fleet, the days of its past, the speed of its clock, and the seed."""

    instruments: int
    days: int
    speed: float
    seed: int
    port: int
    sign_on: bool = False
    """Whether staff sign on through a local OpenID provider."""


class FleetError(Exception):
    """A process of the fleet ended too early."""


def run_demo(
    demo: Demo,
    folder: Path,
    progress: Callable[[int, int], None],
    ready: Callable[[list[PlannedBox], int], None],
) -> None:
    """Fill the empty `folder`, and serve until SIGTERM or SIGINT.

    `progress(done, total)` counts the boxes whose past is written; `ready(plan, port)` is called once staff can
    connect to the port. Raises: FleetError; OSError; StoreError; SettingsError; ImportError for `sign_on` without
    oidc-provider-mock.
    """
    with local_provider() if demo.sign_on else nullcontext("") as issuer:
        _run(demo, folder, issuer, progress, ready)


def _run(
    demo: Demo,
    folder: Path,
    issuer: str,
    progress: Callable[[int, int], None],
    ready: Callable[[list[PlannedBox], int], None],
) -> None:
    begin_ms = time.time_ns() // MILLISECOND_NS
    start_ms = begin_ms - begin_ms % DAY_MS - demo.days * DAY_MS
    plan = plan_fleet(demo.instruments, demo.days, demo.seed)
    database = folder / "datacenter.db"
    front = _write_files(folder, plan, demo.port, issuer, begin_ms)
    with closing(Store(f"sqlite:///{database}")) as store:
        create_fleet(store, plan, start_ms)
    end_ns = (begin_ms - start_ms) * MILLISECOND_NS
    with _workers(plan, demo.seed, start_ms, end_ns, folder) as pipes:
        for done, serial in enumerate(_written(pipes, len(plan)), 1):
            merge(database, part_file(folder, serial))
            part_file(folder, serial).unlink()
            progress(done, len(plan))
        clock = FastClock.starting(begin_ms, demo.speed)

        def go_live(ports: Ports) -> None:
            for pipe in pipes:
                pipe.send(GoLive(clock, ports.boxes, front))
            ready(plan, ports.staff or 0)

        run_datacenter(folder / "datacenter.toml", go_live, clock.now_ms)


def _write_files(folder: Path, plan: list[PlannedBox], port: int, issuer: str, now_ms: int) -> Identity:
    """Write the data center's input files; return the identity of the front end that sends for the boxes."""
    vendor, key = Authority.make("vendor"), make_key()
    vendor.issue(folder, "datacenter", hosts=("localhost",), trusts=vendor, key=key)
    write_triggers(folder / "triggers")
    (folder / "staff.toml").write_text(staff_directory(now_ms))
    table = sign_on_table(issuer, port, folder / "oidc.secret") if issuer else ""
    (folder / "datacenter.toml").write_text(configuration(folder / "datacenter.db", plan, port) + table)
    return vendor.issue(folder, FRONT_END, trusts=vendor, key=key)


@contextmanager
def _workers(
    plan: list[PlannedBox], seed: int, start_ms: int, end_ns: int, folder: Path
) -> Iterator[list[Connection]]:
    """Run one process per processor, each with a part of the boxes; they end with the block."""
    context = multiprocessing.get_context("spawn")
    count = min(os.cpu_count() or 1, len(plan))
    with ExitStack() as stack:
        pipes = []
        for index in range(count):
            parent_end, child_end = context.Pipe()
            task = Task(plan[index::count], seed, start_ms, end_ns, folder, folder / "triggers")
            process = context.Process(target=work, args=(task, child_end), daemon=True)
            process.start()
            child_end.close()
            stack.callback(process.join)
            stack.callback(process.terminate)
            pipes.append(stack.enter_context(parent_end))
        yield pipes


def _written(pipes: list[Connection], count: int) -> Iterator[str]:
    """Yield the serial numbers of the boxes, as soon as their past is written. Raises: FleetError."""
    while count:
        for pipe in cast("list[Connection]", wait(pipes)):
            try:
                yield pipe.recv()
            except EOFError as error:
                raise FleetError(
                    "a process that simulates instruments ended; its message is above"
                ) from error
            count -= 1
