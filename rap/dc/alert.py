"""`rap dc alert`: alerts of the data center."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Final

from rap.dc.staff import StaffCall, add_staff_verb, staff_call
from rap.outcome import OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_minute

if TYPE_CHECKING:
    from datacenter.access.request import Resource
    from datacenter.fleet.alerts import AlertRow

HOURS: Final = 8


def add_alert(parser: Parser) -> None:
    """Add the verbs of `rap dc alert`."""
    listing = add_staff_verb(parser, "list", "list the alerts, the worst first", _list)
    listing.add_argument(
        "--state",
        choices=("open", "unacknowledged", "ended", "all"),
        default="open",
        help="which alerts to list (default: open)",
    )
    listing.add_argument(
        "--search", metavar="TEXT", default="", help="only of this instrument, model, trigger …"
    )
    listing.add_argument("--page", metavar="N", type=int, default=1, help="the page of the list (default: 1)")
    for name, text, run in (
        ("show", "show an alert", _show),
        ("acknowledge", "acknowledge an open alert", _acknowledge),
        ("silence", "suppress the notices of an open alert for a time", _silence),
    ):
        verb = add_staff_verb(parser, name, text, run)
        verb.add_argument("alert", metavar="ALERT", help="the alert's identifier")
        if name == "silence":
            verb.add_argument("reason", metavar="REASON", help="the reason, in one line")
            verb.add_argument(
                "--hours",
                type=int,
                default=HOURS,
                help=f"length of the silence (default: {HOURS}); 0 ends it",
            )


def _list(arguments: argparse.Namespace) -> int:
    from datacenter.fleet.alerts import AlertFilter, list_alerts

    if arguments.page < 1:
        raise WrongInput(f"--page {arguments.page}: give a whole number from 1")
    with staff_call(arguments) as call:
        alert_filter = AlertFilter(arguments.state, q=arguments.search)
        rows = list_alerts(call.store, call.visibility(), alert_filter, arguments.page)
    return _print(arguments, rows, call.now_ms)


def _show(arguments: argparse.Namespace) -> int:
    with staff_call(arguments) as call:
        _visible_alert(call, arguments.alert)
        return _print_alert(arguments, call)


def _acknowledge(arguments: argparse.Namespace) -> int:
    from datacenter.fleet.alerts import acknowledge

    with staff_call(arguments) as call:
        _require(call, "acknowledge-alert", _visible_alert(call, arguments.alert))
        if not acknowledge(call.store, arguments.alert, call.staff, call.now_ms):
            raise WrongInput(f"alert {arguments.alert} has ended, or was acknowledged before")
        return _print_alert(arguments, call)


def _silence(arguments: argparse.Namespace) -> int:
    from datacenter.fleet.alerts import SilenceError, silence

    with staff_call(arguments) as call:
        _require(call, "silence-alert", _visible_alert(call, arguments.alert))
        try:
            silence(call.store, arguments.alert, call.staff, arguments.hours, arguments.reason, call.now_ms)
        except SilenceError as error:
            raise WrongInput(str(error)) from error
        return _print_alert(arguments, call)


def _visible_alert(call: StaffCall, alert: str) -> Resource:
    """Return an alert that the person may see. Raises: WrongInput."""
    from datacenter.fleet.visible import find_alert

    resource = find_alert(call.store, alert)
    if resource is None or not call.decide("view", resource).permitted:
        raise WrongInput(f"there is no alert {alert}; `rap dc alert list` lists them")
    return resource


def _require(call: StaffCall, action: str, resource: Resource) -> None:
    decision = call.decide(action, resource)
    if not decision.permitted:
        raise WrongInput(decision.reason)


def _print_alert(arguments: argparse.Namespace, call: StaffCall) -> int:
    from datacenter.fleet.alerts import read_alert

    row, _ = read_alert(call.store, arguments.alert)
    return _print(arguments, [row], call.now_ms, has_details=True)


def _print(
    arguments: argparse.Namespace, rows: list[AlertRow], now_ms: int, *, has_details: bool = False
) -> int:
    if arguments.json:
        print(json.dumps([row._asdict() | {"state": row.state} for row in rows], indent=2))
        return OK
    for row in rows:
        line = f"{row.id}  {row.severity:8}  {row.trigger}  {row.instrument or 'box'} at {row.box}"
        print(f"{line}  since {utc_minute(row.began_at_ms)} UTC  {row.state}{_silence_of(row, now_ms)}")
        details = (("text", row.text), ("parts", (row.parts or "").replace("\n", ", ")))
        for name, text in details if has_details else ():
            if text:
                print(f"  {name}: {text}")
    if not rows:
        print("no alerts")
    return OK


def _silence_of(row: AlertRow, now_ms: int) -> str:
    if not row.is_silenced(now_ms):
        return ""
    return f", silenced until {utc_minute(row.silenced_until_ms or 0)} UTC by {row.silenced_by}: {row.silence_reason}"
