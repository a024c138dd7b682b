"""The time until a change of the firewall by another program is reported and repaired: `python -m
bench.firewall.watch`.

Another process changes the ruleset that a watch monitors. The time is measured from before that process passes its
command to the kernel, so that it includes the change itself; both processes read CLOCK_MONOTONIC. The change is
reported when the watch calls its callback, and repaired when the watch reports that the policy is in force again.

Two more times have no target: until the change is in force in the kernel, found by polling the ruleset's generation,
and until the kernel notifies its listeners. No alarm that is based on notifications can be earlier.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final, NamedTuple

from bench.figures import Figure, figure, run
from bench.firewall.namespace import enter_namespace
from bench.firewall.testbed import POLICY, with_addresses
from netfw.events import Alarm, Repair
from netfw.kernel.firewall import Firewall
from netfw.kernel.netlink import RECEIVE_BYTES, netfilter_socket
from netfw.kernel.nft import Nft
from netfw.kernel.snapshot import generation
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.ruleset.names import FAMILY, TABLE
from netfw.ruleset.nft_json import ACCEPT, concat
from netfw.ruleset.sets import AUTHORIZED, SERVICES
from netfw.watch.watch import BUFFER_BYTES, Watch

TIMES: Final = 100
"""Repetitions of each bulk removal, and of the small changes together; the target applies to the longest."""
NICE: Final = -10
"""The niceness in the unit of the firewall service."""
_NFNLGRP_NFTABLES: Final = 7
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE: Final = 33
_TABLE: Final = {"family": FAMILY, "table": TABLE}
_SERVICE: Final = concat("enp2s0", "10.77.1.1", "tcp", 443)
SMALL_CHANGES: Final[tuple[Any, ...]] = (
    {"insert": {"rule": {**_TABLE, "chain": "input", "expr": [ACCEPT]}}},
    {"flush": {"chain": {**_TABLE, "name": "forward"}}},
    {"add": {"element": {**_TABLE, "name": AUTHORIZED[4], "elem": [concat("192.0.2.66", "tcp", 22)]}}},
    {"delete": {"element": {**_TABLE, "name": SERVICES[4], "elem": [_SERVICE]}}},
)
BULK_REMOVALS: Final[dict[str, Any]] = {
    "table deleted": {"delete": {"table": {"family": FAMILY, "name": TABLE}}},
    "all authorized flushed": {"flush": {"set": {**_TABLE, "name": AUTHORIZED[4]}}},
}


class Times(NamedTuple):
    """Seconds from the start of a change."""

    reported: float
    repaired: float
    change_alone: float
    """Until the kernel acknowledged the change to the other process."""


class Stages(NamedTuple):
    """Seconds from the start of a change, in the kernel."""

    in_force: float
    """Until the generation of the ruleset changes."""
    notified: float
    """Until the first notification about the change can be read."""


def change_times(change: Any, entries: int) -> list[Times]:
    """Repeat a change with this many authorized addresses."""
    enter_namespace()
    policy = load_policy(POLICY)
    policy = with_addresses(policy, entries) if entries else policy
    firewall = Firewall(Nft())
    firewall.apply(policy)
    parent_end, child_end = get_context("fork").Pipe()
    changer = get_context("fork").Process(target=_change, args=(child_end, change))
    changer.start()  # a separate process in this network namespace
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        return asyncio.run(
            _watched(
                firewall,
                policy,
                parent_end,
                TIMES if change in BULK_REMOVALS.values() else TIMES // len(SMALL_CHANGES),
            )
        )
    finally:
        parent_end.send(False)
        changer.join()


def stages(change: Any, entries: int) -> list[Stages]:
    """Return the times until a change is in force in the kernel and until the kernel notifies, found by polling."""
    enter_namespace()
    policy = with_addresses(load_policy(POLICY), entries)
    firewall = Firewall(Nft())
    parent_end, child_end = get_context("fork").Pipe()
    first, *others = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {first})
    changer = get_context("fork").Process(target=_change, args=(child_end, change))
    changer.start()
    # a process that shares the processor of the changing one would be notified late
    os.sched_setaffinity(0, others or {first})
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    measured = []
    for _ in range(TIMES):
        firewall.apply(policy)
        with netfilter_socket() as asking, netfilter_socket() as listening:
            listening.bind((0, 0))
            listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
            listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
            before = generation(asking)
            parent_end.send(True)
            while generation(asking) == before:
                pass
            in_force = time.monotonic()
            listening.recv(RECEIVE_BYTES)
            notified = time.monotonic()
        began, _ = parent_end.recv()
        measured.append(Stages(in_force - began, notified - began))
    parent_end.send(False)
    changer.join()
    return measured


def _change(orders: Connection, change: Any) -> None:
    nft = Nft()
    while orders.recv():
        began = time.monotonic()
        nft.run([change])
        orders.send((began, time.monotonic()))


async def _watched(firewall: Firewall, policy: Policy, changer: Connection, times: int) -> list[Times]:
    events: asyncio.Queue[tuple[Alarm | Repair, float]] = asyncio.Queue()
    watch = Watch(firewall, policy, lambda event: events.put_nowait((event, time.monotonic())))
    watch.start()
    measured = []
    for _ in range(times):
        changer.send(True)
        (alarm, reported), (repair, repaired) = await events.get(), await events.get()
        assert isinstance(alarm, Alarm) and isinstance(repair, Repair), (alarm, repair)
        assert repair.in_force and repair.differences, repair
        began, ended = await asyncio.to_thread(changer.recv)
        measured.append(Times(reported - began, repaired - began, ended - began))
    watch.stop()
    return measured


def _measured() -> Iterator[tuple[str, list[Times]]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for entries in (0, 10_000):
            name = f"{entries:,} addresses" if entries else "a clinic's policy"
            yield (
                name,
                [
                    times
                    for change in SMALL_CHANGES
                    for times in pool.submit(change_times, change, entries).result()
                ],
            )
            for removal, change in BULK_REMOVALS.items():
                yield f"{name}, {removal}", pool.submit(change_times, change, entries).result()


def figures() -> list[Figure]:
    measured_figures = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for removal, change in BULK_REMOVALS.items():
            times = pool.submit(stages, change, 10_000).result()
            for stage in Stages._fields:
                milliseconds = [getattr(each, stage) * 1000 for each in times]
                name = f"  {stage.replace('_', ' ')} by the kernel, 10,000 addresses, {removal}"
                measured_figures.append(figure(f"{name}, median", "ms", median(milliseconds)))
                measured_figures.append(figure(f"{name}, longest", "ms", max(milliseconds)))
    for name, measured in _measured():
        reported, repaired, change_alone = (
            [getattr(each, field) * 1000 for each in measured] for field in Times._fields
        )
        measured_figures += [
            figure(f"foreign change reported, {name}, median", "ms", median(reported)),
            figure(f"foreign change reported, {name}, longest", "ms", max(reported), "<= 10"),
            figure(f"  the change alone, {name}, median", "ms", median(change_alone)),
            figure(f"  repaired, {name}, median", "ms", median(repaired)),
            figure(f"  repaired, {name}, longest", "ms", max(repaired), "<= 100"),
        ]
    return measured_figures


if __name__ == "__main__":
    run(figures, __doc__)
