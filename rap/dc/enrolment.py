"""`rap dc enrolment`: certificates of boxes, pending requests, and the deny-list."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rap.dc.staff import StaffCall, add_staff_verb, staff_call
from rap.outcome import OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_minute

if TYPE_CHECKING:
    from datacenter.enrolment.desk import EnrolmentDesk, EnrolmentRequest, FlashedBox

KEY_SHOWN: Final = 16


def add_enrolment(parser: Parser) -> None:
    """Add the verbs of `rap dc enrolment`."""
    add_staff_verb(parser, "list", "list requests, certificates and denied boxes", _list)
    register = add_staff_verb(parser, "register", "authorize flashed boxes before they connect", _register)
    register.add_argument(
        "boxes",
        metavar="BOX|RECORD.json",
        nargs="+",
        help="the record that `rap flash write` has written, or a serial number",
    )
    register.add_argument("--site", metavar="SITE", required=True, help="where the boxes are installed")
    register.set_defaults(purpose="installation")
    for name, text, run in (
        ("approve", "approve a pending request", _approve),
        ("reject", "reject a pending request", _reject),
    ):
        verb = add_staff_verb(parser, name, text, run)
        verb.add_argument("box", metavar="BOX", help="the serial number of the box")
        verb.add_argument("key", metavar="KEY", help="the beginning of the key's hash, as `list` shows it")
        if name == "approve":
            verb.add_argument(
                "--site", metavar="SITE", default="", help="the site of a box that is unknown so far"
            )
    deny = add_staff_verb(parser, "deny", "put a box on the deny-list", _deny)
    deny.add_argument("box", metavar="BOX")
    deny.add_argument(
        "--instrument", metavar="SERIAL", default="", help="only this instrument behind the box"
    )
    deny.add_argument("reason", metavar="REASON", help="in one line")
    allow = add_staff_verb(parser, "allow", "take a box off the deny-list", _allow)
    allow.add_argument("box", metavar="BOX")
    allow.add_argument(
        "--instrument", metavar="SERIAL", default="", help="only this instrument behind the box"
    )


@contextmanager
def _desk(arguments: argparse.Namespace) -> Iterator[tuple[EnrolmentDesk, StaffCall]]:
    from datacenter.enrolment.desk import EnrolmentDesk, EnrolmentRefusedError

    try:
        with staff_call(arguments) as call:
            yield EnrolmentDesk(call.store, call.access, call.purpose), call
    except EnrolmentRefusedError as error:
        raise WrongInput(str(error)) from error


def _list(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        requests = desk.requests(call.staff, call.now_ms)
        issued = desk.certificates(call.staff, call.now_ms)
        denied = desk.denied(call.staff, call.now_ms)
    if arguments.json:
        lists = {
            "requests": [request._asdict() for request in requests],
            "certificates": [certificate._asdict() for certificate in issued],
            "denied": [entry._asdict() for entry in denied],
        }
        print(json.dumps(lists, indent=2))
        return OK
    for request in requests:
        print(_line(request))
    for certificate in issued:
        device = (
            f"{certificate.instrument} behind {certificate.box}"
            if certificate.instrument
            else certificate.box
        )
        print(f"{device}  certificate until {utc_minute(certificate.expires_at_ms)} UTC  {certificate.cause}")
    for entry in denied:
        since = utc_minute(entry.denied_at_ms)
        print(f"{entry.name}  denied since {since} UTC by {entry.denied_by}: {entry.reason}")
    if not (requests or issued or denied):
        print("no requests, certificates or denied boxes")
    return OK


def _register(arguments: argparse.Namespace) -> int:
    flashed = [_flashed(argument) for argument in arguments.boxes]
    with _desk(arguments) as (desk, call):
        desk.register(call.staff, flashed, arguments.site, call.now_ms)
    if arguments.json:
        print(json.dumps([box._asdict() | {"site": arguments.site} for box in flashed], indent=2))
        return OK
    for box, key in flashed:
        print(f"{box}  {f'key {key[:KEY_SHOWN]}' if key else 'any key'}  registered at {arguments.site}")
    return OK


def _flashed(argument: str) -> FlashedBox:
    """Return the box that an argument names: a flash record, or a serial number. Raises: WrongInput."""
    import msgspec

    from datacenter.enrolment.desk import FlashedBox
    from imaging.flash.record import RecordError, load
    from settings.types import Serial

    box, key = argument, ""
    if argument.endswith(".json"):
        try:
            record = load(Path(argument))
        except RecordError as error:
            raise WrongInput(str(error)) from error
        if not record.box:
            raise WrongInput(f"{argument}: this disk has no identity; write it with `rap flash write --box`")
        box, key = record.box, record.key_sha256
    try:
        return FlashedBox(msgspec.convert(box, Serial), key)
    except msgspec.ValidationError:
        text = f"{box!r} is not a serial number; give one such as RAP-0001, or a flash record, FILE.json"
        raise WrongInput(text) from None


def _approve(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        request = desk.approve(call.staff, arguments.box, arguments.key, call.now_ms, arguments.site)
    return _print(arguments, request)


def _reject(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        request = desk.reject(call.staff, arguments.box, arguments.key, call.now_ms)
    return _print(arguments, request)


def _deny(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        entry = desk.deny(call.staff, arguments.box, arguments.reason, call.now_ms, arguments.instrument)
    print(json.dumps(entry._asdict(), indent=2) if arguments.json else f"{entry.name} is denied")
    return OK


def _allow(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        desk.allow(call.staff, arguments.box, call.now_ms, arguments.instrument)
    device = {"box": arguments.box, "instrument": arguments.instrument}
    name = arguments.instrument or arguments.box
    print(json.dumps(device) if arguments.json else f"{name} is allowed again")
    return OK


def _print(arguments: argparse.Namespace, request: EnrolmentRequest) -> int:
    print(json.dumps(request._asdict(), indent=2) if arguments.json else _line(request))
    return OK


def _line(request: EnrolmentRequest) -> str:
    asked = f"asked {utc_minute(request.asked_at_ms)} UTC"
    by = f" by {request.decided_by}" if request.decided_by else ""
    name = f"{request.instrument} behind {request.box}" if request.instrument else request.box
    return f"{name}  key {request.key[:KEY_SHOWN]}  {request.reason}  {request.state}{by}  {asked}"
