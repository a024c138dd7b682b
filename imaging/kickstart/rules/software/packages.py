"""Rules about the entries of %packages that need no repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Final

from imaging.kickstart.entries import entry_location, package_entries
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import mount_of, volumes

ESSENTIAL: Final = {
    **dict.fromkeys(
        ("kernel", "kernel-core", "kernel-modules", "kernel-modules-core", "systemd", "bash", "glibc"), ""
    ),
    **dict.fromkeys(
        ("filesystem", "rpm", "dnf", "coreutils", "util-linux", "setup", "shadow-utils", "dracut"), ""
    ),
    **dict.fromkeys(("systemd-udev", "basesystem"), ""),
    "selinux-policy-targeted": "selinux",
    "selinux-policy": "selinux",
    "firewalld": "firewall",
    "chrony": "timesource",
    "authselect": "authselect",
    "NetworkManager": "network",
    "openssh-server": "sshkey",
    "lvm2": "volgroup",
    "mdadm": "raid",
    "cryptsetup": "--encrypted",
    "xfsprogs": "xfs",
    "e2fsprogs": "ext4",
    "grub2-tools": "bootloader",
    "grub2-common": "bootloader",
    **dict.fromkeys(("shim-x64", "grub2-efi-x64"), "/boot/efi"),
}
"""Packages that every system needs (""), or that a command, file system or mount point of the kickstart needs."""
NEEDED_ALWAYS: Final = tuple(name for name, command in ESSENTIAL.items() if not command)
NEEDS: Final[dict[str, Callable[[Case], bool]]] = {
    "selinux": lambda case: bool((command := case.ks.last("selinux")) and command.data.selinux),
    "firewall": lambda case: bool((command := case.ks.last("firewall")) and command.data.enabled),
    "bootloader": lambda case: case.ks.has_command("bootloader") and not _container(case),
    "timesource": lambda case: any(c.data.ntp_server or c.data.ntp_pool for c in case.ks.named("timesource")),
    **{
        name: lambda case, name=name: case.ks.has_command(name)  # type: ignore[misc]
        for name in ("authselect", "network", "sshkey", "volgroup", "raid")
    },
    "--encrypted": lambda case: any(command.option("encrypted") for command in volumes(case)),
    "/boot/efi": lambda case: any(mount_of(command) == "/boot/efi" for command in volumes(case)),
    "xfs": lambda case: any(command.data.fstype == "xfs" for command in volumes(case)),
    "ext4": lambda case: any(str(command.data.fstype).startswith("ext") for command in volumes(case)),
}


@risk
def no_packages(case: Case) -> Faults:
    """Without %packages, Anaconda installs @^minimal-environment or stops and asks.

    Source: Anaconda's software spoke.
    """
    image = case.ks.has_command("liveimg", "ostreesetup", "ostreecontainer", "bootc")
    if case.ks.packages is None and not image and not case.ks.open_ended:
        yield LintFault(case.ks.top, "there is no %packages section", "add `%packages`, names, and `%end`")


@risk
def wanted_and_excluded(case: Case) -> Faults:
    """Including and excluding a package is contradictory; pykickstart uses the later entry.

    Source: pykickstart, `Packages.add`.
    """
    for section in case.ks.sections_named("%packages"):
        seen: dict[str, int] = {}
        for location, entry in package_entries(section):
            opposite = entry[1:] if entry.startswith("-") else f"-{entry}"
            if opposite in seen:
                yield LintFault(
                    location, f"{entry} contradicts line {seen[opposite]}", "leave one of them out"
                )
            seen[entry] = location.line


@rule
def essential_excluded(case: Case) -> Faults:
    """A package that the system or another line of the kickstart needs must not be excluded.

    Source: comps, group core; Anaconda, packages that its tasks require (`collect_requirements`).
    """
    if case.ks.packages is None:
        return
    for pattern in case.ks.packages.excludedList:
        for name, command in ESSENTIAL.items():
            needed = NEEDS[command](case) if command else not _container(case)
            if fnmatch(name, pattern) and needed and not _other_kernel(case, name):
                why = f", which `{command}` needs" if command else ""
                location = entry_location(case, f"-{pattern}") or case.ks.top
                yield LintFault(
                    location,
                    f"-{pattern} excludes {name}{why}",
                    "remove the exclusion",
                    risky=command == "timesource",
                )
                break


def _container(case: Case) -> bool:
    loader = case.ks.last("bootloader")
    return loader is not None and (loader.data.disabled or loader.data.location == "none")


def _other_kernel(case: Case, name: str) -> bool:
    """Return whether `name` is a kernel, and another one is installed, such as kernel-64k or kernel-rt."""
    others = [
        other
        for other in case.ks.packages.packageList
        if other.startswith("kernel") and other not in ESSENTIAL
    ]
    return name.startswith("kernel") and bool(others)


@rule
def package_entry_form(case: Case) -> Faults:
    """Each line of %packages has one entry, and a system has one environment group.

    Source: pykickstart, `Packages.add`: the last environment applies, and a line is one name.
    """
    for section in case.ks.sections_named("%packages"):
        environments: list[tuple[int, str]] = []
        for location, entry in package_entries(section):
            if not entry.startswith("@") and re.search(r"\s|,", entry):
                yield LintFault(location, f"{entry!r} is not one package", "write one package on each line")
            elif entry.startswith("@^"):
                environments.append((location.line, entry))
                if len({each for _, each in environments}) > 1:
                    line, first = environments[0]
                    yield LintFault(location, f"{entry} replaces {first} on line {line}", "keep one of them")
