# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The named sets: they contain everything that grows with the policy, so that the number of rules is constant.

Exact addresses are in hash sets, prefixes in interval sets: a hash set's lookup takes the same time regardless of its
size, and it loads fast.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, collapse_addresses, summarize_address_range
from typing import Any, Final

from netfw.policy.policy import (
    DHCP_PORTS,
    DHCP_SERVERS,
    RESERVED_NETWORKS,
    SESSIONS_MAX,
    Address,
    InterfaceAddress,
    Network,
    Policy,
    Service,
    reserved,
)
from netfw.ruleset.names import CONNECTIONS, INTERFACES_MAX, LOG_TIMEOUT_SECONDS, LOGGED, SESSIONS
from netfw.ruleset.nft_json import Json, concat, icmp

PORTS: Final = "ports"
INTERFACES: Final = "interfaces"
REFUSED_ICMP: Final = "refused_icmp"
AUTHORIZED: Final = {4: "authorized4", 6: "authorized6"}
AUTHORIZED_NETWORKS: Final = {4: "authorized_networks4", 6: "authorized_networks6"}
PEERS: Final = {4: "peers4", 6: "peers6"}
"""VPN gateways and DHCP servers, with both ports: their packets are on the uplink, and they may begin an exchange."""
SERVICES: Final = {4: "services4", 6: "services6"}
SOURCES: Final = {4: "sources4", 6: "sources6"}
INSIDE: Final = {4: "inside4", 6: "inside6"}

HASH_SIZE_MIN: Final = 1024
"""Minimum size of a hash set, so that different policies rarely differ in a set's declaration."""

_ADDRESS: Final = {4: "ipv4_addr", 6: "ipv6_addr"}
_REDIRECT: Final = {4: 5, 6: 137}
_ROUTER_ADVERT: Final = 134
"""ICMP types: RFC 792; RFC 4861, sections 4.2 and 4.5."""
_ANY: Final = {4: IPv4Address(0), 6: IPv6Address(0)}
_MAKERS: Final[dict[int, tuple[Callable[[int], Address], int]]] = {
    4: (IPv4Address, 32),
    6: (IPv6Address, 128),
}
_ANY_PORT: Final = {"range": [0, 65535]}


@dataclass(frozen=True, slots=True)
class Set:
    """A named set; `kind` is the type of its elements, a list for concatenations."""

    name: str
    kind: Json
    elements: tuple[Json, ...]
    flags: tuple[str, ...] = ()
    size: int | None = None
    timeout: int | None = None
    """The timeout of each element, in seconds."""
    counts: bool = False
    """Whether rules add elements with a state to it (`dynamic` in nft(8), which JSON does not have)."""


def has_peers(policy: Policy) -> bool:
    """Return whether the policy has external peers that may begin an exchange."""
    return bool(policy.vpn) or policy.uses_dhcp


def sets(policy: Policy) -> Iterator[Set]:
    """Yield all sets, including empty ones."""
    ports = tuple(port.interface for port in policy.ports)
    tunnel = (policy.tunnel.interface,) if policy.tunnel else ()
    yield Set(PORTS, "ifname", ports)
    interfaces = (*policy.outside, *ports, *tunnel)
    yield Set(INTERFACES, "ifname", interfaces)
    kind = ["ifname", "inet_proto", "inet_service"]
    yield Set(REFUSED_ICMP, kind, tuple(_route_messages(policy, interfaces)), ("interval",))
    yield Set(CONNECTIONS, "ifname", (), size=INTERFACES_MAX, counts=True)
    yield Set(LOGGED, "ifname", (), ("timeout",), INTERFACES_MAX, LOG_TIMEOUT_SECONDS, counts=True)
    for version in (4, 6):
        yield from _of_version(policy, version)


def _of_version(policy: Policy, version: int) -> Iterator[Set]:
    address, interval = _ADDRESS[version], ("interval",)
    service = [address, "inet_proto", "inet_service"]
    exact, networks = _authorized(policy, version)
    yield Set(SOURCES[version], ["ifname", address], tuple(_sources(policy, version)), interval)
    yield Set(INSIDE[version], address, tuple(map(_prefix, _inside(policy, version))), interval)
    yield Set(SERVICES[version], ["ifname", *service], tuple(_services(policy, version)))
    yield Set(AUTHORIZED[version], service, exact, size=_hash_size(len(exact)))
    yield Set(AUTHORIZED_NETWORKS[version], service, networks, interval)
    if has_peers(policy):
        peers = (*_gateways(policy, version), *_dhcp_servers(policy, version))
        yield Set(PEERS[version], [*service, "inet_service"], peers, interval)
    if policy.tunnel:
        kind = [address, "ifname", *service]
        yield Set(SESSIONS[version], kind, (), ("timeout",), SESSIONS_MAX)


def _route_messages(policy: Policy, interfaces: Iterable[str]) -> Iterator[Json]:
    """Yield (interface, ICMP type) of messages by which other hosts could change the box's routes."""
    for interface in interfaces:
        yield concat(interface, *icmp(4, _REDIRECT[4]))
        yield concat(interface, *icmp(6, _REDIRECT[6]))
        if not (policy.accept_router_advertisements and interface == policy.uplink):
            yield concat(interface, *icmp(6, _ROUTER_ADVERT))


def _sources(policy: Policy, version: int) -> Iterator[Json]:
    """Yield permitted (interface, source address), except for the uplink, which has a rule with the set INSIDE."""
    yield concat("lo", {"prefix": {"addr": str(_ANY[version]), "len": 0}})
    if policy.vpn:
        yield from (concat(policy.vpn, part) for part in _complement(_inside(policy, version), version))
    for port in policy.ports:
        for own in port.addresses:
            if own.version == version:
                yield from (concat(port.interface, part) for part in _instrument_addresses(own))
    if policy.tunnel:
        for network in _collapsed(version, policy.tunnel.staff):
            yield concat(policy.tunnel.interface, _prefix(network))


def _inside(policy: Policy, version: int) -> Iterable[Network]:
    """Return the source addresses that must not arrive from outside."""
    networks = [own.network for port in policy.ports for own in port.addresses]
    networks += [*(policy.tunnel.staff if policy.tunnel else ()), *RESERVED_NETWORKS]
    return _collapsed(version, networks)


def _services(policy: Policy, version: int) -> Iterator[Json]:
    for port in policy.ports:
        for own in port.addresses:
            if own.version == version:
                for service in port.services:
                    yield concat(port.interface, str(own.ip), *service)


def _authorized(policy: Policy, version: int) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """Return exact addresses, and networks; the entries of each service are merged, without overlaps."""
    hosts: defaultdict[Service, dict[str, None]] = defaultdict(dict)
    wide: defaultdict[Service, list[Network]] = defaultdict(list)
    for entry in policy.authorized:
        networks = _of(version, entry.networks)
        single = [str(network.network_address) for network in networks if _is_host(network)]
        for service in entry.services:
            hosts[service] |= dict.fromkeys(single)
            wide[service] += [network for network in networks if not _is_host(network)]
    exact = tuple(concat(host, *service) for service, addresses in hosts.items() for host in addresses)
    prefixes = [
        concat(_prefix(network), *service)
        for service, of_service in wide.items()
        for network in _collapsed(version, of_service)
    ]
    return exact, tuple(prefixes)


def _hash_size(elements: int) -> int:
    """Return a power of two with room for this many: a fixed-size set is filled in half the time of a growing one."""
    return max(HASH_SIZE_MIN, 1 << elements.bit_length())


def _gateways(policy: Policy, version: int) -> Iterator[Json]:
    """Yield (gateway, protocol, remote port, local port): IKE (RFC 7296, RFC 3948), and ESP, which has no ports."""
    gateways = [n for entry in policy.authorized if entry.role == "gateway" for n in entry.networks]
    for network in _collapsed(version, gateways):
        yield concat(_prefix(network), "udp", 500, 500)
        yield concat(_prefix(network), "udp", 4500, 4500)
        yield concat(_prefix(network), "esp", _ANY_PORT, _ANY_PORT)


def _dhcp_servers(policy: Policy, version: int) -> Iterator[Json]:
    """Yield (server, protocol, remote port, local port)."""
    if policy.uses_dhcp:
        for first, last in DHCP_SERVERS[version]:
            yield concat(_range(first, last), "udp", *DHCP_PORTS[version])


def _is_host(network: Network) -> bool:
    return network.prefixlen == network.max_prefixlen  # many times faster than `num_addresses`


def _of(version: int, networks: Iterable[Network]) -> list[Network]:
    return [network for network in networks if network.version == version]


def _collapsed(version: int, networks: Iterable[Network]) -> Iterable[Network]:
    """Return as few networks as possible, without overlaps."""
    chosen: Any = _of(version, networks)  # of one version, as the type of `collapse_addresses` requires
    return collapse_addresses(chosen)


def _instrument_addresses(own: InterfaceAddress) -> Iterator[Json]:
    """Yield the addresses of the box's subnet that an instrument may have."""
    holes = sorted(int(address) for address in reserved(own))
    first, last = int(own.network.network_address), int(own.network.broadcast_address)
    starts = [first, *(hole + 1 for hole in holes)]
    ends = [*(hole - 1 for hole in holes), last]
    make = type(own.ip)
    return (_range(make(start), make(end)) for start, end in zip(starts, ends, strict=True) if start <= end)


def _complement(networks: Iterable[Network], version: int) -> Iterator[Json]:
    """Yield all addresses outside of these networks, which are sorted and do not overlap."""
    make, bits = _MAKERS[version]
    edges = [(int(network.network_address), int(network.broadcast_address)) for network in networks]
    starts = [0, *(last + 1 for _, last in edges)]
    ends = [*(first - 1 for first, _ in edges), 2**bits - 1]
    return (_range(make(start), make(end)) for start, end in zip(starts, ends, strict=True) if start <= end)


def _range(first: Address, last: Address) -> Json:
    """Return a range as the kernel lists it: as a prefix if it is one."""
    blocks: list[Network] = list(summarize_address_range(first, last))
    return _prefix(blocks[0]) if len(blocks) == 1 else {"range": [str(first), str(last)]}


def _prefix(network: Network) -> Json:
    if _is_host(network):
        return str(network.network_address)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
