"""`rap dc maintenance`: planned windows in which alerts are silenced."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rap.dc.staff import StaffCall, add_staff_verb, staff_call
from rap.outcome import OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_minute

if TYPE_CHECKING:
    from datacenter.maintenance.desk import MaintenanceDesk
    from datacenter.maintenance.windows import Kind, MaintenanceWindow


def add_maintenance(parser: Parser) -> None:
    """Add the verbs of `rap dc maintenance`."""
    add_staff_verb(parser, "list", "list the windows, the latest first", _list)
    plan = add_staff_verb(parser, "plan", "plan a window of a site, a box or an instrument", _plan)
    plan.add_argument("reason", metavar="REASON", help="the reason for the window, in one line")
    plan.add_argument("--site", metavar="SITE", default="", help="the site")
    plan.add_argument(
        "--box", metavar="BOX", default="", help="the box; with --instrument, the box of the instrument"
    )
    plan.add_argument("--instrument", metavar="SERIAL", default="", help="the instrument")
    plan.add_argument(
        "--from", dest="begins", metavar="TIME", default="", help="such as 2026-03-01T08:00Z (default: now)"
    )
    plan.add_argument("--hours", type=float, default=4.0, help="length of the window (default: 4)")
    end = add_staff_verb(parser, "end", "end a window now", _end)
    end.add_argument("window", metavar="WINDOW", help="the window's identifier")


@contextmanager
def _desk(arguments: argparse.Namespace) -> Iterator[tuple[MaintenanceDesk, StaffCall]]:
    from datacenter.maintenance.desk import MaintenanceDesk, MaintenanceRefusedError

    try:
        with staff_call(arguments) as call:
            yield MaintenanceDesk(call.store, call.access), call
    except MaintenanceRefusedError as error:
        raise WrongInput(str(error)) from error


def _list(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        return _print(arguments, desk.list(call.staff, call.now_ms), call.now_ms)


def _plan(arguments: argparse.Namespace) -> int:
    site, box, instrument = arguments.site, arguments.box, arguments.instrument
    if bool(site) == bool(box):
        raise WrongInput("give either --site, or --box, or --box and --instrument")
    with _desk(arguments) as (desk, call):
        begins_ms = _time_ms(arguments.begins) if arguments.begins else call.now_ms
        times_ms = begins_ms, begins_ms + round(arguments.hours * 3_600_000)
        names = site, box, instrument
        kind: Kind = "site" if site else "instrument" if instrument else "box"
        window = desk.plan(call.staff, kind, names, times_ms, arguments.reason, call.now_ms)
        return _print(arguments, [window], call.now_ms)


def _end(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        return _print(arguments, [desk.end(call.staff, arguments.window, call.now_ms)], call.now_ms)


def _print(arguments: argparse.Namespace, windows: list[MaintenanceWindow], now_ms: int) -> int:
    if arguments.json:
        print(
            json.dumps([window._asdict() | {"state": window.state(now_ms)} for window in windows], indent=2)
        )
        return OK
    for window in windows:
        critical = "" if window.covers_critical else "  without critical alerts"
        times = f"{utc_minute(window.from_ms)} UTC to {utc_minute(window.until_ms)} UTC"
        print(
            f"{window.id}  {window.about}  {times}  {window.state(now_ms)}  {window.reason},"
            f" by {window.planned_by}{critical}"
        )
    if not windows:
        print("no maintenance")
    return OK


def _time_ms(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise WrongInput(f"--from {text}: give a time with its zone, such as 2026-03-01T08:00Z")
    return round(time.timestamp() * 1000)
