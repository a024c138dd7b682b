"""The box's configuration file.

board = "rap-4"                        # or a board file, "….toml", relative to this file

[identity]                             # PEM files; relative to this file
certificate = "box.crt"
key = "box.key"
vendor_authority = "vendor.crt"        # whom instruments have their certificates from
datacenter_authority = "public.crt"    # whom the data center has its certificate from

[revocation]
list = "vendor-ca.crl"                 # optional: revoked certificates of instruments; read again when it changes

[datacenter]
host = "ingest.example.com"
port = 443

[proxy]                                # only where the site has one
kind = "http"                          # or "socks5"
host = "10.0.0.3"
port = 3128
user = "rap-box"                       # only where it requires authentication, by Basic, Digest, NTLM or Negotiate
password = "…"
domain = "CLINIC"                      # of the user, for NTLM and Negotiate
basic = "first"                        # send the password as it is at once; or "offered": if that is all; or "never"

[[port]]
number = 1
listen = "10.77.1.1"                   # the box's address on this port's subnet
instruments = ["CHEM-0001"]

[spool]
directory = "/var/lib/rap/spool"

[status]
socket = "/run/rap/box.sock"           # where `rap box status` asks; without the table nobody can

[firewall]                             # without the table the program leaves the firewall and the ports alone
policy = "firewall.toml"               # instruments are served only while this is in force
socket = "/run/rap-firewall/socket"    # of the firewall service; without it, the program starts one as its child

[clock]
service = "/run/rap-clock.sock"        # sets a wrong clock; without it that is only audited

[watchdog]                             # only where the machine has one
device = "/dev/watchdog0"
timeout_s = 60
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agents.box.intake.high_water_marks import INSTRUMENTS_MAX
from agents.box.uplink.stream import HEARTBEAT_SECONDS, LINGER_SECONDS
from settings.board import PortNumber
from settings.problems import Problems
from settings.toml import load
from settings.types import Endpoint, Host, Proxy, Serial, Table, address_of, is_unicast
from wire.tls.context import Identity

MIB: Final = 1024 * 1024
SPOOL_BYTES_MAX: Final = 1024 * 1024 * MIB


class BoxCertificates(Table, frozen=True):
    """Who the box is, and whom it believes."""

    certificate: Path
    key: Path
    vendor_authority: Path
    datacenter_authority: Path

    def towards_instruments(self) -> Identity:
        """As a server, to instruments."""
        return Identity(self.certificate, self.key, self.vendor_authority)

    def towards_datacenter(self) -> Identity:
        """As a client, to the data center."""
        return Identity(self.certificate, self.key, self.datacenter_authority)


class Revocation(Table, frozen=True):
    """The certificate revocation list of instruments, signed by the vendor's CA."""

    list: Path


class InstrumentPort(Table, frozen=True):
    """One instrument port: where the box listens on its subnet, and for whom."""

    number: PortNumber
    listen: Host
    instruments: list[Serial]
    tcp_port: Annotated[int, Meta(ge=0, le=65535)] = 443
    """0 lets the system choose."""

    def address(self) -> IPv4Address | IPv6Address | None:
        """`listen`, if that is an address and no name."""
        return address_of(self.listen)

    def overlaps(self, other: InstrumentPort) -> bool:
        """Whether the system would let only one of them listen."""
        if self.tcp_port != other.tcp_port or not self.tcp_port:
            return False
        one, two = self.address(), other.address()
        if one is None or two is None:
            return self.listen == other.listen
        return one == two or one.is_unspecified or two.is_unspecified


class SpoolSize(Table, frozen=True):
    """Where reports are kept, and how much of the disk they may take."""

    directory: Path = Path("/var/lib/rap/spool")
    bytes_max: Annotated[int, Meta(ge=16 * MIB, le=SPOOL_BYTES_MAX)] = 1024 * MIB


class Sending(Table, frozen=True):
    """When records leave that could wait, in seconds."""

    linger_s: Annotated[float, Meta(ge=0, le=3600)] = LINGER_SECONDS
    heartbeat_s: Annotated[float, Meta(ge=1, le=86400)] = HEARTBEAT_SECONDS


class StatusSocket(Table, frozen=True):
    """Where the running program tells how it is."""

    socket: Path = Path("/run/rap/box.sock")


class FirewallPolicy(Table, frozen=True):
    """What must be in force for the box to work, and after how many seconds that is tried again."""

    policy: Path
    socket: Path | None = None
    """Where the firewall service listens; without it the program starts one as its child, which takes root."""
    retry_s: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0


class Clock(Table, frozen=True):
    """The socket of the service that sets the clock to the data center's time; None: a wrong clock is only noted."""

    service: Path | None = None


class HardwareWatchdog(Table, frozen=True):
    """What resets the machine when the program hangs for so many seconds."""

    device: Annotated[str, Meta(pattern=r"^/dev/[!-~]+\Z", examples=["/dev/watchdog0"])] = "/dev/watchdog0"
    timeout_s: Annotated[int, Meta(ge=5, le=3600)] = 60


class BoxConfig(Table, frozen=True):
    """Everything that makes one box different from another."""

    board: str
    identity: BoxCertificates
    datacenter: Endpoint
    port: list[InstrumentPort]
    proxy: Proxy | None = None
    spool: SpoolSize = SpoolSize()
    sending: Sending = Sending()
    status: StatusSocket | None = None
    firewall: FirewallPolicy | None = None
    watchdog: HardwareWatchdog | None = None
    clock: Clock = Clock()
    revocation: Revocation | None = None

    def __post_init__(self) -> None:
        """Refuse what no box can be."""
        numbers = [port.number for port in self.port]
        serials = [serial for port in self.port for serial in port.instruments]
        if twice := _repeated(numbers) + _repeated(serials):
            raise ValueError(f"each port and each instrument is there once; repeated: {', '.join(twice)}")
        if len(serials) > INSTRUMENTS_MAX:
            raise ValueError(f"{len(serials)} instruments; a box has at most {INSTRUMENTS_MAX}")

    def enrolled(self) -> dict[str, int]:
        """The port of each instrument."""
        return {serial: port.number for port in self.port for serial in port.instruments}


def _repeated(values: Sequence[object]) -> list[str]:
    return sorted({str(value) for value in values if values.count(value) > 1})


def load_config(file: Path) -> BoxConfig:
    """The configuration in `file`, its paths made absolute. Raises: SettingsError."""
    config = load(file, BoxConfig, _check_listeners)
    if config.board.endswith(".toml"):
        return msgspec.structs.replace(config, board=str(file.parent / config.board))
    return config


def _check_listeners(config: BoxConfig, problems: Problems) -> None:
    for index, port in enumerate(config.port):
        address = port.address()
        if address is not None and not address.is_unspecified and not is_unicast(address):
            message = f"{port.listen} is not an address that a machine can have; give the box's on that port"
            problems.add(("port", index, "listen"), message)
        if other := next((one for one in config.port[:index] if port.overlaps(one)), None):
            message = f"{port.listen} with tcp_port {port.tcp_port} is taken by port {other.number}"
            problems.add(("port", index, "listen"), f"{message}; give each port an address of its own")
