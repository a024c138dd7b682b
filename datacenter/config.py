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
import tomllib
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from wire.messages import Serial
from wire.tls.context import Identity
from wire.tls.identity import SERVER, Severity, inspect_identity
from wire.tls.revocation import CrlError, RevocationList


class ConfigError(ValueError):
    """The configuration is wrong; the message names the file, the key and what would be right."""


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Listen(_Section, frozen=True):
    """Where boxes connect to; port 0 is any free one."""

    host: str = "0.0.0.0"  # noqa: S104 - to be reached is what a data center is for
    port: Annotated[int, Meta(ge=0, le=65535)] = 443


class Tls(_Section, frozen=True):
    """PEM files; see `wire.tls.context.Identity`."""

    certificate: str
    key: str
    authorities: str
    revocations: str | None = None


class Database(_Section, frozen=True):
    """An SQLAlchemy URL of SQLite or PostgreSQL."""

    url: str


class Config(_Section, frozen=True):
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


_SECTIONS: Final[dict[str, type[Config | Tls | Database | Listen]]] = {
    "tls": Tls,
    "store": Database,
    "listen": Listen,
}


def load_config(path: Path) -> Config:
    """The configuration in the file at `path`, its files' paths made absolute. Raises ConfigError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        config = msgspec.convert(document, Config)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    given = {name: value for name, value in msgspec.structs.asdict(config.tls).items() if value is not None}
    files = {name: _file(path, name, value) for name, value in given.items()}
    return msgspec.structs.replace(config, tls=Tls(**files))


def identity(config: Config) -> Identity:
    """The certificate, key and authorities of the configuration."""
    return Identity(Path(config.tls.certificate), Path(config.tls.key), Path(config.tls.authorities))


def check_identity(config: Config) -> list[str]:
    """Warnings about the certificate and the CAs. Raises ConfigError if boxes would refuse it, or it is unusable.

    The CA that issued it is not known here: boxes have its certificate.
    """
    files = identity(config)
    found = inspect_identity(files.certificate, files.key, None, [files.authorities], (SERVER,), time.time())
    for problem in found.problems:
        if problem.severity is not Severity.SOON:
            raise ConfigError(f"`tls`: {problem}")
    return [str(problem) for problem in found.problems]


def revocation_list(config: Config) -> RevocationList | None:
    """The revoked certificates of boxes, if the configuration names a file. Raises ConfigError."""
    if config.tls.revocations is None:
        return None
    try:
        return RevocationList(Path(config.tls.revocations), Path(config.tls.authorities))
    except (CrlError, OSError) as error:
        raise ConfigError(f"`tls.revocations`: {error}") from error


def _file(config: Path, key: str, value: str) -> str:
    file = (config.parent / value).resolve()
    if not file.is_file():
        raise ConfigError(f"{config}: `tls.{key}`: there is no file {file}; give a PEM file")
    return str(file)


def _explain(error: str) -> str:
    """The decoder's message, with the key by its TOML name and, for an unknown one, those that are known."""
    what, _, place = error.partition(" - at ")
    key = place.strip("`").removeprefix("$").removeprefix(".")
    if "unknown field" in what:
        known = _SECTIONS.get(key, Config).__struct_fields__
        what += f"; known are {', '.join(known)}"
    return f"`{key}`: {what}" if key else what.replace("Object", "this file")
