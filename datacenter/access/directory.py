"""The staff directory (TOML): roles, scope and trainings of staff, and their API tokens. Unknown keys are errors.

[staff.engineer]
roles = ["service-engineer"]
scope = ["country/DE"]              # "everywhere", "region/…", "country/DE" or "site/…"
active = true                       # optional
name = "Service engineer"           # optional: the name that pages show; default: the name in the table's header
zone = "Europe/Berlin"              # optional: the time zone in which pages show times; default: UTC

[staff.engineer.trainings]          # model = expiry: the first day, or the first moment, without a valid training
hematology-analyzer = 2026-10-01
chemistry-analyzer = 2026-10-01T12:00:00Z

[token.export]
owner = "engineer"
actions = ["read"]                  # actions or groups of actions
scope = ["country/DE"]
expires = 2027-01-01
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"   # of the secret
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from datacenter.access.request import ApiToken, Principal
from datacenter.access.vocabulary import ACTIONS, EVERYWHERE, GROUPS, LEVELS, Role
from settings.form import Form
from settings.problems import Problems
from settings.profile import Model, Text, profile_problem
from settings.toml import load, nearest
from settings.types import Table

NAME_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class ExpiryForm(Form):
    """An expiry in ms since 1970, written as a date (its beginning in UTC) or as a time with an offset from UTC."""

    @property
    def rule(self) -> str:
        """The allowed values, in words."""
        return "a date like 2026-10-01, or a time like 2026-10-01T12:00:00Z"

    def read(self, given: object) -> int:
        """Convert to milliseconds. Raises: ValueError."""
        if type(given) is date:
            given = datetime.combine(given, time(), UTC)
        if not isinstance(given, datetime):
            raise ValueError(f"must be {self.rule}, without quotes")
        if given.tzinfo is None:
            raise ValueError("needs an offset from UTC, as in 2026-10-01T12:00:00Z")
        return int(given.timestamp()) * 1000 + given.microsecond // 1000

    def write(self, value: int) -> object:
        """Convert back to a TOML value."""
        return datetime.fromtimestamp(value / 1000, UTC)


@dataclass(frozen=True, slots=True)
class LocationForm(Form):
    """A location of `datacenter.access.vocabulary`."""

    @property
    def rule(self) -> str:
        """The allowed values, in words."""
        return '"everywhere", "region/…", "country/…" with two capital letters, or "site/…"'

    def read(self, given: object) -> str:
        """Return the value unchanged. Raises: ValueError."""
        if not isinstance(given, str):
            raise ValueError(f"must be {self.rule}")
        level, _, name = given.partition("/")
        is_valid_country = level != "country" or (
            len(name) == 2 and name.isascii() and name.isalpha() and name.isupper()
        )
        known = level in LEVELS and bool(name) and name.isprintable() and name == name.strip()
        if given != EVERYWHERE and not (known and is_valid_country):
            raise ValueError(f"is not a location: it must be {self.rule}")
        return given


Expiry: TypeAlias = Annotated[int, ExpiryForm()]
Location: TypeAlias = Annotated[str, LocationForm()]
Sha256: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", examples=["e3b0c442… (64 digits)"])]


class StaffTable(Table, frozen=True):
    """A member of the staff."""

    roles: list[Role]
    scope: list[Location]
    active: bool = True
    trainings: dict[Model, Expiry] = {}
    name: Text | None = None
    zone: str = "UTC"


class TokenTable(Table, frozen=True):
    """An API token; only the hash of its secret is stored."""

    owner: str
    actions: Annotated[list[str], Meta(min_length=1)]
    scope: list[Location]
    expires: Expiry
    sha256: Sha256


class DirectoryFile(Table, frozen=True):
    """The content of a staff directory."""

    staff: dict[str, StaffTable]
    token: dict[str, TokenTable] = {}


@dataclass(frozen=True)
class TokenEntry:
    """An API token and its owner."""

    token: ApiToken
    owner: str
    sha256: str


@dataclass(frozen=True)
class StaffPerson:
    """A member of the staff as pages show it, with the time zone of times."""

    principal: Principal
    name: str
    zone: str = "UTC"


class StaffDirectory:
    """All staff and API tokens. Names are compared exactly, character by character."""

    def __init__(
        self,
        staff: dict[str, Principal],
        tokens: dict[str, TokenEntry],
        people: dict[str, StaffPerson] | None = None,
    ) -> None:
        self.staff, self.tokens = staff, tokens
        self.people = people or {name: StaffPerson(principal, name) for name, principal in staff.items()}
        self._by_hash = {entry.sha256: entry for entry in tokens.values()}

    def principal(self, name: str) -> Principal | None:
        """Return the staff member with a name; None if there is none."""
        return self.staff.get(name)

    def token(self, secret: str) -> TokenEntry | None:
        """Return the API token with this secret; None if there is none. The policies check its expiry."""
        return self._by_hash.get(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest())


def read_directory(file: Path) -> StaffDirectory:
    """Read a staff directory. Raises: SettingsError with all problems."""
    content = load(file, DirectoryFile, _check)
    staff = {
        name: Principal(name, frozenset(table.roles), frozenset(table.scope), table.trainings, table.active)
        for name, table in content.staff.items()
    }
    tokens = {
        name: TokenEntry(
            ApiToken(name, frozenset(table.actions), frozenset(table.scope), table.expires),
            table.owner,
            table.sha256,
        )
        for name, table in content.token.items()
    }
    people = {
        name: StaffPerson(staff[name], table.name or name, table.zone)
        for name, table in content.staff.items()
    }
    return StaffDirectory(staff, tokens, people)


def _check(content: DirectoryFile, problems: Problems) -> None:
    with problems.part():
        for name, table in content.staff.items():
            _check_name(("staff", name), name, problems)
            with problems.part():
                if not is_zone(table.zone):
                    message = "is not a zone of the IANA time zone database; write one like Europe/Berlin"
                    problems.add(("staff", name, "zone"), f"{table.zone} {message}")
            with problems.part():
                for model in table.trainings:
                    if problem := profile_problem(model):
                        problems.add(("staff", name, "trainings", model), problem)
    hashes: dict[str, str] = {}
    for name, token in content.token.items():
        _check_name(("token", name), name, problems)
        _check_token(name, token, content, problems)
        with problems.part():
            if duplicate := hashes.get(token.sha256):
                message = f"is also that of token {duplicate}; give each token its own secret"
                problems.add(("token", name, "sha256"), message)
            hashes.setdefault(token.sha256, name)


def is_zone(name: str) -> bool:
    """Return whether this is the name of a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _check_token(name: str, token: TokenTable, content: DirectoryFile, problems: Problems) -> None:
    with problems.part():
        if token.owner not in content.staff:
            problems.add(
                ("token", name, "owner"),
                f"there is no {token.owner}; {nearest(token.owner, list(content.staff))}",
            )
    with problems.part():
        for action in token.actions:
            if action not in ACTIONS and action not in GROUPS:
                known = [*GROUPS, *ACTIONS]
                problems.add(("token", name, "actions"), f"unknown action {action}: {nearest(action, known)}")


def _check_name(key: tuple[str, str], name: str, problems: Problems) -> None:
    if not name.isprintable() or name != name.strip() or not 0 < len(name) <= NAME_CHARACTERS_MAX:
        problems.add(
            key, f"a name has 1 to {NAME_CHARACTERS_MAX} printable characters, and no space at either end"
        )
