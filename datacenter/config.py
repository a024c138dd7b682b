"""The data center's configuration: a TOML file with no key that is not known here.

boxes = ["RAP-0001"]                # serial numbers that may send; the others' records stay
front_ends = ["FRONT-1"]            # only with front ends that end TLS: the names in their own certificates

[listen]
host = "0.0.0.0"
port = 443

[tls]                               # PEM files, relative to this file
certificate = "datacenter.crt"
key = "datacenter.key"
authorities = "vendor-ca.crt"       # the CAs that issue the boxes' certificates
revocations = "vendor-ca.crl"       # optional: their certificate revocation lists, read again when the file changes

[store]
url = "sqlite:////var/lib/rap/reports.db"   # or postgresql+psycopg://user@host/database
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from settings.problems import Problem, Problems, SettingsError
from settings.toml import load
from settings.types import Serial, Table
from wire.tls.context import Identity
from wire.tls.identity import SERVER, Severity, inspect_identity
from wire.tls.revocation import CrlError, RevocationList


class Listen(Table, frozen=True):
    """Where boxes connect to; port 0 is any free one."""

    host: str = "0.0.0.0"  # noqa: S104 - to be reached is what a data center is for
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


class Config(Table, frozen=True):
    """The whole file."""

    tls: Tls
    store: Database
    boxes: Annotated[list[Serial], Meta(min_length=1)]
    listen: Listen = Listen()
    front_ends: list[Serial] = []
    """Certificate names of front ends that end the boxes' TLS and name the box in the header `rap-box`."""

    def __post_init__(self) -> None:
        """Refuse a box that could speak for all others."""
        if both := sorted(set(self.boxes) & set(self.front_ends)):
            raise ValueError(
                f"{', '.join(both)} is in `boxes` and in `front_ends`; a front end has a name of its own"
            )


def load_config(file: Path) -> Config:
    """The configuration in `file`, its paths made absolute. Raises: SettingsError with all problems."""
    return load(file, Config, _check_files)


def _check_files(config: Config, problems: Problems) -> None:
    for name, file in msgspec.structs.asdict(config.tls).items():
        if file is not None and not file.is_file():
            problems.add(("tls", name), f"there is no file {file}; give a PEM file")


def identity(config: Config) -> Identity:
    """The certificate, key and authorities of the configuration."""
    return Identity(config.tls.certificate, config.tls.key, config.tls.authorities)


def check_identity(config: Config) -> list[str]:
    """Warnings about the certificate and the CAs. Raises: SettingsError if boxes would refuse it, or it is unusable.

    The CA that issued it is not known here: boxes have its certificate.
    """
    files = identity(config)
    found = inspect_identity(files.certificate, files.key, None, [files.authorities], (SERVER,), time.time())
    for problem in found.problems:
        if problem.severity is not Severity.SOON:
            raise SettingsError(problem.file, Problem("", str(problem)))
    return [str(problem) for problem in found.problems]


def revocation_list(config: Config) -> RevocationList | None:
    """The revoked certificates of boxes, if the configuration names a file. Raises: SettingsError."""
    if config.tls.revocations is None:
        return None
    try:
        return RevocationList(config.tls.revocations, config.tls.authorities)
    except (CrlError, OSError) as error:
        raise SettingsError(config.tls.revocations, Problem("", str(error))) from error
