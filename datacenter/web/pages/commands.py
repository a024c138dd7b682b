"""Commands and files for instruments: the list, sending a command with or without a file, approval, withdrawal."""

from __future__ import annotations

import secrets
from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.request import Resource
from datacenter.access.vocabulary import Purpose
from datacenter.commands.desk import (
    REQUEST_KEY_CHARACTERS_MAX,
    CommandDesk,
    CommandOrder,
    StaffActor,
    is_dangerous,
    verbs_of,
)
from datacenter.commands.listing import CommandFilter, CommandRow
from datacenter.fleet.visible import COMMAND_DIGITS_MAX, find_instrument
from datacenter.store.command_states import STATES, State
from datacenter.web.desks import command_desk
from datacenter.web.files.downloads import file_response
from datacenter.web.pages.page import address, keyset, show
from datacenter.web.responses import redirect
from datacenter.web.routes import NoParameters, PageRequest, WebRoute
from settings.profile import Verb
from wire.files import DOWN_VERBS, FILE_BYTES_MAX

PATH: Final = "/commands"
PAGE_SIZE: Final = 50
PURPOSE: Final[Purpose] = "service"
"""The purpose of lists, downloads, approvals and withdrawals."""
SendPurpose: TypeAlias = Literal["service", "application-support", "installation"]
CommandNumber: TypeAlias = Annotated[int, Meta(ge=1, lt=10**COMMAND_DIGITS_MAX)]
Serial: TypeAlias = Annotated[str, Meta(max_length=64)]


class CommandsQuery(Struct, frozen=True):
    """The filters; `box` and `instrument` together name the instrument of the form that sends a command.

    The list has the commands with numbers below `before` or above `after`.
    """

    state: State | None = None
    instrument: Serial = ""
    box: Serial = ""
    before: CommandNumber | None = None
    after: CommandNumber | None = None


class SendForm(Struct, frozen=True):
    """A command to an instrument; `key` identifies the form, so that submitting it twice has one effect."""

    verb: Verb = "send-inventory"
    purpose: SendPurpose = "service"
    key: Annotated[str, Meta(max_length=REQUEST_KEY_CHARACTERS_MAX)] = ""


def commands(page: PageRequest) -> Response:
    """Serve the list of commands, and the form that sends a command to an instrument."""
    query: CommandsQuery = page.query
    actor = StaffActor(page.staff, PURPOSE)
    instrument = find_instrument(page.store, query.box, query.instrument)
    is_seen = instrument is not None and page.permits("view", instrument)
    wanted = CommandFilter(query.box, query.instrument, query.state)
    with command_desk(page) as desk:

        def fetch(limit: int, before: int | None, after: int | None) -> list[CommandRow]:
            return desk.list(actor, page.now_ms, wanted, limit, before, after)

        part = keyset(PATH, query, PAGE_SIZE, fetch, lambda row: row.id)
        shown = [
            (
                row,
                desk.may_approve(actor, row, page.now_ms),
                desk.may_withdraw(actor, row, page.now_ms),
                desk.may_download(actor, row, page.now_ms),
            )
            for row in part.rows
        ]
        verbs = _verbs(page, desk, instrument) if instrument and is_seen else []
    return show(
        page,
        "commands.html",
        query=query,
        rows=shown,
        part=part,
        state_choices=[(state, state) for state in STATES],
        is_seen=is_seen,
        verbs=[(verb, verb.replace("-", " ")) for verb in verbs],
        with_file=[verb.replace("-", " ") for verb in verbs if verb in DOWN_VERBS],
        for_approval=[verb.replace("-", " ") for verb in verbs if is_dangerous(verb)],
        file_mib_max=FILE_BYTES_MAX // 2**20,
        key=secrets.token_hex(16),
        purposes=[(name, name.replace("-", " ")) for name in get_args(SendPurpose)],
        clear=address(PATH, CommandsQuery()),
    )


def send(page: PageRequest) -> Response:
    """Send a command, with the file of the form if there is one."""
    form: SendForm = page.query
    box, instrument = page.names["box"], page.names["instrument"]
    order = CommandOrder(form.verb, page.file, key=form.key)
    with command_desk(page) as desk:
        desk.send(StaffActor(page.staff, form.purpose), box, instrument, order, page.now_ms)
    return redirect(address(PATH, CommandsQuery(instrument=instrument, box=box)))


def approve(page: PageRequest) -> Response:
    """Approve a dangerous command that another person requested."""
    with command_desk(page) as desk:
        desk.approve(StaffActor(page.staff, PURPOSE), int(page.names["command"]), page.now_ms)
    return redirect(PATH)


def withdraw(page: PageRequest) -> Response:
    """Withdraw a command that has not begun."""
    with command_desk(page) as desk:
        desk.withdraw(StaffActor(page.staff, PURPOSE), int(page.names["command"]), page.now_ms)
    return redirect(PATH)


def download(page: PageRequest) -> Response:
    """Serve the file of a command, which was sent to its instrument or by its instrument."""
    with command_desk(page) as desk:
        stored = desk.download(StaffActor(page.staff, PURPOSE), int(page.names["command"]), page.now_ms)
    return file_response(page, stored)


def _verbs(page: PageRequest, desk: CommandDesk, instrument: Resource) -> list[Verb]:
    """Return the commands that the person may send to the instrument for at least one purpose."""
    actors = [StaffActor(page.staff, purpose) for purpose in get_args(SendPurpose)]
    return [
        verb
        for verb in verbs_of(instrument.model)
        if any(desk.may_send(actor, verb, instrument, page.now_ms) for actor in actors)
    ]


# The actions of forms depend on the command: CommandDesk checks and records them.
ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", commands, "commands", CommandsQuery),
    WebRoute(
        "POST",
        "/instruments/{box}/{instrument}/commands",
        "view",
        "Instrument",
        send,
        "send a command",
        SendForm,
        "form",
        PURPOSE,
        takes_file=True,
    ),
    WebRoute(
        "GET",
        f"{PATH}/{{command}}/file",
        "view",
        "Command",
        download,
        "the file of a command",
        response_kind="file",
        purpose=PURPOSE,
    ),
    WebRoute(
        "POST",
        f"{PATH}/{{command}}/approve",
        "view",
        "Command",
        approve,
        "approve a command",
        NoParameters,
        "form",
        PURPOSE,
    ),
    WebRoute(
        "POST",
        f"{PATH}/{{command}}/withdraw",
        "view",
        "Command",
        withdraw,
        "withdraw a command",
        NoParameters,
        "form",
        PURPOSE,
    ),
)
