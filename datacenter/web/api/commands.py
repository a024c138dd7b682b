"""Commands and files for programs: lists, sending with and without a file, withdrawal, downloads.

A dangerous command waits until a person has approved it on a page; programs cannot approve commands.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.vocabulary import Purpose
from datacenter.commands.desk import (
    EXPIRES_HOURS,
    EXPIRES_HOURS_MAX,
    FILE_NAME_CHARACTERS_MAX,
    CommandOrder,
    SentFile,
    StaffActor,
)
from datacenter.commands.listing import CommandFilter, CommandRow, Direction, FileRow
from datacenter.store.command_states import State
from datacenter.web.api.callers import REQUEST_KEY
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.desks import command_desk
from datacenter.web.files.downloads import BINARY, file_response
from datacenter.web.routes import NoParameters, PageRequest, WebRoute
from settings.profile import Verb

Hours: TypeAlias = Annotated[int, Meta(ge=1, le=EXPIRES_HOURS_MAX, description="time until it expires")]
PURPOSE: Final[Purpose] = "service"
"""The purpose of a person who reads with the session of the pages."""


class ApiCommandsQuery(Struct, frozen=True):
    """Selects a part of the list of commands, only those of one box, instrument or state if given."""

    state: State | Literal[""] = ""
    box: str = ""
    instrument: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


class ApiFilesQuery(Struct, frozen=True):
    """Selects a part of the list of complete files, only those of one box, instrument or direction if given."""

    direction: Direction | Literal[""] = ""
    box: str = ""
    instrument: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


class NewCommand(Struct, frozen=True):
    """A command without a file."""

    verb: Verb
    hours: Hours = EXPIRES_HOURS


class NewFileCommand(Struct, frozen=True):
    """A command whose file is the body of the request; `name` is the sender's name for the file."""

    verb: Verb
    name: Annotated[str, Meta(max_length=FILE_NAME_CHARACTERS_MAX)] = ""
    hours: Hours = EXPIRES_HOURS


class CommandFile(Struct, frozen=True):
    """The file of a command. It is downloaded once it is complete in the data center."""

    sha256: str
    size: int
    """The size in bytes."""
    name: str
    transferred: int
    """The bytes transferred between box and data center so far."""
    is_complete: bool


class ApiCommand(Struct, frozen=True):
    """A command. `ending` is a requested end, such as a withdrawal, that the box has not confirmed yet."""

    command: int
    box: str
    instrument: str
    model: str | None
    site: str | None
    verb: str
    state: State
    ending: str | None
    outcome: str | None
    requester: str
    purpose: str
    created_at_ms: int
    expires_at_ms: int | None
    approved_at_ms: int | None
    approved_by: str | None
    delivered_at_ms: int | None
    executing_at_ms: int | None
    closed_at_ms: int | None
    file: CommandFile | None


class CommandList(Struct, frozen=True):
    """A part of the list of commands, the newest first."""

    items: list[ApiCommand]
    next: str | None


class ApiFile(Struct, frozen=True):
    """A complete file, with the latest of the `commands` commands to which it belongs."""

    sha256: str
    size: int
    """The size in bytes."""
    name: str
    direction: Direction
    stored_at_ms: int
    box: str
    instrument: str
    model: str | None
    command: int
    commands: int


class FileList(Struct, frozen=True):
    """A part of the list of files, the newest first."""

    items: list[ApiFile]
    next: str | None


def list_commands(page: PageRequest) -> Response:
    """Return a part of the list of commands, the newest first."""
    query: ApiCommandsQuery = page.query
    after = decode_cursor(query.cursor, tuple[int])
    wanted = CommandFilter(query.box, query.instrument, query.state or None)
    with command_desk(page) as desk:
        rows = desk.list(_actor(page), page.now_ms, wanted, query.limit + 1, after[0] if after else None)
    following = next_cursor(rows, query.limit, lambda row: (row.id,))
    return json_response(page, CommandList([_command(row) for row in rows[: query.limit]], following))


def show_command(page: PageRequest) -> Response:
    """Return a command."""
    with command_desk(page) as desk:
        return json_response(page, _command(desk.read(int(page.names["command"]))))


def send_command(page: PageRequest) -> Response:
    """Send a command without a file, and return it."""
    form: NewCommand = page.query
    return _send(page, CommandOrder(form.verb, None, form.hours, page.headers.get(REQUEST_KEY, "")))


def send_file(page: PageRequest) -> Response:
    """Send a command with the file in the body, and return the command."""
    form: NewFileCommand = page.query
    assert page.file is not None, "the row takes a file"
    file = SentFile(page.file.content, form.name)
    return _send(page, CommandOrder(form.verb, file, form.hours, page.headers.get(REQUEST_KEY, "")))


def withdraw_command(page: PageRequest) -> Response:
    """Withdraw a command that has not begun, and return it. A withdrawn command is returned unchanged."""
    with command_desk(page) as desk:
        return json_response(
            page, _command(desk.withdraw(_actor(page), int(page.names["command"]), page.now_ms))
        )


def download(page: PageRequest) -> Response:
    """Return the file of a command, which was sent to its instrument or by its instrument."""
    with command_desk(page) as desk:
        return file_response(page, desk.download(_actor(page), int(page.names["command"]), page.now_ms))


def list_files(page: PageRequest) -> Response:
    """Return a part of the list of complete files, the newest first."""
    query: ApiFilesQuery = page.query
    after = decode_cursor(query.cursor, tuple[int, str])
    wanted = CommandFilter(query.box, query.instrument, direction=query.direction or None)
    with command_desk(page) as desk:
        rows = desk.list_files(_actor(page), page.now_ms, wanted, query.limit + 1, after)
    following = next_cursor(rows, query.limit, lambda row: row.key)
    return json_response(page, FileList([_file(row) for row in rows[: query.limit]], following))


def _send(page: PageRequest, order: CommandOrder) -> Response:
    with command_desk(page) as desk:
        row = desk.send(_actor(page), page.names["box"], page.names["instrument"], order, page.now_ms)
    return json_response(page, _command(row))


def _actor(page: PageRequest) -> StaffActor:
    return StaffActor(page.staff, page.visible.purpose)


def _command(row: CommandRow) -> ApiCommand:
    file = None
    if row.file and row.file_bytes:
        is_complete = row.file_stored_at_ms is not None
        file = CommandFile(row.file, row.file_bytes, row.download_name, row.transferred_bytes, is_complete)
    return ApiCommand(
        row.id,
        row.box,
        row.instrument,
        row.model,
        row.site,
        row.verb,
        row.state,
        row.ending,
        row.outcome,
        row.requester,
        row.purpose,
        row.created_at_ms,
        row.expires_at_ms,
        row.approved_at_ms,
        row.approved_by,
        row.delivered_at_ms,
        row.executing_at_ms,
        row.closed_at_ms,
        file,
    )


def _file(row: FileRow) -> ApiFile:
    one = row.command
    stored_at_ms, sha256 = row.key
    return ApiFile(
        sha256,
        one.file_bytes or 0,
        one.download_name,
        row.direction,
        stored_at_ms,
        one.box,
        one.instrument,
        one.model,
        one.id,
        row.commands,
    )


_OF_INSTRUMENT: Final = f"{PREFIX}/instruments/{{box}}/{{instrument}}"
_ONE: Final = f"{PREFIX}/commands/{{command}}"
# The actions of changes and downloads depend on the command: CommandDesk checks and records them.
ROUTES: Final = (
    WebRoute(
        "GET",
        f"{PREFIX}/commands",
        "view",
        "",
        list_commands,
        "commands",
        ApiCommandsQuery,
        "api",
        PURPOSE,
        CommandList,
    ),
    WebRoute(
        "GET", _ONE, "view", "Command", show_command, "a command", NoParameters, "api", PURPOSE, ApiCommand
    ),
    WebRoute(
        "GET",
        f"{_ONE}/file",
        "view",
        "Command",
        download,
        "the file of a command",
        NoParameters,
        "api",
        PURPOSE,
        media=BINARY,
        statuses=(206, 304, 409, 416),
    ),
    WebRoute(
        "POST",
        f"{_ONE}/withdraw",
        "view",
        "Command",
        withdraw_command,
        "withdraw a command that has not begun",
        NoParameters,
        "api",
        PURPOSE,
        ApiCommand,
        statuses=(409,),
    ),
    WebRoute(
        "POST",
        f"{_OF_INSTRUMENT}/commands",
        "view",
        "Instrument",
        send_command,
        "send a command without a file",
        NewCommand,
        "api",
        PURPOSE,
        ApiCommand,
        has_key=True,
        statuses=(409,),
    ),
    WebRoute(
        "POST",
        f"{_OF_INSTRUMENT}/files",
        "view",
        "Instrument",
        send_file,
        "send a command with the file in the body",
        NewFileCommand,
        "api",
        PURPOSE,
        ApiCommand,
        takes_file=True,
        has_key=True,
        statuses=(408, 409, 507),
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/files",
        "view",
        "",
        list_files,
        "complete files",
        ApiFilesQuery,
        "api",
        PURPOSE,
        FileList,
    ),
)
