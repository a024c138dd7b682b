"""Packages, scripts' interpreters and services, against the repository that will be installed from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import Final

from imaging.kickstart.document import Section, Spot
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage import volumes
from imaging.repository.versions import Dependency

UNIT_FOLDERS: Final = ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system")
UNIT_KINDS: Final = (".service", ".socket", ".timer", ".target")
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
}
"""Packages that no system does without (""), or that a command needs."""
NEEDS: Final[dict[str, Callable[[Case], bool]]] = {
    "selinux": lambda case: bool((command := case.ks.last("selinux")) and command.data.selinux),
    "firewall": lambda case: bool((command := case.ks.last("firewall")) and command.data.enabled),
    "bootloader": lambda case: case.ks.has_command("bootloader") and not _container(case),
    "timesource": lambda case: any(c.data.ntp_server or c.data.ntp_pool for c in case.ks.named("timesource")),
    **{
        name: lambda case, name=name: case.ks.has_command(name)  # type: ignore[misc]
        for name in ("authselect", "network", "sshkey", "volgroup", "raid")
    },
    "--encrypted": lambda case: any(getattr(command.data, "encrypted", False) for command in volumes(case)),
    "xfs": lambda case: any(command.data.fstype == "xfs" for command in volumes(case)),
    "ext4": lambda case: any(str(command.data.fstype).startswith("ext") for command in volumes(case)),
}
SHELLS: Final = ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash")


@risk
def no_packages(case: Case) -> Faults:
    """Without %packages there is @^minimal-environment or an interactive choice.

    Source: Anaconda's software spoke.
    """
    takes = case.ks.has_command("liveimg", "ostreesetup", "ostreecontainer", "bootc")
    if case.ks.packages is None and not takes and not case.ks.open_ended:
        yield LintFault(case.ks.top, "there is no %packages section", "add `%packages`, names, and `%end`")


@rule
def unknown_package(case: Case) -> Faults:
    """Anaconda stops with a question for a package that does not exist.

    Source: RHEL's kickstart reference, `%packages`.
    """
    if case.resolution is None or case.repository is None:
        return
    for word in case.resolution.unknown:
        close = case.repository.nearest(word)
        kind = "environment" if word.startswith("@^") else "group" if word.startswith("@") else "package"
        right = f"perhaps {close}" if close else "leave it out, or give the repository that has it"
        spot = _place(case, word) or case.ks.top
        yield LintFault(spot, f"the repository has no {kind} {word}", right)


@risk
def misspelled_exclusion(case: Case) -> Faults:
    """An excluded package need not exist, but a name similar to an existing one is probably misspelled.

    Source: dnf, `exclude`.
    """
    if case.repository is None or case.ks.packages is None:
        return
    for word in case.ks.packages.excludedList:
        if not case.repository.matching(word) and (close := case.repository.nearest(word)):
            spot = _place(case, f"-{word}") or case.ks.top
            yield LintFault(spot, f"-{word} excludes nothing", f"perhaps -{close}; or leave it out")


@risk
def wanted_and_excluded(case: Case) -> Faults:
    """Including and excluding a package is contradictory; pykickstart uses the later entry.

    Source: pykickstart, `Packages.add`.
    """
    for section in case.ks.of("%packages"):
        seen: dict[str, int] = {}
        for spot, word in _words(section):
            opposite = word[1:] if word.startswith("-") else f"-{word}"
            if opposite in seen:
                yield LintFault(spot, f"{word} contradicts line {seen[opposite]}", "leave one of them out")
            seen[word] = spot.line


@rule
def essential_excluded(case: Case) -> Faults:
    """Excluding a package that the system cannot do without, or that another line of the kickstart needs.

    Source: comps, group core; Anaconda, packages that its tasks require (`collect_requirements`).
    """
    if case.ks.packages is None:
        return
    for word in case.ks.packages.excludedList:
        for name, command in ESSENTIAL.items():
            needed = NEEDS[command](case) if command else not _container(case)
            if fnmatch(name, word) and needed and not _other_kernel(case, name):
                why = f", which `{command}` needs" if command else ""
                spot = _place(case, f"-{word}") or case.ks.top
                yield LintFault(
                    spot,
                    f"-{word} excludes {name}{why}",
                    "remove the exclusion",
                    risky=command == "timesource",
                )
                break


def _container(case: Case) -> bool:
    loader = case.ks.last("bootloader")
    return loader is not None and (loader.data.disabled or loader.data.location == "none")


def _other_kernel(case: Case, name: str) -> bool:
    """Whether `name` is a kernel, and another one is installed, such as kernel-64k or kernel-rt."""
    others = [
        word for word in case.ks.packages.packageList if word.startswith("kernel") and word not in ESSENTIAL
    ]
    return name.startswith("kernel") and bool(others)


@rule
def package_entry_form(case: Case) -> Faults:
    """Each line of %packages has one entry, and a system is of one environment.

    Source: pykickstart, `Packages.add`: the last environment holds, and a line is one name.
    """
    for section in case.ks.of("%packages"):
        environments: list[tuple[int, str]] = []
        for spot, word in _words(section):
            if not word.startswith("@") and re.search(r"\s|,", word):
                yield LintFault(spot, f"{word!r} is not one package", "write one package on each line")
            elif word.startswith("@^"):
                environments.append((spot.line, word))
                if len({each for _, each in environments}) > 1:
                    line, first = environments[0]
                    yield LintFault(spot, f"{word} replaces {first} of line {line}", "keep one of them")


@rule
def unmet_requirement(case: Case) -> Faults:
    """dnf installs nothing if one requirement is not met.

    Source: dnf's solver, libsolv.
    """
    for name, requirement, blocked in case.resolution.unmet if case.resolution else ():
        spot = _place(case, name) or _section_spot(case)
        if blocked:
            problem, right = f"{name} requires {requirement}, which is excluded", "remove the exclusion"
        else:
            problem, right = (
                f"{name} requires {requirement}, which no package has",
                "give the repository that has it",
            )
        yield LintFault(spot, problem, right)


@rule
def interpreter_not_installed(case: Case) -> Faults:
    """A %post script runs in the installed system, which needs its interpreter.

    Source: RHEL's kickstart reference, `%post --interpreter`.
    """
    if case.resolution is None or case.repository is None:
        return
    for section in case.ks.of("%post"):
        path = section.script.interp if section.script else ""
        if not path or path in SHELLS or not section.script.inChroot:
            continue
        names = [owner.name for owner in case.repository.providers(Dependency(path))]
        if not set(names) & set(case.resolution.installed):
            right = (
                f"add {names[0]} to %packages"
                if names
                else "write /bin/bash, or give the repository that has it"
            )
            yield LintFault(section.spot, f"{path} is not in the packages that are installed", right)


@risk
def interpreter_form(case: Case) -> Faults:
    """The interpreter must be an absolute path.

    Source: RHEL's kickstart reference, `%post --interpreter`.
    """
    for section in case.ks.of("%pre", "%pre-install", "%post", "%onerror", "%traceback"):
        path = section.script.interp if section.script else ""
        if path and not path.startswith("/"):
            yield LintFault(
                section.spot,
                f"--interpreter={path} is not an absolute path",
                f"write --interpreter=/usr/bin/{path}",
            )


@rule
def unknown_service(case: Case) -> Faults:
    """Anaconda stops at an enabled service that does not exist.

    Source: Anaconda, `core/service.py`, enable_service.
    """
    if case.resolution is None or case.repository is None or not case.repository.files:
        return
    for command in case.ks.named("services"):
        for name in command.data.enabled:
            unit = name if name.endswith(UNIT_KINDS) else f"{name}.service"
            template = unit.partition("@")[0] + "@." + unit.rpartition(".")[2] if "@" in unit else unit
            paths = [f"{folder}/{template}" for folder in UNIT_FOLDERS]
            owners = [owner.name for path in paths for owner in case.repository.files.get(path, ())]
            if not set(owners) & set(case.resolution.installed):
                right = (
                    f"add {owners[0]} to %packages"
                    if owners
                    else "leave it out, or give the repository that has it"
                )
                yield LintFault(command.spot, f"no package that is installed has the service {name}", right)


def _words(section: Section) -> Iterator[tuple[Spot, str]]:
    for spot, text in section.lines():
        word = text.partition("#")[0].strip()
        if word:
            yield spot, word.split(" --")[0]


def _place(case: Case, wanted: str) -> Spot | None:
    for section in case.ks.of("%packages"):
        for spot, word in _words(section):
            if word == wanted:
                return spot
    return None


def _section_spot(case: Case) -> Spot:
    return next((section.spot for section in case.ks.of("%packages")), case.ks.top)
