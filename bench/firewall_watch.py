"""How soon a foreign change of the firewall is told and taken back: `python -m bench.firewall_watch`.

Another process changes the ruleset that a watch looks after. The clock begins before that process gives its command
to the kernel, which takes a part of the time itself, and is CLOCK_MONOTONIC for both. Told is when the watch calls
back; repaired is when it says that the policy is in force again, which it says after it has compared.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final, NamedTuple

from bench.figures import Figure, figure, run
from bench.firewall_range import POLICY, crowded
from bench.firewall_world import enter_namespace
from netfw.events import Alarm, Repair
from netfw.firewall import Firewall
from netfw.names import FAMILY, TABLE
from netfw.netlink import netfilter_socket
from netfw.nft import Nft
from netfw.picture import generation
from netfw.policy import Policy
from netfw.policyfile import load_policy
from netfw.sets import AUTHORIZED, SERVICES
from netfw.terms import ACCEPT, concat
from netfw.watch import Watch

TIMES: Final = 100
"""Each of the disasters, and the single changes together: the longest of these counts."""
NICE: Final = -10
"""As in the service's unit."""
_OURS: Final = {"family": FAMILY, "table": TABLE}
_SERVICE: Final = concat("enp2s0", "10.77.1.1", "tcp", 443)
CHANGES: Final[tuple[Any, ...]] = (
    {"insert": {"rule": {**_OURS, "chain": "input", "expr": [ACCEPT]}}},
    {"flush": {"chain": {**_OURS, "name": "forward"}}},
    {"add": {"element": {**_OURS, "name": AUTHORIZED[4], "elem": [concat("192.0.2.66", "tcp", 22)]}}},
    {"delete": {"element": {**_OURS, "name": SERVICES[4], "elem": [_SERVICE]}}},
)
DISASTERS: Final[dict[str, Any]] = {
    "table deleted": {"delete": {"table": {"family": FAMILY, "name": TABLE}}},
    "all authorized flushed": {"flush": {"set": {**_OURS, "name": AUTHORIZED[4]}}},
}


class Times(NamedTuple):
    """Seconds from the beginning of a change."""

    told: float
    repaired: float
    itself: float
    """Until the other process had its change acknowledged."""


def changed(change: Any, entries: int) -> list[Times]:
    """The same change, so often, with so many authorized addresses."""
    enter_namespace()
    policy = load_policy(POLICY)
    policy = crowded(policy, entries) if entries else policy
    firewall = Firewall(Nft())
    firewall.apply(policy)
    ours, theirs = get_context("fork").Pipe()
    stranger = get_context("fork").Process(target=_change, args=(theirs, change))
    stranger.start()  # a process of its own, in this namespace
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        return asyncio.run(
            _watched(firewall, policy, ours, TIMES if change in DISASTERS.values() else TIMES // len(CHANGES))
        )
    finally:
        ours.send(False)
        stranger.join()


def seconds_to_be_in_force(change: Any, entries: int) -> list[float]:
    """From the command until the kernel's ruleset is of another generation: no alarm can be earlier."""
    enter_namespace()
    policy = crowded(load_policy(POLICY), entries)
    firewall = Firewall(Nft())
    ours, theirs = get_context("fork").Pipe()
    stranger = get_context("fork").Process(target=_change, args=(theirs, change))
    stranger.start()
    found = []
    with netfilter_socket() as sock:
        for _ in range(TIMES):
            firewall.apply(policy)
            before = generation(sock)
            ours.send(True)
            while generation(sock) == before:
                pass
            in_force = time.monotonic()
            began, _ = ours.recv()
            found.append(in_force - began)
    ours.send(False)
    stranger.join()
    return found


def _change(orders: Connection, change: Any) -> None:
    nft = Nft()
    while orders.recv():
        began = time.monotonic()
        nft.run([change])
        orders.send((began, time.monotonic()))


async def _watched(firewall: Firewall, policy: Policy, stranger: Connection, times: int) -> list[Times]:
    told: asyncio.Queue[tuple[Alarm | Repair, float]] = asyncio.Queue()
    watch = Watch(firewall, policy, lambda what: told.put_nowait((what, time.monotonic())))
    watch.start()
    found = []
    for _ in range(times):
        stranger.send(True)
        (alarm, heard), (repair, done) = await told.get(), await told.get()
        assert isinstance(alarm, Alarm) and isinstance(repair, Repair), (alarm, repair)
        assert repair.in_force and repair.differences, repair
        began, ended = await asyncio.to_thread(stranger.recv)
        found.append(Times(heard - began, done - began, ended - began))
    watch.stop()
    return found


def _measured() -> Iterator[tuple[str, list[Times]]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for entries in (0, 10_000):
            name = f"{entries:,} addresses" if entries else "the clinic's policy"
            yield (
                name,
                [times for change in CHANGES for times in pool.submit(changed, change, entries).result()],
            )
            for disaster, change in DISASTERS.items():
                yield f"{name}, {disaster}", pool.submit(changed, change, entries).result()


def figures() -> list[Figure]:
    found = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for disaster, change in DISASTERS.items():
            times = pool.submit(seconds_to_be_in_force, change, 10_000).result()
            found.append(
                figure(f"  in force, 10,000 addresses, {disaster}, median", "ms", median(times) * 1000)
            )
    for name, measured in _measured():
        told, repaired, itself = ([getattr(each, word) * 1000 for each in measured] for word in Times._fields)
        found += [
            figure(f"foreign change told, {name}, median", "ms", median(told)),
            figure(f"foreign change told, {name}, longest", "ms", max(told), "<= 10"),
            figure(f"  the change itself, {name}, median", "ms", median(itself)),
            figure(f"  repaired, {name}, median", "ms", median(repaired)),
            figure(f"  repaired, {name}, longest", "ms", max(repaired), "<= 100"),
        ]
    return found


if __name__ == "__main__":
    run(figures, __doc__)
