# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall policy: zones, ports, authorized addresses, and the tunnel of remote sessions.

A `Policy` is an immutable, validated value: interfaces are kernel names, addresses are `ipaddress` objects. It is
read from a file by `netfw.policy.policyfile` and rendered by `netfw.ruleset.render`.

Zones are interfaces: the uplink, each instrument port in use, and the tunnel. An interface in no zone is unused, and
closed.
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
"""Maximum number of authorized (network, protocol, port) triples."""
SESSION_SECONDS_MAX: Final = 8 * 3600
SESSIONS_MAX: Final = 64
"""Maximum number of simultaneously open sessions of one IP version."""
RESERVED_NETWORKS: Final[tuple[Network, ...]] = (
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(IPv6Network, ("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8")),
)
"""Addresses of no external host (RFC 6890): this host, loopback, link-local, multicast, reserved, mapped."""


class Service(NamedTuple):
    """A transport protocol and port, such as "tcp/443"."""

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
"""Address ranges of DHCP servers (first, last): any server, or all servers of the link. DHCPv6 stays on the link."""


@dataclass(frozen=True, slots=True)
class Authorized:
    """Destinations that the box may connect to. The role "gateway" has no services: IKE and ESP on the uplink."""

    role: str
    networks: tuple[Network, ...]
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class PolicyPort:
    """One instrument port: the box's addresses, its services there, and the services that a session may reach."""

    number: int
    interface: str
    addresses: tuple[InterfaceAddress, ...]
    services: tuple[Service, ...]
    desktop: tuple[Service, ...] = ()

    def may_have(self, address: Address) -> bool:
        """Return whether an instrument on this port may have this address."""
        return any(address in own.network and address not in reserved(own) for own in self.addresses)


@dataclass(frozen=True, slots=True)
class PolicyTunnel:
    """The interface of remote sessions, and the networks of the staff."""

    interface: str
    staff: tuple[Network, ...]
    address: Address | None = None
    """The box's own address in the tunnel, for bridged desktops; None: sessions reach only instruments."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The complete policy. `ports` are those in use."""

    uplink: str
    ports: tuple[PolicyPort, ...]
    authorized: tuple[Authorized, ...]
    tunnel: PolicyTunnel | None = None
    rejects_outside: bool = False
    """Whether unsolicited packets from the uplink are rejected with an ICMP error instead of dropped silently."""
    accept_router_advertisements: bool = False
    """Whether router advertisements on the uplink are accepted (RFC 4861, section 6.3.4)."""
    vpn: str = ""
    """The interface of the IPsec VPN, the only one through which authorized addresses are reached; empty without a
    VPN."""
    uses_dhcp: bool = False
    """Whether the uplink gets its address by DHCP or DHCPv6, from any server there."""

    @property
    def outside(self) -> tuple[str, ...]:
        """The interfaces that lead to the outside."""
        return (self.uplink, self.vpn) if self.vpn else (self.uplink,)

    @property
    def authorized_interface(self) -> str:
        """The interface through which authorized addresses are reached."""
        return self.vpn or self.uplink

    def port(self, number: int) -> PolicyPort | None:
        """Return the port with this number if it is in use."""
        return next((port for port in self.ports if port.number == number), None)


def reserved(own: InterfaceAddress) -> frozenset[Address]:
    """Return addresses of the box's subnet that no instrument has: the box's own, the subnet's, the broadcast
    address.

    In IPv6 the subnet's own address is the subnet-router anycast address (RFC 4291, section 2.6.1). Subnets of two
    addresses or one have neither (RFC 3021, RFC 6164).
    """
    addresses: set[Address] = {own.ip}
    if own.network.num_addresses > 2:
        addresses.add(own.network.network_address)
        if own.version == 4:
            addresses.add(own.network.broadcast_address)
    return frozenset(addresses)
