"""Rules that check packages, interpreters of scripts and services against the repository to install from."""

from __future__ import annotations

from typing import Final

from pykickstart.constants import FIRSTBOOT_SKIP

from imaging.kickstart.entries import entry_location, section_location
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.repository.versions import Dependency

UNIT_FOLDERS: Final = ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system")
UNIT_KINDS: Final = (".service", ".socket", ".timer", ".target")
SHELLS: Final = ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash")


@rule
def unknown_package(case: Case) -> Faults:
    """Anaconda stops with a question for a package that does not exist.

    Source: RHEL's kickstart reference, `%packages`.
    """
    if case.resolution is None or case.repository is None:
        return
    for entry in case.resolution.unknown:
        close = case.repository.nearest(entry)
        kind = "environment" if entry.startswith("@^") else "group" if entry.startswith("@") else "package"
        right = f"perhaps {close}" if close else "leave it out, or give the repository that has it"
        location = entry_location(case, entry) or case.ks.top
        yield LintFault(location, f"the repository has no {kind} {entry}", right)


@risk
def misspelled_exclusion(case: Case) -> Faults:
    """An excluded package need not exist, but a name similar to an existing one is probably misspelled.

    Source: dnf, `exclude`.
    """
    if case.repository is None or case.ks.packages is None:
        return
    for pattern in case.ks.packages.excludedList:
        if not case.repository.matching(pattern) and (close := case.repository.nearest(pattern)):
            location = entry_location(case, f"-{pattern}") or case.ks.top
            yield LintFault(location, f"-{pattern} excludes nothing", f"perhaps -{close}; or leave it out")


@rule
def unmet_requirement(case: Case) -> Faults:
    """dnf installs nothing if one requirement is not met.

    Source: dnf's solver, libsolv.
    """
    for name, requirement, blocked in case.resolution.unmet if case.resolution else ():
        location = entry_location(case, name) or section_location(case)
        if blocked:
            problem, right = f"{name} requires {requirement}, which is excluded", "remove the exclusion"
        else:
            problem, right = (
                f"{name} requires {requirement}, which no package has",
                "give the repository that has it",
            )
        yield LintFault(location, problem, right)


@rule
def interpreter_not_installed(case: Case) -> Faults:
    """A %post script runs in the installed system, which needs its interpreter.

    Source: RHEL's kickstart reference, `%post --interpreter`.
    """
    if case.resolution is None or case.repository is None:
        return
    for section in case.ks.sections_named("%post"):
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
            yield LintFault(section.location, f"{path} is not in the packages that are installed", right)


@risk
def shell_not_installed(case: Case) -> Faults:
    """A user whose shell is in no package that is installed cannot log in.

    Source: login(1); useradd(8), --shell.
    """
    if case.resolution is None or case.repository is None:
        return
    for command in case.ks.named("user"):
        path = str(command.data.shell or "")
        if not path.startswith("/") or path in (*SHELLS, "/sbin/nologin", "/usr/sbin/nologin", "/bin/false"):
            continue
        names = [owner.name for owner in case.repository.providers(Dependency(path))]
        if not set(names) & set(case.resolution.installed):
            yield LintFault(
                command.location,
                f"--shell={path} is not in the packages that are installed",
                f"add {names[0]} to %packages" if names else "write /bin/bash",
            )


@risk
def first_boot_without_program(case: Case) -> Faults:
    """`firstboot --enable` has no effect without initial-setup.

    Source: RHEL's kickstart reference, `firstboot`: "the initial-setup package must be installed".
    """
    command = case.ks.last("firstboot")
    if case.resolution is None or command is None or command.data.firstboot == FIRSTBOOT_SKIP:
        return
    if not any(name.startswith("initial-setup") for name in case.resolution.installed):
        yield LintFault(
            command.location, "initial-setup is not installed", "add initial-setup, or write --disable"
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
                yield LintFault(
                    command.location, f"no package that is installed has the service {name}", right
                )
