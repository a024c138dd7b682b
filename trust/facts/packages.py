"""Installed packages, from the database of RPM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trust.fact import Fact, fact, names
from trust.machine import ExaminedBox

DATABASES: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
CRYPTOGRAPHIC: Final = (
    "crypto-policies", "gnutls", "kernel", "libgcrypt", "libreswan", "nss", "openssh", "openssl", "openvpn",
)  # fmt: skip
"""The beginnings of names of packages that contain cryptographic modules or decide on their use."""
FORMAT: Final = "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH}\\n"


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the system's name and its packages, in the form "name epoch:version-release.arch"."""
    if system := machine.file("/usr/lib/os-release") or machine.file("/etc/os-release"):
        lines = [line for line in system.text.splitlines() if line.startswith("PRETTY_NAME=")]
        yield fact("system.name", [line.partition("=")[2].strip('"') for line in lines], system)
    for folder in DATABASES:
        if names(machine.paths(f"{folder}/rpmdb.sqlite")):
            listed = machine.on_tree("rpm", "--root", "{root}", "--dbpath", folder, "-qa", "--qf", FORMAT)
            if listed is not None:
                installed = sorted(set(names(listed)))
                modules = [line for line in installed if line.startswith(CRYPTOGRAPHIC)]
                yield fact("packages.cryptographic", modules, listed)
                yield fact("packages.installed", installed, listed)
            return
