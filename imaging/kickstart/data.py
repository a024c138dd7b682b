"""The data in `kickstart/`: releases, what their installers know, and the disk's layout."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import available_timezones

import msgspec

FOLDER: Final = Path(__file__).parents[2] / "kickstart"
FRAGMENTS: Final = FOLDER / "fragments"
MIB: Final = 1024 * 1024
TABLE_MIB: Final = 2
"""What a GPT and alignment take: 1 MiB before the first partition, its copy after the last."""
IDENTITY_MIB: Final = 1
"""The partition that every image has beside those of its kickstart: see `imaging.build.partitions`."""
RESERVED_MIB: Final = TABLE_MIB + IDENTITY_MIB
"""What a disk needs beside the partitions of a kickstart."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common form of the tables: nothing unknown in them."""


class Installer(_Table, frozen=True):
    """What one version of Anaconda knows, as far as pykickstart does not say."""

    addons: list[str]
    file_systems: list[str]
    disk_label: str
    authselect: list[str]


class Release(_Table, frozen=True):
    """A distribution's release. `version` is pykickstart's name of the syntax."""

    name: str
    title: str
    version: str
    authselect: str
    packages: list[str] = []
    base: str = ""
    """Where it installs from over the network; "" for RHEL, which has no public place."""
    appstream: str = ""


class LayoutPartition(_Table, frozen=True):
    """One partition of the box's disk; `mount` is a mount point, or "biosboot"."""

    mount: str
    format: str
    size_mib: Annotated[int, msgspec.Meta(ge=1)]
    grow: bool = False
    label: str = ""
    options: list[str] = []
    encrypted: bool = False


def releases() -> dict[str, Release]:
    """All releases by name, in the file's order."""
    tables: dict[str, dict[str, Any]] = _releases_file()["release"]
    return {name: msgspec.convert(_inherited(tables, name), Release) for name in tables}


def installers() -> dict[str, Installer]:
    """What each version of Anaconda knows, by pykickstart's name of the version ("RHEL9")."""
    return msgspec.convert(_releases_file()["version"], dict[str, Installer])


def layout() -> list[LayoutPartition]:
    """The box's disk as it comes, before a site changes sizes."""
    table = tomllib.loads((FOLDER / "layout.toml").read_text("utf-8"))
    return msgspec.convert(table["partition"], list[LayoutPartition])


@cache
def time_zones() -> frozenset[str]:
    """All time zones that this machine knows; reading them takes a tenth of a second."""
    return frozenset(available_timezones())


def _inherited(tables: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    own = {key: value for key, value in tables[name].items() if key != "like"}
    parent = tables[name].get("like")
    return {**(_inherited(tables, parent) if parent else {}), **own, "name": name}


@cache
def _releases_file() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "releases.toml").read_text("utf-8"))
