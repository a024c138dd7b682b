"""The box's configuration file.

board = "rap-4"                        # or a board file, "….toml", relative to this file
fips = "required"                      # only where the site demands it: without FIPS mode the box serves nothing

[identity]                             # PEM files; relative to this file
certificate = "box.crt"
key = "box.key"
vendor_authority = "vendor.crt"        # the CA of the instruments' certificates
datacenter_authority = "public.crt"    # the CA of the data center's certificate

[revocation]
list = "vendor-ca.crl"                 # optional: revoked instrument certificates; read again when it changes

[datacenter]
host = "ingest.example.com"
port = 443
address = "203.0.113.5"                # optional: connects there, without DNS

[proxy]                                # only if the site has one
kind = "http"                          # or "socks5"
host = "10.0.0.3"
port = 3128
user = "rap-box"                       # only if it requires authentication: Basic, Digest, NTLM or Negotiate
password = "…"
domain = "CLINIC"                      # of the user, for NTLM and Negotiate
basic = "first"                        # try Basic first; "offered": only if nothing else is offered; or "never"

[[port]]
number = 1
listen = "10.77.1.1"                   # the box's address on this port's subnet
tcp_port = 443

[[port.instrument]]                    # an instrument enrolled at this port, and its profile
serial = "CHEM-0001"
model = "chemistry-analyzer"
address = "10.77.1.5"                  # only for remote sessions: its own address
desktop_password = "secret"            # only if its VNC server requires one
                                       # if it speaks its own standard: `adapted`, see settings/adapted.py

[spool]
directory = "/var/lib/rap/spool"
bytes_max = 1_073_741_824              # its maximum size on the disk

[sending]
linger_s = 30.0                        # how long routine reports wait for a fuller batch
heartbeat_s = 300.0                    # time without a batch after which a heartbeat is sent

[status]
socket = "/run/rap/box.sock"           # for `rap box status`; without the table there is no status

[firewall]                             # without the table the program neither uses the firewall nor opens the ports
policy = "firewall.toml"               # instruments are served only while this policy is in force
socket = "/run/rap-firewall/socket"    # of the firewall service; without it, one is started as a child process
retry_s = 30.0                         # pause after a failed attempt to enforce it

[clock]
service = "/run/rap-clock.sock"        # sets a wrong clock; without it, a wrong clock is only recorded

[audit]                                # without the table, lines of the system's audit log stay on the box
service = "/run/rap-audit.sock"        # reads the files of the log, which only root may read
files_max = 99                         # as many as auditd keeps (num_logs): if fewer are left, somebody removed one
bytes_per_second = 4096                # of lines, before their compression: they precede routine reports
keys = "audit-heads.pem"               # optional: public keys of the data center, which countersigns the chain's head

[enrolment]                            # optional: the box requests its certificates from the data center (EST),
                                       # with keys of its own that it keeps in the folder of the spool
keys = "file"                          # or "tpm", "tpm-or-file": generated in the TPM, if there is one

[profiles]                             # optional: delivered profiles, newer than those of the program
directory = "/var/lib/rap/profiles"
key = "vendor-signing.pub"             # of the vendor, who signs them

[sessions]                             # without the table the box refuses remote sessions
endpoint = "ingest.example.com:443"    # where tunnels arrive at the data center
keys = "session-offers.pem"            # public keys of the data center, which signs its offers
key = "session.key"                    # countersigns what a person permits; without it, the key of [identity]
ways = ["code"]                        # how the person at the instrument proves presence: "code", "switch", "security-key"
page = "/run/rap-page/socket"          # the local page's socket, to which httpd forwards requests
device = "rap-tun0"                    # the TUN device, created beforehand, with the first address of this network:
staff = "10.99.0.2/29"                 # the data center's address in each tunnel, with its network
line_kbit_s = 128                      # the rate of the uplink, for desktops
page_name = "rap-box.example.com"      # only for security keys, for which browsers require a name

[[sessions.security_key]]              # of a person who may permit sessions; the local page shows this entry
id = "mT3vVqGXkp0"
public_key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHvH0KXM3pk5k8mnrTTXRHjcG1lmWrpsxpGyfMHo6Lr9WtVFPJQ0dqMq9lwqTpCYXIvYjpG+3rqRkRUzYHcAwYA=="

[updates]                              # without the table the box ignores orders to update it
root = "/usr/share/rap/releases-root.json"    # root role of the release metadata, shipped with the software
slot_a = "/dev/disk/by-partlabel/root-a"
slot_b = "/dev/disk/by-partlabel/root-b"
boot_state = "/dev/disk/by-partlabel/boot-state"    # from which the boot loader chooses the slot
restart_file = "/run/rap/restart"      # creating it restarts the machine

[watchdog]                             # only if the machine has one
device = "/dev/watchdog0"
timeout_s = 60
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agents.box.configuration.defaults import HEARTBEAT_SECONDS, INSTRUMENTS_MAX, LINGER_SECONDS
from agents.enrolment.certificate_files import BoxCertificates
from settings.adapted import AdaptedPort
from settings.board import Interface, PortNumber
from settings.problems import Problems
from settings.profile import Model, profile_problem
from settings.site import Enrolment
from settings.slots import BOOT_STATE, PARTITIONS, Slot
from settings.toml import load
from settings.types import (
    Endpoint,
    FipsDemand,
    Host,
    HostAndPort,
    OptionalIpv4,
    PresenceWays,
    Proxy,
    SecurityKey,
    Serial,
    Table,
    address_of,
    check_security_keys,
    is_unicast,
)

MIB: Final = 1024 * 1024
VncPassword = Annotated[str, Meta(pattern=r"^[\x20-\x7e]{0,8}\Z", extra={"secret": True}, examples=["…"])]
"""VNC servers compare the first eight characters."""
SPOOL_BYTES_MAX: Final = 1024 * 1024 * MIB


class Revocation(Table, frozen=True):
    """The certificate revocation list of instruments, signed by the vendor's CA."""

    list: Path


class PortInstrument(Table, frozen=True):
    """An instrument enrolled at a port; its model's profile lists the words that its reports may contain."""

    serial: Serial
    model: Model
    adapted: AdaptedPort | None = None
    """The site's settings if it speaks its own standard."""
    address: OptionalIpv4 = ""
    """Its own address; without it there are no remote sessions with the instrument."""
    desktop_password: VncPassword = ""
    """The password of its VNC server, if that requires one."""


class InstrumentPort(Table, frozen=True):
    """One instrument port: the address and TCP port the box listens on, and the instruments enrolled at it."""

    number: PortNumber
    listen: Host
    instrument: list[PortInstrument] = []
    tcp_port: Annotated[int, Meta(ge=0, le=65535)] = 443
    """0: chosen by the system."""

    def address(self) -> IPv4Address | IPv6Address | None:
        """Return `listen` if it is an IP address, None if it is a name."""
        return address_of(self.listen)

    def overlaps(self, other: InstrumentPort) -> bool:
        """Return whether the two ports cannot both listen: same TCP port and same address."""
        if self.tcp_port != other.tcp_port or not self.tcp_port:
            return False
        address, other_address = self.address(), other.address()
        if address is None or other_address is None:
            return self.listen == other.listen
        return address == other_address or address.is_unspecified or other_address.is_unspecified


class SpoolSize(Table, frozen=True):
    """The spool's directory and its maximum size on the disk."""

    directory: Path = Path("/var/lib/rap/spool")
    bytes_max: Annotated[int, Meta(ge=16 * MIB, le=SPOOL_BYTES_MAX)] = 1024 * MIB


class Sending(Table, frozen=True):
    """The times after which routine records and heartbeats are sent, in seconds."""

    linger_s: Annotated[float, Meta(ge=0, le=3600)] = LINGER_SECONDS
    heartbeat_s: Annotated[float, Meta(ge=1, le=86400)] = HEARTBEAT_SECONDS


class StatusSocket(Table, frozen=True):
    """The Unix socket for `rap box status`."""

    socket: Path = Path("/run/rap/box.sock")


class FirewallPolicy(Table, frozen=True):
    """The firewall policy that must be in force, and after how many seconds applying it is retried."""

    policy: Path
    socket: Path | None = None
    """Socket of the firewall service; None: start one as a child process, which requires root."""
    retry_s: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0


class Clock(Table, frozen=True):
    """Socket of the service that sets the clock to the data center's time; None: only record a wrong clock."""

    service: Path | None = None


class AuditSettings(Table, frozen=True):
    """The operating system's audit log, which is sent with the box's own audit records."""

    service: Path = Path("/run/rap-audit.sock")
    """The socket of the service that reads its files."""
    files_max: Annotated[int, Meta(ge=2, le=999)] = 99
    """How many files auditd keeps (`num_logs`)."""
    bytes_per_second: Annotated[int, Meta(ge=64, le=1_000_000)] = 4096
    """The rate of lines, before they are compressed; they precede routine reports on the uplink."""
    keys: Path | None = None
    """Public keys of the data center (PEM, P-256): one of them must have signed the head of the chain."""


class Profiles(Table, frozen=True):
    """Delivered profiles: their directory, and the vendor's public key (PEM, P-256) that must have signed them."""

    directory: Path
    key: Path


class SessionSettings(Table, frozen=True):
    """Remote sessions with the instruments."""

    endpoint: HostAndPort
    """Host and port where tunnels arrive at the data center."""
    keys: Path
    """Public keys of the data center (PEM, P-256): one of them must have signed an offer."""
    ways: PresenceWays
    key: Path | None = None
    """The private key (PEM, P-256) that countersigns what a person permits, if it differs from the identity's key.
    The data center must know its public key; it takes the identity's public key from the box's certificate."""
    page: Path = Path("/run/rap-page/socket")
    """The UNIX socket of the local page, in a folder whose group is that of httpd."""
    device: Interface = "rap-tun0"
    """The TUN device, created beforehand; the box has the first address of the tunnel's network on it."""
    staff: str = "10.99.0.2/29"
    """The data center's address in each tunnel, with its network."""
    line_kbit_s: Annotated[int, Meta(ge=16, le=10_000_000)] = 128
    """The rate of the uplink in kbit/s. A desktop sends no faster, so that reports do not wait behind it."""
    page_name: Host | None = None
    """The name of the local page in browsers, in addition to its addresses; security keys need one."""
    security_key: list[SecurityKey] = []
    """The security keys of persons who may permit sessions."""

    def __post_init__(self) -> None:
        """Raise ValueError for a way listed twice, unusable security keys, or an impossible `staff`."""
        if repeated := _repeated(self.ways):
            raise ValueError(f"ways: list each way once; repeated: {', '.join(repeated)}")
        check_security_keys(self.ways, self.page_name, self.security_key)
        if not _is_second_host(self.staff):
            raise ValueError(
                f"staff: {self.staff} is not an address with its network, such as 10.99.0.2/29; "
                "the first address is the box's"
            )

    @property
    def staff_address(self) -> IPv4Address:
        """The data center's address in each tunnel."""
        return IPv4Interface(self.staff).ip

    @property
    def box_address(self) -> IPv4Address:
        """The box's own address in each tunnel: the first of its network."""
        return IPv4Interface(self.staff).network[1]

    @property
    def tunnel_endpoint(self) -> Endpoint:
        """The address at which the data center accepts tunnels."""
        host, _, port = self.endpoint.rpartition(":")
        return Endpoint(host, int(port))


_PARTITIONS: Final = Path("/dev/disk/by-partlabel")


class UpdateSettings(Table, frozen=True):
    """Updates of the operating system in two slots."""

    root: Path
    """The root role of the release metadata, shipped with the software; newer versions are signed with its keys."""
    slot_a: Path = _PARTITIONS / PARTITIONS["a"]
    slot_b: Path = _PARTITIONS / PARTITIONS["b"]
    boot_state: Path = _PARTITIONS / BOOT_STATE
    """The partition with the slot state, from which the boot loader chooses."""
    restart_file: Path = Path("/run/rap/restart")
    """Creating this file restarts the machine (rap-restart.path)."""

    @property
    def slots(self) -> dict[Slot, Path]:
        """The partitions of the slots."""
        return {"a": self.slot_a, "b": self.slot_b}


class HardwareWatchdog(Table, frozen=True):
    """Watchdog device that resets the machine if the program hangs for `timeout_s` seconds."""

    device: Annotated[str, Meta(pattern=r"^/dev/[!-~]+\Z", examples=["/dev/watchdog0"])] = "/dev/watchdog0"
    timeout_s: Annotated[int, Meta(ge=5, le=3600)] = 60


class BoxConfig(Table, frozen=True):
    """The box's configuration file."""

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
    audit: AuditSettings | None = None
    enrolment: Enrolment | None = None
    revocation: Revocation | None = None
    profiles: Profiles | None = None
    sessions: SessionSettings | None = None
    updates: UpdateSettings | None = None
    fips: FipsDemand = "not-required"
    """"required": no port is served and no connection made unless the self-test of the cryptography passes."""

    def __post_init__(self) -> None:
        """Raise ValueError for repeated ports or instruments, and for too many instruments."""
        numbers = [port.number for port in self.port]
        serials = [instrument.serial for port in self.port for instrument in port.instrument]
        if repeated := _repeated(numbers) + _repeated(serials):
            raise ValueError(
                f"each port and each instrument may be listed only once; repeated: {', '.join(repeated)}"
            )
        if len(serials) > INSTRUMENTS_MAX:
            raise ValueError(f"{len(serials)} instruments; a box can have at most {INSTRUMENTS_MAX}")

    def enrolled(self) -> dict[str, int]:
        """Return the port number of each enrolled instrument."""
        return {instrument.serial: port.number for port in self.port for instrument in port.instrument}

    def adapted(self) -> frozenset[str]:
        """Return the instruments that speak their own standard."""
        return frozenset(
            instrument.serial for port in self.port for instrument in port.instrument if instrument.adapted
        )

    def models(self) -> dict[str, str]:
        """Return the model of each enrolled instrument."""
        return {instrument.serial: instrument.model for port in self.port for instrument in port.instrument}


def _repeated(values: Sequence[object]) -> list[str]:
    return sorted({str(value) for value in values if values.count(value) > 1})


def _is_second_host(text: str) -> bool:
    """Return whether a text is an IPv4 interface, such as 10.99.0.2/29, and not the first host of its network."""
    try:
        interface = IPv4Interface(text)
    except ValueError:
        return False
    network = interface.network
    return network.prefixlen < 31 and network[1] < interface.ip < network.broadcast_address


def load_config(file: Path) -> BoxConfig:
    """Load the configuration in `file`; relative paths become absolute. Raises: SettingsError."""
    config = load(file, BoxConfig, _check_ports)
    if config.board.endswith(".toml"):
        return msgspec.structs.replace(config, board=str(file.parent / config.board))
    return config


def _check_ports(config: BoxConfig, problems: Problems) -> None:
    for index, port in enumerate(config.port):
        with problems.part():
            address = port.address()
            if address is not None and not address.is_unspecified and not is_unicast(address):
                message = f"{port.listen} is not a unicast address; give the address of the box on that port"
                problems.add(("port", index, "listen"), message)
        with problems.part():
            if len(port.instrument) > 1 and any(instrument.adapted for instrument in port.instrument):
                message = "an instrument that speaks its own standard needs a separate port"
                problems.add(("port", index, "instrument"), message)
        with problems.part():
            for position, instrument in enumerate(port.instrument):
                with problems.part():
                    problem = profile_problem(instrument.model)
                    if problem and config.profiles is None:
                        problems.add(("port", index, "instrument", position, "model"), problem)
        with problems.part():
            if other := next((each for each in config.port[:index] if port.overlaps(each)), None):
                message = (
                    f"{port.listen} with tcp_port {port.tcp_port} is already used by port {other.number}"
                )
                problems.add(("port", index, "listen"), f"{message}; give each port a different address")
