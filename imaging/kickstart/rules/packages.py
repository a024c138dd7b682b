"""Packages, scripts' interpreters and services, against the repository that will be installed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imaging.kickstart.document import Section, Spot
from imaging.kickstart.rule import Case, Faults, LintFault, rule
from imaging.repository.versions import Dependency

UNIT_FOLDERS: Final = ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system")
UNIT_KINDS: Final = (".service", ".socket", ".timer", ".target")
SHELLS: Final = ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash")


@rule
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


@rule
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


@rule
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


@rule
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
