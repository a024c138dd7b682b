"""Random packets, filtered by the kernel and by the firewall's model, which must agree on every packet.

`compare` injects packets in batches into a namespace with the ruleset applied, and adds up what each named counter
and each observer counted; the model must reach the same sums. When a batch differs, its packet groups are repeated
one by one, to find those that differ.

    python -m bench.firewall.fuzz --packets 1000000 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from bench.figures import Figure, figure
from bench.firewall.namespace import FRAGMENT_SECONDS, BoxNamespace, enter_namespace, processors
from bench.firewall.packets import OUT, InjectedPacket, PacketGenerator, PacketGroup
from netfw.model.conntrack import Settings
from netfw.model.fragments import Reassembly
from netfw.model.packet import PacketError, parse
from netfw.model.packet_filter import PacketFilterModel
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.ruleset.names import CONNECTIONS_MAX, SESSIONS
from netfw.ruleset.render import render

PACKETS: Final = 1_000_000
BATCH_GROUPS: Final = 400
STEADY_TRIES: Final = 50
IDLE: Final = ("idle0",)
NOW_NS: Final = 0
"""The model's clock is constant: a batch ends long before any timeout."""

POLICY: Final = """
board = "rap-4"

[uplink]
from_outside = "{outside}"
router_advertisements = {routers}
{vpn}

[[authorized]]
role = "datacenter"
addresses = ["203.0.113.5", "203.0.113.64/26", "2001:db8:1::/64", "2001:db8:2::7"]
protocol = "tcp"
ports = [443]

[[authorized]]
role = "time"
addresses = ["203.0.113.123", "2001:db8:3::123"]
protocol = "udp"
ports = [123]

{gateway}
[[port]]
number = 1
addresses = ["10.77.1.1/24", "fd00:77:1::1/64"]
services = ["tcp/443"]
desktop = ["tcp/5900"]

[[port]]
number = 2
addresses = ["10.77.2.1/24", "fd00:77:2::1/64"]
services = ["tcp/443", "udp/123"]
desktop = ["tcp/5900"]

[[port]]
number = 3
addresses = ["10.77.3.129/25"]
services = []

[tunnel]
interface = "tun-rap"
staff = ["10.99.0.0/16", "fd00:99::/64"]
"""


GATEWAY: Final = """
[[authorized]]
role = "gateway"
addresses = ["203.0.113.250", "2001:db8:4::/126"]
"""

KINDS: Final = 32


def without_limits(ruleset: list[Any]) -> list[Any]:
    """Return the ruleset with a connection limit that is never reached.

    A batch opens more connections within a jiffy than a port may have, and within a jiffy the kernel does not check
    which of the counted connections still exist. tests/netfw/ruleset/test_limits.py compares the counting.
    """
    limit = f'"val": {CONNECTIONS_MAX}'
    written = json.dumps(ruleset)
    assert limit in written
    changed: list[Any] = json.loads(written.replace(limit, '"val": 1000000000'))
    return changed


class PolicyVariant(NamedTuple):
    """The variant of policy and kernel settings that a seed selects; KINDS consecutive seeds select all variants."""

    rejects: bool
    routers: bool
    tcp_loose: bool
    listed: bool
    """Whether the model reads the kernel's listing of the ruleset instead of the rendered ruleset."""
    vpn: bool
    """Whether authorized addresses are reached through a VPN only."""

    @classmethod
    def of(cls, seed: int) -> PolicyVariant:
        return cls(bool(seed & 1), bool(seed & 2), not seed & 4, bool(seed & 8), bool(seed & 16))


class Disagreement(NamedTuple):
    """A packet group on which kernel and model differ, and the counts of both."""

    seed: int
    group: PacketGroup
    kernel: dict[str, int]
    model: dict[str, int]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: the kernel counted {self.kernel}, the model {self.model}"]
        return "\n  ".join([*lines, *(f"{item.iif or 'out'}: {item.data.hex()}" for item in self.group)])


class FuzzOutcome(NamedTuple):
    """The result of a comparison. `counted`: the kernel's counters, by name."""

    packets: int
    disagreements: list[Disagreement]
    counted: dict[str, int]
    seconds: float


class PacketComparison:
    """The same packets in the kernel and in the model. The process must be in a separate network namespace."""

    def __init__(self, seed: int) -> None:
        kind = PolicyVariant.of(seed)
        self.seed = seed
        self.policy = policy = _policy(kind)
        ruleset = without_limits(render(policy).commands())
        self.namespace = BoxNamespace(policy, ruleset, idle=IDLE, tcp_loose=kind.tcp_loose)
        self.model = PacketFilterModel(
            self.namespace.listing() if kind.listed else ruleset, Settings(tcp_loose=kind.tcp_loose)
        )
        self.incoming, self.outgoing = Reassembly(), Reassembly()
        ports = {port.number: port for port in policy.ports}
        self.sessions = (
            ("10.99.0.7", ports[1].interface, "10.77.1.5", 5900),
            ("fd00:99::7", ports[2].interface, "fd00:77:2::5", 5900),
        )
        for staff, port, instrument, desktop in self.sessions:
            self._open(6 if ":" in staff else 4, {"concat": [staff, port, instrument, "tcp", desktop]})

    def _open(self, version: int, key: Any) -> None:
        element = {"elem": {"val": key, "timeout": 3600}}
        self.model.open(SESSIONS[version], element, NOW_NS)
        self.namespace.run(
            [
                {
                    "add": {
                        "element": {
                            "family": "inet",
                            "table": "rap",
                            "name": SESSIONS[version],
                            "elem": [element],
                        }
                    }
                }
            ]
        )

    def compare(self, groups: list[PacketGroup]) -> list[Disagreement]:
        """Inject these groups. Returns those on which kernel and model differ."""
        kernel, model = self._both(groups)
        if kernel == model:
            return []
        return self._differing_groups(groups) or [
            Disagreement(self.seed, _joined(groups), dict(kernel), dict(model))
        ]

    def _differing_groups(self, groups: list[PacketGroup]) -> list[Disagreement]:
        """Return the groups that differ when injected separately; empty if only the whole sequence differs."""
        differing = []
        time.sleep(FRAGMENT_SECONDS + 0.5)  # repeated fragments must not be joined with the first ones
        for group in groups:
            kernel, model = self._both([group])
            if kernel != model:
                differing.append(Disagreement(self.seed, group, dict(kernel), dict(model)))
        return differing

    def _both(self, groups: list[PacketGroup]) -> tuple[Counter[str], Counter[str]]:
        self.namespace.flush_connections()
        self.model.conntrack.flush()
        self.incoming.flush()
        self.outgoing.flush()
        before = Counter(self.namespace.counters())
        expected: Counter[str] = Counter()
        for group in groups:
            for item in group:
                self._inject(item, expected)
        expected = +expected
        for _ in range(STEADY_TRIES):
            counted = Counter(self.namespace.counters()) - before
            if counted == expected:
                break
            time.sleep(0.001)
        return counted, expected

    def _inject(self, item: InjectedPacket, expected: Counter[str]) -> None:
        if item.iif == OUT:
            packet = parse(item.data)
            packet = packet.leaving(self.namespace.leaves(packet))
            self.namespace.send(packet)
            expected["offered"] += 1
            reassembled = self.outgoing.put(packet)
            if reassembled is not None:
                verdict = self.model.send(reassembled, NOW_NS)
                expected.update(verdict.counters)
                expected["sent"] += verdict.action == "accept"
            return
        self.namespace.inject(item.iif, item.data)
        try:
            packet = parse(item.data, iif=item.iif)
        except PacketError:
            return
        if not self.namespace.enters(packet):
            return
        expected["arrived"] += 1
        reassembled = self.incoming.put(packet)
        if reassembled is not None:
            self._incoming(reassembled, expected)

    def _incoming(self, packet: Any, expected: Counter[str]) -> None:
        destination = self.namespace.destination(packet)
        if destination == "lost":
            verdict = self.model.arrive(packet, NOW_NS)
        elif destination == "input":
            verdict = self.model.receive(packet, NOW_NS)
        else:
            verdict = self.model.forward(packet.leaving(destination), NOW_NS)
        expected.update(verdict.counters)
        passed = verdict.hook != "prerouting" or verdict.action == "accept"
        expected["let_in"] += passed
        if passed and destination != "lost":
            expected["at_input" if destination == "input" else "at_forward"] += 1
            expected["received" if destination == "input" else "forwarded"] += verdict.action == "accept"


def _joined(groups: list[PacketGroup]) -> PacketGroup:
    return tuple(item for group in groups for item in group)


def _policy(kind: PolicyVariant) -> Policy:
    outside, routers = "reject" if kind.rejects else "drop", str(kind.routers).lower()
    vpn, gateway = ('vpn = "ipsec1"', GATEWAY) if kind.vpn else ("", "")
    text = POLICY.format(outside=outside, routers=routers, vpn=vpn, gateway=gateway)
    with TemporaryDirectory() as folder:
        file = Path(folder, "firewall.toml")
        file.write_text(text)
        return load_policy(file)


def compare_here(packets: int, seed: int) -> FuzzOutcome:
    enter_namespace()
    comparison = PacketComparison(seed)
    generator = PacketGenerator(comparison.policy, IDLE, comparison.sessions, seed).groups()
    began, sent = time.monotonic(), 0
    disagreements: list[Disagreement] = []
    while sent < packets and len(disagreements) < 6:
        batch = list(islice(generator, BATCH_GROUPS))
        disagreements += comparison.compare(batch)
        sent += sum(map(len, batch))
    return FuzzOutcome(sent, disagreements, comparison.namespace.counters(), time.monotonic() - began)


def compare(packets: int, seed: int) -> FuzzOutcome:
    """Inject at least this many packets, in a new process and network namespace. Needs root."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(compare_here, packets, seed).result()


def compare_in_parallel(packets: int, seed: int) -> FuzzOutcome:
    """Inject at least this many packets, in a process per processor and all variants (`PolicyVariant`). As root."""
    share = packets // KINDS + 1
    with ProcessPoolExecutor(processors(), mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        began = time.monotonic()
        parts = list(pool.map(compare_here, [share] * KINDS, range(seed * KINDS, (seed + 1) * KINDS)))
    counted: Counter[str] = Counter()
    for part in parts:
        counted.update(part.counted)
    disagreements = [disagreement for part in parts for disagreement in part.disagreements]
    return FuzzOutcome(
        sum(part.packets for part in parts), disagreements, dict(counted), time.monotonic() - began
    )


def model_rate(addresses: int = 10_000, packets: int = 20_000) -> float:
    """Return the packets per second of the model, with this many authorized addresses, without parsing."""
    policy = _policy(PolicyVariant.of(0))
    first = int(IPv4Address("192.0.0.0"))
    many = tuple(ip_network(first + 2 * number) for number in range(addresses))
    wide = replace(policy.authorized[0], networks=(*policy.authorized[0].networks, *many))
    policy = replace(policy, authorized=(wide, *policy.authorized[1:]))
    model = PacketFilterModel(without_limits(render(policy).commands()))
    calls: list[Any] = []
    generator = PacketGenerator(policy, IDLE, (), 1)
    while len(calls) < packets:
        with contextlib.suppress(PacketError):
            item = generator.single()[0]
            calls.append((model.receive, parse(item.data, iif=item.iif)))
            output = parse(generator.output()[0].data)
            calls.append((model.send, output.leaving(policy.uplink)))
    began = time.perf_counter()
    for call, packet in calls:
        call(packet, NOW_NS)
    return len(calls) / (time.perf_counter() - began)


def figures() -> list[Figure]:
    outcome = compare_in_parallel(PACKETS, 1)
    for disagreement in outcome.disagreements:
        print(disagreement)
    return [
        figure(
            "random packets compared between kernel and model", "packets", outcome.packets, f">= {PACKETS}"
        ),
        figure("packets on which they differ", "packets", len(outcome.disagreements), "<= 0"),
        figure(
            "packets filtered per second by the model, 10,000 addresses",
            "packets/s",
            model_rate(),
            ">= 30000",
        ),
        figure("packets filtered per second by both", "packets/s", outcome.packets / outcome.seconds),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description="compare the firewall's model with the kernel on random packets"
    )
    parser.add_argument("--packets", type=int, default=PACKETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="use one namespace and exactly this seed")
    arguments = parser.parse_args()
    run = compare if arguments.alone else compare_in_parallel
    outcome = run(arguments.packets, arguments.seed)
    for disagreement in outcome.disagreements:
        print(disagreement)
    print(f"{outcome.packets} packets, {len(outcome.disagreements)} disagreements, {outcome.seconds:.1f} s")
    print(dict(sorted(outcome.counted.items())))
    return bool(outcome.disagreements)


if __name__ == "__main__":
    sys.exit(main())
