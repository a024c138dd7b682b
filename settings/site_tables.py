"""What a site file says that the box itself needs, read alike by the builder, the flasher and the box.

[[instrument]]                         # who may report, and at which port
port = 1
serial = "CHEM-0001"

[addresses]                            # where names lead to: the firewall lets the box go to addresses
"ingest.example.com" = ["203.0.113.5"]

Names are not looked up. At %post there may be no network, afterwards only the firewall's; and what a name server says
must not decide where the box may go. So the addresses are in the file, and in /etc/hosts for whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from settings.board import Board, PortNumber

Host: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})\Z")]
Address: TypeAlias = Annotated[str, Meta(pattern=r"^\d{1,3}(\.\d{1,3}){3}\Z")]
TcpPort: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
# As in wire.messages.Serial
Serial: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9-]{0,23}\Z")]
Secret: TypeAlias = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=255)]
# As in wire.dial.proxy.Secret
BY_NAME_MAX: Final = 16
"""Addresses of one name."""


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common form of the tables: nothing unknown in them."""


class Uplink(Table, frozen=True):
    """How the box reaches the world. No `address`: DHCP."""

    address: str = ""
    gateway: Address | Literal[""] = ""
    nameservers: list[Address] = []

    def __post_init__(self) -> None:
        """A fixed address needs its way out."""
        for address in (*self.nameservers, *([self.gateway] if self.gateway else [])):
            IPv4Address(address)
        if self.address and not self.gateway:
            raise ValueError("a fixed `address` needs a `gateway`")
        if self.address and "/" not in self.address:
            raise ValueError("write `address` with its prefix length, like 192.0.2.10/24")
        if self.address and IPv4Address(self.gateway) not in IPv4Interface(self.address).network:
            raise ValueError(f"`gateway` {self.gateway} is not on the network of {self.address}")


class DataCenter(Table, frozen=True):
    """The far end."""

    host: Host
    port: TcpPort = 443


class Proxy(Table, frozen=True):
    """The proxy between the box and the data center."""

    kind: Literal["http", "socks5"]
    host: Host
    port: TcpPort
    user: Secret = ""
    password: Secret = ""
    domain: Secret = ""
    """Of the user, for NTLM and Negotiate."""
    basic: Literal["first", "offered", "never"] = "first"
    """When the password may be sent to an HTTP proxy as it is."""

    def __post_init__(self) -> None:
        """Refuse what the protocol cannot carry."""
        if self.password and not self.user:
            raise ValueError("`password` needs a `user`; give one, or leave out the password")
        if self.kind == "http" and ":" in self.user:
            raise ValueError("`user` has a colon, which HTTP's authentication cannot carry; give one without")
        if self.kind == "socks5" and max(len(self.user.encode()), len(self.password.encode())) > 255:
            raise ValueError("a SOCKS5 proxy takes a `user` and a `password` of at most 255 bytes in UTF-8")

    def keys(self) -> dict[str, Any]:
        """The keys that are set, for a file; those of authentication only where there is one."""
        login: dict[str, Any] = {"user": self.user, "password": self.password, "domain": self.domain}
        login["basic"] = "" if self.basic == "first" else self.basic
        where = {"kind": self.kind, "host": self.host, "port": self.port}
        return where | {key: value for key, value in login.items() if value}


class AuditServer(Table, frozen=True):
    """The server that keeps the audit log; 6514 is syslog over TLS (RFC 5425)."""

    host: Host
    port: TcpPort = 6514


class Instrument(Table, frozen=True):
    """An instrument that may report, at this port alone."""

    port: PortNumber
    serial: Serial


class SiteTables(Table, frozen=True):
    """What makes this box one laboratory's."""

    board: str
    datacenter: DataCenter
    time_servers: Annotated[list[Host], Meta(min_length=1, max_length=8)]
    audit: AuditServer
    uplink: Uplink = Uplink()
    instrument_network: str = "10.77.0.0/16"
    """Port n has the box at the first address of its n-th /24."""
    proxy: Proxy | None = None
    instrument: list[Instrument] = []
    addresses: dict[Host, Annotated[list[str], Meta(min_length=1, max_length=BY_NAME_MAX)]] = {}

    def __post_init__(self) -> None:
        """Refuse addresses that are none."""
        for name, found in self.addresses.items():
            for address in found:
                try:
                    ip_address(address)
                except ValueError:
                    raise ValueError(f'[addresses] "{name}": {address!r} is no address') from None

    def ports(self, board: Board) -> dict[int, IPv4Interface]:
        """The box's address on each instrument port."""
        network = IPv4Network(self.instrument_network)
        first = {number: network.network_address + 256 * number + 1 for number in board.instrument_ports}
        return {number: IPv4Interface((address, 24)) for number, address in sorted(first.items())}

    def addresses_of(self, host: str) -> list[str]:
        """Where this host is; empty if it is a name that has no addresses in the file."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            return self.addresses.get(host, [])


def problems(site: SiteTables, board: Board) -> Iterator[tuple[str, str]]:
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


def unreachable(site: SiteTables) -> Iterator[tuple[str, str]]:
    """Names that have no addresses, where the firewall will not let the box go: keys, and what would be right."""
    named = {"proxy.host": site.proxy.host} if site.proxy else {"datacenter.host": site.datacenter.host}
    named["audit.host"] = site.audit.host
    named |= {f"time_servers[{index}]": host for index, host in enumerate(site.time_servers)}
    for key, host in named.items():
        if not site.addresses_of(host):
            yield key, f'the firewall needs the addresses of {host}; add [addresses] with "{host}" = ["…"]'


def _network(site: SiteTables) -> str:
    try:
        network = IPv4Network(site.instrument_network)
    except ValueError as error:
        return f"{error}; write it like 10.77.0.0/16"
    if network.prefixlen > 16:
        return "must have room for a /24 for every port: a prefix of at most 16"
    if site.uplink.address and network.overlaps(IPv4Interface(site.uplink.address).network):
        return f"{network} overlaps with the uplink's {site.uplink.address}; take another private network"
    return ""


EXAMPLES: Final = {
    "host": "ingest.example.com",
    "time_servers": "ntp.example.com",
    "gateway": "192.0.2.1",
    "nameservers": "192.0.2.53",
    "serial": "CHEM-0001",
    "addresses": '"ingest.example.com" = ["203.0.113.5"]',
    "base": "https://mirror.example.com/BaseOS/",
    "appstream": "https://mirror.example.com/AppStream/",
    "box_repository": "media, or https://images.example.com/rap-box/",
    "name": "labadmin",
    "ssh_keys": "ecdsa-sha2-nistp384 AAAA… desk",
    "device": "sda or nvme0n1",
    "passphrase_file": "/run/install/repo/luks-passphrase",
    "hostname": "rap-box",
    "language": "en_US.UTF-8",
    "keyboard": "us",
}
"""What is right where a pattern says what is wrong."""


def explained(root: type[Struct], text: str) -> tuple[str, str]:
    """The key, and what would be right. `text` is msgspec's: "problem - at `$.table[0].key`" below `root`."""
    problem, _, path = text.partition(" - at ")
    keys = [key for key in path.rpartition("$")[2].replace("[...]", "").strip("`").split(".") if key]
    if problem.startswith("Object contains unknown field"):
        known = ", ".join(sorted(_table_at(root, keys).__struct_fields__))
        keys.append(problem.split("`")[1])
        problem = f"there is no such key; there are {known}"
    elif problem.startswith("Object missing required field"):
        keys.append(problem.split("`")[1])
        problem = "is required, and is not there"
    elif "matching regex" in problem:
        problem = f"write it like {EXAMPLES[keys[-1].partition('[')[0]]}"
    return ".".join(keys), problem


def _table_at(root: type[Struct], keys: list[str]) -> type[Struct]:
    """The type of the table that these keys lead to."""
    table = root
    for key in keys:
        name = key.partition("[")[0]
        kind: Any = next(field.type for field in msgspec.structs.fields(table) if field.name == name)
        candidates = (kind, *get_args(kind))  # Struct, Struct | None, list[Struct] or one with Meta around it
        candidates += tuple(inner for candidate in candidates for inner in get_args(candidate))
        table = next(c for c in candidates if isinstance(c, type) and issubclass(c, Struct))
    return table
