# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The policy file, `firewall.toml`.

    board = "rap-4"                   # or a board file, "….toml", relative to this file

    [uplink]
    from_outside = "drop"             # or "reject": the response to unsolicited packets
    router_advertisements = false     # whether IPv6 router advertisements on the uplink are accepted
    dhcp = false                      # whether the uplink gets its address by DHCP or DHCPv6
    vpn = "ipsec1"                    # only with an IPsec VPN: its interface, the only way to authorized addresses

    [[authorized]]                    # the only destinations that the box may connect to
    role = "datacenter"               # datacenter, proxy, time, names, audit-log, laboratory-host, gateway
    addresses = ["203.0.113.5", "2001:db8:1::/64"]
    protocol = "tcp"
    ports = [443]

    [[port]]                          # ports of the board that are not listed are closed
    number = 1
    addresses = ["10.77.1.1/24", "fd00:77:1::1/64"]
    services = ["tcp/443"]            # the box's services for instruments
    desktop = ["tcp/5900"]            # the instrument's services for sessions

    [tunnel]                          # omit it if there are no remote sessions
    interface = "tun-rap"
    staff = ["10.99.0.2/32"]
    address = "10.99.0.1"             # the box's own address, if the box itself shows desktops to the staff

The form of the file is checked first, then its meaning; all problems of each step are reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, ip_interface, ip_network
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, get_args

from msgspec import Meta

from netfw.policy.policy import (
    AUTHORIZED_MAX,
    RESERVED_NETWORKS,
    Address,
    Authorized,
    InterfaceAddress,
    Network,
    Policy,
    PolicyPort,
    PolicyTunnel,
    Protocol,
    Service,
)
from settings.board import Board, Interface, PortNumber, read_board_of
from settings.partial import PartialTable
from settings.problems import Problems, parse_key
from settings.toml import load, parse, read_partial, read_text
from settings.types import Table, TcpPort

ADDRESSES_OF_A_PORT_MAX: Final = 8
SERVICES_MAX: Final = 32

Role: TypeAlias = Literal["datacenter", "proxy", "time", "names", "audit-log", "laboratory-host", "gateway"]
T = TypeVar("T")


class UplinkTable(Table, frozen=True):
    """Configuration of the box's uplink."""

    from_outside: Literal["drop", "reject"] = "drop"
    router_advertisements: bool = False
    dhcp: bool = False
    vpn: Interface | None = None


class AuthorizedTable(Table, frozen=True):
    """Addresses that the box may connect to, with their role and service."""

    role: Role
    addresses: Annotated[list[str], Meta(min_length=1)]
    protocol: Protocol | None = None
    ports: list[TcpPort] = []


class PortTable(Table, frozen=True):
    """An instrument port: the box's addresses on it, and the reachable services."""

    number: PortNumber
    addresses: Annotated[list[str], Meta(min_length=1, max_length=ADDRESSES_OF_A_PORT_MAX)]
    services: Annotated[list[str], Meta(max_length=SERVICES_MAX)] = []
    desktop: Annotated[list[str], Meta(max_length=SERVICES_MAX)] = []


class TunnelTable(Table, frozen=True):
    """The interface and the staff networks of remote sessions."""

    interface: Interface
    staff: Annotated[list[str], Meta(min_length=1)]
    address: str | None = None


class PolicyFile(Table, frozen=True):
    """The complete file."""

    board: str
    uplink: UplinkTable = UplinkTable()
    authorized: list[AuthorizedTable] = []
    port: list[PortTable] = []
    tunnel: TunnelTable | None = None


def load_policy(file: Path) -> Policy:
    """Read the policy in `file`. Raises: SettingsError with all problems."""
    return load_policy_with_board(file)[0]


def load_policy_with_board(file: Path) -> tuple[Policy, Board]:
    """Read the policy in `file`, and the board that it names. Raises: SettingsError with all problems."""
    text = read_text(file)
    problems = Problems(file, text)
    content = read_partial(PolicyFile, parse(text, file), (), problems)
    board = read_board_of(content, problems)
    if board is None:
        problems.raise_if_any()
    assert board is not None
    return _Converter(problems, board).policy(content), board


def files_of_policy(file: Path) -> list[Path]:
    """Return the file itself, and the board file if it names one by path. Raises: SettingsError."""
    board = load(file, PolicyFile).board
    return [file, file.parent / board] if board.endswith(".toml") else [file]


class _Converter:
    """Converts the file's content to a policy, and collects problems."""

    def __init__(self, problems: Problems, board: Board) -> None:
        self._problems, self._board = problems, board

    def policy(self, given: PolicyFile) -> Policy:
        """Return the policy. Raises: SettingsError with all problems."""
        tunnel, ports, authorized = None, [], []
        with self._problems.part():
            self._check_virtual("uplink.vpn", given.uplink.vpn)
        with self._problems.part():
            tunnel = self._tunnel(given.tunnel) if given.tunnel else None
        with self._problems.part():
            for index, port in enumerate(given.port):
                with self._problems.part():
                    ports.append(self._port(f"port[{index}]", port))
        with self._problems.part():
            for index, entry in enumerate(given.authorized):
                with self._problems.part():
                    authorized.append(self._authorized(f"authorized[{index}]", entry))
        if isinstance(given, PartialTable):  # only a complete policy is checked for contradictions
            self._problems.raise_if_any()
        policy = Policy(
            uplink=self._board.uplink,
            ports=tuple(ports),
            authorized=tuple(authorized),
            tunnel=tunnel,
            rejects_outside=given.uplink.from_outside == "reject",
            accept_router_advertisements=given.uplink.router_advertisements,
            uses_dhcp=given.uplink.dhcp,
            vpn=given.uplink.vpn or "",
        )
        for key, problem in _contradictions(policy):
            self._add_problem(key, problem)
        self._problems.raise_if_any()
        return policy

    def _authorized(self, key: str, given: AuthorizedTable) -> Authorized:
        gateway = given.role == "gateway"
        if gateway and (given.protocol or given.ports):
            self._add_problem(
                f"{key}.ports", 'a gateway uses IKE and ESP only; remove "protocol" and "ports"'
            )
        elif not gateway and not (given.protocol and given.ports):
            self._add_problem(
                f"{key}.ports", 'are missing; give protocol = "tcp" or "udp", and ports = [443]'
            )
        networks = self._convert_each(f"{key}.addresses", given.addresses, _destination)
        return Authorized(
            given.role, networks, tuple(Service(given.protocol or "tcp", port) for port in given.ports)
        )

    def _port(self, key: str, given: PortTable) -> PolicyPort:
        interface = self._board.instrument_ports.get(given.number)
        if interface is None:
            known = ", ".join(map(str, sorted(self._board.instrument_ports)))
            self._add_problem(
                f"{key}.number", f"{self._board.name} has no port {given.number}; it has {known}"
            )
        return PolicyPort(
            given.number,
            interface or "",
            self._convert_each(f"{key}.addresses", given.addresses, _own_address),
            self._convert_each(f"{key}.services", given.services, _service),
            self._convert_each(f"{key}.desktop", given.desktop, _service),
        )

    def _tunnel(self, given: TunnelTable) -> PolicyTunnel:
        self._check_virtual("tunnel.interface", given.interface)
        staff = self._convert_each("tunnel.staff", given.staff, _subnet)
        address = None
        if given.address is not None:
            try:
                address = _address(given.address)
            except ValueError as error:
                self._add_problem("tunnel.address", str(error))
        return PolicyTunnel(given.interface, staff, address)

    def _check_virtual(self, key: str, interface: str | None) -> None:
        if interface in ("lo", self._board.uplink, *self._board.instrument_ports.values()):
            self._add_problem(key, f"{interface} is already a port of board {self._board.name}")

    def _convert_each(self, key: str, given: list[str], read: Callable[[str], T]) -> tuple[T, ...]:
        values: dict[T, None] = {}
        for index, text in enumerate(given):
            try:
                value = read(text)
            except ValueError as error:
                self._add_problem(f"{key}[{index}]", str(error))
                continue
            if value in values:
                self._add_problem(f"{key}[{index}]", f"{text} is listed twice; list it once")
            values[value] = None
        return tuple(values)

    def _add_problem(self, key: str, problem: str) -> None:
        self._problems.add(parse_key(key), problem)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{text} has host bits set; write {ip_interface(text).network}") from None
        raise ValueError(f"{text!r} is not an address; write 203.0.113.5 or 2001:db8:1::/64") from None


def _subnet(text: str) -> Network:
    network = _network(text)
    if overlapping := next((n for n in RESERVED_NETWORKS if _overlap(network, n)), None):
        raise ValueError(f"{text} overlaps the reserved range {overlapping}; list external addresses only")
    return network


def _destination(text: str) -> Network:
    if _network(text).prefixlen == 0:
        raise ValueError(f"{text} would allow any address; list specific networks")
    return _subnet(text)


def _address(text: str) -> Address:
    network = _subnet(text)
    if network.num_addresses > 1:
        raise ValueError(f"{text} is a network; give the box's own address, such as 10.99.0.1")
    return network.network_address


def _own_address(text: str) -> InterfaceAddress:
    try:
        own = ip_interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address with prefix length; write 10.77.1.1/24") from None
    if own.network.num_addresses == 1:
        raise ValueError(f"{text} leaves no address for an instrument; give the subnet, as in 10.77.1.1/24")
    _subnet(str(own.network))
    edges = {own.network.network_address, *([own.network.broadcast_address] if own.version == 4 else [])}
    if own.network.num_addresses > 2 and own.ip in edges:
        raise ValueError(f"{text} is the subnet's own or its broadcast address; give one between them")
    return own


def _service(text: str) -> Service:
    protocol, _, port = text.partition("/")
    if protocol not in get_args(Protocol) or not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ValueError(f'{text!r} is not a service; write "tcp/443" or "udp/123"')
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"{text}: the port must be from 1 to 65535")
    return Service("tcp" if protocol == "tcp" else "udp", int(port))


def _contradictions(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each contradiction between parts of a policy."""
    numbers = [port.number for port in policy.ports]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            yield f"port[{index}].number", f"port {number} is listed twice; list it once"
    yield from _collisions(policy)
    count = sum(len(entry.networks) * max(1, len(entry.services)) for entry in policy.authorized)
    if count > AUTHORIZED_MAX:
        yield "authorized", f"{count} combinations of address and port; the maximum is {AUTHORIZED_MAX}"
    gateways = [entry.role == "gateway" for entry in policy.authorized]
    if policy.vpn and not any(gateways):
        yield "uplink.vpn", 'no [[authorized]] has role = "gateway"; add the gateway of the VPN'
    if any(gateways) and not policy.vpn:
        key = f"authorized[{gateways.index(True)}].role"
        yield key, "a gateway is only for a VPN, whose interface [uplink] vpn is missing"
    if policy.vpn and policy.tunnel and policy.tunnel.interface == policy.vpn:
        yield "tunnel.interface", f"{policy.vpn} is the interface of the VPN; sessions need one of their own"


def _collisions(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for addresses that belong to two zones."""
    subnets: list[tuple[str, Network]] = [
        (f"port[{i}].addresses[{j}]", own.network)
        for i, port in enumerate(policy.ports)
        for j, own in enumerate(port.addresses)
    ]
    staff = policy.tunnel.staff if policy.tunnel else ()
    subnets += [(f"tunnel.staff[{i}]", network) for i, network in enumerate(staff)]
    if policy.tunnel and policy.tunnel.address:
        subnets.append(("tunnel.address", ip_network(policy.tunnel.address)))
    for (first_key, first), (second_key, second) in combinations(subnets, 2):
        if _overlap(first, second):
            yield second_key, f"{second} overlaps {first} of {first_key}; the zones need separate addresses"
    for i, entry in enumerate(policy.authorized):
        for j, network in enumerate(entry.networks):
            for key, subnet in subnets:
                if _overlap(network, subnet):
                    yield (
                        f"authorized[{i}].addresses[{j}]",
                        f"{network} is not external: it overlaps {subnet} of {key}",
                    )


def _overlap(first: Network, second: Network) -> bool:
    if isinstance(first, IPv4Network):
        return isinstance(second, IPv4Network) and first.overlaps(second)
    return not isinstance(second, IPv4Network) and first.overlaps(second)
