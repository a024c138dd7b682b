"""Programs that start automatically (units of systemd, jobs of cron), and the sources of packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from trust.fact import Fact, fact, links, names, settings_lines
from trust.machine import ExaminedBox


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield enabled and masked units, units of the administrator, jobs, and repositories."""
    wanted = machine.paths("/etc/systemd/system/*.wants/*")
    required = machine.paths("/etc/systemd/system/*.requires/*")
    own = machine.paths("/etc/systemd/system/*")
    if names(wanted) or names(own):
        enabled = [
            f"{PurePosixPath(path).parent.stem}: {PurePosixPath(path).name}"
            for listed in (wanted, required)
            for path in names(listed)
        ]
        yield fact("services.enabled", sorted(enabled), wanted, required)
        masked = [path for path, target in links(own) if target == "/dev/null"]
        yield fact("services.masked", sorted(PurePosixPath(path).name for path in masked), own)
        units = [
            path for path in names(own) if PurePosixPath(path).suffix in (".service", ".socket", ".timer")
        ]
        plain = sorted(PurePosixPath(path).name for path in units if path not in masked)
        yield fact("services.own-units", plain, own)
    jobs = machine.paths("/etc/cron.d/*")
    files = [file for path in names(jobs) if (file := machine.file(path))]
    if files:
        lines = [line for file in files for line in settings_lines(file.text)]
        yield fact("services.cron", lines, jobs, *files)
    yield from _repositories(machine)


def _repositories(machine: ExaminedBox) -> Iterator[Fact]:
    listed = machine.paths("/etc/yum.repos.d/*")
    files = [file for path in names(listed) if (file := machine.file(path))]
    if files:
        words = ("baseurl", "mirrorlist", "metalink", "gpgcheck", "enabled")
        lines = [
            line for file in files for line in settings_lines(file.text) if line.startswith(("[", *words))
        ]
        yield fact("packages.repositories", lines, listed, *files)
