"""The site file on the box: what the box itself needs of it, and what the installer has used up.

It is the site's own file, or the part of it that the kickstart writes (`imaging.site`). Two more tables:

[[instrument]]                         # who may report, and at which port
port = 1
serial = "CHEM-0001"

[addresses]                            # where names lead to: the firewall lets the box go to addresses
"ingest.example.com" = ["203.0.113.5"]

Names are not looked up. At %post there may be no network, afterwards only the firewall's; and what a name server says
must not decide where the box may go. So the addresses are in the file, and in /etc/hosts for whoever asks.
"""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from hal.board import Board, BoardError, PortNumber, load_board

Host: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})\Z")]
TcpPort: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Serial: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9-]{0,23}\Z")]
BY_NAME_MAX: Final = 16
"""Addresses of one name."""


class _Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common form of the tables: nothing unknown in them."""


class Uplink(_Table, frozen=True):
    """How the box reaches the world. No `address`: DHCP."""

    address: str = ""
    gateway: str = ""
    nameservers: list[str] = []

    def __post_init__(self) -> None:
        """Refuse what is no address."""
        for address in (*self.nameservers, *([self.gateway] if self.gateway else [])):
            IPv4Address(address)
        if self.address:
            IPv4Interface(self.address)
        if self.address and not self.gateway:
            raise ValueError("a fixed `address` needs a `gateway`")


class DataCenter(_Table, frozen=True):
    """The far end."""

    host: Host
    port: TcpPort = 443


class Proxy(_Table, frozen=True):
    """The proxy between the box and the data center."""

    kind: Literal["http", "socks5"]
    host: Host
    port: TcpPort


class Audit(_Table, frozen=True):
    """The server that keeps the audit log. `authority` was the installer's."""

    host: Host
    port: TcpPort = 6514
    authority: str = ""


class Instrument(_Table, frozen=True):
    """An instrument that may report, at this port alone."""

    port: PortNumber
    serial: Serial


class BoxSite(_Table, frozen=True):
    """What makes this box one laboratory's. The last keys are the installer's, and not looked at."""

    board: str
    datacenter: DataCenter
    time_servers: list[Host]
    audit: Audit
    uplink: Uplink = Uplink()
    instrument_network: str = "10.77.0.0/16"
    proxy: Proxy | None = None
    instrument: list[Instrument] = []
    addresses: dict[Host, Annotated[list[str], Meta(min_length=1, max_length=BY_NAME_MAX)]] = {}
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

    def __post_init__(self) -> None:
        """Refuse addresses that are none."""
        for address in (address for found in self.addresses.values() for address in found):
            ip_address(address)

    def ports(self, board: Board) -> dict[int, IPv4Interface]:
        """The box's address on each instrument port: on port n, the first of the network's n-th /24."""
        network = IPv4Network(self.instrument_network)
        first = {number: network.network_address + 256 * number + 1 for number in board.instrument_ports}
        return {number: IPv4Interface((address, 24)) for number, address in sorted(first.items())}

    def addresses_of(self, host: str) -> list[str]:
        """Where this host is; empty if it is a name that has no addresses in the file."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            return self.addresses.get(host, [])


class ProvisionError(Exception):
    """The box cannot be provisioned: the file, the key in it ("" for the whole), what would be right."""

    def __init__(self, file: Path, key: str, message: str) -> None:
        super().__init__(f"{file}: {key}: {message}" if key else f"{file}: {message}")


def read_site(file: Path) -> str:
    """What the file says. Errors: ProvisionError."""
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise ProvisionError(file, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProvisionError(file, "", f"is not TOML: {error}") from error


def site_of(text: str, file: Path) -> tuple[BoxSite, Board]:
    """The site that is so described, and its board; `file` is where the text is from. Errors: ProvisionError."""
    try:
        site = msgspec.convert(tomllib.loads(text), BoxSite)
    except tomllib.TOMLDecodeError as error:
        raise ProvisionError(file, "", f"is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise _explained(file, str(error)) from None
    if site.board.endswith(".toml") and Path(site.board).name != site.board:
        raise ProvisionError(file, "board", f"{site.board}: a board's file belongs beside the site's")
    try:
        board = load_board(file.parent / site.board if site.board.endswith(".toml") else site.board)
    except BoardError as error:
        raise ProvisionError(file, "board", str(error)) from error
    for key, problem in _problems(site, board):
        raise ProvisionError(file, key, problem)
    return site, board


def _problems(site: BoxSite, board: Board) -> list[tuple[str, str]]:
    """What is wrong between the tables: keys, and what would be right."""
    found = []
    try:
        wide = IPv4Network(site.instrument_network).prefixlen <= 16
    except ValueError:
        wide = False
    if not wide:
        found.append(
            ("instrument_network", "is no network with a /24 for every port; write it like 10.77.0.0/16")
        )
    serials = [instrument.serial for instrument in site.instrument]
    for index, instrument in enumerate(site.instrument):
        if instrument.port not in board.instrument_ports:
            known = ", ".join(map(str, board.instrument_ports))
            found.append(
                (f"instrument[{index}].port", f"{board.name} has no port {instrument.port}; it has {known}")
            )
        if instrument.serial in serials[:index]:
            found.append((f"instrument[{index}].serial", f"{instrument.serial} is there twice; name it once"))
    key, host = ("proxy", site.proxy.host) if site.proxy else ("datacenter", site.datacenter.host)
    if not site.addresses_of(host):
        right = f'[addresses] with "{host}" = ["…"]'
        found.append((f"{key}.host", f"the firewall needs the addresses of {host}; add {right}"))
    return found


_TABLES: Final[dict[str, type[Struct]]] = {
    "uplink": Uplink,
    "datacenter": DataCenter,
    "proxy": Proxy,
    "audit": Audit,
    "instrument": Instrument,
}


def _explained(file: Path, text: str) -> ProvisionError:
    """msgspec says "problem - at `$.table[0].key`"; where it names what is wrong, say also what would be right."""
    problem, _, path = text.partition(" - at ")
    keys = [key for key in path.strip("`").removeprefix("$").split(".") if key]
    if problem.startswith("Object contains unknown field"):
        inside = _TABLES[keys[0].partition("[")[0]] if keys else BoxSite
        keys.append(problem.split("`")[1])
        problem = f"there is no such key; there are {', '.join(sorted(inside.__struct_fields__))}"
    elif problem.startswith("Object missing required field"):
        keys.append(problem.split("`")[1])
        problem = "is required, and is not there"
    elif "matching regex" in problem:
        problem = "write it like ingest.example.com, and a serial like CHEM-0001"
    return ProvisionError(file, ".".join(keys), problem)
