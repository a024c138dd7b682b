"""What passes while the firewall is reloaded, at full send rate: `python -m bench.firewall_reload`.

A process floods the box from every zone with packets that both of two policies refuse, and between them with packets
that both allow, while another applies the two in turn. Forbidden packets that come out behind the ruleset are
counted, and so are allowed ones that do not.

The control is the same flood at a ruleset with `policy drop` and no last rule, replaced in the way people do it:
delete the table, add the table. It must leak; if it does not, the flood is too thin for the other figures to mean
anything.
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
from bench.firewall_range import POLICY, Mouth, Place, Range, box_at, places
from bench.firewall_world import LAST, enter_namespace
from bench.volley import send_all
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
"""Packets of one kind in a row."""
DRAIN_SECONDS: Final = 0.2
ALLOWED, FORBIDDEN = "allowed", "forbidden"
SOURCE_PORT: Final = {ALLOWED: 40000, FORBIDDEN: 50000}
"""By which the observer tells them apart."""

Way: TypeAlias = tuple[str, Place, Place, int, str, int]
"""Allowed or forbidden, from, to, IP version, protocol, port."""


class Outcome(NamedTuple):
    """Packets that came to the ruleset and that came through it, of both kinds; and the flood's packets a second."""

    reloads: int
    met: dict[str, int]
    passed: dict[str, int]
    reload_seconds: float
    flood_rate: float


def ways(policy: Policy, *, sessions: bool) -> list[Way]:
    """What is sent. With `sessions`, one of the allowed ways goes through an open session."""
    outside, datacenter, one, two, unused, staff = places(policy)
    box = box_at(policy)
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
    """A process that sends all of these, over and over, until it is stopped."""

    def __init__(self, place: Range, given: list[Way]) -> None:
        self._stop = mmap.mmap(-1, 1)
        self._result, result = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.write(result, struct.pack("=Qd", *_flood(place, given, lambda: self._stop[0] != 0)))
            finally:
                os._exit(0)
        os.close(result)

    def stop(self) -> tuple[int, float]:
        """How many packets it sent, in how many seconds."""
        self._stop[0] = 1
        sent, seconds = struct.unpack("=Qd", os.read(self._result, 16))
        os.waitpid(self._pid, 0)
        os.close(self._result)
        time.sleep(DRAIN_SECONDS)
        return sent, seconds


def _flood(place: Range, given: list[Way], stopped: Callable[[], bool]) -> tuple[int, float]:
    loaded = [_burst(place, way) for way in given]
    sent, began = 0, time.monotonic()
    while not stopped():
        for mouth, packets in loaded:
            send_all(mouth.socket, packets)
        sent += len(loaded) * BURST
    return sent, time.monotonic() - began


def _burst(place: Range, way: Way) -> tuple[Mouth, list[bytes]]:
    kind, source, target, version, protocol, port = way
    make = tcp if protocol == "tcp" else udp
    packet = make(source.addresses[version], SOURCE_PORT[kind], target.addresses[version], port)
    mouth = place.mouth(source, target, version)
    return mouth, [mouth.link + packet] * BURST


# Before and behind the ruleset

_COUNT: Final = {"family": "inet", "table": "count"}
_HOOKS: Final = {"prerouting": -499, "output": -499, "input": LAST - 1, "postrouting": LAST - 1}


def _observer() -> Iterator[Any]:
    """Counters of both kinds, where packets come to the ruleset (`met`) and where they have passed it."""
    yield {"add": {"table": {"family": "inet", "name": "count"}}}
    for kind in SOURCE_PORT:
        yield from ({"add": {"counter": {**_COUNT, "name": f"{word}_{kind}"}}} for word in ("met", "passed"))
    for hook, priority in _HOOKS.items():
        chain = {"type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
        yield {"add": {"chain": {**_COUNT, "name": hook, **chain}}}
        for kind, source_port in SOURCE_PORT.items():
            counter = {"counter": f"{'passed' if priority > 0 else 'met'}_{kind}"}
            rule = [where(SPORT, source_port), counter, ACCEPT]
            yield {"add": {"rule": {**_COUNT, "chain": hook, "expr": rule}}}


def flooded(place: Range, given: list[Way], act: Callable[[], int]) -> Outcome:
    """Count what passes while `act` reloads as often as it says."""
    before = place.world.counters()
    flood, began = Flood(place, given), time.monotonic()
    reloads = act()
    seconds = time.monotonic() - began
    sent, sending = flood.stop()
    after = place.world.counters()
    met, passed = (
        {kind: after[f"{word}_{kind}"] - before[f"{word}_{kind}"] for kind in SOURCE_PORT}
        for word in ("met", "passed")
    )
    return Outcome(reloads, met, passed, seconds / reloads, sent / sending)


# Reloads


def in_place(reloads: int) -> Outcome:
    """Policies whose tables have one shape: chains and sets are filled anew; sessions stay open."""
    policy = load_policy(POLICY)
    one, two = policy.ports
    other = replace(policy, ports=(one, replace(two, services=two.services[::-2])), rejects_outside=True)
    return _turns(policy, other, reloads, sessions=True)


def replaced(reloads: int) -> Outcome:
    """Without a tunnel the table has another shape, and one takes the other's place."""
    policy = load_policy(POLICY)
    return _turns(policy, replace(policy, tunnel=None), reloads, sessions=False)


def _turns(policy: Policy, other: Policy, reloads: int, *, sessions: bool) -> Outcome:
    place = _range(policy)
    if sessions:
        place.open_sessions()
    firewall = Firewall(place.nft)

    def act() -> int:
        for turn in islice(cycle((other, policy)), reloads):
            firewall.apply(turn)
        return reloads

    return flooded(place, ways(policy, sessions=sessions), act)


def control(reloads_max: int) -> Outcome:
    """Chains with a policy only, replaced until something has leaked."""
    policy = load_policy(POLICY)
    place = _range(policy)
    table = {"table": {"family": FAMILY, "name": TABLE}}
    commands = [{"add": table}, {"delete": table}, *_open_ended(render(policy).commands())]

    def act() -> int:
        for reloads in range(1, reloads_max + 1):
            place.nft.run(commands)
            if reloads % CONTROL_STEP == 0 and place.world.counters()["passed_forbidden"]:
                break
        return reloads

    return flooded(place, ways(policy, sessions=False), act)


def _open_ended(commands: list[Any]) -> list[Any]:
    """A ruleset without what follows the last accepting rule of each base chain: its policy drops the rest."""
    kept, accepted = [], set()
    for command in reversed(commands):
        rule = command["add"].get("rule")
        if rule and ACCEPT in rule["expr"]:
            accepted.add(rule["chain"])
        if not rule or rule["chain"] in accepted or rule["chain"] in CAUSES:
            kept.append(command)
    return kept[::-1]


def _range(policy: Policy) -> Range:
    enter_namespace()
    place = Range(policy, render(policy).commands())
    place.world.run(list(_observer()))
    return place


def alone(measure: Callable[[int], Outcome], reloads: int) -> Outcome:
    """In a process and a namespace of its own. Needs root."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, reloads).result()


def figures() -> list[Figure]:
    found: list[Figure] = []
    for name, measure in (("in place", in_place), ("replaced", replaced)):
        outcome = alone(measure, RELOADS // 2)
        met, passed = outcome.met, outcome.passed
        found += [
            figure(f"reloads {name} under flood", "reloads", outcome.reloads, f">= {RELOADS // 2}"),
            figure(f"  {name}: forbidden packets that came", "packets", met[FORBIDDEN], ">= 1"),
            figure(f"  {name}: forbidden packets that passed", "packets", passed[FORBIDDEN], "<= 0"),
            figure(f"  {name}: allowed packets that came", "packets", met[ALLOWED], ">= 1"),
            figure(f"  {name}: allowed packets lost", "packets", met[ALLOWED] - passed[ALLOWED], "<= 0"),
            figure(f"  {name}: flood", "packets/s", outcome.flood_rate),
            figure(f"  {name}: one reload", "ms", outcome.reload_seconds * 1000),
        ]
    leaky = alone(control, CONTROL_RELOADS_MAX)
    return [
        *found,
        figure("control, policy drop alone: reloads", "reloads", leaky.reloads),
        figure("  control: forbidden packets that came", "packets", leaky.met[FORBIDDEN]),
        figure("  control: forbidden packets that passed", "packets", leaky.passed[FORBIDDEN], ">= 1"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
