"""The site file: the settings that differ between the images of laboratories.

board = "rap-4"                        # or a board file, "….toml", relative to this file
release = "almalinux9"                 # as in kickstart/releases.toml; `--release` overrides it
timezone = "Europe/Berlin"
language = "en_US.UTF-8"
keyboard = "us"
hostname = "rap-box"
time_servers = ["ntp1.example.com", "ntp2.example.com"]
instrument_network = "10.77.0.0/16"    # port n has the subnet 10.77.n.0/24
fips = "required"                      # the box serves nothing unless its cryptography passes a self-test; see docs/design/fips.md

[uplink]                               # without `address`: DHCP
address = "192.0.2.10/24"
gateway = "192.0.2.1"
nameservers = ["192.0.2.53"]

[datacenter]
host = "ingest.example.com"
port = 443
address = "203.0.113.5"                # optional: replaces the name's entry in [addresses]

[proxy]                                # only if the site has one
kind = "http"                          # or "socks5"
host = "192.0.2.3"
port = 3128
user = "rap-box"                       # only if it requires authentication
password = "…"
domain = "CLINIC"                      # the domain of the user, for NTLM and Negotiate
basic = "first"                        # or "offered" or "never": when the password may be sent unencrypted

[ipsec]                                # only if the data center is reached through an IPsec VPN
gateway = "198.51.100.1"
gateway_identity = "vpn.example.com"   # by default its address
identity = "rap-0001.example.com"      # of the box, by default its address
networks = ["203.0.113.0/24"]          # behind the gateway; they must contain all addresses of this file
secret = "24-to-128-characters-in-ASCII"   # the pre-shared key

[audit]                                # the server that stores the audit log; TLS (RFC 5425)
host = "audit.example.com"
port = 6514
authority = "audit-ca.pem"             # the CA of its certificate
keys = ["MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHvH0KXM3pk5k8mnrTTXRHjcG1lmWrpsxpGyfMHo6Lr9WtVFPJQ0dqMq9lwqTpCYXIvYjpG+3rqRkRUzYHcAwYA=="]
                                       # optional: of the data center, if it countersigns audit chains ([audit] there)

[[instrument]]                         # instruments that may report, and their ports
port = 1
serial = "CHEM-0001"
model = "chemistry-analyzer"           # differences from the model: `adapted`, see settings/adapted.py

address = "10.77.1.5"                  # its own address, only for remote sessions

[enrolment]                            # only if the data center issues certificates ([enrolment] of its configuration)
keys = "file"                          # "tpm": the box makes its keys in its TPM; "tpm-or-file": if it has one

[sessions]                             # only if staff may see and operate instruments that have an address
endpoint = "ingest.example.com:443"    # where tunnels arrive at the data center
keys = ["MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHvH0KXM3pk5k8mnrTTXRHjcG1lmWrpsxpGyfMHo6Lr9WtVFPJQ0dqMq9lwqTpCYXIvYjpG+3rqRkRUzYHcAwYA=="]
ways = ["code"]                        # how a person there permits one; each listed way is required: "code", "switch", "security-key"
line_kbit_s = 128                      # the rate of the uplink, for desktops
page_name = "rap-box.example.com"      # only for security keys, for which browsers require a name

[[sessions.security_key]]              # of a person who may permit sessions; the page makes this entry
id = "mT3vVqGXkp0"
public_key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHvH0KXM3pk5k8mnrTTXRHjcG1lmWrpsxpGyfMHo6Lr9WtVFPJQ0dqMq9lwqTpCYXIvYjpG+3rqRkRUzYHcAwYA=="

[reporting]                            # only if the defaults do not suit the line
linger_s = 30.0                        # how long routine reports wait for others
spool_bytes_max = 1_073_741_824        # the space for reports on the disk

[addresses]                            # the addresses of all names above: the firewall permits addresses, not names
"ingest.example.com" = ["203.0.113.5"]

[[administrator]]
name = "labadmin"
ssh_keys = ["ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNo desk"]
password_hash_file = "labadmin.hash"   # only for sudo; `mkpasswd -m sha-512`

[disk]
device = "sda"
bytes = 32_000_000_000
sizes_mib = { "/var/lib/rap" = 8192 }  # of partitions whose size differs from kickstart/layout.toml

[boot]
password_hash_file = "grub.hash"       # grub2-mkpasswd-pbkdf2

[luks]                                 # only if the disk is to be encrypted
passphrase_file = "/run/install/repo/luks-passphrase"  # for an installer, which reads it on the installed machine
tpm = true                             # whether the machine's TPM unlocks the volumes

[install]
source = "network"                     # or "media"
base = "https://mirror.example.com/BaseOS/"            # optional: replaces the URL of the release
appstream = "https://mirror.example.com/AppStream/"
box_repository = "https://images.example.com/rap-box/el9/"

Apart from the proxy's password the file contains no secrets: hashes are read from other files, and the passphrase
is read by the installer.
"""  # noqa: E501 - the key of the data center

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from imaging.kickstart.data import MIB, RESERVED_MIB, LayoutPartition, layout, releases, time_zones
from settings.board import Board, load_board, read_board_of
from settings.problems import Problems, parse_key
from settings.site import AuditServer, SiteForBox, UplinkAddress, hosts_without_addresses, site_problems
from settings.toml import as_table, dumps, parse, read_partial, read_text
from settings.types import Table

Url: TypeAlias = Annotated[
    str, Meta(pattern=r"^https?://[A-Za-z0-9._~:/?&=%-]+\Z", examples=["https://mirror.example.com/BaseOS/"])
]
UserName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_-]{0,30}\Z", examples=["labadmin"])]
SshKey: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}( [A-Za-z0-9@._-]+)?\Z",
        examples=["ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNo desk"],
    ),
]

# The key types that OpenSSH accepts with OpenSSL's FIPS provider; Ed25519 requires FIPS 186-5 modules.
FIPS_KEY_KINDS: Final = (
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
CRYPT_HASH: Final = re.compile(r"\$(5|6)\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}")
GRUB_HASH: Final = re.compile(r"grub\.pbkdf2\.sha512\.\d+\.[0-9A-Fa-f]+\.[0-9A-Fa-f]+")


class KickstartAuditServer(AuditServer, frozen=True, kw_only=True):
    """The server that stores the audit log, and the file of its CA certificate."""

    authority: Path


class Administrator(Table, frozen=True):
    """A person who may log in, with SSH keys only. sudo needs a password hash."""

    name: UserName
    ssh_keys: Annotated[list[SshKey], Meta(min_length=1)]
    password_hash_file: Path | None = None

    def __post_init__(self) -> None:
        """Reject key types that FIPS mode refuses."""
        for key in self.ssh_keys:
            if (kind := key.split()[0]) not in FIPS_KEY_KINDS:
                raise ValueError(
                    f"a key of kind {kind} is refused in FIPS mode; use {', '.join(FIPS_KEY_KINDS)}"
                )


class SiteDisk(Table, frozen=True):
    """The SSD: its kernel name, its size in bytes, and partition sizes that differ from the layout."""

    device: Annotated[str, Meta(pattern=r"^[A-Za-z0-9/_.:-]+\Z", examples=["sda or nvme0n1"])] = "sda"
    bytes: Annotated[int, Meta(ge=1)] = 32_000_000_000
    sizes_mib: dict[str, Annotated[int, Meta(ge=1)]] = msgspec.field(default_factory=dict)


class Boot(Table, frozen=True):
    """The boot loader's superuser (RHEL-09-212010)."""

    password_hash_file: Path


class Luks(Table, frozen=True):
    """Encryption of writable partitions. The passphrase file is on the machine that is installed.

    A box that is flashed with `rap flash` has no passphrase: its TPM has the only key.
    """

    passphrase_file: Annotated[
        str, Meta(pattern=r"^(/[A-Za-z0-9/_.-]+)?\Z", examples=["/run/install/repo/luks-passphrase"])
    ] = ""
    tpm: bool = True
    """Bind the volumes to the TPM of the machine, so that it starts unattended."""


class Install(Table, frozen=True):
    """The source of packages for the installer. "media" is the disc or stick that it was started from."""

    source: Literal["media", "network"] = "media"
    base: Url | Literal[""] = ""
    """Replaces the URL of the release, if it is not ""."""
    appstream: Url | Literal[""] = ""
    box_repository: Url | Literal["media"] = "media"


class Site(SiteForBox, frozen=True, kw_only=True):
    """All settings that differ between the images of sites."""

    timezone: str
    uplink: UplinkAddress
    audit: KickstartAuditServer
    administrator: Annotated[list[Administrator], Meta(min_length=1)]
    boot: Boot
    release: str = "rhel9"
    hostname: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,62})\Z", examples=["rap-box"])] = "rap-box"
    language: Annotated[str, Meta(pattern=r"^[a-z]{2,3}_[A-Z]{2}\.UTF-8\Z", examples=["en_US.UTF-8"])] = (
        "en_US.UTF-8"
    )
    keyboard: Annotated[str, Meta(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)?\Z", examples=["us"])] = "us"
    disk: SiteDisk = SiteDisk()
    luks: Luks | None = None
    install: Install = Install()

    def partitions(self) -> list[LayoutPartition]:
        """Return the partitions with the sizes of this site; a growing partition takes the remaining space."""
        sizes = self.disk.sizes_mib
        return [msgspec.structs.replace(p, size_mib=sizes.get(p.mount, p.size_mib)) for p in layout()]


def load_site(file: Path) -> Site:
    """Read a site file; its paths and board become absolute. Raises: SettingsError with all problems."""
    text = read_text(file)
    problems = Problems(file, text)
    site = read_partial(Site, parse(text, file), (), problems)
    board = read_board_of(site, problems)
    for key, check in _CHECKS.items():
        with problems.part():
            if problem := check(site):
                problems.add(parse_key(key), problem)
    contradictions: dict[tuple[str, str], None] = {}
    with problems.part():
        for contradiction in site_problems(site, board) if board else ():
            contradictions[contradiction] = None
    with problems.part():
        for contradiction in hosts_without_addresses(site):
            contradictions[contradiction] = None
    for key, problem in contradictions:
        problems.add(parse_key(key), problem)
    problems.raise_if_any()
    if site.board.endswith(".toml"):
        site = msgspec.structs.replace(site, board=str(file.parent / site.board))
    return site


def site_board(site: Site) -> Board:
    """Return the site's board."""
    return load_board(site.board)


def for_box(site: Site) -> str:
    """Return the box's settings as TOML, without secrets except the proxy's, and without paths of this machine."""
    shared = {info.name: getattr(site, info.name) for info in msgspec.structs.fields(SiteForBox)}
    audit = AuditServer(host=site.audit.host, port=site.audit.port, keys=site.audit.keys)
    table = as_table(SiteForBox(**shared | {"board": Path(site.board).name, "audit": audit}))
    table |= {"hostname": site.hostname, "timezone": site.timezone}
    return dumps(table | ({"luks": {"tpm": site.luks.tpm}} if site.luks else {}))


def _wrong_release(site: Site) -> str:
    known = ", ".join(releases())
    return "" if site.release in releases() else f"there is no release {site.release!r}; there are {known}"


def _wrong_timezone(site: Site) -> str:
    right = site.timezone in time_zones()
    return "" if right else f"there is no time zone {site.timezone!r}; write it like Europe/Berlin or Etc/UTC"


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
    "timezone": _wrong_timezone,
    "disk.sizes_mib": _wrong_sizes,
    "disk.bytes": _wrong_disk,
}
"""Checks by key; each returns the problem, or ""."""
