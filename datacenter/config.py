"""The data center's configuration file (TOML). Unknown keys are errors.

boxes = ["RAP-0001"]                # serial numbers of the boxes that may send; removing one keeps its records
front_ends = ["FRONT-1"]            # optional: certificate names of front ends that terminate TLS
fleet = "fleet.toml"                # optional: the sites with their boxes; see datacenter/fleet/sitefile.py

[listen]
host = "0.0.0.0"
port = 443

[tls]                               # PEM files, relative to this file
certificate = "datacenter.crt"
key = "datacenter.key"
authorities = "vendor-ca.crt"       # the CAs that issue the boxes' certificates
revocations = "vendor-ca.crl"       # optional: their certificate revocation lists, read again when the file changes

[evaluation]                        # optional
triggers = "triggers"               # folder of trigger files and their scores.toml, relative to this file

[store]
url = "postgresql+psycopg://user@host/database"   # or sqlite:////var/lib/rap/reports.db, without shards
rows_days = 3                       # optional: the days after which statuses move from rows to compressed chunks

[[store.shards]]                    # optional: further PostgreSQL servers, over which boxes are distributed
name = "a"                          # identifies the shard in the database; never change it
url = "postgresql+psycopg://user@host-a/database"

[store.retention]                   # optional: the days after which each kind is deleted; others are kept
readings_days = 3650                # at least 100; by the instrument's clock
errors_days = 1825
controls_days = 1825
calibrations_days = 1825
inventories_days = 730
notices_days = 365
alerts_days = 3650
commands_days = 730
files_days = 90
box_audit_days = 3650               # audit records of boxes, from the beginning of each chain
base_days = 730                     # the installed base: at least 100

[base]                              # optional: the installed base
export_instruments_min = 5          # optional: `rap dc base export` leaves out bins with fewer instruments

[access]                            # optional: who may do what
policies = "policies"               # folder of Cedar files, relative to this file, instead of those of this version
view_minutes = 10                   # one audit record covers all views of a resource by a person in this time

[access.oidc]                       # optional: sign-on of staff by an OpenID Connect provider
issuer = "https://login.example.com/realms/vendor"  # as the provider's tokens name it, character by character
client_id = "rap-datacenter"
client_secret = "oidc.secret"       # optional: file with the secret of the client
authorities = "login-ca.crt"        # optional: the CAs of the provider, PEM; default: those of the system
url = "https://rap.example.com"     # the address of the staff's pages, as browsers see it
person = "preferred_username"       # optional: the claim that identifies the person; default: "sub"
roles = "realm_access.roles"        # optional: the claim with the roles; default: those of the staff directory
locations = "rap_locations"         # optional: the same for the scope
trainings = "rap_trainings"         # optional: for trainings: {"model": "2027-01-01"} or ["model=2027-01-01"]

[access.oidc.role]                  # optional: value of the claim = role; other values grant none
rap-service = "service-engineer"

[access.oidc.location]              # optional: value of the claim = location; other values grant none
germany = "country/DE"

[notices]                           # optional: notices of alerts
targets = "notices.toml"            # their targets: datacenter/notices/targets.py describes the file
link = "https://rap.example.com"    # optional: the address of the staff's pages, for links

[staff]                             # optional: the staff's web pages
directory = "staff.toml"            # who may sign in: datacenter/access/directory.py describes the file
host = "127.0.0.1"                  # loopback only
port = 8080
development = true                  # users are chosen on a page, without a password; default: false
idle_minutes = 10                   # idle time after which a person must sign in again; at most 600

[sessions]                          # optional: remote sessions; needs [staff], whose policies permit them
key = "offer-key.pem"               # signs offers: a private key of curve P-256, PEM
folder = "sessions"                 # the audit file and the recordings
address = "0.0.0.0"                 # the address on which tunnels of boxes are accepted
port = 1194
name = "rap"                        # optional: the issuer of offers, as audit files name it
staff = "10.99.0.2/29"              # optional: the staff's address in each tunnel; the box has the network's first
box_keys = "box-keys"               # optional: folder with the public keys (RAP-0001.pem) of boxes that sign grants
                                    # with a key other than their certificate's
recording_days = 90                 # optional: the days after which recordings are deleted; default: they are kept

[releases]                          # optional: releases, which rollouts install on boxes
folder = "releases"                 # as `rap image release` writes it, relative to this file

[enrolment]                         # optional: boxes renew their certificates through EST
certificate = "vendor-ca.crt"       # of the CA that signs them; [tls] `authorities` has its root, in a roll-over both
key = "vendor-ca.key"               # its private key, PEM; or [enrolment.module]
days = 90                           # optional: the validity of certificates
datacenter_roots = "roots.crt"      # optional: further roots that boxes trust for the data center's own certificate

[enrolment.module]                  # optional: a hardware security module that has the key of the CA (PKCS #11)
library = "/usr/lib/softhsm/libsofthsm2.so"
token = "rap"                       # the label of the token
label = "vendor-ca"                 # of the key pair, on curve P-256
pin = "vendor-ca.pin"               # file with the PIN of the token

[audit]                             # optional: the heads of boxes' audit chains are countersigned
key = "audit-key.pem"               # a private key of curve P-256, PEM; boxes have its public key

[siem]                              # optional: receives the audit records: RFC 5424 messages over TLS (RFC 5425)
host = "siem.example.com"
port = 6514
certificate = "siem-client.crt"     # PEM files, relative to this file: of the data center as a client of the SIEM
key = "siem-client.key"
authorities = "siem-ca.crt"         # the CA of the SIEM's certificate

[monitoring]                        # optional: metrics, liveness and readiness, without sign-in and TLS
host = "127.0.0.1"                  # everyone who can connect to this address can read them
port = 9464
names = ["rap-metrics.example.com"] # optional: names in `Host`, besides IP addresses and localhost

[log]                               # optional: the log on standard error
format = "json"                     # one JSON object per line; default: "text"
level = "warning"                   # "info", "warning" or "error"; default: "info"
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from msgspec import Meta

from datacenter.access.control import AccessFiles
from datacenter.access.language.policyfile import SHIPPED
from datacenter.log import LogFormat, LogLevel
from datacenter.sign_on.settings import Oidc, url_problem
from datacenter.vendor_ca.authority import (
    DAYS,
    AuthorityError,
    VendorAuthority,
    load_authority,
    load_certificates,
    load_key_file,
)
from settings.problems import Problem, Problems, SettingsError
from settings.toml import load
from settings.types import Host, Serial, Table, address_of
from wire.pki.hierarchy import PrivateKey
from wire.pki.signature import SignatureError, load_private_key, load_public_key
from wire.tls.context import Identity
from wire.tls.identity import SERVER, Severity, inspect_identity
from wire.tls.revocation import CrlError, RevocationList

_MAKE_KEY: Final = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out"


class ListenConfig(Table, frozen=True):
    """The listen address for boxes; for port 0, the system chooses a free port."""

    host: str = "0.0.0.0"  # noqa: S104 - boxes connect from outside
    port: Annotated[int, Meta(ge=0, le=65535)] = 443


class TlsConfig(Table, frozen=True):
    """PEM files; see `wire.tls.context.Identity`."""

    certificate: Path
    key: Path
    authorities: Path
    revocations: Path | None = None


Days: TypeAlias = Annotated[int, Meta(ge=30, le=36_500)]
BaseDays: TypeAlias = Annotated[int, Meta(ge=100, le=36_500)]
"""Snapshots of the installed base cover up to 91 previous days."""


class RetentionConfig(Table, frozen=True):
    """The days after which each kind is deleted; None keeps it. `datacenter.retention` defines the kinds."""

    readings_days: BaseDays | None = None
    errors_days: Days | None = None
    controls_days: Days | None = None
    calibrations_days: Days | None = None
    inventories_days: Days | None = None
    notices_days: Days | None = None
    alerts_days: Days | None = None
    commands_days: Days | None = None
    files_days: Days | None = None
    box_audit_days: Days | None = None
    base_days: BaseDays | None = None


class ShardDatabase(Table, frozen=True):
    """A database with the reports of some boxes; see `datacenter.store.shards`."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,23}\Z", examples=["a"])]
    url: str


class DatabaseConfig(Table, frozen=True):
    """An SQLAlchemy URL of SQLite or PostgreSQL, and those of shards."""

    url: str
    shards: list[ShardDatabase] = []
    rows_days: Annotated[int, Meta(ge=1, le=365)] = 3
    """The days after which statuses move from rows to compressed chunks."""
    retention: RetentionConfig = RetentionConfig()

    def __post_init__(self) -> None:
        """Raise ValueError if shards share a name, if databases share a URL, or if shards are used with SQLite."""
        names = [shard.name for shard in self.shards]
        urls = [self.url, *(shard.url for shard in self.shards)]
        if len(set(names)) < len(names):
            raise ValueError("two shards have the same name; give each a different name")
        if len(set(urls)) < len(urls):
            raise ValueError(
                "two databases (of the main database and the shards) have the same URL; give each a different URL"
            )
        if self.shards and not all(url.startswith("postgresql") for url in urls):
            raise ValueError(
                "an SQLite database cannot have or be a shard; give PostgreSQL databases: postgresql+psycopg://…"
            )

    @property
    def shard_urls(self) -> dict[str, str]:
        """The URLs of the shards by name."""
        return {shard.name: shard.url for shard in self.shards}


class BaseConfig(Table, frozen=True):
    """The installed base."""

    export_instruments_min: Annotated[int, Meta(ge=2, le=1000)] = 5
    """Minimum number of instruments in a bin that may leave the region: a bin with one would reveal its values."""


class EvaluationConfig(Table, frozen=True):
    """The triggers that evaluate reports."""

    triggers: Path | None = None


class AccessConfig(Table, frozen=True):
    """The policies, and which views the audit log records individually."""

    policies: Path | None = None
    view_minutes: Annotated[int, Meta(ge=0, le=60)] = 10
    """One audit record covers all views of a resource by a person in this time; 0 records each view."""
    oidc: Oidc | None = None


class NoticesConfig(Table, frozen=True):
    """Notices of alerts."""

    targets: Path
    link: str = ""


class StaffConfig(Table, frozen=True):
    """The listener for the staff's web pages; for port 0, the system chooses a free port."""

    directory: Path
    host: Host = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    development: bool = False
    """Users are chosen on a page, without a password: for loopback only."""
    idle_minutes: Annotated[int, Meta(ge=1, le=600)] = 10


class RemoteSessionsConfig(Table, frozen=True):
    """Remote sessions, and the listener for their tunnels; for port 0, the system chooses a free port."""

    key: Path
    folder: Path
    address: Host = "0.0.0.0"  # noqa: S104 - boxes connect from outside
    port: Annotated[int, Meta(ge=0, le=65535)] = 1194
    name: Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,64}\Z", examples=["rap"])] = "rap"
    staff: str = "10.99.0.2/29"
    box_keys: Path | None = None
    recording_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a network that has no addresses for both ends of a tunnel."""
        try:
            interface = IPv4Interface(self.staff)
        except ValueError:
            raise ValueError(
                f"staff: {self.staff} is not an address with its network, such as 10.99.0.2/29"
            ) from None
        hosts = list(interface.network.hosts()) if 16 <= interface.network.prefixlen <= 29 else []
        if interface.ip not in hosts[1:-2]:
            raise ValueError(
                f"staff: {self.staff} must have a network of /16 to /29, and must not be its first or its last two"
                " host addresses: give one such as 10.99.0.2/29"
            )

    def known_keys(self) -> dict[str, EllipticCurvePublicKey]:
        """Return the keys in `box_keys` by serial number of the box. Raises: SignatureError; OSError."""
        files = sorted(self.box_keys.glob("*.pem")) if self.box_keys else []
        return {file.stem: load_public_key(file) for file in files}

    @property
    def interface(self) -> IPv4Interface:
        """The staff's address in each tunnel, with its network."""
        return IPv4Interface(self.staff)

    @property
    def box(self) -> IPv4Address:
        """The box's own address in each tunnel."""
        return next(self.interface.network.hosts())


class ReleasesConfig(Table, frozen=True):
    """The folder of signed releases, which is reread while the program runs."""

    folder: Path


class SecurityModule(Table, frozen=True):
    """A key pair in a hardware security module, which is accessed through PKCS #11."""

    library: Path
    token: str
    label: str
    pin: Path
    """File with the PIN."""


class EnrolmentConfig(Table, frozen=True):
    """The CA that signs certificates of boxes, with its key in a file or in a security module."""

    certificate: Path
    key: Path | None = None
    module: SecurityModule | None = None
    days: Annotated[int, Meta(ge=1, le=825)] = DAYS
    datacenter_roots: Path | None = None

    def load_datacenter_roots(self) -> list[x509.Certificate]:
        """Load the roots that are sent to boxes; none without a file. Raises: AuthorityError, OSError."""
        return load_certificates(self.datacenter_roots) if self.datacenter_roots else []

    def load_authority(self, trusted: Path) -> VendorAuthority:
        """Load the CA; `trusted` has its root. Raises: AuthorityError, OSError."""
        return load_authority(self.certificate, self._load_key, trusted, self.days)

    def _load_key(self) -> PrivateKey:
        if (self.key is None) == (self.module is None):
            raise AuthorityError("give either `key` or [enrolment.module]")
        if self.key is not None:
            return load_key_file(self.key)
        assert self.module is not None, "checked above"
        from datacenter.vendor_ca.security_module import load_module_key  # an optional package

        module = self.module
        return load_module_key(module.library, module.token, module.label, module.pin)


class AuditConfig(Table, frozen=True):
    """The countersigning of heads of boxes' audit chains; see `datacenter.audit.heads`."""

    key: Path
    """A private key of curve P-256, in PEM."""


class SiemConfig(Table, frozen=True):
    """The SIEM that receives the audit records of boxes and of the data center; see `datacenter.audit.siem`."""

    host: Host
    certificate: Path
    key: Path
    authorities: Path
    port: Annotated[int, Meta(ge=1, le=65535)] = 6514

    @property
    def identity(self) -> Identity:
        """The certificate, key and authorities of the connection."""
        return Identity(self.certificate, self.key, self.authorities)


class MonitoringConfig(Table, frozen=True):
    """The listener for metrics and health; for port 0, the system chooses a free port."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    names: list[Host] = []
    """Accepted names in `Host`, besides IP addresses and localhost."""


class LogConfig(Table, frozen=True):
    """The log on standard error."""

    format: LogFormat = "text"
    level: LogLevel = "info"


class Config(Table, frozen=True):
    """The data center's configuration file."""

    tls: TlsConfig
    store: DatabaseConfig
    boxes: Annotated[list[Serial], Meta(min_length=1)]
    listen: ListenConfig = ListenConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    base: BaseConfig = BaseConfig()
    access: AccessConfig = AccessConfig()
    staff: StaffConfig | None = None
    notices: NoticesConfig | None = None
    sessions: RemoteSessionsConfig | None = None
    releases: ReleasesConfig | None = None
    enrolment: EnrolmentConfig | None = None
    audit: AuditConfig | None = None
    siem: SiemConfig | None = None
    monitoring: MonitoringConfig | None = None
    log: LogConfig = LogConfig()
    fleet: Path | None = None
    """The sites with their boxes, read at the start."""
    front_ends: list[Serial] = []
    """Certificate names of front ends that terminate the boxes' TLS and send the box's name in `rap-box`."""

    def __post_init__(self) -> None:
        """Raise ValueError for a box that is also a front end, because it could impersonate all others."""
        if both := sorted(set(self.boxes) & set(self.front_ends)):
            raise ValueError(
                f"{', '.join(both)} is in both `boxes` and `front_ends`; give front ends other names"
            )

    @property
    def access_files(self) -> AccessFiles:
        """The files of access control, for the staff's pages."""
        assert self.staff is not None, "the pages are configured"
        folder = self.access.policies
        return AccessFiles(self.staff.directory, tuple(sorted(folder.glob("*.cedar"))) if folder else SHIPPED)


def load_config(file: Path) -> Config:
    """Load the configuration in `file`; relative paths become absolute. Raises: SettingsError with all problems."""
    return load(file, Config, _check_files)


def _check_files(config: Config, problems: Problems) -> None:
    pem_files = {"tls": TlsConfig.__struct_fields__, "siem": ("certificate", "key", "authorities")}
    for table, names in pem_files.items():
        for name in names:
            with problems.part():
                file = getattr(getattr(config, table), name, None)
                if file is not None and not file.is_file():
                    problems.add((table, name), f"the file {file} does not exist; give a PEM file")
    with problems.part():
        if config.fleet is not None and not config.fleet.is_file():
            problems.add(("fleet",), f"the file {config.fleet} does not exist; give a file of sites")
    with problems.part():
        folder = config.evaluation.triggers
        if folder is not None and not folder.is_dir():
            problems.add(("evaluation", "triggers"), f"{folder} is not a folder; give one with trigger files")
    with problems.part():
        policies = config.access.policies
        if policies is not None and not any(policies.glob("*.cedar")):
            problems.add(("access", "policies"), f"{policies} is not a folder with policies (*.cedar)")
    with problems.part():
        if config.notices is not None and not config.notices.targets.is_file():
            problem = f"the file {config.notices.targets} does not exist; give a file of notice targets"
            problems.add(("notices", "targets"), problem)
    with problems.part():
        if config.staff is not None:
            _check_staff(config.staff, config.access.oidc, problems)
    with problems.part():
        if config.access.oidc is not None:
            _check_oidc(config.access.oidc, problems)
    with problems.part():
        if config.releases is not None and not (config.releases.folder / "metadata").is_dir():
            folder = config.releases.folder
            problem = f"{folder} has no releases; make the folder with `rap image release create`"
            problems.add(("releases", "folder"), problem)
    with problems.part():
        if config.audit is not None:
            _check_audit_key(config.audit, problems)
    with problems.part():
        if config.sessions is not None:
            _check_sessions(config.sessions, config.staff, problems)
    with problems.part():
        if config.enrolment is not None:
            _check_enrolment(config.enrolment, config.tls.authorities, problems)


def _check_audit_key(audit: AuditConfig, problems: Problems) -> None:
    try:
        load_private_key(audit.key)
    except (SignatureError, OSError) as error:
        problems.add(("audit", "key"), f"{error}; heads of audit chains are signed with such a key")


def _check_enrolment(enrolment: EnrolmentConfig, authorities: Path, problems: Problems) -> None:
    try:
        enrolment.load_authority(authorities)
        enrolment.load_datacenter_roots()
    except (AuthorityError, OSError) as error:
        problems.add(("enrolment",), str(error))


def _check_sessions(sessions: RemoteSessionsConfig, staff: StaffConfig | None, problems: Problems) -> None:
    if staff is None:
        problems.add(("sessions",), "needs [staff], by whose policies sessions are permitted")
    if not sessions.folder.is_dir():
        problems.add(
            ("sessions", "folder"),
            f"{sessions.folder} is not a folder; create it, accessible only for this program",
        )
    try:
        load_private_key(sessions.key)
    except (SignatureError, OSError) as error:
        problems.add(("sessions", "key"), f"{error}; make one: {_MAKE_KEY} {sessions.key}")
    try:
        if sessions.box_keys is not None and not sessions.known_keys():
            problems.add(
                ("sessions", "box_keys"), f"{sessions.box_keys} has no keys; add files such as RAP-0001.pem"
            )
    except (SignatureError, OSError) as error:
        problems.add(("sessions", "box_keys"), str(error))


def _check_oidc(oidc: Oidc, problems: Problems) -> None:
    for name in ("issuer", "url"):
        if problem := url_problem(getattr(oidc, name)):
            problems.add(("access", "oidc", name), problem)
    if oidc.url.endswith("/"):
        problems.add(("access", "oidc", "url"), "must not end with a slash")
    for name in ("client_secret", "authorities"):
        file = getattr(oidc, name)
        if file is not None and not file.is_file():
            problems.add(("access", "oidc", name), f"the file {file} does not exist; give a file")
    for table, claim in (("role", oidc.roles), ("location", oidc.locations)):
        if getattr(oidc, table) and claim is None:
            problems.add(("access", "oidc", table), f"requires the claim `{table}s`; give it")


def _check_staff(staff: StaffConfig, oidc: Oidc | None, problems: Problems) -> None:
    if not staff.directory.is_file():
        problems.add(
            ("staff", "directory"), f"the file {staff.directory} does not exist; give a staff directory"
        )
    address = address_of(staff.host)
    if staff.host != "localhost" and not (address and address.is_loopback):
        problems.add(
            ("staff", "host"),
            f"{staff.host} is not a loopback address; the pages are served without TLS: give 127.0.0.1",
        )
    if not staff.development and oidc is None:
        problems.add(
            ("staff", "development"), "must be true if there is no other sign-in; or add [access.oidc]"
        )


def identity(config: Config) -> Identity:
    """Return the certificate, key and authorities of the configuration."""
    return Identity(config.tls.certificate, config.tls.key, config.tls.authorities)


def check_identity(config: Config) -> list[str]:
    """Check the certificate and the CAs; return warnings.

    Raises: SettingsError if the certificate is unusable or boxes would refuse it.

    The issuer of the certificate cannot be checked, because only the boxes have its CA certificate.
    """
    files = identity(config)
    inspection = inspect_identity(
        files.certificate, files.key, None, [files.authorities], (SERVER,), time.time()
    )
    for problem in inspection.problems:
        if problem.severity is not Severity.SOON:
            raise SettingsError(problem.file, Problem("", str(problem)))
    return [str(problem) for problem in inspection.problems]


def revocation_list(config: Config) -> RevocationList | None:
    """Return the revocation list for boxes, if the configuration names one. Raises: SettingsError."""
    if config.tls.revocations is None:
        return None
    try:
        return RevocationList(config.tls.revocations, config.tls.authorities)
    except (CrlError, OSError) as error:
        raise SettingsError(config.tls.revocations, Problem("", str(error))) from error
