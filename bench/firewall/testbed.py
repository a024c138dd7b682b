"""The testbed of the firewall's benchmarks: the zones of a policy, with an address and packet injection in each.

The ruleset is in force in a network namespace of this process (`bench.firewall.namespace`). There is also a route to
an unused port, which no real box has: the ruleset alone must block it.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from pyroute2 import IPRoute

from bench.firewall.namespace import BOX_MAC, MARK, PEER_MAC, UPLINK, BoxNamespace
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import Policy
from netfw.ruleset.sessions import Session

POLICY: Final = Path(__file__).with_name("policy.toml")
BOX: Final = ""
UNUSED: Final = "enp5s0"
SESSION_SECONDS: Final = 3600
_UNUSED_NETWORKS: Final = ("10.77.4.0/24", "fd00:77:4::/64")
_ETHERNET_TYPE: Final = {4: b"\x08\x00", 6: b"\x86\xdd"}


class TestbedZone(NamedTuple):
    """A source or destination: hosts behind an interface of the box, or with `interface` BOX the box itself."""

    name: str
    interface: str
    addresses: dict[int, str]


def zones(policy: Policy) -> list[TestbedZone]:
    """Return all zones but the box itself."""
    assert policy.tunnel, "the benchmarks need a policy with sessions"
    return [
        TestbedZone("outside", policy.uplink, {4: "203.0.113.99", 6: "2001:db8:9::9"}),
        TestbedZone("data center", policy.uplink, {4: "203.0.113.5", 6: "2001:db8:1::5"}),
        *(
            TestbedZone(
                f"instrument {port.number}",
                port.interface,
                {own.version: str(own.network[5]) for own in port.addresses},
            )
            for port in policy.ports
        ),
        TestbedZone("unused port", UNUSED, {4: "10.77.4.5", 6: "fd00:77:4::5"}),
        TestbedZone(
            "staff", policy.tunnel.interface, {net.version: str(net[7]) for net in policy.tunnel.staff}
        ),
    ]


def box_zones(policy: Policy) -> dict[str, TestbedZone]:
    """Return the box as a zone, by each interface on which it has addresses."""
    uplink: dict[int, str] = {ip_address(text.split("/")[0]).version: text.split("/")[0] for text in UPLINK}
    return {
        policy.uplink: TestbedZone("box at its uplink", BOX, uplink),
        **{
            port.interface: TestbedZone(
                f"box at port {port.number}", BOX, {own.version: str(own.ip) for own in port.addresses}
            )
            for port in policy.ports
        },
    }


def session(policy: Policy, version: int) -> Session:
    """Return the session to open: from a staff address to the first desktop service of the first instrument."""
    staff, port = zones(policy)[-1], policy.ports[0]
    instrument = next(zone for zone in zones(policy) if zone.interface == port.interface)
    destination, source = (ip_address(zone.addresses[version]) for zone in (instrument, staff))
    return Session(source, port.number, destination, port.desktop[0])


def with_addresses(policy: Policy, count: int = 10_000) -> Policy:
    """Return the policy with this many additional authorized addresses."""
    first = int(IPv4Address("198.18.0.0"))  # reserved for benchmarks (RFC 2544)
    many = tuple(IPv4Network(first + number) for number in range(count))
    entry = replace(policy.authorized[0], networks=(*policy.authorized[0].networks, *many))
    return replace(policy, authorized=(entry, *policy.authorized[1:]))


class Injector(NamedTuple):
    """Sends packets from a zone: a socket, and the link-layer header to put before each IP packet."""

    socket: socket.socket
    link: bytes

    def close(self) -> None:
        self.socket.close()


class Testbed:
    """The network namespace of this process, with a ruleset in force."""

    def __init__(self, policy: Policy, ruleset: list[Any]) -> None:
        self.policy = policy
        self.namespace = BoxNamespace(policy, ruleset, idle=(UNUSED,))
        with IPRoute() as ip:
            unused = ip.link_lookup(ifname=UNUSED)[0]
            for network in _UNUSED_NETWORKS:
                ip.route("add", dst=network, oif=unused)
            self._peers = {name: _peer(ip, name) for name in self.namespace.addresses}
        self.nft = Nft()

    def open_sessions(self) -> None:
        """Open one session for each IP version."""
        for version in (4, 6):
            Sessions(self.nft, self.policy).open(session(self.policy, version), SESSION_SECONDS)

    def injector(self, source: TestbedZone, target: TestbedZone, version: int) -> Injector:
        """Return the injector for a source: a raw IP socket for the box, else a packet socket on a peer interface."""
        if source.interface == BOX:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            raw.connect((target.addresses[version], 0))
            return Injector(raw, b"")
        cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        cable.bind((self._peers[source.interface], 0))
        return Injector(cable, BOX_MAC + PEER_MAC + _ETHERNET_TYPE[version])


def _peer(ip: IPRoute, interface: str) -> str:
    """Return the name of a veth's peer."""
    return socket.if_indextoname(ip.link("get", ifname=interface)[0].get_attr("IFLA_LINK"))
