"""Lists commands and files page by page, newest first, with the location and model of their instruments.

The next page begins after the key of the last row, not after a number of rows, so that rows added in between do not
shift it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, and_, func, select, tuple_

from datacenter.access.request import Resource
from datacenter.access.vocabulary import Purpose
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.store.command_states import WITHDRAWABLE, State
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, commands, files, instruments, sites
from settings.profile import Verb
from wire.files import UP_VERBS

Direction: TypeAlias = Literal["to-instrument", "from-instrument"]
FileKey: TypeAlias = tuple[int, str]
"""The sort key of a file in the list: time of storage, and hash."""


class CommandFilter(NamedTuple):
    """Selects commands or files of commands; all if no field is given."""

    box: str = ""
    instrument: str = ""
    state: State | None = None
    direction: Direction | None = None

    @property
    def clauses(self) -> list[ColumnElement[bool]]:
        """The conditions for the rows."""
        c = commands.c
        given = ((c.box, self.box), (c.instrument, self.instrument), (c.state, self.state))
        conditions = [column == value for column, value in given if value]
        if self.direction:
            is_up = c.verb.in_(UP_VERBS)
            conditions.append(is_up if self.direction == "from-instrument" else ~is_up)
        return conditions


ALL: Final = CommandFilter()


class CommandRow(NamedTuple):
    """A command with the location and model of its instrument."""

    id: int
    box: str
    instrument: str
    verb: Verb
    state: State
    ending: str | None
    outcome: str | None
    requester: str
    purpose: Purpose
    created_at_ms: int
    expires_at_ms: int | None
    delivered_at_ms: int | None
    executing_at_ms: int | None
    closed_at_ms: int | None
    approved_by: str | None
    approved_at_ms: int | None
    file: str | None
    file_bytes: int | None
    file_name: str
    transferred_bytes: int
    model: str | None
    site: str | None
    country: str | None
    region: str | None
    file_stored_at_ms: int | None
    """The time at which its complete file was stored; None while it is not in the data center."""

    @property
    def resource(self) -> Resource:
        """The command as a resource of policies."""
        location = {"site": self.site or "", "country": self.country or "", "region": self.region or ""}
        return Resource("Command", str(self.id), **location, model=self.model or "", requester=self.requester)

    @property
    def file_resource(self) -> Resource:
        """Its file as a resource of policies."""
        return replace(self.resource, kind="File", id=self.file or "", requester="")

    @property
    def is_withdrawable(self) -> bool:
        """Whether it can still be withdrawn."""
        return self.state in WITHDRAWABLE and self.ending is None

    @property
    def download_name(self) -> str:
        """The name under which its file is saved: the sender's name, or the name of the instrument that made it."""
        return self.file_name or f"{self.instrument}-{self.verb}-{self.id}.bin"

    @property
    def progress(self) -> str:
        """The transfer of its file in words; empty without a file."""
        if not self.file_bytes:
            return ""
        return f"{100 * self.transferred_bytes // self.file_bytes} % of {self.file_bytes:,} bytes"

    @property
    def text(self) -> str:
        """The state in words, with a requested end."""
        return (
            f"{self.state}, to be {self.ending}" if self.ending and self.state in WITHDRAWABLE else self.state
        )


class FileRow(NamedTuple):
    """A complete file, with the latest of the `commands` listed commands to which it belongs."""

    command: CommandRow
    commands: int

    @property
    def key(self) -> FileKey:
        """Its sort key in the list."""
        return self.command.file_stored_at_ms or 0, self.command.file or ""

    @property
    def direction(self) -> Direction:
        """The origin of the file."""
        return "from-instrument" if self.command.verb in UP_VERBS else "to-instrument"


_TABLES: Final = (
    commands.join(PLACED_BOXES, commands.c.box == boxes.c.serial)
    .outerjoin(
        instruments,
        and_(instruments.c.box == commands.c.box, instruments.c.serial == commands.c.instrument),
    )
    .outerjoin(files, files.c.sha256 == commands.c.file)
)
_ROWS: Final = select(
    *(commands.c[name] for name in CommandRow._fields if name in commands.c),
    instruments.c.model,
    boxes.c.site,
    sites.c.country,
    sites.c.region,
    files.c.stored_at_ms,
).select_from(_TABLES)


def find_command_row(store: Store, number: int) -> CommandRow | None:
    """Return a command; None if there is none. Raises: StoreError."""
    row = next(store.read(_ROWS.where(commands.c.id == number)), None)
    return None if row is None else CommandRow._make(row)


def list_commands(
    store: Store,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    before: int | None = None,
    after: int | None = None,
) -> list[CommandRow]:
    """Return at most `limit` commands, newest first: the newest before a number, or the oldest after it."""
    query = _ROWS.where(*conditions).limit(limit)
    if after is not None:
        query = query.where(commands.c.id > after).order_by(commands.c.id)
    else:
        query = query.order_by(commands.c.id.desc())
        query = query.where(commands.c.id < before) if before is not None else query
    rows = [CommandRow._make(row) for row in store.read(query)]
    return rows if after is None else rows[::-1]


def list_files(
    store: Store,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    before: FileKey | None = None,
    after: FileKey | None = None,
) -> list[FileRow]:
    """Return at most `limit` files, newest first: the newest before a key, or the oldest after it."""
    used = (
        select(func.max(commands.c.id).label("latest"), func.count().label("commands"))
        .select_from(_TABLES)
        .where(*conditions, files.c.sha256.is_not(None))
        .group_by(commands.c.file)
        .subquery()
    )
    key = tuple_(files.c.stored_at_ms, files.c.sha256)
    query: Any = _ROWS.add_columns(used.c.commands).join(used, used.c.latest == commands.c.id).limit(limit)
    if after is not None:
        query = query.where(key > after).order_by(files.c.stored_at_ms, files.c.sha256)
    else:
        query = query.order_by(files.c.stored_at_ms.desc(), files.c.sha256.desc())
        query = query.where(key < before) if before is not None else query
    rows = [FileRow(CommandRow._make(row), count) for *row, count in store.read(query)]
    return rows if after is None else rows[::-1]
