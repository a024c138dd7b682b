"""Installed packages, from the database of RPM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trust.fact import Fact, fact
from trust.machine import Machine

DATABASES: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
FORMAT: Final = "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH}\\n"


def facts(machine: Machine) -> Iterator[Fact]:
    """Yield the system's name and its packages, as "name epoch:version-release.arch"."""
    if system := machine.file("/usr/lib/os-release") or machine.file("/etc/os-release"):
        names = [line for line in system.text.splitlines() if line.startswith("PRETTY_NAME=")]
        yield fact("system.name", [line.partition("=")[2].strip('"') for line in names], system)
    for place in DATABASES:
        if machine.paths(f"{place}/rpmdb.sqlite").text:
            listed = machine.on_tree("rpm", "--root", "{root}", "--dbpath", place, "-qa", "--qf", FORMAT)
            if listed is not None:
                yield fact("packages.installed", sorted(set(listed.text.splitlines())), listed)
            return
