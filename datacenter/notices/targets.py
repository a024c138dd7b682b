"""The file of notice targets (TOML). It may contain passwords: nobody but its owner may have access to it.

[[target]]
name = "on-call"
apprise = "mailtos://user:password@mail.example.com?to=on-call@example.com"     # see https://appriseit.com
severities = ["critical", "error"]  # optional filters: all by default
regions = ["north"]
models = ["chemistry-analyzer"]
interval_s = 60                     # optional: minimum time between two messages; notices in between are grouped

[[target]]
name = "alertmanager"
alertmanager = "http://127.0.0.1:9093"      # sends to its /api/v2/alerts
proxy = "http://proxy.example.com:3128"     # optional: the HTTP proxy for this target

[[target]]
name = "tickets"
apprise = "jsons://tickets.example.com/alerts"
repeats = true                      # optional: the receiver recognizes repeated notices by their key
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from settings.problems import Problem, Problems, SettingsError
from settings.profile import Model, Severity, Word
from settings.toml import load
from settings.types import Table

INTERVAL_SECONDS: Final = 10.0
READABLE_BY_OTHERS: Final = 0o077


class NoticeTarget(Table, frozen=True):
    """A receiver of notices, with filters. Exactly one of `apprise` and `alertmanager` is a URL."""

    name: Word
    apprise: str = ""
    alertmanager: str = ""
    proxy: str = ""
    repeats: bool = False
    severities: list[Severity] = []
    regions: list[str] = []
    models: list[Model] = []
    interval_s: Annotated[float, Meta(ge=0, le=3600)] = INTERVAL_SECONDS

    def wants(self, severity: str, region: str, model: str) -> bool:
        """Return whether the filters match an alert."""
        pairs = ((self.severities, severity), (self.regions, region), (self.models, model))
        return all(not allowed or value in allowed for allowed, value in pairs)

    @property
    def recognizes_repetitions(self) -> bool:
        """Whether a message may be sent again if it is unknown whether it was sent."""
        return self.repeats or bool(self.alertmanager)

    def __repr__(self) -> str:
        """Return a representation without the URL, which may contain a password."""
        return f"NoticeTarget({self.name!r})"


class TargetFile(Table, frozen=True):
    """The content of the file."""

    target: Annotated[list[NoticeTarget], Meta(min_length=1)]


def read_targets(file: Path) -> list[NoticeTarget]:
    """Read the file of targets. Raises: SettingsError with all problems; messages contain no URL."""
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise SettingsError(file, Problem("", f"cannot be read: {error.strerror}")) from error
    if mode & READABLE_BY_OTHERS:
        raise SettingsError(
            file, Problem("", f"has mode {mode & 0o777:04o} but may contain passwords: run chmod 600 {file}")
        )
    return load(file, TargetFile, _check).target


def _check(targets: TargetFile, problems: Problems) -> None:
    names: set[str] = set()
    for index, target in enumerate(targets.target):
        key = ("target", index)
        with problems.part():
            if target.name in names:
                problems.add((*key, "name"), f"{target.name} is used twice; give each target its own name")
            names.add(target.name)
        with problems.part():
            if bool(target.apprise) == bool(target.alertmanager):
                problems.add((*key, "name"), "give either `apprise` or `alertmanager`, with a URL")
        with problems.part():
            if target.apprise and not _is_known(target.apprise):
                problems.add((*key, "apprise"), "is not a URL of Apprise: see https://appriseit.com")
        for name in ("alertmanager", "proxy"):
            if (url := getattr(target, name)) and not _is_http(url):
                problems.add((*key, name), "must be a URL such as http://host:port")


def _is_known(url: str) -> bool:
    from apprise import Apprise

    return Apprise.instantiate(url, suppress_exceptions=True) is not None


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
