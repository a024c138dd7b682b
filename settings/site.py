# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The site file: what makes a box one laboratory's. Read alike by the image builder, the flasher and the box.

[[instrument]]                         # who may report, and at which port
port = 1
serial = "CHEM-0001"

[addresses]                            # where names lead to: the firewall lets the box go to addresses
"ingest.example.com" = ["203.0.113.5"]

`SiteForBox` is what the box needs; `imaging.kickstart.site.Site` adds what an installer needs. Host names are not
resolved: at %post there may be no network, later the firewall must be in force before there is any, and a name server
must not decide where the box may connect to. So the addresses are in the file, and in /etc/hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from settings.board import Board, PortNumber, board_of
from settings.problems import Problems, SettingsError, parse_key
from settings.toml import loads
from settings.types import (
    Address,
    Endpoint,
    Host,
    Ipv4,
    OptionalIpv4,
    Proxy,
    Serial,
    Table,
    TcpPort,
    address_of,
)

BY_NAME_MAX: Final = 16
"""Addresses of one name."""


class UplinkAddress(Table, frozen=True):
    """How the box reaches the world. No `address`: DHCP."""

    address: str = ""
    gateway: OptionalIpv4 = ""
    nameservers: list[Ipv4] = []

    def __post_init__(self) -> None:
        """A fixed address needs its way out."""
        if self.address and not self.gateway:
            raise ValueError("a fixed `address` needs a `gateway`")
        if self.address and "/" not in self.address:
            raise ValueError("write `address` with its prefix length, like 192.0.2.10/24")
        if self.address and IPv4Address(self.gateway) not in IPv4Interface(self.address).network:
            raise ValueError(f"`gateway` {self.gateway} is not on the network of {self.address}")


class AuditServer(Table, frozen=True):
    """The server that keeps the audit log; 6514 is syslog over TLS (RFC 5425)."""

    host: Host
    port: TcpPort = 6514


class EnrolledInstrument(Table, frozen=True):
    """An instrument that may report, at this port alone."""

    port: PortNumber
    serial: Serial


class SiteForBox(Table, frozen=True):
    """What makes this box one laboratory's."""

    board: str
    datacenter: Endpoint
    time_servers: Annotated[list[Host], Meta(min_length=1, max_length=8)]
    audit: AuditServer
    uplink: UplinkAddress = UplinkAddress()
    instrument_network: str = "10.77.0.0/16"
    """Port n has the box at the first address of its n-th /24."""
    proxy: Proxy | None = None
    instrument: list[EnrolledInstrument] = []
    addresses: dict[Host, Annotated[list[Address], Meta(min_length=1, max_length=BY_NAME_MAX)]] = {}

    def ports(self, board: Board) -> dict[int, IPv4Interface]:
        """The box's address on each instrument port."""
        network = IPv4Network(self.instrument_network)
        first = {number: network.network_address + 256 * number + 1 for number in board.instrument_ports}
        return {number: IPv4Interface((address, 24)) for number, address in sorted(first.items())}

    def addresses_of(self, host: str) -> list[str]:
        """Where this host is; empty if it is a name that has no addresses in the file."""
        return [host] if address_of(host) else self.addresses.get(host, [])

    def way_out(self) -> tuple[Literal["proxy", "datacenter"], list[str], int]:
        """Of the proxy, or else of the data center: the role in the firewall policy, addresses, and the port."""
        if self.proxy:
            return "proxy", self.addresses_of(self.proxy.host), self.proxy.port
        center = self.datacenter
        return (
            "datacenter",
            [center.address] if center.address else self.addresses_of(center.host),
            center.port,
        )


def problems(site: SiteForBox, board: Board) -> Iterator[tuple[str, str]]:
    """What no box can be made of: keys, and what would be right."""
    if problem := _network(site):
        yield "instrument_network", problem
    serials = [instrument.serial for instrument in site.instrument]
    for index, instrument in enumerate(site.instrument):
        if instrument.port not in board.instrument_ports:
            known = ", ".join(map(str, board.instrument_ports))
            yield f"instrument[{index}].port", f"{board.name} has no port {instrument.port}; it has {known}"
        if instrument.serial in serials[:index]:
            yield f"instrument[{index}].serial", f"{instrument.serial} is there twice; name it once"
    way_out = "proxy.host" if site.proxy else "datacenter.host"
    yield from ((key, problem) for key, problem in unreachable(site) if key == way_out)


def unreachable(site: SiteForBox) -> Iterator[tuple[str, str]]:
    """Names that have no addresses, where the firewall will not let the box go: keys, and what would be right."""
    named = {"proxy.host": site.proxy.host} if site.proxy else {}
    if not site.proxy and not site.datacenter.address:
        named["datacenter.host"] = site.datacenter.host
    named["audit.host"] = site.audit.host
    named |= {f"time_servers[{index}]": host for index, host in enumerate(site.time_servers)}
    for key, host in named.items():
        if not site.addresses_of(host):
            yield key, f'the firewall needs the addresses of {host}; add [addresses] with "{host}" = ["…"]'


def _network(site: SiteForBox) -> str:
    try:
        network = IPv4Network(site.instrument_network)
    except ValueError as error:
        return f"{error}; write it like 10.77.0.0/16"
    if network.prefixlen > 16:
        return "must have room for a /24 for every port: a prefix of at most 16"
    if site.uplink.address and network.overlaps(IPv4Interface(site.uplink.address).network):
        return f"{network} overlaps with the uplink's {site.uplink.address}; take another private network"
    return ""


class AuditServerOfInstaller(AuditServer, frozen=True, kw_only=True):
    """`authority` was the installer's."""

    authority: str = ""


class SiteOnBox(SiteForBox, frozen=True, kw_only=True):
    """The site file on the box: the site's own, or the part of it that kickstart and flasher leave there.

    The keys below are the installer's; they may be there, and are not looked at.
    """

    audit: AuditServerOfInstaller
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


def site_of(text: str, file: Path) -> tuple[SiteOnBox, Board]:
    """The site that `text` describes, and its board; `file` is where the text is from. Raises: SettingsError."""
    site = loads(text, file, SiteOnBox)
    if site.board.endswith(".toml") and Path(site.board).name != site.board:
        raise SettingsError.at(file, "board", f"{site.board}: a board's file belongs beside the site's")
    board = board_of(file, site.board)
    found = Problems(file, text)
    for key, problem in problems(site, board):
        found.add(parse_key(key), problem)
    found.raise_if_any()
    return site, board
