"""`rap dc command`: commands and files for instruments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rap.dc.staff import add_staff_verb, staff_call
from rap.outcome import OK, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.commands.desk import CommandDesk, StaffActor
    from datacenter.commands.listing import CommandRow


def add_command(parser: Parser) -> None:
    """Add the verbs of `rap dc command`."""
    send = add_staff_verb(parser, "send", "send a command to an instrument", _send)
    send.add_argument("box", metavar="BOX", help="serial number of the box")
    send.add_argument("instrument", metavar="INSTRUMENT", help="serial number of the instrument")
    send.add_argument(
        "verb", metavar="VERB", help="one of the commands in the profile of the instrument's model"
    )
    send.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the file to send with the command")
    send.add_argument("--hours", type=int, default=168, help="time until it expires (default: 168)")
    listing = add_staff_verb(parser, "list", "list the latest commands", _list)
    listing.add_argument("--instrument", metavar="SERIAL", default="", help="only of this instrument")
    listing.add_argument("--before", metavar="NUMBER", type=int, help="only commands before this one")
    for name, text, run in (
        ("show", "show a command", _show),
        ("approve", "approve a dangerous command that another person requested", _approve),
        ("withdraw", "withdraw a command unless it has begun", _withdraw),
    ):
        add_staff_verb(parser, name, text, run).add_argument("number", metavar="NUMBER", type=int)
    download = add_staff_verb(parser, "download", "write the file of a command", _download)
    download.add_argument("number", metavar="NUMBER", type=int)
    download.add_argument("to", metavar="FILE", type=Path, help="a file that does not exist yet")


@contextmanager
def _desk(arguments: argparse.Namespace) -> Iterator[tuple[CommandDesk, StaffActor, int]]:
    """Open the data center's database for a member of the staff; errors become WrongInput."""
    from datacenter.commands.desk import CommandDesk, CommandRefusedError, StaffActor
    from datacenter.commands.files import FileArchive, FileTooLargeError

    try:
        with staff_call(arguments) as call:
            call.store.expire_commands(call.now_ms)
            desk = CommandDesk(call.store, FileArchive(call.store), call.access)
            yield desk, StaffActor(call.staff, call.purpose), call.now_ms
    except (CommandRefusedError, FileTooLargeError) as error:
        raise WrongInput(str(error)) from error
    except OSError as error:
        raise WrongInput(f"{error.filename}: {error.strerror}; give another FILE") from error


def _send(arguments: argparse.Namespace) -> int:
    from datacenter.commands.desk import CommandOrder, SentFile

    with _desk(arguments) as (desk, actor, now_ms), ExitStack() as stack:
        file = None
        if arguments.file is not None:
            file = SentFile(stack.enter_context(arguments.file.open("rb")), arguments.file.name)
        order = CommandOrder(arguments.verb, file, arguments.hours)
        return _print(arguments, [desk.send(actor, arguments.box, arguments.instrument, order, now_ms)])


def _list(arguments: argparse.Namespace) -> int:
    from datacenter.commands.listing import CommandFilter

    with _desk(arguments) as (desk, actor, now_ms):
        command_filter = CommandFilter(instrument=arguments.instrument)
        return _print(arguments, desk.list(actor, now_ms, command_filter, before=arguments.before))


def _show(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, actor, now_ms):
        return _print(arguments, [desk.show(actor, arguments.number, now_ms)])


def _approve(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, actor, now_ms):
        return _print(arguments, [desk.approve(actor, arguments.number, now_ms)])


def _withdraw(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, actor, now_ms):
        return _print(arguments, [desk.withdraw(actor, arguments.number, now_ms)])


def _download(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, actor, now_ms):
        stored = desk.download(actor, arguments.number, now_ms)
        with arguments.to.open("xb") as file:
            file.writelines(stored.read())
    return OK


def _print(arguments: argparse.Namespace, rows: list[CommandRow]) -> int:
    if arguments.json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
        return OK
    for row in rows:
        line = f"{row.id}  {row.verb}  {row.instrument} at {row.box}  {row.text}"
        print("  ".join(filter(None, (line, row.progress))))
    if not rows:
        print("no commands")
    return OK
