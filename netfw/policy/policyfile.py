# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The policy file, `firewall.toml`.

    board = "rap-4"                   # or a board file, "….toml", relative to this file

    [uplink]
    from_outside = "drop"             # or "reject": what unasked-for packets get
    router_advertisements = false     # whether IPv6 routers on the uplink are believed
    dhcp = false                      # whether the uplink has its address by DHCP or DHCPv6
    ipsec = "off"                     # or "required": authorized addresses only inside IPsec, through a gateway

    [[authorized]]                    # where the box may go, and nowhere else
    role = "datacenter"               # datacenter, proxy, time, names, audit-log, gateway
    addresses = ["203.0.113.5", "2001:db8:1::/64"]
    protocol = "tcp"
    ports = [443]

    [[port]]                          # ports of the board that are not named are closed
    number = 1
    addresses = ["10.77.1.1/24", "fd00:77:1::1/64"]
    services = ["tcp/443"]            # what an instrument reaches on the box
    desktop = ["tcp/5900"]            # what a session may reach on the instrument

    [tunnel]                          # leave it out where there are no remote sessions
    interface = "tun-rap"
    staff = ["10.99.0.0/16"]

The form of the file is checked first, then its meaning; all problems of each are reported at once.
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
    NOWHERE,
    Authorized,
    InterfaceAddress,
    Network,
    Policy,
    PolicyPort,
    PolicyTunnel,
    Protocol,
    Service,
)
from settings.board import Board, Interface, PortNumber, load_board_of
from settings.problems import Problems, parse_key
from settings.toml import load, loads, read_text
from settings.types import Table, TcpPort

ADDRESSES_OF_A_PORT_MAX: Final = 8
SERVICES_MAX: Final = 32

Role: TypeAlias = Literal["datacenter", "proxy", "time", "names", "audit-log", "gateway"]
T = TypeVar("T")


class UplinkTable(Table, frozen=True):
    """How the box's uplink is configured."""

    from_outside: Literal["drop", "reject"] = "drop"
    router_advertisements: bool = False
    dhcp: bool = False
    ipsec: Literal["off", "required"] = "off"


class AuthorizedTable(Table, frozen=True):
    """Addresses that the box may connect to, with their role and service."""

    role: Role
    addresses: Annotated[list[str], Meta(min_length=1)]
    protocol: Protocol | None = None
    ports: list[TcpPort] = []


class PortTable(Table, frozen=True):
    """An instrument port: the box's addresses on it, and what may be reached."""

    number: PortNumber
    addresses: Annotated[list[str], Meta(min_length=1, max_length=ADDRESSES_OF_A_PORT_MAX)]
    services: Annotated[list[str], Meta(max_length=SERVICES_MAX)] = []
    desktop: Annotated[list[str], Meta(max_length=SERVICES_MAX)] = []


class TunnelTable(Table, frozen=True):
    """Where remote sessions come in."""

    interface: Interface
    staff: Annotated[list[str], Meta(min_length=1)]


class PolicyFile(Table, frozen=True):
    """The whole file."""

    board: str
    uplink: UplinkTable = UplinkTable()
    authorized: list[AuthorizedTable] = []
    port: list[PortTable] = []
    tunnel: TunnelTable | None = None


def load_policy(file: Path) -> Policy:
    """The policy in `file`. Raises: SettingsError with all problems."""
    return load_policy_with_board(file)[0]


def load_policy_with_board(file: Path) -> tuple[Policy, Board]:
    """The policy in `file`, and the board that it is for. Raises: SettingsError with all problems."""
    text = read_text(file)
    given = loads(text, file, PolicyFile)
    board = load_board_of(file, given.board)
    return _Judge(Problems(file, text), board).policy(given), board


def files_of_policy(file: Path) -> list[Path]:
    """The file itself, and the board file that it names. Raises: SettingsError."""
    board = load(file, PolicyFile).board
    return [file, file.parent / board] if board.endswith(".toml") else [file]


class _Judge:
    """Makes the policy of what the file says, and collects what is wrong with it."""

    def __init__(self, problems: Problems, board: Board) -> None:
        self._problems, self._board = problems, board

    def policy(self, given: PolicyFile) -> Policy:
        """The policy. Raises: SettingsError with all problems."""
        tunnel = self._tunnel(given.tunnel) if given.tunnel else None
        policy = Policy(
            uplink=self._board.uplink,
            ports=tuple(self._port(f"port[{i}]", port) for i, port in enumerate(given.port)),
            authorized=tuple(self._authorized(f"authorized[{i}]", a) for i, a in enumerate(given.authorized)),
            tunnel=tunnel,
            rejects_outside=given.uplink.from_outside == "reject",
            believes_routers=given.uplink.router_advertisements,
            uses_dhcp=given.uplink.dhcp,
            ipsec_required=given.uplink.ipsec == "required",
        )
        for key, problem in _contradictions(policy):
            self._wrong(key, problem)
        self._problems.raise_if_any()
        return policy

    def _authorized(self, key: str, given: AuthorizedTable) -> Authorized:
        gateway = given.role == "gateway"
        if gateway and (given.protocol or given.ports):
            self._wrong(f"{key}.ports", 'a gateway carries IKE and ESP; leave out "protocol" and "ports"')
        elif not gateway and not (given.protocol and given.ports):
            self._wrong(f"{key}.ports", 'say which: protocol = "tcp" or "udp", and ports = [443]')
        networks = self._each(f"{key}.addresses", given.addresses, _destination)
        return Authorized(
            given.role, networks, tuple(Service(given.protocol or "tcp", port) for port in given.ports)
        )

    def _port(self, key: str, given: PortTable) -> PolicyPort:
        interface = self._board.instrument_ports.get(given.number)
        if interface is None:
            known = ", ".join(map(str, sorted(self._board.instrument_ports)))
            self._wrong(f"{key}.number", f"{self._board.name} has no port {given.number}; it has {known}")
        return PolicyPort(
            given.number,
            interface or "",
            self._each(f"{key}.addresses", given.addresses, _own_address),
            self._each(f"{key}.services", given.services, _service),
            self._each(f"{key}.desktop", given.desktop, _service),
        )

    def _tunnel(self, given: TunnelTable) -> PolicyTunnel:
        if given.interface in ("lo", self._board.uplink, *self._board.instrument_ports.values()):
            self._wrong("tunnel.interface", f"{given.interface} is something else on a {self._board.name}")
        return PolicyTunnel(given.interface, self._each("tunnel.staff", given.staff, _subnet))

    def _each(self, key: str, given: list[str], read: Callable[[str], T]) -> tuple[T, ...]:
        found: dict[T, None] = {}
        for index, text in enumerate(given):
            try:
                value = read(text)
            except ValueError as error:
                self._wrong(f"{key}[{index}]", str(error))
                continue
            if value in found:
                self._wrong(f"{key}[{index}]", f"{text} is there twice; name it once")
            found[value] = None
        return tuple(found)

    def _wrong(self, key: str, problem: str) -> None:
        self._problems.add(parse_key(key), problem)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{text} has host bits set; write {ip_interface(text).network}") from None
        raise ValueError(f"{text!r} is no address; write 203.0.113.5 or 2001:db8:1::/64") from None


def _subnet(text: str) -> Network:
    network = _network(text)
    if bad := next((n for n in NOWHERE if _overlap(network, n)), None):
        raise ValueError(f"{text} reaches into {bad}, which nobody has as an address")
    return network


def _destination(text: str) -> Network:
    if _network(text).prefixlen == 0:
        raise ValueError(f"{text} is everywhere; name the addresses that are meant")
    return _subnet(text)


def _own_address(text: str) -> InterfaceAddress:
    try:
        own = ip_interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address with its subnet; write 10.77.1.1/24") from None
    if own.network.num_addresses == 1:
        raise ValueError(f"{text} leaves no room for an instrument; give the subnet, as in 10.77.1.1/24")
    _subnet(str(own.network))
    edges = {own.network.network_address, *([own.network.broadcast_address] if own.version == 4 else [])}
    if own.network.num_addresses > 2 and own.ip in edges:
        raise ValueError(f"{text} is the subnet's own or its broadcast address; give one between")
    return own


def _service(text: str) -> Service:
    protocol, _, port = text.partition("/")
    if protocol not in get_args(Protocol) or not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ValueError(f'{text!r} is no service; write "tcp/443" or "udp/123"')
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"{text}: ports go from 1 to 65535")
    return Service("tcp" if protocol == "tcp" else "udp", int(port))


def _contradictions(policy: Policy) -> Iterator[tuple[str, str]]:
    """What is wrong between the parts of a policy."""
    numbers = [port.number for port in policy.ports]
    for index, number in enumerate(numbers):
        if number in numbers[:index]:
            yield f"port[{index}].number", f"port {number} is there twice; name it once"
    yield from _collisions(policy)
    count = sum(len(entry.networks) * max(1, len(entry.services)) for entry in policy.authorized)
    if count > AUTHORIZED_MAX:
        yield "authorized", f"{count} addresses with their ports; there may be {AUTHORIZED_MAX}"
    gateways = [entry.role == "gateway" for entry in policy.authorized]
    if policy.ipsec_required and not any(gateways):
        yield "uplink.ipsec", 'is "required", but no [[authorized]] has role = "gateway"; name the gateway'
    if any(gateways) and not policy.ipsec_required:
        key = f"authorized[{gateways.index(True)}].role"
        yield key, 'a gateway is for [uplink] ipsec = "required", which is not set'


def _collisions(policy: Policy) -> Iterator[tuple[str, str]]:
    """Addresses that belong to two zones."""
    subnets: list[tuple[str, Network]] = [
        (f"port[{i}].addresses[{j}]", own.network)
        for i, port in enumerate(policy.ports)
        for j, own in enumerate(port.addresses)
    ]
    staff = policy.tunnel.staff if policy.tunnel else ()
    subnets += [(f"tunnel.staff[{i}]", network) for i, network in enumerate(staff)]
    for (here, one), (key, other) in combinations(subnets, 2):
        if _overlap(one, other):
            yield key, f"{other} overlaps {one} of {here}; each zone has addresses of its own"
    for i, entry in enumerate(policy.authorized):
        for j, network in enumerate(entry.networks):
            for here, subnet in subnets:
                if _overlap(network, subnet):
                    yield (
                        f"authorized[{i}].addresses[{j}]",
                        f"{network} is inside, not outside: it overlaps {subnet} of {here}",
                    )


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return not isinstance(other, IPv4Network) and one.overlaps(other)
