# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""What the firewall is to hold to: zones, ports, authorized addresses, and where sessions come in.

A `Policy` is a frozen value, already judged: interfaces are the kernel's names, addresses are `ipaddress` objects.
It is read from a file by `netfw.policy.policyfile`, and rendered by `netfw.ruleset.render`.

Zones are interfaces. The uplink is a zone, each used instrument port is one of its own, and so is the tunnel; an
interface in no zone is unused, and closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Final, Literal, NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
InterfaceAddress: TypeAlias = IPv4Interface | IPv6Interface
Protocol: TypeAlias = Literal["tcp", "udp"]

AUTHORIZED_MAX: Final = 65536
"""Authorized (network, protocol, port) triples."""
SESSION_SECONDS_MAX: Final = 8 * 3600
SESSIONS_MAX: Final = 64
"""Open sessions of one IP version at the same time."""
NOWHERE: Final[tuple[Network, ...]] = (
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(IPv6Network, ("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8")),
)
"""What is nobody's address out there (RFC 6890): this host, loopback, link-local, multicast, reserved, mapped."""


class Service(NamedTuple):
    """Something that listens: "tcp/443"."""

    protocol: Protocol
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.port}"


DHCP_PORTS: Final = {4: (67, 68), 6: (547, 546)}
"""UDP ports of servers and of clients: DHCP (RFC 2131, section 4.1) and DHCPv6 (RFC 8415, section 7.2)."""
DHCP_SERVERS: Final[dict[int, tuple[tuple[Address, Address], ...]]] = {
    4: (
        (IPv4Address("1.0.0.0"), IPv4Address("223.255.255.255")),
        (IPv4Address(2**32 - 1), IPv4Address(2**32 - 1)),
    ),
    6: (
        (IPv6Address("fe80::"), IPv6Address("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        (IPv6Address("ff02::1:2"), IPv6Address("ff02::1:2")),
    ),
}
"""Addresses of DHCP servers, first and last: any server's, or all servers' of the link. DHCPv6 stays on the link."""


@dataclass(frozen=True, slots=True)
class Authorized:
    """Where the box may go. Role "gateway" has no services: IKE and ESP go there, and nothing else."""

    role: str
    networks: tuple[Network, ...]
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class PolicyPort:
    """One instrument port: the box's addresses on it, what is offered there, and what a session may reach."""

    number: int
    interface: str
    addresses: tuple[InterfaceAddress, ...]
    services: tuple[Service, ...]
    desktop: tuple[Service, ...] = ()

    def holds(self, address: Address) -> bool:
        """Whether an instrument on this port may have this address."""
        return any(address in own.network and address not in reserved(own) for own in self.addresses)


@dataclass(frozen=True, slots=True)
class PolicyTunnel:
    """Where remote sessions come in, and from whom."""

    interface: str
    staff: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole. `ports` are those in use."""

    uplink: str
    ports: tuple[PolicyPort, ...]
    authorized: tuple[Authorized, ...]
    tunnel: PolicyTunnel | None = None
    rejects_outside: bool = False
    """Whether what comes unasked from the uplink is told so, instead of being dropped silently."""
    believes_routers: bool = False
    """Whether router advertisements on the uplink are taken (RFC 4861, section 6.3.4)."""
    ipsec_required: bool = False
    uses_dhcp: bool = False
    """Whether the uplink has its address by DHCP or DHCPv6, from any server there."""

    def port(self, number: int) -> PolicyPort | None:
        """The port with this number, if it is in use."""
        return next((port for port in self.ports if port.number == number), None)


def reserved(own: InterfaceAddress) -> frozenset[Address]:
    """Addresses of the box's subnet that no instrument has: the box's own, the subnet's, the broadcast address.

    In IPv6 the subnet's own address is the routers' anycast address (RFC 4291, section 2.6.1). Subnets of two
    addresses or one have neither (RFC 3021, RFC 6164).
    """
    taken: set[Address] = {own.ip}
    if own.network.num_addresses > 2:
        taken.add(own.network.network_address)
        if own.version == 4:
            taken.add(own.network.broadcast_address)
    return frozenset(taken)
