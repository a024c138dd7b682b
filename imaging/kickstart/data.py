"""The data in the folder `kickstart/`: releases, the properties of their installers, and the layout of the disk."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import available_timezones

import msgspec

from settings import slots
from settings.problems import Problems
from settings.toml import load, parse, read_table, read_text
from settings.types import Table

FOLDER: Final = Path(__file__).parents[2] / "kickstart"
FRAGMENTS: Final = FOLDER / "fragments"
MIB: Final = 1024 * 1024
TABLE_MIB: Final = 2
"""The space for a GPT and alignment: 1 MiB before the first partition and 1 MiB after the last."""
IDENTITY_MIB: Final = 1
"""The size of the identity partition, which every image has in addition (`imaging.build.partitions`)."""
RESERVED_MIB: Final = TABLE_MIB + IDENTITY_MIB + slots.BOOT_STATE_BYTES // MIB
"""The disk space needed in addition to the partitions of a kickstart."""


class Installer(Table, frozen=True):
    """Properties of a version of Anaconda that pykickstart does not contain."""

    addons: list[str]
    file_systems: list[str]
    disk_label: str
    authselect: list[str]


class DistributionRelease(Table, frozen=True):
    """A release of a distribution. `version` is pykickstart's name of its kickstart syntax."""

    name: str
    title: str
    version: str
    authselect: str
    audit_program: list[str]
    """How the audit rules for a program begin: one rule for each architecture, or one for all."""
    audit_chmod: str
    """The system calls that change a file's mode."""
    packages: list[str] = []
    base: str = ""
    """The URL of the BaseOS repository; "" for RHEL, which has no public one."""
    appstream: str = ""


class LayoutPartition(Table, frozen=True):
    """One partition of the box's disk; `mount` is a mount point, or "biosboot"."""

    mount: str
    format: str
    size_mib: Annotated[int, msgspec.Meta(ge=1)]
    grow: bool = False
    label: str = ""
    options: list[str] = []
    encrypted: bool = False


class KnownNames(Table, frozen=True):
    """The content of names.toml: the names that glibc, X, the console and firewalld define."""

    locales: list[str]
    layouts: list[str]
    layout_switches: list[str]
    layout_variants: dict[str, list[str]]
    keymaps: list[str]
    firewall_services: list[str]


class Layout(Table, frozen=True):
    """The content of layout.toml."""

    partition: list[LayoutPartition]


class ReleasesFile(Table, frozen=True):
    """The content of releases.toml, in which each release has the keys that it inherits by `like`."""

    version: dict[str, Installer]
    release: dict[str, DistributionRelease]


def releases() -> dict[str, DistributionRelease]:
    """Return all releases by name, in the order of releases.toml. Raises: SettingsError."""
    return _releases_file().release


def installers() -> dict[str, Installer]:
    """Return the properties of each version of Anaconda, by pykickstart's name ("RHEL9"). Raises: SettingsError."""
    return _releases_file().version


def layout() -> list[LayoutPartition]:
    """Return the partitions of the box's disk, before a site changes their sizes. Raises: SettingsError."""
    return load(FOLDER / "layout.toml", Layout).partition


@cache
def known_names() -> KnownNames:
    """Return the names that exist in the installed system. Raises: SettingsError."""
    return load(FOLDER / "names.toml", KnownNames)


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones of this machine, cached because reading them takes 0.1 s."""
    return frozenset(available_timezones())


@cache
def _releases_file() -> ReleasesFile:
    file = FOLDER / "releases.toml"
    text = read_text(file)
    table = parse(text, file)
    table["release"] = {name: _inherited(table["release"], name) for name in table["release"]}
    problems = Problems(file, text)
    releases_file = read_table(ReleasesFile, table, (), problems)
    problems.raise_if_any()
    assert releases_file is not None
    return releases_file


def _inherited(tables: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the keys of a release, and those that it inherits from the release named by `like`."""
    own = {key: value for key, value in tables[name].items() if key != "like"}
    parent = tables[name].get("like")
    return {**(_inherited(tables, parent) if parent else {}), **own, "name": name}
