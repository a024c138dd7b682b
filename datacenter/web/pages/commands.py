"""Commands and files for instruments: the list, sending a command without a file, approval and withdrawal."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.control import AccessDecider
from datacenter.access.request import Resource
from datacenter.access.vocabulary import Purpose
from datacenter.commands.desk import LISTED_MAX, Actor, CommandDesk, CommandRefusedError
from datacenter.commands.files import FileArchive
from datacenter.fleet.visible import find_instrument
from datacenter.store.command_states import STATES, State
from datacenter.web.pages.page import address, show
from datacenter.web.responses import redirect
from datacenter.web.routes import NoParameters, PageRequest, RefusedError, WebRoute

PATH: Final = "/commands"
PURPOSE: Final[Purpose] = "service"
"""The purpose of approvals and withdrawals."""
SendVerb: TypeAlias = Literal["send-inventory", "data-upload"]
"""The commands that bring no file to the instrument."""
SendPurpose: TypeAlias = Literal["service", "application-support", "installation"]
Serial: TypeAlias = Annotated[str, Meta(max_length=64)]


class CommandsQuery(Struct, frozen=True):
    """The filters; `box` and `instrument` together name the instrument of the form that sends a command."""

    state: State | None = None
    instrument: Serial = ""
    box: Serial = ""


class SendForm(Struct, frozen=True):
    """A command to an instrument."""

    verb: SendVerb = "send-inventory"
    purpose: SendPurpose = "service"


def commands(page: PageRequest) -> Response:
    """The list of commands."""
    query: CommandsQuery = page.query
    desk, actor = _desk(page), Actor(page.staff, PURPOSE)
    rows = desk.list(actor, page.now_ms, query.instrument, query.state)
    instrument = find_instrument(page.store, query.box, query.instrument)
    is_seen = instrument is not None and page.permits("view", instrument)
    return show(
        page,
        "commands.html",
        query=query,
        rows=[
            (
                row,
                desk.may_approve(actor, row, page.now_ms),
                desk.may_withdraw(actor, row, page.now_ms),
            )
            for row in rows
        ],
        is_cut=len(rows) == LISTED_MAX,
        state_choices=[(state, state) for state in STATES],
        is_seen=is_seen,
        verbs=_verbs(page, desk, instrument) if instrument and is_seen else [],
        purposes=[(name, name.replace("-", " ")) for name in get_args(SendPurpose)],
        clear=address(PATH, CommandsQuery()),
    )


def send(page: PageRequest) -> Response:
    """Send a command without a file."""
    form: SendForm = page.query
    box, instrument = page.names["box"], page.names["instrument"]
    try:
        _desk(page).send(Actor(page.staff, form.purpose), box, instrument, form.verb, b"", page.now_ms)
    except CommandRefusedError as error:
        raise RefusedError(str(error)) from error
    return redirect(address(PATH, CommandsQuery(instrument=instrument, box=box)))


def approve(page: PageRequest) -> Response:
    """Approve a dangerous command of somebody else."""
    try:
        _desk(page).approve(Actor(page.staff, PURPOSE), int(page.names["command"]), page.now_ms)
    except CommandRefusedError as error:
        raise RefusedError(str(error)) from error
    return redirect(PATH)


def withdraw(page: PageRequest) -> Response:
    """Withdraw a command that has not begun."""
    try:
        _desk(page).withdraw(Actor(page.staff, PURPOSE), int(page.names["command"]), page.now_ms)
    except CommandRefusedError as error:
        raise RefusedError(str(error)) from error
    return redirect(PATH)


def _desk(page: PageRequest) -> CommandDesk:
    access = AccessDecider(page.services.rules(), page.services.log.decision)
    return CommandDesk(page.store, FileArchive(page.store), access)


def _verbs(page: PageRequest, desk: CommandDesk, instrument: Resource) -> list[tuple[str, str]]:
    """The commands that the person may send to the instrument for at least one purpose."""
    actors = [Actor(page.staff, purpose) for purpose in get_args(SendPurpose)]
    return [
        (verb, verb.replace("-", " "))
        for verb in get_args(SendVerb)
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
