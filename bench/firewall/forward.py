"""Loading 10,000 addresses, and the cost of the ruleset for forwarded packets: `python -m bench.firewall.forward`.

Loading is `Firewall.apply` in a new process where there was no table, rendering included. The forwarded packets are
those of an open session, alternately with the ruleset in force and without a ruleset. Two measurements are made:

    arriving     UDP datagrams of a few bytes that one program sends one by one as fast as it can, and another program
                 receives; sender and box have a processor each (`bench.firewall.flow`). This is what a user would
                 notice. It shows no difference as long as the box is faster than the sending program.
    forwarding   packets per second of processor time, many sent with one system call. The kernel forwards them in the
                 time of the sending process, so that the figure contains nothing but forwarding: no receiving
                 program, no socket, no slow cable. No real flow is as fast, but the cost of each rule is clearest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address
from multiprocessing import get_context
from statistics import median
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute

from bench.figures import Figure, figure, run
from bench.firewall.flow import FlowRates, datagrams
from bench.firewall.namespace import PEER_MAC, enter_namespace
from bench.firewall.sendmmsg import send_all
from bench.firewall.testbed import POLICY, SESSION_SECONDS, Injector, Testbed, with_addresses, zones
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.model.packet import udp
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.ruleset.nft_json import ACCEPT, DPORT, OIFNAME, PROTOCOL, concat, daddr, named, saddr, state, where
from netfw.ruleset.render import render
from netfw.ruleset.sessions import Session

ADDRESSES: Final = 10_000
LOADS: Final = 7
TURNS: Final = 15
PACKETS: Final = 30_000
"""Packets of a turn, which takes about a third of a second."""
_PERMANENT: Final = 0x80
_DELETE_WATCH: Final = {"delete": {"table": {"family": "inet", "name": "watch"}}}


_TRACK_TABLE: Final = {"family": "inet", "name": "track"}
_TRACK: Final = {"family": "inet", "table": "track"}
TRACKING_ALONE: Final[list[Any]] = [
    {"add": {"table": _TRACK_TABLE}},
    {
        "add": {
            "chain": {
                **_TRACK,
                "name": "c",
                "type": "filter",
                "hook": "forward",
                "prio": 0,
                "policy": "accept",
            }
        }
    },
    {"add": {"rule": {**_TRACK, "chain": "c", "expr": [state("established"), ACCEPT]}}},
]
"""The minimal ruleset of a firewall with connection tracking."""


def look_up_alone(policy: Policy, session: Session) -> list[Any]:
    """Return the minimal ruleset in which sessions end with their set elements: tracking and a set look-up."""
    port = next(port for port in policy.ports if port.number == session.port)
    ends = concat(str(session.staff), port.interface, str(session.instrument), *session.desktop)
    key = concat(saddr(4), OIFNAME, daddr(4), PROTOCOL, DPORT)
    kind = ["ipv4_addr", "ifname", "ipv4_addr", "inet_proto", "inet_service"]
    looked_up = [where(key, named("s")), ACCEPT]
    return [
        *TRACKING_ALONE[:-1],
        {"add": {"set": {**_TRACK, "name": "s", "type": kind, "flags": ["timeout"], "elem": [ends]}}},
        {"add": {"rule": {**_TRACK, "chain": "c", "expr": looked_up}}},
        TRACKING_ALONE[-1],  # answers
    ]


class Turn(NamedTuple):
    """Packets per second of processor time, by the ruleset in force."""

    many: float
    """The ruleset with 10,000 addresses."""
    few: float
    tracking: float
    look_up: float
    """A ruleset with connection tracking and the look-up of the session only."""
    nothing: float


def load_seconds() -> float:
    """Return the seconds to apply a policy with 10,000 addresses where no policy is in force."""
    enter_namespace()
    policy = with_addresses(load_policy(POLICY), ADDRESSES)
    firewall = Firewall(Nft())
    began = time.perf_counter()
    firewall.apply(policy)
    seconds = time.perf_counter() - began
    assert firewall.differences(policy) == []
    return seconds


class EstablishedFlow:
    """An established flow through the box, in a network namespace of this process."""

    def __init__(self) -> None:
        self.policy = with_addresses(load_policy(POLICY), ADDRESSES)
        self.testbed = Testbed(self.policy, render(self.policy).commands())
        self.testbed.namespace.run([_DELETE_WATCH])  # it would drop the packets that passed
        one, staff = zones(self.policy)[2], zones(self.policy)[-1]
        port = self.policy.ports[0]
        self.session = Session(
            ip_address(staff.addresses[4]), port.number, ip_address(one.addresses[4]), port.desktop[1]
        )
        desktop = self.session.desktop.port
        there = udp(staff.addresses[4], 40000, one.addresses[4], desktop, b"screen")
        back = udp(one.addresses[4], desktop, staff.addresses[4], 40000, b"screen")
        self._there = self._packets(self.testbed.injector(staff, one, 4), there, PACKETS)
        self._back = self._packets(self.testbed.injector(one, staff, 4), back, 1)
        self._ip = IPRoute()
        self._leaving = {
            name: self._ip.link_lookup(ifname=name)[0] for name in (one.interface, staff.interface)
        }
        for end in (one, staff):
            index = self._leaving[end.interface]
            self._ip.neigh(
                "add", dst=end.addresses[4], lladdr=PEER_MAC.hex(":"), ifindex=index, state=_PERMANENT
            )

    @staticmethod
    def _packets(injector: Injector, packet: bytes, count: int) -> tuple[Any, list[bytes]]:
        return injector.socket, [injector.link + packet] * count

    def left(self) -> int:
        """Return the number of packets that left through the interfaces of both ends."""
        return sum(
            self._ip.link("get", index=index)[0].get_attr("IFLA_STATS64")["tx_packets"]
            for index in self._leaving.values()
        )

    def rate(self) -> float:
        """Return the packets per second of processor time on the established connection."""
        before = self.left()
        send_all(self._there[0], self._there[1][:1])
        send_all(*self._back)
        began = time.process_time()
        send_all(*self._there)
        seconds = time.process_time() - began
        for _ in range(1000):
            if self.left() - before >= PACKETS + 2:  # the kernel may have sent further packets
                return PACKETS / seconds
            time.sleep(0.001)
        raise RuntimeError(f"only {self.left() - before} of {PACKETS + 2} packets were forwarded")

    def guarded(self, policy: Policy) -> float:
        """Return the rate with this policy in force and the session open."""
        Firewall(self.testbed.nft).apply(policy)
        Sessions(self.testbed.nft, policy).open(self.session, SESSION_SECONDS)
        return self.rate()

    def turn(self) -> Turn:
        """Return the rate of the same flow with each of the five rulesets."""
        many, few = self.guarded(self.policy), self.guarded(load_policy(POLICY))
        Firewall(self.testbed.nft).remove()
        tracking = self._with(TRACKING_ALONE)
        look_up = self._with(look_up_alone(self.policy, self.session))
        return Turn(many, few, tracking, look_up, self.rate())

    def _with(self, commands: list[Any]) -> float:
        """Return the rate with another table instead of the policy's."""
        self.testbed.nft.run(commands)
        rate = self.rate()
        self.testbed.nft.run([{"delete": {"table": _TRACK_TABLE}}])
        return rate


def forwarding() -> list[Turn]:
    """Measure the flow in turns, by the processor time of this process."""
    enter_namespace()
    stream = EstablishedFlow()
    return [stream.turn() for _ in range(TURNS)]


def figures() -> list[Figure]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        loading = median(pool.submit(load_seconds).result() for _ in range(LOADS))
        arriving = pool.submit(datagrams, TURNS, ADDRESSES).result()
        processor = pool.submit(forwarding).result()
    return [
        figure("10,000 authorized addresses in force", "ms", loading * 1000, "<= 100"),
        *_arriving(arriving),
        figure(
            "forwarding alone: with ruleset against without",
            "ratio",
            _share(processor),
            ">= 0.75",
        ),
        figure("  with ruleset", "packets/s", median(turn.many for turn in processor)),
        figure("  without a ruleset", "packets/s", median(turn.nothing for turn in processor)),
        figure("  tracking alone against no ruleset", "ratio", _tracking(processor)),
        figure(
            "  tracking and the session's look-up alone (the limit)",
            "ratio",
            median(turn.look_up / turn.nothing for turn in processor),
        ),
        figure("  10,000 addresses against few", "ratio", median(t.many / t.few for t in processor)),
    ]


def _arriving(turns: Sequence[tuple[FlowRates, FlowRates]]) -> list[Figure]:
    ratio = median(guarded.arrived / free.arrived for guarded, free in turns)
    return [
        figure("arriving from one sender: with ruleset against without", "ratio", ratio, ">= 0.90"),
        figure(
            "  with ruleset, 10,000 addresses", "packets/s", median(guarded.arrived for guarded, _ in turns)
        ),
        figure("  without a ruleset", "packets/s", median(free.arrived for _, free in turns)),
        figure(
            "  share of the sent packets, with ruleset",
            "ratio",
            median(guarded.share for guarded, _ in turns),
        ),
        figure(
            "  share of the sent packets, without a ruleset", "ratio", median(free.share for _, free in turns)
        ),
    ]


def _share(turns: Sequence[Turn]) -> float:
    return median(turn.many / turn.nothing for turn in turns)


def _tracking(turns: Sequence[Turn]) -> float:
    return median(turn.tracking / turn.nothing for turn in turns)


if __name__ == "__main__":
    run(figures, __doc__)
