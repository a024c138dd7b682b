"""The data center's configuration file (TOML). Unknown keys are errors.

boxes = ["RAP-0001"]                # serial numbers of the boxes that may send; removing one keeps its records
front_ends = ["FRONT-1"]            # optional: certificate names of front ends that terminate TLS

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
url = "sqlite:////var/lib/rap/reports.db"   # or postgresql+psycopg://user@host/database
rows_days = 3                       # optional: the days after which statuses move from rows to compressed chunks

[access]                            # optional: who may do what
policies = "policies"               # folder of Cedar files, relative to this file, instead of those of this version
view_minutes = 10                   # one audit record stands for all views of a resource by a person in this time

[notices]                           # optional: notices of alerts
targets = "notices.toml"            # where they are sent: datacenter/notices/targets.py describes the file
link = "https://rap.example.com"    # optional: the address of the staff's pages, for links

[staff]                             # optional: the staff's web pages
directory = "staff.toml"            # who may sign in: datacenter/access/directory.py describes the file
host = "127.0.0.1"                  # loopback only
port = 8080
development = true                  # users are chosen on a page, without a password

[monitoring]                        # optional: metrics, liveness and readiness, without sign-in and TLS
host = "127.0.0.1"                  # who can connect to this address can read them
port = 9464
names = ["rap-metrics.example.com"] # optional: names in `Host`, beside IP addresses and localhost

[log]                               # optional: the log on standard error
format = "json"                     # one JSON object a line; default: "text"
level = "warning"                   # "info", "warning" or "error"; default: "info"
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from datacenter.access.control import AccessFiles
from datacenter.access.policyfile import SHIPPED
from datacenter.log import LogFormat, LogLevel
from settings.problems import Problem, Problems, SettingsError
from settings.toml import load
from settings.types import Host, Serial, Table, address_of
from wire.tls.context import Identity
from wire.tls.identity import SERVER, Severity, inspect_identity
from wire.tls.revocation import CrlError, RevocationList


class Listen(Table, frozen=True):
    """The listen address for boxes; port 0 is chosen by the system."""

    host: str = "0.0.0.0"  # noqa: S104 - boxes connect from outside
    port: Annotated[int, Meta(ge=0, le=65535)] = 443


class Tls(Table, frozen=True):
    """PEM files; see `wire.tls.context.Identity`."""

    certificate: Path
    key: Path
    authorities: Path
    revocations: Path | None = None


class Database(Table, frozen=True):
    """An SQLAlchemy URL of SQLite or PostgreSQL."""

    url: str
    rows_days: Annotated[int, Meta(ge=1, le=365)] = 3
    """The days after which statuses move from rows to compressed chunks."""


class Evaluation(Table, frozen=True):
    """What reports are evaluated by."""

    triggers: Path | None = None


class Access(Table, frozen=True):
    """The policies, and what the audit log records one by one."""

    policies: Path | None = None
    view_minutes: Annotated[int, Meta(ge=0, le=60)] = 10
    """One audit record stands for all views of a resource by a person in this time; 0 records each view."""


class Notices(Table, frozen=True):
    """Notices of alerts."""

    targets: Path
    link: str = ""


class Staff(Table, frozen=True):
    """The listener for the staff's web pages; port 0 is chosen by the system."""

    directory: Path
    host: Host = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    development: bool = False
    """Users are chosen on a page, without a password: for loopback only."""


class Monitoring(Table, frozen=True):
    """The listener for metrics and health; port 0 is chosen by the system."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    names: list[Host] = []
    """Names by which it is asked, beside IP addresses and localhost."""


class Log(Table, frozen=True):
    """The log on standard error."""

    format: LogFormat = "text"
    level: LogLevel = "info"


class Config(Table, frozen=True):
    """The data center's configuration file."""

    tls: Tls
    store: Database
    boxes: Annotated[list[Serial], Meta(min_length=1)]
    listen: Listen = Listen()
    evaluation: Evaluation = Evaluation()
    access: Access = Access()
    staff: Staff | None = None
    notices: Notices | None = None
    monitoring: Monitoring | None = None
    log: Log = Log()
    front_ends: list[Serial] = []
    """Certificate names of front ends that terminate the boxes' TLS and send the box's name in `rap-box`."""

    def __post_init__(self) -> None:
        """Raise ValueError for a box that is also a front end, as it could impersonate all others."""
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
    for name, file in msgspec.structs.asdict(config.tls).items():
        if file is not None and not file.is_file():
            problems.add(("tls", name), f"the file {file} does not exist; give a PEM file")
    folder = config.evaluation.triggers
    if folder is not None and not folder.is_dir():
        problems.add(("evaluation", "triggers"), f"{folder} is not a folder; give one with trigger files")
    policies = config.access.policies
    if policies is not None and not any(policies.glob("*.cedar")):
        problems.add(("access", "policies"), f"{policies} is not a folder with policies (*.cedar)")
    if config.notices is not None and not config.notices.targets.is_file():
        problem = f"the file {config.notices.targets} does not exist; give a file of notice targets"
        problems.add(("notices", "targets"), problem)
    if config.staff is not None:
        _check_staff(config.staff, problems)


def _check_staff(staff: Staff, problems: Problems) -> None:
    if not staff.directory.is_file():
        problems.add(
            ("staff", "directory"), f"the file {staff.directory} does not exist; give a staff directory"
        )
    address = address_of(staff.host)
    if staff.host != "localhost" and not (address and address.is_loopback):
        problems.add(
            ("staff", "host"),
            f"{staff.host} is not a loopback address; sign-in for development asks for no password: "
            "give 127.0.0.1",
        )
    if not staff.development:
        problems.add(
            ("staff", "development"),
            "must be true: this version has no other sign-in; or remove [staff]",
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
    found = inspect_identity(files.certificate, files.key, None, [files.authorities], (SERVER,), time.time())
    for problem in found.problems:
        if problem.severity is not Severity.SOON:
            raise SettingsError(problem.file, Problem("", str(problem)))
    return [str(problem) for problem in found.problems]


def revocation_list(config: Config) -> RevocationList | None:
    """Return the revocation list for boxes, if the configuration names one. Raises: SettingsError."""
    if config.tls.revocations is None:
        return None
    try:
        return RevocationList(config.tls.revocations, config.tls.authorities)
    except (CrlError, OSError) as error:
        raise SettingsError(config.tls.revocations, Problem("", str(error))) from error
