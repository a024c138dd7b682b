"""Every TCP and UDP port from every zone to every other, probed on the kernel: `python -m bench.firewall.sweep`.

A probe is a packet to each of the 65,536 ports, from one zone to another, through a namespace in which the ruleset
is in force (`bench.firewall.testbed`). A table after the ruleset records in a set which ports passed, and where.
The expected result is computed here directly from the policy, in a few lines that share no code with the rendering of
the ruleset.

The packets of a probe are made from a template. The destination port varies, and 16 bits without a meaning vary
inversely, so that their sum and the checksum are constant.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from ipaddress import ip_address
from itertools import product
from multiprocessing import get_context
from struct import pack
from typing import Any, Final, NamedTuple

from bench.figures import Figure, figure, run
from bench.firewall.namespace import LAST, enter_namespace, processors
from bench.firewall.sendmmsg import send_all
from bench.firewall.testbed import BOX, POLICY, Testbed, TestbedZone, box_zones, session, zones
from netfw.model.packet import tcp, udp
from netfw.policy.policy import Policy, Protocol, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset.nft_json import ACCEPT, DPORT, OIFNAME, PROTOCOL, any_of, concat, where
from netfw.ruleset.render import render

ALL_PORTS: Final = range(1 << 16)
TRIES_MAX: Final = 5
WAIT_SECONDS_MAX: Final = 5
"""How long to wait for packets in the kernel's queue."""

SEEN: Final = "seen"


class SweepProbe(NamedTuple):
    """All ports of one protocol, from one zone to another. `session`: whether the instrument's session is open."""

    source: TestbedZone
    target: TestbedZone
    version: int
    protocol: Protocol
    session: bool

    def __str__(self) -> str:
        path = f"{self.source.name} → {self.target.name}, {self.protocol} over IPv{self.version}"
        return f"{path}, session {'open' if self.session else 'closed'}"


class Mismatch(NamedTuple):
    """A port that passed but should not have, or the reverse; `at` is the interface concerned."""

    probe: SweepProbe
    port: int
    at: str
    passed: bool

    def __str__(self) -> str:
        problem = "passed but should not have" if self.passed else "did not pass but should have"
        return f"{self.probe}, port {self.port}: {problem} (to {self.at or 'the box'})"


class SweepOutcome(NamedTuple):
    """The result of a sweep. `passed` is the number of packets that passed and that the policy allows."""

    probes: int
    packets: int
    passed: int
    mismatches: list[Mismatch]
    seconds: float


# The expectation from the policy


def probes(policy: Policy) -> Iterator[SweepProbe]:
    """Yield all probes; those with the session closed come first."""
    others, box = zones(policy), box_zones(policy)
    pairs = [(one, other) for one, other in product(others, [*others, *box.values()]) if one != other]
    pairs += [(box.get(other.interface, box[policy.uplink]), other) for other in others]
    protocols: tuple[Protocol, ...] = ("tcp", "udp")
    for is_open, (source, target), version, protocol in product((False, True), pairs, (4, 6), protocols):
        yield SweepProbe(source, target, version, protocol, is_open)


def allowed(policy: Policy, probe: SweepProbe) -> frozenset[int]:
    """Return the ports that the policy allows."""
    source, target = probe.source, probe.target
    address = ip_address(target.addresses[probe.version])
    services: Iterable[Service] = ()
    if source.interface == BOX and target.interface == policy.uplink:
        services = [s for a in policy.authorized if any(address in n for n in a.networks) for s in a.services]
    for port in policy.ports:
        if source.interface == port.interface and address in [own.ip for own in port.addresses]:
            services = port.services
    if probe.session and source.name == "staff" and session(policy, probe.version).instrument == address:
        services = [session(policy, probe.version).desktop]
    return frozenset(service.port for service in services if service.protocol == probe.protocol)


# The measurement in the kernel


def probe_packets(probe: SweepProbe, ports: Iterable[int]) -> Iterator[bytes]:
    """Yield IP packets that differ in their destination port, and in 16 bits that keep the checksum constant."""
    source, target = (zone.addresses[probe.version] for zone in (probe.source, probe.target))
    start = 20 if probe.version == 4 else 40
    if probe.protocol == "tcp":
        # the lower half of the sequence number
        template, balancing = tcp(source, 40000, target, 0, seq=0xFFFF), start + 6
    else:
        template, balancing = udp(source, 40000, target, 0, b"\xff\xff"), start + 8  # the payload
    head, middle, tail = template[: start + 2], template[start + 4 : balancing], template[balancing + 2 :]
    for port in ports:
        yield head + pack("!H", port) + middle + pack("!H", 0xFFFF - port) + tail


class ObservedTestbed(Testbed):
    """A testbed with an observer after the ruleset."""

    def __init__(self, policy: Policy, ruleset: list[Any]) -> None:
        super().__init__(policy, ruleset)
        self.namespace.run(list(_observer()))

    def send_probe(self, probe: SweepProbe, ports: Sequence[int]) -> set[tuple[str, int]]:
        """Send a probe. Returns the pairs of interface and port that passed."""
        self.namespace.run([{"flush": {"set": {**_SEEN, "name": name}}} for name in ("received", "left")])
        self.namespace.flush_connections()
        for _ in range(TRIES_MAX):
            if self._complete(probe, ports):
                return _seen()
        raise RuntimeError(f"{probe}: the kernel loses packets before the firewall; is the machine too busy?")

    def _complete(self, probe: SweepProbe, ports: Sequence[int]) -> bool:
        """Send the packets of a probe. Returns whether all of them reached the firewall."""
        counter = "offered" if probe.source.interface == BOX else "arrived"
        before = self.namespace.counters()[counter]
        with closing(self.injector(probe.source, probe.target, probe.version)) as injector:
            send_all(injector.socket, [injector.link + packet for packet in probe_packets(probe, ports)])
        until = time.monotonic() + WAIT_SECONDS_MAX
        while (met := self.namespace.counters()[counter] - before) < len(ports) and time.monotonic() < until:
            time.sleep(0.001)
        return met == len(ports)


_SEEN: Final = {"family": "inet", "table": SEEN}


def _observer() -> Iterator[Any]:
    """Yield a table that records what passed all others: to the box, or out of an interface."""
    yield {"add": {"table": {"family": "inet", "name": SEEN}}}
    # a set to which rules add needs the flag "dynamic", which nft 1.0.6 cannot read in JSON; "timeout" works too
    sizes = {"flags": ["timeout"], "size": 2 * len(ALL_PORTS)}
    yield {"add": {"set": {**_SEEN, "name": "received", "type": "inet_service", **sizes}}}
    yield {"add": {"set": {**_SEEN, "name": "left", "type": ["ifname", "inet_service"], **sizes}}}
    tcp_or_udp = where(PROTOCOL, any_of("tcp", "udp"))
    for name, hook, key in (("received", "input", DPORT), ("left", "postrouting", concat(OIFNAME, DPORT))):
        chain = {"type": "filter", "hook": hook, "prio": LAST - 1, "policy": "accept"}
        yield {"add": {"chain": {**_SEEN, "name": hook, **chain}}}
        remember = {"set": {"op": "add", "elem": key, "set": f"@{name}"}}
        yield {"add": {"rule": {**_SEEN, "chain": hook, "expr": [tcp_or_udp, remember, ACCEPT]}}}


def _seen() -> set[tuple[str, int]]:
    listed = subprocess.run(["nft", "--json", "list", "table", "inet", SEEN], check=True, capture_output=True)
    sets = {
        item["set"]["name"]: item["set"] for item in json.loads(listed.stdout)["nftables"] if "set" in item
    }
    received = {(BOX, port) for port in sets["received"].get("elem", [])}
    return received | {tuple(element["concat"]) for element in sets["left"].get("elem", [])}


# The comparison


def sweep_here(
    policy: Policy, ruleset: list[Any], ports: Sequence[int] = ALL_PORTS, share: tuple[int, int] = (0, 1)
) -> SweepOutcome:
    """Compare the ruleset with the policy, in this process and a new network namespace.

    `share` is (m, n): every n-th probe from the m-th.
    """
    enter_namespace()
    began = time.monotonic()
    testbed, mismatches, passed, opened = ObservedTestbed(policy, ruleset), [], 0, False
    assigned = list(probes(policy))[share[0] :: share[1]]
    for probe in assigned:
        if probe.session and not opened:
            testbed.open_sessions()
            opened = True
        seen = testbed.send_probe(probe, ports)
        expected = {(probe.target.interface, port) for port in allowed(policy, probe) & set(ports)}
        passed += len(seen & expected)
        mismatches += [Mismatch(probe, port, interface, True) for interface, port in sorted(seen - expected)]
        mismatches += [Mismatch(probe, port, interface, False) for interface, port in sorted(expected - seen)]
    return SweepOutcome(
        len(assigned), len(assigned) * len(ports), passed, mismatches, time.monotonic() - began
    )


def sweep(policy: Policy, ruleset: list[Any] | None = None, ports: Sequence[int] = ALL_PORTS) -> SweepOutcome:
    """Compare the ruleset, by default the rendered one, with the policy in a process per processor. Needs root."""
    began, count = time.monotonic(), processors()
    commands = render(policy).commands() if ruleset is None else ruleset
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        parts = [pool.submit(sweep_here, policy, commands, ports, (number, count)) for number in range(count)]
        outcomes = [part.result() for part in parts]
    return SweepOutcome(
        sum(part.probes for part in outcomes),
        sum(part.packets for part in outcomes),
        sum(part.passed for part in outcomes),
        [mismatch for part in outcomes for mismatch in part.mismatches],
        time.monotonic() - began,
    )


def figures() -> list[Figure]:
    before = os.times()
    outcome = sweep(load_policy(POLICY))
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    for mismatch in outcome.mismatches[:20]:
        print(mismatch)
    return [
        figure("ports probed from zone to zone", "packets", outcome.packets),
        figure("packets that passed and are allowed", "packets", outcome.passed, ">= 1"),
        figure("mismatches with the policy", "ports", len(outcome.mismatches), "<= 0"),
        figure("the whole sweep", "s", outcome.seconds, "<= 120"),
        figure("  processor time", "s", busy),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
