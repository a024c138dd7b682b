"""The site file: what makes the image of one laboratory different from another's.

board = "rap-4"                        # or a board file, "….toml", relative to this file
release = "almalinux9"                 # as in kickstart/releases.toml; `--release` overrides it
timezone = "Europe/Berlin"
time_servers = ["ntp1.example.com", "ntp2.example.com"]

[uplink]                               # without `address`: DHCP
address = "192.0.2.10/24"
gateway = "192.0.2.1"
nameservers = ["192.0.2.53"]

[datacenter]
host = "ingest.example.com"

[proxy]                                # only where the site has one
kind = "http"                          # or "socks5"
host = "192.0.2.3"
port = 3128

[audit]                                # the server that keeps the audit log; TLS (RFC 5425)
host = "audit.example.com"
authority = "audit-ca.pem"             # whom it has its certificate from

[[administrator]]
name = "labadmin"
ssh_keys = ["ecdsa-sha2-nistp384 AAAA… desk"]
password_hash_file = "labadmin.hash"   # only if sudo is to be used; `mkpasswd -m sha-512`

[disk]
device = "sda"
bytes = 32_000_000_000

[boot]
password_hash_file = "grub.hash"       # grub2-mkpasswd-pbkdf2

[luks]                                 # only where the disk is to be encrypted
passphrase_file = "/run/install/repo/luks-passphrase"  # on the machine that is installed; never read here

[install]
source = "network"                     # or "media"
box_repository = "https://images.example.com/rap-box/el9/"

A secret is never in it: hashes come from files beside it, and the passphrase is read by the installer itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from hal.board import Board, BoardError, load_board
from imaging.kickstart.data import MIB, RESERVED_MIB, Partition, layout, releases, time_zones

Host: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})\Z")]
Address: TypeAlias = Annotated[str, Meta(pattern=r"^\d{1,3}(\.\d{1,3}){3}\Z")]
Url: TypeAlias = Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9._~:/?&=%-]+\Z")]
TcpPort: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
UserName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,30}\Z")]
SshKey: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [A-Za-z0-9@._-]+)?\Z")]

# What OpenSSH accepts while OpenSSL's FIPS provider is the only one: no Ed25519 before FIPS 186-5 modules.
FIPS_KEY_KINDS: Final = (
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
CRYPT_HASH: Final = re.compile(r"\$(5|6)\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}")
GRUB_HASH: Final = re.compile(r"grub\.pbkdf2\.sha512\.\d+\.[0-9A-Fa-f]+\.[0-9A-Fa-f]+")


class _Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common form of the tables: nothing unknown in them."""


class Uplink(_Table, frozen=True):
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
    """The server that keeps the audit log; 6514 is syslog over TLS (RFC 5425)."""

    host: Host
    authority: Path
    port: TcpPort = 6514


class Administrator(_Table, frozen=True):
    """Who may log in, with keys only. Without a password's hash there is no sudo."""

    name: UserName
    ssh_keys: Annotated[list[SshKey], Meta(min_length=1)]
    password_hash_file: Path | None = None

    def __post_init__(self) -> None:
        """FIPS mode refuses other keys, when it is too late."""
        for key in self.ssh_keys:
            if (kind := key.split()[0]) not in FIPS_KEY_KINDS:
                raise ValueError(
                    f"a key of kind {kind} is refused in FIPS mode; use {', '.join(FIPS_KEY_KINDS)}"
                )


class Disk(_Table, frozen=True):
    """The SSD: the kernel's name of it, its size in bytes, and partitions that are larger or smaller here."""

    device: Annotated[str, Meta(pattern=r"^[A-Za-z0-9/_.:-]+\Z")] = "sda"
    bytes: Annotated[int, Meta(ge=1)] = 32_000_000_000
    sizes_mib: dict[str, Annotated[int, Meta(ge=1)]] = {}


class Boot(_Table, frozen=True):
    """The boot loader's superuser (RHEL-09-212010)."""

    password_hash_file: Path


class Luks(_Table, frozen=True):
    """Encryption of what the box writes. The file is one on the machine that is installed."""

    passphrase_file: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/_.-]+\Z")]
    tpm: bool = True
    """Bind the volumes to the machine's TPM, so that it starts unattended."""


class Install(_Table, frozen=True):
    """Where the installer takes packages from. "media" is the disc or stick that it was started from."""

    source: Literal["media", "network"] = "media"
    base: Url | Literal[""] = ""
    """Instead of the release's own."""
    appstream: Url | Literal[""] = ""
    box_repository: Url | Literal["media"] = "media"


class Site(_Table, frozen=True):
    """Everything that makes one site's image different from another's."""

    board: str
    timezone: str
    time_servers: Annotated[list[Host], Meta(min_length=1, max_length=8)]
    uplink: Uplink
    datacenter: DataCenter
    audit: Audit
    administrator: Annotated[list[Administrator], Meta(min_length=1)]
    boot: Boot
    release: str = "rhel9"
    hostname: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,62})\Z")] = "rap-box"
    language: Annotated[str, Meta(pattern=r"^[a-z]{2,3}_[A-Z]{2}\.UTF-8\Z")] = "en_US.UTF-8"
    keyboard: Annotated[str, Meta(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)?\Z")] = "us"
    instrument_network: str = "10.77.0.0/16"
    """Port n has the box at the first address of its n-th /24."""
    proxy: Proxy | None = None
    disk: Disk = Disk()
    luks: Luks | None = None
    install: Install = Install()

    def ports(self, board: Board) -> dict[str, IPv4Interface]:
        """The box's address on each instrument interface, by port number."""
        nets = list(IPv4Network(self.instrument_network).subnets(new_prefix=24))
        return {
            interface: IPv4Interface((nets[number].network_address + 1, 24))
            for number, interface in sorted(board.instrument_ports.items())
        }

    def partitions(self) -> list[Partition]:
        """The layout with this site's sizes; what grows takes what the disk has left."""
        sizes = self.disk.sizes_mib
        return [msgspec.structs.replace(p, size_mib=sizes.get(p.mount, p.size_mib)) for p in layout()]


class SiteError(Exception):
    """A site that no image can be made for: the file, the key in it ("" for the whole), what would be right."""

    def __init__(self, file: Path, key: str, message: str) -> None:
        super().__init__(f"{file}: {key}: {message}" if key else f"{file}: {message}")
        self.file = file
        self.key = key
        self.message = message


def load_site(file: Path) -> Site:
    """The site in `file`, its paths and its board made absolute. Errors: SiteError."""
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SiteError(file, "", f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteError(file, "", f"is not TOML: {error}") from error
    try:
        site = msgspec.convert(table, Site, dec_hook=lambda _type, value: file.parent / value)
    except msgspec.ValidationError as error:
        raise _explained(file, str(error)) from None
    if site.board.endswith(".toml"):
        site = msgspec.structs.replace(site, board=str(file.parent / site.board))
    for key, check in _CHECKS.items():
        if problem := check(site):
            raise SiteError(file, key, problem)
    return site


def site_board(site: Site) -> Board:
    """The site's board. Errors: BoardError, which `load_site` has ruled out."""
    return load_board(site.board)


def _wrong_release(site: Site) -> str:
    known = ", ".join(releases())
    return "" if site.release in releases() else f"there is no release {site.release!r}; there are {known}"


def _wrong_board(site: Site) -> str:
    try:
        site_board(site)
    except BoardError as error:
        return str(error)
    return ""


def _wrong_timezone(site: Site) -> str:
    right = site.timezone in time_zones()
    return "" if right else f"there is no time zone {site.timezone!r}; write it like Europe/Berlin or Etc/UTC"


def _wrong_network(site: Site) -> str:
    try:
        network = IPv4Network(site.instrument_network)
    except ValueError as error:
        return f"{error}; write it like 10.77.0.0/16"
    if network.prefixlen > 16:
        return "must have room for a /24 for every port: a prefix of at most 16"
    if site.uplink.address and network.overlaps(IPv4Interface(site.uplink.address).network):
        return f"{network} overlaps with the uplink's {site.uplink.address}; take another private network"
    return ""


def _wrong_sizes(site: Site) -> str:
    mounts = [partition.mount for partition in site.partitions()]
    unknown = [mount for mount in site.disk.sizes_mib if mount not in mounts]
    return f"there is no partition {unknown[0]!r}; there are {', '.join(mounts)}" if unknown else ""


def _wrong_disk(site: Site) -> str:
    needed = (sum(partition.size_mib for partition in site.partitions()) + RESERVED_MIB) * MIB
    if site.disk.bytes >= needed:
        return ""
    return f"{site.disk.bytes:,} is too small: the partitions need {needed:,} (kickstart/layout.toml)"


_CHECKS: Final[dict[str, Callable[[Site], str]]] = {
    "release": _wrong_release,
    "board": _wrong_board,
    "timezone": _wrong_timezone,
    "instrument_network": _wrong_network,
    "disk.sizes_mib": _wrong_sizes,
    "disk.bytes": _wrong_disk,
}
"""What is wrong with a key, or ""."""


def _explained(file: Path, text: str) -> SiteError:
    """msgspec says "problem - at `$.table[0].key`"; where it names what is wrong, say also what would be right."""
    problem, _, path = text.partition(" - at ")
    keys = [key for key in path.strip("`").removeprefix("$").split(".") if key]
    if problem.startswith("Object contains unknown field"):
        known = ", ".join(sorted(_table_at(keys).__struct_fields__))
        keys.append(problem.split("`")[1])
        problem = f"there is no such key; there are {known}"
    elif problem.startswith("Object missing required field"):
        keys.append(problem.split("`")[1])
        problem = "is required, and is not there"
    elif "matching regex" in problem:
        problem = f"write it like {EXAMPLES[keys[-1].partition('[')[0]]}"
    return SiteError(file, ".".join(keys), problem)


EXAMPLES: Final = {
    "host": "ingest.example.com",
    "time_servers": "ntp.example.com",
    "gateway": "192.0.2.1",
    "nameservers": "192.0.2.53",
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


def _table_at(keys: list[str]) -> type[Struct]:
    """The type of the table that these keys lead to."""
    table: type[Struct] = Site
    for key in keys:
        name = key.partition("[")[0]
        kind: Any = next(field.type for field in msgspec.structs.fields(table) if field.name == name)
        candidates = (kind, *get_args(kind))  # Struct, Struct | None, list[Struct] or one with Meta around it
        candidates += tuple(inner for candidate in candidates for inner in get_args(candidate))
        table = next(c for c in candidates if isinstance(c, type) and issubclass(c, Struct))
    return table
