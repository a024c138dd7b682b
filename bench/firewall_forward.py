"""Ten thousand addresses to load, and what the ruleset costs what is forwarded: `python -m bench.firewall_forward`.

Loading is `Firewall.apply` in a fresh process where there was no table, rendering included. Forwarded is the flow of
an open session, with the ruleset in force and with no ruleset at all in turn. Two readings of what it costs have the
same target:

    arriving     UDP datagrams of a few bytes that one program sends as fast as it can, one by one, and another one
                 receives; the sender has a processor of its own, and the box another (`bench.firewall_flow`). It is
                 what a user would see, and says nothing as long as the box is faster than the program.
    forwarding   packets a second of processor time, many sent with one system call. The kernel forwards in the time
                 of the process that sends, and nothing but forwarding is in it: no program, no socket, and no cable
                 slower than the processor. No real flow is so fast; it shows each rule's part best.

Beside them, without a target: sender and box on one processor, and bytes a second of one TCP connection.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from ipaddress import ip_address
from multiprocessing import get_context
from statistics import median
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute

from bench.figures import Figure, figure, run
from bench.firewall_flow import Arrivals, carried, datagrams
from bench.firewall_range import POLICY, SESSION_SECONDS, Mouth, Range, crowded, places
from bench.firewall_world import PEER_MAC, enter_namespace
from bench.volley import send_all
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Session, Sessions
from netfw.model.packet import udp
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.ruleset.nft_json import ACCEPT, DPORT, OIFNAME, PROTOCOL, concat, daddr, named, saddr, state, where
from netfw.ruleset.render import render

ADDRESSES: Final = 10_000
LOADS: Final = 7
TURNS: Final = 15
PACKETS: Final = 30_000
"""A turn; a third of a second or so."""
_PERMANENT: Final = 0x80
_WATCH: Final = {"delete": {"table": {"family": "inet", "name": "watch"}}}


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
"""The least that any firewall with connection tracking costs."""


def look_up_alone(policy: Policy, session: Session) -> list[Any]:
    """The least that a firewall costs whose sessions end with their elements: tracking, and one look-up a packet."""
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
    """Packets a second of processor time, by what is in force."""

    many: float
    """The ruleset with 10,000 addresses."""
    few: float
    tracking: float
    look_up: float
    """Tracking and the look-up of the session, and no other rule."""
    nothing: float


class Way(NamedTuple):
    """How packets are sent, and by which clock."""

    send: Callable[[socket.socket, Sequence[bytes]], object]
    clock: Callable[[], float]


def _each(wire: socket.socket, packets: Sequence[bytes]) -> None:
    send = wire.send
    for packet in packets:
        send(packet)


TOGETHER: Final = Way(_each, time.perf_counter)
PROCESSOR: Final = Way(send_all, time.process_time)


def load_seconds() -> float:
    """Until a policy with that many addresses is in force, where there was none."""
    enter_namespace()
    policy = crowded(load_policy(POLICY), ADDRESSES)
    firewall = Firewall(Nft())
    began = time.perf_counter()
    firewall.apply(policy)
    seconds = time.perf_counter() - began
    assert firewall.differences(policy) == []
    return seconds


class Stream:
    """An established flow through the box, in a namespace of this process."""

    def __init__(self) -> None:
        self.policy = crowded(load_policy(POLICY), ADDRESSES)
        self.place = Range(self.policy, render(self.policy).commands())
        self.place.world.run([_WATCH])  # it would stop what has passed
        one, staff = places(self.policy)[2], places(self.policy)[-1]
        port = self.policy.ports[0]
        self.session = Session(
            ip_address(staff.addresses[4]), port.number, ip_address(one.addresses[4]), port.desktop[1]
        )
        desktop = self.session.desktop.port
        there = udp(staff.addresses[4], 40000, one.addresses[4], desktop, b"screen")
        back = udp(one.addresses[4], desktop, staff.addresses[4], 40000, b"screen")
        self._there = self._packets(self.place.mouth(staff, one, 4), there, PACKETS)
        self._back = self._packets(self.place.mouth(one, staff, 4), back, 1)
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
    def _packets(mouth: Mouth, packet: bytes, count: int) -> tuple[Any, list[bytes]]:
        return mouth.socket, [mouth.link + packet] * count

    def left(self) -> int:
        """How many packets have left through the cables of the two."""
        return sum(
            self._ip.link("get", index=index)[0].get_attr("IFLA_STATS64")["tx_packets"]
            for index in self._leaving.values()
        )

    def rate(self, way: Way) -> float:
        """Packets a second, once the connection is established."""
        before = self.left()
        send_all(self._there[0], self._there[1][:1])
        send_all(*self._back)
        began = way.clock()
        way.send(*self._there)
        seconds = way.clock() - began
        for _ in range(1000):
            if self.left() - before >= PACKETS + 2:  # the kernel itself may have said a word
                return PACKETS / seconds
            time.sleep(0.001)
        raise RuntimeError(f"of {PACKETS + 2} packets only {self.left() - before} were forwarded")

    def guarded(self, policy: Policy, way: Way) -> float:
        """The rate with that policy in force and the session open."""
        Firewall(self.place.nft).apply(policy)
        Sessions(self.place.nft, policy).open(self.session, SESSION_SECONDS)
        return self.rate(way)

    def turn(self, way: Way) -> Turn:
        """The same flow five times."""
        many, few = self.guarded(self.policy, way), self.guarded(load_policy(POLICY), way)
        Firewall(self.place.nft).remove()
        tracking = self._with(TRACKING_ALONE, way)
        look_up = self._with(look_up_alone(self.policy, self.session), way)
        return Turn(many, few, tracking, look_up, self.rate(way))

    def _with(self, commands: list[Any], way: Way) -> float:
        """The rate with another table than the policy's."""
        self.place.nft.run(commands)
        rate = self.rate(way)
        self.place.nft.run([{"delete": {"table": _TRACK_TABLE}}])
        return rate


def forwarding() -> tuple[list[Turn], list[Turn]]:
    """Measure the flow in turns: by the clock, sender and box on one processor, and by processor time."""
    enter_namespace()
    stream = Stream()
    turns = [(stream.turn(TOGETHER), stream.turn(PROCESSOR)) for _ in range(TURNS)]
    return [delivered for delivered, _ in turns], [processor for _, processor in turns]


def figures() -> list[Figure]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        loading = median(pool.submit(load_seconds).result() for _ in range(LOADS))
        arriving = pool.submit(datagrams, TURNS, ADDRESSES).result()
        together, processor = pool.submit(forwarding).result()
        tcp = pool.submit(carried, TURNS).result()
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
        figure("  without any", "packets/s", median(turn.nothing for turn in processor)),
        figure("  tracking alone against no ruleset", "ratio", _tracking(processor)),
        figure(
            "  tracking and the session's look-up alone (the limit)",
            "ratio",
            median(turn.look_up / turn.nothing for turn in processor),
        ),
        figure("  10,000 addresses against few", "ratio", median(t.many / t.few for t in processor)),
        figure("sender and box on one processor: with against without", "ratio", _share(together)),
        figure("  tracking alone against no ruleset", "ratio", _tracking(together)),
        figure("one TCP connection: with ruleset against without", "ratio", median(a / b for a, b in tcp)),
        figure("  with ruleset", "MB/s", median(guarded for guarded, _ in tcp) / 1e6),
    ]


def _arriving(turns: Sequence[tuple[Arrivals, Arrivals]]) -> list[Figure]:
    ratio = median(guarded.arrived / free.arrived for guarded, free in turns)
    return [
        figure("arriving from one sender: with ruleset against without", "ratio", ratio, ">= 0.90"),
        figure(
            "  with ruleset, 10,000 addresses", "packets/s", median(guarded.arrived for guarded, _ in turns)
        ),
        figure("  without any", "packets/s", median(free.arrived for _, free in turns)),
        figure("  of what was sent, with ruleset", "ratio", median(guarded.share for guarded, _ in turns)),
        figure("  of what was sent, without any", "ratio", median(free.share for _, free in turns)),
    ]


def _share(turns: Sequence[Turn]) -> float:
    return median(turn.many / turn.nothing for turn in turns)


def _tracking(turns: Sequence[Turn]) -> float:
    return median(turn.tracking / turn.nothing for turn in turns)


if __name__ == "__main__":
    run(figures, __doc__)
