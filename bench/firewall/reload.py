"""Packets that pass while the firewall is reloaded under a flood: `python -m bench.firewall.reload`.

A process floods the box from every zone with packets that both of two policies refuse, interleaved with packets
that both allow, while another process applies the two policies in turn. Forbidden packets that pass the ruleset are
counted, and so are allowed packets that do not.

The control is the same flood against a ruleset with `policy drop` and no final rule, replaced in the usual way:
delete the table, add the table. Forbidden packets must pass it; otherwise the flood is too slow, and the other
figures prove nothing.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from multiprocessing import get_context
from typing import Any, Final, NamedTuple, TypeAlias

from bench.figures import Figure, figure, run
from bench.firewall.namespace import LAST, enter_namespace
from bench.firewall.sendmmsg import send_all
from bench.firewall.testbed import POLICY, Injector, Testbed, TestbedZone, box_zones, zones
from netfw.kernel.firewall import Firewall
from netfw.model.packet import tcp, udp
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.ruleset.names import CAUSES, FAMILY, TABLE
from netfw.ruleset.nft_json import ACCEPT, SPORT, where
from netfw.ruleset.render import render

RELOADS: Final = 10_000
CONTROL_RELOADS_MAX: Final = 10_000
CONTROL_STEP: Final = 200
BURST: Final = 16
"""Consecutive packets of one kind."""
DRAIN_SECONDS: Final = 0.2
ALLOWED, FORBIDDEN = "allowed", "forbidden"
SOURCE_PORT: Final = {ALLOWED: 40000, FORBIDDEN: 50000}
"""The source port by which the observer distinguishes the two kinds."""

Flow: TypeAlias = tuple[str, TestbedZone, TestbedZone, int, str, int]
"""Kind (allowed or forbidden), source, destination, IP version, protocol, port."""


class ReloadOutcome(NamedTuple):
    """Packets that reached the ruleset (`met`) and that passed it, by kind; `flood_rate` in packets per second."""

    reloads: int
    met: dict[str, int]
    passed: dict[str, int]
    reload_seconds: float
    flood_rate: float


def flows(policy: Policy, *, sessions: bool) -> list[Flow]:
    """Return the traffic to send. With `sessions`, some of the allowed traffic goes through an open session."""
    outside, datacenter, one, two, unused, staff = zones(policy)
    box = box_zones(policy)
    uplink, port1, port2 = box.values()
    spoofer = outside._replace(addresses=one.addresses)
    return [
        (ALLOWED, one, port1, 4, "tcp", 443),
        (FORBIDDEN, outside, uplink, 4, "tcp", 443),
        (FORBIDDEN, one, two, 4, "tcp", 443),
        (ALLOWED, two, port2, 6, "udp", 123),
        (FORBIDDEN, outside, one, 6, "tcp", 5900),
        (FORBIDDEN, two, datacenter, 4, "tcp", 443),
        (ALLOWED, uplink, datacenter, 4, "tcp", 443),
        (FORBIDDEN, two, port1, 4, "tcp", 443),
        (FORBIDDEN, spoofer, port1, 4, "tcp", 443),
        *([(ALLOWED, staff, one, 4, "tcp", 5900)] if sessions else []),
        (FORBIDDEN, staff, two, 4, "tcp", 5900),
        (FORBIDDEN, unused, port1, 6, "tcp", 443),
        (FORBIDDEN, uplink, outside, 4, "tcp", 443),
    ]


class Flood:
    """A process that sends this traffic repeatedly until it is stopped."""

    def __init__(self, testbed: Testbed, flows: list[Flow]) -> None:
        self._stop = mmap.mmap(-1, 1)
        self._result, result = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.write(result, struct.pack("=Qd", *_flood(testbed, flows, lambda: self._stop[0] != 0)))
            finally:
                os._exit(0)
        os.close(result)

    def stop(self) -> tuple[int, float]:
        """Stop the process. Returns the number of packets sent and the seconds that it took."""
        self._stop[0] = 1
        sent, seconds = struct.unpack("=Qd", os.read(self._result, 16))
        os.waitpid(self._pid, 0)
        os.close(self._result)
        time.sleep(DRAIN_SECONDS)
        return sent, seconds


def _flood(testbed: Testbed, flows: list[Flow], stopped: Callable[[], bool]) -> tuple[int, float]:
    loaded = [_burst(testbed, flow) for flow in flows]
    sent, began = 0, time.monotonic()
    while not stopped():
        for injector, packets in loaded:
            send_all(injector.socket, packets)
        sent += len(loaded) * BURST
    return sent, time.monotonic() - began


def _burst(testbed: Testbed, flow: Flow) -> tuple[Injector, list[bytes]]:
    kind, source, target, version, protocol, port = flow
    make = tcp if protocol == "tcp" else udp
    packet = make(source.addresses[version], SOURCE_PORT[kind], target.addresses[version], port)
    injector = testbed.injector(source, target, version)
    return injector, [injector.link + packet] * BURST


# Before and after the ruleset

_COUNT: Final = {"family": "inet", "table": "count"}
_HOOKS: Final = {"prerouting": -499, "output": -499, "input": LAST - 1, "postrouting": LAST - 1}


def _observer() -> Iterator[Any]:
    """Yield counters for both kinds, before the ruleset (`met`) and after it (`passed`)."""
    yield {"add": {"table": {"family": "inet", "name": "count"}}}
    for kind in SOURCE_PORT:
        yield from (
            {"add": {"counter": {**_COUNT, "name": f"{stage}_{kind}"}}} for stage in ("met", "passed")
        )
    for hook, priority in _HOOKS.items():
        chain = {"type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
        yield {"add": {"chain": {**_COUNT, "name": hook, **chain}}}
        for kind, source_port in SOURCE_PORT.items():
            counter = {"counter": f"{'passed' if priority > 0 else 'met'}_{kind}"}
            rule = [where(SPORT, source_port), counter, ACCEPT]
            yield {"add": {"rule": {**_COUNT, "chain": hook, "expr": rule}}}


def flooded(testbed: Testbed, flows: list[Flow], reload: Callable[[], int]) -> ReloadOutcome:
    """Count the packets that pass while `reload` runs; it returns the number of reloads."""
    before = testbed.namespace.counters()
    flood, began = Flood(testbed, flows), time.monotonic()
    reloads = reload()
    seconds = time.monotonic() - began
    sent, sending = flood.stop()
    after = testbed.namespace.counters()
    met, passed = (
        {kind: after[f"{stage}_{kind}"] - before[f"{stage}_{kind}"] for kind in SOURCE_PORT}
        for stage in ("met", "passed")
    )
    return ReloadOutcome(reloads, met, passed, seconds / reloads, sent / sending)


# Reloads


def in_place(reloads: int) -> ReloadOutcome:
    """Reload two policies with tables of the same structure: chains and sets are refilled, and sessions stay open."""
    policy = load_policy(POLICY)
    one, two = policy.ports
    other = replace(policy, ports=(one, replace(two, services=two.services[::-2])), rejects_outside=True)
    return _turns(policy, other, reloads, sessions=True)


def replaced(reloads: int) -> ReloadOutcome:
    """Reload two policies whose tables differ in structure, with and without a tunnel: the table is replaced."""
    policy = load_policy(POLICY)
    return _turns(policy, replace(policy, tunnel=None), reloads, sessions=False)


def _turns(policy: Policy, other: Policy, reloads: int, *, sessions: bool) -> ReloadOutcome:
    testbed = _testbed(policy)
    if sessions:
        testbed.open_sessions()
    firewall = Firewall(testbed.nft)

    def reload() -> int:
        for turn in islice(cycle((other, policy)), reloads):
            firewall.apply(turn)
        return reloads

    return flooded(testbed, flows(policy, sessions=sessions), reload)


def control(reloads_max: int) -> ReloadOutcome:
    """Replace a ruleset with chain policies only until a forbidden packet has passed."""
    policy = load_policy(POLICY)
    testbed = _testbed(policy)
    table = {"table": {"family": FAMILY, "name": TABLE}}
    commands = [{"add": table}, {"delete": table}, *_without_final_rules(render(policy).commands())]

    def reload() -> int:
        for reloads in range(1, reloads_max + 1):
            testbed.nft.run(commands)
            if reloads % CONTROL_STEP == 0 and testbed.namespace.counters()["passed_forbidden"]:
                break
        return reloads

    return flooded(testbed, flows(policy, sessions=False), reload)


def _without_final_rules(commands: list[Any]) -> list[Any]:
    """Return the ruleset without the rules after the last accepting rule of each base chain."""
    kept_reversed, accepted = [], set()
    for command in reversed(commands):
        rule = command["add"].get("rule")
        if rule and ACCEPT in rule["expr"]:
            accepted.add(rule["chain"])
        if not rule or rule["chain"] in accepted or rule["chain"] in CAUSES:
            kept_reversed.append(command)
    return kept_reversed[::-1]


def _testbed(policy: Policy) -> Testbed:
    enter_namespace()
    testbed = Testbed(policy, render(policy).commands())
    testbed.namespace.run(list(_observer()))
    return testbed


def alone(measure: Callable[[int], ReloadOutcome], reloads: int) -> ReloadOutcome:
    """Measure in a new process and network namespace. Needs root."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, reloads).result()


def figures() -> list[Figure]:
    measured: list[Figure] = []
    for name, measure in (("in place", in_place), ("replaced", replaced)):
        outcome = alone(measure, RELOADS // 2)
        met, passed = outcome.met, outcome.passed
        measured += [
            figure(f"reloads {name} under flood", "reloads", outcome.reloads, f">= {RELOADS // 2}"),
            figure(f"  {name}: forbidden packets sent", "packets", met[FORBIDDEN], ">= 1"),
            figure(f"  {name}: forbidden packets that passed", "packets", passed[FORBIDDEN], "<= 0"),
            figure(f"  {name}: allowed packets sent", "packets", met[ALLOWED], ">= 1"),
            figure(f"  {name}: allowed packets lost", "packets", met[ALLOWED] - passed[ALLOWED], "<= 0"),
            figure(f"  {name}: flood", "packets/s", outcome.flood_rate),
            figure(f"  {name}: one reload", "ms", outcome.reload_seconds * 1000),
        ]
    leaky = alone(control, CONTROL_RELOADS_MAX)
    return [
        *measured,
        figure("control, policy drop alone: reloads", "reloads", leaky.reloads),
        figure("  control: forbidden packets sent", "packets", leaky.met[FORBIDDEN]),
        figure("  control: forbidden packets that passed", "packets", leaky.passed[FORBIDDEN], ">= 1"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
