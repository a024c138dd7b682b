"""Programs that start by themselves: units of systemd, jobs of cron, and the sources of packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from trust.fact import Fact, fact, settings_lines
from trust.machine import Machine


def facts(machine: Machine) -> Iterator[Fact]:
    """Yield enabled and masked units, units of the administrator, jobs, and repositories."""
    wanted = machine.paths("/etc/systemd/system/*.wants/*")
    required = machine.paths("/etc/systemd/system/*.requires/*")
    own = machine.paths("/etc/systemd/system/*")
    if wanted.text or own.text:
        names = [
            f"{PurePosixPath(path).parent.stem}: {PurePosixPath(path).name}"
            for listed in (wanted, required)
            for path in _paths(listed.text)
        ]
        yield fact("services.enabled", sorted(names), wanted, required)
        masked = [path for path, target in _links(own.text) if target == "/dev/null"]
        yield fact("services.masked", sorted(PurePosixPath(path).name for path in masked), own)
        units = [
            path
            for path in _paths(own.text)
            if PurePosixPath(path).suffix in (".service", ".socket", ".timer")
        ]
        plain = sorted(PurePosixPath(path).name for path in units if path not in masked)
        yield fact("services.own-units", plain, own)
    jobs = machine.paths("/etc/cron.d/*")
    files = [file for path in _paths(jobs.text) if (file := machine.file(path))]
    if files:
        lines = [line for file in files for line in settings_lines(file.text)]
        yield fact("services.cron", lines, jobs, *files)
    yield from _repositories(machine)


def _repositories(machine: Machine) -> Iterator[Fact]:
    listed = machine.paths("/etc/yum.repos.d/*")
    files = [file for path in _paths(listed.text) if (file := machine.file(path))]
    if files:
        words = ("baseurl", "mirrorlist", "metalink", "gpgcheck", "enabled")
        lines = [
            line for file in files for line in settings_lines(file.text) if line.startswith(("[", *words))
        ]
        yield fact("packages.repositories", lines, listed, *files)


def _links(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        path, _, target = line.partition(" -> ")
        yield path, target


def _paths(text: str) -> list[str]:
    return [path for path, _ in _links(text)]
