# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The site file: the settings of one laboratory's box. The image builder, the flasher and the box share this reader.

`SiteForBox` is what the box needs; `imaging.kickstart.site.Site` adds what an installer needs, and its module has an
example of a file with all keys. For a host name, the firewall allows only the addresses in `[addresses]`. Names are
not resolved by DNS: during %post there may be no network, on the box the firewall must be in force before the network
is up, and a name server must not decide where the box may connect to. Therefore the file lists the addresses, and
the box keeps them in /etc/hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from settings.adapted import AdaptedPort, adapted_problems, shared_serial_ports
from settings.board import Board, PortNumber, read_board_of
from settings.ipsec import Ipsec, ipsec_problems
from settings.problems import Problems, parse_key
from settings.profile import Model, load_profile, profile_problem
from settings.toml import parse, read_partial
from settings.types import (
    Address,
    Endpoint,
    FipsDemand,
    Host,
    HostAndPort,
    Ipv4,
    OptionalIpv4,
    PresenceWays,
    Proxy,
    SecurityKey,
    Serial,
    SigningKey,
    Table,
    TcpPort,
    address_of,
    check_security_keys,
)

ADDRESSES_PER_NAME_MAX: Final = 16
"""Maximum number of addresses for one name."""


class UplinkAddress(Table, frozen=True):
    """The uplink's IP configuration; an empty `address` means DHCP."""

    address: str = ""
    gateway: OptionalIpv4 = ""
    nameservers: list[Ipv4] = []

    def __post_init__(self) -> None:
        """Require a prefix length of a fixed address, and a gateway on its network."""
        if self.address and not self.gateway:
            raise ValueError("a fixed `address` needs a `gateway`")
        if self.address and "/" not in self.address:
            raise ValueError("write `address` with its prefix length, like 192.0.2.10/24")
        if self.address and IPv4Address(self.gateway) not in IPv4Interface(self.address).network:
            raise ValueError(f"`gateway` {self.gateway} is not on the network of {self.address}")


class AuditServer(Table, frozen=True):
    """The server that stores the audit log; 6514 is syslog over TLS (RFC 5425)."""

    host: Host
    port: TcpPort = 6514
    keys: Annotated[list[SigningKey], Meta(max_length=8)] = []
    """The data center's public keys, which countersign the head of the box's own audit chain."""


class Reporting(Table, frozen=True):
    """Settings for buffering and sending that differ from the box program's defaults."""

    linger_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    """How long routine reports wait for others, in seconds."""
    spool_bytes_max: Annotated[int, Meta(ge=16 * 1024 * 1024, le=1 << 40)] | None = None
    """The maximum size of the spool on the disk."""


class Enrolment(Table, frozen=True):
    """Certificate requests to the data center (EST); the flashed certificate authenticates the first one."""

    keys: Literal["file", "tpm", "tpm-or-file"] = "file"
    """Storage of the keys that the box generates: files, or its TPM 2.0. A box without a TPM does not enrol with
    "tpm", and keeps the flashed certificate; with "tpm-or-file" it generates the keys in files."""


class SiteSessions(Table, frozen=True):
    """Remote sessions of staff with the instruments that have an address."""

    endpoint: HostAndPort
    """The address at which the data center accepts tunnels."""
    keys: Annotated[list[SigningKey], Meta(min_length=1, max_length=8)]
    """The data center's public keys, which sign its offers: PEM without its first and last line."""
    ways: PresenceWays
    line_kbit_s: Annotated[int, Meta(ge=16, le=10_000_000)] = 128
    """The rate of the uplink in kbit/s."""
    page_name: Host | None = None
    """The name of the local page in browsers, in addition to its addresses; security keys need one."""
    security_key: list[SecurityKey] = []
    """The security keys of persons who may permit sessions."""

    def __post_init__(self) -> None:
        """Raise ValueError for security keys that could not be used."""
        check_security_keys(self.ways, self.page_name, self.security_key)

    @property
    def host(self) -> str:
        """The host of `endpoint`."""
        return self.endpoint.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The TCP port of `endpoint`."""
        return int(self.endpoint.rpartition(":")[2])


class EnrolledInstrument(Table, frozen=True):
    """An instrument that may report, at this port only."""

    port: PortNumber
    serial: Serial
    model: Model
    adapted: AdaptedPort | None = None
    """Settings of an instrument that speaks its own standard."""
    address: OptionalIpv4 = ""
    """Its own address, for remote sessions."""


class SiteForBox(Table, frozen=True):
    """The settings of one laboratory's box."""

    board: str
    datacenter: Endpoint
    time_servers: Annotated[list[Host], Meta(min_length=1, max_length=8)]
    audit: AuditServer
    uplink: UplinkAddress = UplinkAddress()
    instrument_network: str = "10.77.0.0/16"
    """On port n the box has the first host address of the network's n-th /24, counted from 0."""
    proxy: Proxy | None = None
    ipsec: Ipsec | None = None
    instrument: list[EnrolledInstrument] = []
    reporting: Reporting = Reporting()
    enrolment: Enrolment | None = None
    sessions: SiteSessions | None = None
    fips: FipsDemand = "not-required"
    """Required: the box serves nothing unless the self-test of its cryptography passes."""
    addresses: dict[
        Host, Annotated[list[Address], Meta(min_length=1, max_length=ADDRESSES_PER_NAME_MAX)]
    ] = {}

    def ports(self, board: Board) -> dict[int, IPv4Interface]:
        """Return the box's address on each instrument port, by port number."""
        network = IPv4Network(self.instrument_network)
        first = {number: network.network_address + 256 * number + 1 for number in board.instrument_ports}
        return {number: IPv4Interface((address, 24)) for number, address in sorted(first.items())}

    def addresses_of(self, host: str) -> list[str]:
        """Return the host's addresses; empty if it is a name without addresses in the file."""
        return [host] if address_of(host) else self.addresses.get(host, [])

    def uplink_target(self) -> tuple[Literal["proxy", "datacenter"], list[str], int]:
        """Return policy role, addresses and port of the proxy, or of the data center if there is no proxy."""
        if self.proxy:
            return "proxy", self.addresses_of(self.proxy.host), self.proxy.port
        center = self.datacenter
        return (
            "datacenter",
            [center.address] if center.address else self.addresses_of(center.host),
            center.port,
        )


def site_problems(site: SiteForBox, board: Board) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each contradiction between the site, its board and the instruments' profiles."""
    if problem := _network_problem(site):
        yield "instrument_network", problem
    serials = [instrument.serial for instrument in site.instrument]
    for index, instrument in enumerate(site.instrument):
        if instrument.port not in board.instrument_ports:
            known = ", ".join(map(str, board.instrument_ports))
            yield f"instrument[{index}].port", f"{board.name} has no port {instrument.port}; it has {known}"
        yield from (
            (f"instrument[{index}].{key}", problem) for key, problem in _model_problems(instrument, board)
        )
        if instrument.adapted and [other.port for other in site.instrument].count(instrument.port) > 1:
            yield (
                f"instrument[{index}].port",
                "an instrument that speaks its own standard needs a separate port",
            )
        if instrument.serial in serials[:index]:
            yield f"instrument[{index}].serial", f"{instrument.serial} is listed twice; list it once"
    yield from _session_problems(site, board)
    for index, problem in shared_serial_ports(instrument.adapted for instrument in site.instrument):
        yield f"instrument[{index}].adapted.serial", problem
    yield from _hosts_inside(site)
    needed = ("proxy.host" if site.proxy else "datacenter.host", "sessions.endpoint")
    yield from ((key, problem) for key, problem in hosts_without_addresses(site) if key in needed)
    if site.ipsec:
        yield from ipsec_problems(site.ipsec, site.addresses_of(site.ipsec.gateway), _destinations(site))


def _destinations(site: SiteForBox) -> dict[str, list[str]]:
    """Return the addresses that the box connects to, by the keys of their settings."""
    hosts = {"audit.host": site.audit.host}
    hosts |= {f"time_servers[{index}]": host for index, host in enumerate(site.time_servers)}
    if site.sessions and not site.proxy:
        hosts["sessions.endpoint"] = site.sessions.host
    addresses = {key: site.addresses_of(host) for key, host in hosts.items()}
    addresses["proxy.host" if site.proxy else "datacenter.host"] = site.uplink_target()[1]
    nameservers = enumerate(site.uplink.nameservers)
    return addresses | {f"uplink.nameservers[{index}]": [address] for index, address in nameservers}


def _session_problems(site: SiteForBox, board: Board) -> Iterator[tuple[str, str]]:
    """Yield contradictions between remote sessions, the board, and the instruments with an address."""
    sessions = site.sessions
    if sessions is None:
        return
    if "switch" in sessions.ways and not board.switches:
        yield "sessions.ways", f"{board.name} has no switch; use another way"
    if _network_problem(site):
        return
    ports = site.ports(board)
    for index, instrument in enumerate(site.instrument):
        own, address = ports.get(instrument.port), address_of(instrument.address)
        if address is None or own is None:
            continue
        if address not in own.network or address == own.ip:
            yield (
                f"instrument[{index}].address",
                f"{address} is not an address on port {instrument.port}: give one of {own.network},"
                f" other than {own.ip}",
            )
        if not profile_problem(instrument.model) and load_profile(instrument.model).desktop_port is None:
            yield (
                f"instrument[{index}].address",
                f"is for remote sessions, but the profile of {instrument.model} has no `desktop_port`; remove it",
            )


def _hosts_inside(site: SiteForBox) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each laboratory's host that is not on the uplink's side of the box."""
    if _network_problem(site):
        return
    network = IPv4Network(site.instrument_network)
    own = IPv4Interface(site.uplink.address).ip if site.uplink.address else None
    for index, instrument in enumerate(site.instrument):
        host = instrument.adapted.host if instrument.adapted else None
        address = address_of(host.address) if host else None
        if address is None:
            continue
        key = f"instrument[{index}].adapted.host.address"
        if address == own:
            yield key, f"{address} is the box itself; give the address of the laboratory's host"
        elif isinstance(address, IPv4Address) and (
            address in network or address.is_loopback or address.is_link_local
        ):
            yield (
                key,
                f"{address} is not reached by the uplink: instruments have the addresses of {network};"
                " give the host's address in the laboratory's network",
            )


def _model_problems(instrument: EnrolledInstrument, board: Board) -> Iterator[tuple[str, str]]:
    """Yield contradictions between an instrument's settings, its profile and the board."""
    if problem := profile_problem(instrument.model):
        yield "model", problem
        return
    for key, problem in adapted_problems(load_profile(instrument.model), instrument.adapted, board):
        yield f"adapted.{key}".rstrip("."), problem


def hosts_without_addresses(site: SiteForBox) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each host name without addresses, which the firewall could not allow."""
    named = {"proxy.host": site.proxy.host} if site.proxy else {}
    if not site.proxy and not site.datacenter.address:
        named["datacenter.host"] = site.datacenter.host
    if not site.proxy and site.sessions:
        named["sessions.endpoint"] = site.sessions.host
    named["audit.host"] = site.audit.host
    named |= {f"time_servers[{index}]": host for index, host in enumerate(site.time_servers)}
    for key, host in named.items():
        if not site.addresses_of(host):
            yield key, f'the firewall needs the addresses of {host}; add [addresses] with "{host}" = ["…"]'


def _network_problem(site: SiteForBox) -> str:
    try:
        network = IPv4Network(site.instrument_network)
    except ValueError as error:
        return f"{error}; write it like 10.77.0.0/16"
    if network.prefixlen > 16:
        return "must have room for a /24 for every port: give a prefix length of at most 16"
    if site.uplink.address and network.overlaps(IPv4Interface(site.uplink.address).network):
        return f"{network} overlaps with the uplink's {site.uplink.address}; choose another private network"
    return ""


class AuditServerWithAuthority(AuditServer, frozen=True, kw_only=True):
    """The audit server with the installer's key `authority`, which the box ignores."""

    authority: str = ""


class SiteOnBox(SiteForBox, frozen=True, kw_only=True):
    """The site file on the box: the complete file, or the part of it that kickstart or flasher stored there.

    The keys below are for the installer; the box accepts and ignores them.
    """

    audit: AuditServerWithAuthority
    timezone: object = None
    hostname: object = None
    release: object = None
    language: object = None
    keyboard: object = None
    administrator: object = None
    disk: object = None
    boot: object = None
    luks: object = None
    install: object = None


def parse_site(text: str, file: Path) -> tuple[SiteOnBox, Board]:
    """Parse a site file's text; return the site and its board. `file` is for messages. Raises: SettingsError."""
    problems = Problems(file, text)
    site, board = read_partial(SiteOnBox, parse(text, file), (), problems), None
    with problems.part():
        if site.board.endswith(".toml") and Path(site.board).name != site.board:
            problems.add(("board",), f"{site.board}: the board file must be in the site file's directory")
        else:
            board = read_board_of(site, problems)
    with problems.part():
        for key, problem in site_problems(site, board) if board else ():
            problems.add(parse_key(key), problem)
    problems.raise_if_any()
    assert board is not None
    return site, board
