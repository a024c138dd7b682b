"""Every TCP and UDP port from every zone to every other, probed on the kernel: `python -m bench.firewall_sweep`.

A probe is one volley: a packet to each of the 65,536 ports, from one zone to another, through a namespace in which the
ruleset is in force (`bench.firewall_world`). A table behind the ruleset remembers in a set which ports came through,
and where they came out. What should have come through is read off the policy here, in a few lines that know nothing
of rules: the rendering, the model and the kernel are all on the other side of the comparison.

A volley is a template. The destination port changes, and 16 bits that nobody looks at change against it, so that
their sum, and with it the checksum, stays as it was.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from ipaddress import ip_address
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from struct import pack
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute

from bench.figures import Figure, figure, run
from bench.firewall_world import BOX_MAC, LAST, MARK, PEER_MAC, UPLINK, World, enter_namespace, processors
from bench.volley import send_all
from netfw.nft import Nft
from netfw.packet import tcp, udp
from netfw.policy import Policy, Protocol, Service
from netfw.policyfile import load_policy
from netfw.render import render
from netfw.sessions import Session, Sessions
from netfw.terms import ACCEPT, DPORT, OIFNAME, PROTOCOL, any_of, concat, where

POLICY: Final = Path(__file__).with_name("firewall.toml")
ALL_PORTS: Final = range(1 << 16)
UNUSED: Final = "enp5s0"
SESSION_SECONDS: Final = 3600
TRIES_MAX: Final = 5
WAIT_SECONDS_MAX: Final = 5
"""For packets that still wait in the kernel's queue."""

BOX: Final = ""
_ETHERNET_TYPE: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}
SEEN: Final = "seen"


class Place(NamedTuple):
    """Who may send and be sent to: behind an interface of the box, or with `interface` BOX the box itself."""

    name: str
    interface: str
    addresses: dict[int, str]


class Probe(NamedTuple):
    """All ports of one protocol, from one place to another. `session`: whether the instrument's session is open."""

    source: Place
    target: Place
    version: int
    protocol: Protocol
    session: bool

    def __str__(self) -> str:
        way = f"{self.source.name} → {self.target.name}, {self.protocol} over IPv{self.version}"
        return f"{way}, session {'open' if self.session else 'closed'}"


class Mismatch(NamedTuple):
    """A port that came through and should not have, or the other way round; `at` is where it did, or should have."""

    probe: Probe
    port: int
    at: str
    passed: bool

    def __str__(self) -> str:
        what = "passed, and should not have" if self.passed else "did not pass, and should have"
        return f"{self.probe}, port {self.port}: {what} (to {self.at or 'the box'})"


class Outcome(NamedTuple):
    """What came of a sweep. `passed`: how many packets came through, as they should."""

    probes: int
    packets: int
    passed: int
    mismatches: list[Mismatch]
    seconds: float


# What the policy says


def places(policy: Policy) -> list[Place]:
    """Where packets come from and go to, the box itself apart."""
    assert policy.tunnel, "the sweep wants a policy with sessions"
    return [
        Place("outside", policy.uplink, {4: "203.0.113.99", 6: "2001:db8:9::9"}),
        Place("data center", policy.uplink, {4: "203.0.113.5", 6: "2001:db8:1::5"}),
        *(
            Place(
                f"instrument {port.number}",
                port.interface,
                {own.version: str(own.network[5]) for own in port.addresses},
            )
            for port in policy.ports
        ),
        Place("unused port", UNUSED, {4: "10.77.4.5", 6: "fd00:77:4::5"}),
        Place("staff", policy.tunnel.interface, {net.version: str(net[7]) for net in policy.tunnel.staff}),
    ]


def box_at(policy: Policy) -> dict[str, Place]:
    """The box, by each interface on which it has addresses."""
    uplink = {ip_address(text.split("/")[0]).version: text.split("/")[0] for text in UPLINK}
    return {
        policy.uplink: Place("box at its uplink", BOX, uplink),
        **{
            port.interface: Place(
                f"box at port {port.number}", BOX, {own.version: str(own.ip) for own in port.addresses}
            )
            for port in policy.ports
        },
    }


def probes(policy: Policy) -> Iterator[Probe]:
    """All of them; those with the session closed come first."""
    others, box = places(policy), box_at(policy)
    ways = [(one, other) for one, other in product(others, [*others, *box.values()]) if one != other]
    ways += [(box.get(other.interface, box[policy.uplink]), other) for other in others]
    protocols: tuple[Protocol, ...] = ("tcp", "udp")
    for session, (source, target), version, protocol in product((False, True), ways, (4, 6), protocols):
        yield Probe(source, target, version, protocol, session)


def allowed(policy: Policy, probe: Probe) -> frozenset[int]:
    """The ports that the policy lets through."""
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


def session(policy: Policy, version: int) -> Session:
    """The session that is opened: one of the desktop services of the first instrument, for one of the staff."""
    staff, port = places(policy)[-1], policy.ports[0]
    instrument = next(place for place in places(policy) if place.interface == port.interface)
    there, here = (ip_address(place.addresses[version]) for place in (instrument, staff))
    return Session(here, port.number, there, port.desktop[0])


# What the kernel does


def volley(probe: Probe, ports: Iterable[int]) -> Iterator[bytes]:
    """IP packets that differ in their destination port, and in 16 bits that even the checksum out."""
    source, target = (place.addresses[probe.version] for place in (probe.source, probe.target))
    start = 20 if probe.version == 4 else 40
    if probe.protocol == "tcp":
        template, evening = (
            tcp(source, 40000, target, 0, seq=0xFFFF),
            start + 6,
        )  # the sequence number's lower half
    else:
        template, evening = udp(source, 40000, target, 0, b"\xff\xff"), start + 8  # the payload
    head, middle, tail = template[: start + 2], template[start + 4 : evening], template[evening + 2 :]
    for port in ports:
        yield head + pack("!H", port) + middle + pack("!H", 0xFFFF - port) + tail


class Range:
    """The namespace that this process is in, with the ruleset in force and the observer behind it."""

    def __init__(self, policy: Policy, ruleset: list[Any]) -> None:
        self.policy = policy
        self.world = World(policy, ruleset, idle=(UNUSED,))
        with (
            IPRoute() as ip
        ):  # no real box has a way to an unused port; here the ruleset alone is to close it
            unused = ip.link_lookup(ifname=UNUSED)[0]
            for network in ("10.77.4.0/24", "fd00:77:4::/64"):
                ip.route("add", dst=network, oif=unused)
            self._peers = {name: _peer(ip, name) for name in self.world.own}
        self.world.run(_observer())
        self._sessions = Sessions(Nft(), policy)

    def open_sessions(self) -> None:
        """One of each IP version."""
        for version in (4, 6):
            self._sessions.open(session(self.policy, version), SESSION_SECONDS)

    def fire(self, probe: Probe, ports: Sequence[int]) -> set[tuple[str, int]]:
        """Where which ports came out."""
        self.world.run([{"flush": {"set": {**_SEEN, "name": name}}} for name in ("received", "left")])
        self.world.flush_connections()
        for _ in range(TRIES_MAX):
            if self._complete(probe, ports):
                return _seen()
        raise RuntimeError(f"{probe}: the kernel loses packets before the firewall; is the machine too busy?")

    def _complete(self, probe: Probe, ports: Sequence[int]) -> bool:
        """Send a volley; whether all of it met the firewall."""
        from_box = probe.source.interface == BOX
        counter = "offered" if from_box else "arrived"
        link = b"" if from_box else BOX_MAC + PEER_MAC + _ETHERNET_TYPE[probe.version]
        before = self.world.counters()[counter]
        with closing(self._mouth(probe)) as mouth:
            send_all(mouth, [link + packet for packet in volley(probe, ports)])
        until = time.monotonic() + WAIT_SECONDS_MAX
        while (met := self.world.counters()[counter] - before) < len(ports) and time.monotonic() < until:
            time.sleep(0.001)
        return met == len(ports)

    def _mouth(self, probe: Probe) -> socket.socket:
        """Where the packets go in: raw IP on the box itself, else the far end of the interface's cable."""
        if probe.source.interface == BOX:
            family = socket.AF_INET if probe.version == 4 else socket.AF_INET6
            raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            raw.connect((probe.target.addresses[probe.version], 0))
            return raw
        cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        cable.bind((self._peers[probe.source.interface], 0))
        return cable


def _peer(ip: IPRoute, interface: str) -> str:
    """The other end of a veth."""
    return socket.if_indextoname(ip.link("get", ifname=interface)[0].get_attr("IFLA_LINK"))


_SEEN: Final = {"family": "inet", "table": SEEN}


def _observer() -> Iterator[Any]:
    """A table that remembers what came past all others: to the box, or out of an interface."""
    yield {"add": {"table": {"family": "inet", "name": SEEN}}}
    # a set that rules add to wants the flag "dynamic", which nft 1.0.6 cannot read in JSON; "timeout" is as good
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
        thing["set"]["name"]: thing["set"]
        for thing in json.loads(listed.stdout)["nftables"]
        if "set" in thing
    }
    received = {(BOX, port) for port in sets["received"].get("elem", [])}
    return received | {tuple(element["concat"]) for element in sets["left"].get("elem", [])}


# Both together


def sweep_here(
    policy: Policy, ruleset: list[Any], ports: Sequence[int] = ALL_PORTS, share: tuple[int, int] = (0, 1)
) -> Outcome:
    """Compare the ruleset with the policy, in this process and a new namespace.

    `share` is (m, n): every n-th probe from the m-th.
    """
    enter_namespace()
    began = time.monotonic()
    place, mismatches, passed, opened = Range(policy, ruleset), [], 0, False
    mine = list(probes(policy))[share[0] :: share[1]]
    for probe in mine:
        if probe.session and not opened:
            place.open_sessions()
            opened = True
        seen = place.fire(probe, ports)
        wanted = {(probe.target.interface, port) for port in allowed(policy, probe) & set(ports)}
        passed += len(seen & wanted)
        mismatches += [Mismatch(probe, port, at, True) for at, port in sorted(seen - wanted)]
        mismatches += [Mismatch(probe, port, at, False) for at, port in sorted(wanted - seen)]
    return Outcome(len(mine), len(mine) * len(ports), passed, mismatches, time.monotonic() - began)


def sweep(policy: Policy, ruleset: list[Any] | None = None, ports: Sequence[int] = ALL_PORTS) -> Outcome:
    """The same in a process for each processor. Without a ruleset, the policy's own. Needs root."""
    began, count = time.monotonic(), processors()
    given = render(policy).commands() if ruleset is None else ruleset
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        parts = [pool.submit(sweep_here, policy, given, ports, (number, count)) for number in range(count)]
        outcomes = [part.result() for part in parts]
    return Outcome(
        sum(part.probes for part in outcomes),
        sum(part.packets for part in outcomes),
        sum(part.passed for part in outcomes),
        [mismatch for part in outcomes for mismatch in part.mismatches],
        time.monotonic() - began,
    )


def figures() -> list[Figure]:
    outcome = sweep(load_policy(POLICY))
    for mismatch in outcome.mismatches[:20]:
        print(mismatch)
    return [
        figure("ports probed from zone to zone", "packets", outcome.packets),
        figure("of them let through, as the policy says", "packets", outcome.passed, ">= 1"),
        figure("mismatches with the policy", "ports", len(outcome.mismatches), "<= 0"),
        figure("the whole sweep", "s", outcome.seconds, "<= 120"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
