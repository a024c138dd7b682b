"""Where the firewall's benches shoot: the zones of a policy, each with an address, and a way in from each.

The kernel is that of `bench.firewall_world`, in a namespace of this process. There is a route to a port in no use,
too, which no real box has: the ruleset alone is to close it.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute

from bench.firewall_world import BOX_MAC, MARK, PEER_MAC, UPLINK, World
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Session, Sessions
from netfw.policy.policy import Policy

POLICY: Final = Path(__file__).with_name("firewall.toml")
BOX: Final = ""
UNUSED: Final = "enp5s0"
SESSION_SECONDS: Final = 3600
_UNUSED_NETWORKS: Final = ("10.77.4.0/24", "fd00:77:4::/64")
_ETHERNET_TYPE: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}


class Place(NamedTuple):
    """Who may send and be sent to: behind an interface of the box, or with `interface` BOX the box itself."""

    name: str
    interface: str
    addresses: dict[int, str]


def places(policy: Policy) -> list[Place]:
    """Where packets come from and go to, the box itself apart."""
    assert policy.tunnel, "the benches want a policy with sessions"
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
    uplink: dict[int, str] = {ip_address(text.split("/")[0]).version: text.split("/")[0] for text in UPLINK}
    return {
        policy.uplink: Place("box at its uplink", BOX, uplink),
        **{
            port.interface: Place(
                f"box at port {port.number}", BOX, {own.version: str(own.ip) for own in port.addresses}
            )
            for port in policy.ports
        },
    }


def session(policy: Policy, version: int) -> Session:
    """The session that is opened: one of the desktop services of the first instrument, for one of the staff."""
    staff, port = places(policy)[-1], policy.ports[0]
    instrument = next(place for place in places(policy) if place.interface == port.interface)
    there, here = (ip_address(place.addresses[version]) for place in (instrument, staff))
    return Session(here, port.number, there, port.desktop[0])


def crowded(policy: Policy, count: int = 10_000) -> Policy:
    """The policy with so many authorized addresses more."""
    first = int(IPv4Address("198.18.0.0"))  # set aside for benchmarks (RFC 2544)
    many = tuple(IPv4Network(first + number) for number in range(count))
    entry = replace(policy.authorized[0], networks=(*policy.authorized[0].networks, *many))
    return replace(policy, authorized=(entry, *policy.authorized[1:]))


class Mouth(NamedTuple):
    """Where packets go in: a socket, and what is to stand before the IP packet."""

    socket: socket.socket
    link: bytes

    def close(self) -> None:
        self.socket.close()


class Range:
    """The namespace that this process is in, with a ruleset in force."""

    def __init__(self, policy: Policy, ruleset: list[Any]) -> None:
        self.policy = policy
        self.world = World(policy, ruleset, idle=(UNUSED,))
        with IPRoute() as ip:
            unused = ip.link_lookup(ifname=UNUSED)[0]
            for network in _UNUSED_NETWORKS:
                ip.route("add", dst=network, oif=unused)
            self._peers = {name: _peer(ip, name) for name in self.world.own}
        self.nft = Nft()

    def open_sessions(self) -> None:
        """One of each IP version."""
        for version in (4, 6):
            Sessions(self.nft, self.policy).open(session(self.policy, version), SESSION_SECONDS)

    def mouth(self, source: Place, target: Place, version: int) -> Mouth:
        """Raw IP on the box itself, else the far end of the interface's cable."""
        if source.interface == BOX:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            raw.connect((target.addresses[version], 0))
            return Mouth(raw, b"")
        cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        cable.bind((self._peers[source.interface], 0))
        return Mouth(cable, BOX_MAC + PEER_MAC + _ETHERNET_TYPE[version])


def _peer(ip: IPRoute, interface: str) -> str:
    """The other end of a veth."""
    return socket.if_indextoname(ip.link("get", ifname=interface)[0].get_attr("IFLA_LINK"))
