"""`rap dc rollout`: rollouts of releases in waves."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rap.dc.staff import StaffCall, add_staff_verb, staff_call
from rap.outcome import OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_minute

if TYPE_CHECKING:
    from datacenter.releases.desk import RolloutDesk
    from datacenter.releases.listing import RolloutRow

LISTED_MAX = 200


def add_rollout(parser: Parser) -> None:
    """Add the verbs of `rap dc rollout`."""
    add_staff_verb(parser, "list", "list the rollouts, the newest first", _list)
    show = add_staff_verb(parser, "show", "print the waves of a rollout, and the boxes that failed", _show)
    propose = add_staff_verb(parser, "propose", "propose a rollout, which a second person approves", _propose)
    propose.add_argument(
        "plan", metavar="PLAN", type=Path, help="TOML file; datacenter/releases/plan.py describes it"
    )
    approve = add_staff_verb(
        parser, "approve", "approve a rollout that another person proposed, which starts it", _approve
    )
    pause = add_staff_verb(parser, "pause", "order no further boxes; boxes with an order continue", _control)
    resume = add_staff_verb(parser, "resume", "continue a paused rollout", _control)
    withdraw = add_staff_verb(
        parser, "withdraw", "end a rollout, and cancel the orders that have not ended", _control
    )
    for verb in (show, approve, pause, resume, withdraw):
        verb.add_argument("number", metavar="NUMBER", type=int, help="the rollout")
    for event, verb in (("pause", pause), ("resume", resume), ("withdraw", withdraw)):
        verb.set_defaults(event=event)


@contextmanager
def _desk(arguments: argparse.Namespace) -> Iterator[tuple[RolloutDesk, StaffCall]]:
    from datacenter.releases.desk import RolloutDesk, RolloutRefusedError
    from datacenter.releases.folder import EMPTY, ReleaseFolder
    from wire.release.metadata import MetadataError

    try:
        with staff_call(arguments) as call:
            folder, releases = call.config.releases, EMPTY
            if folder is not None:
                served = ReleaseFolder(folder.folder)
                served.refresh(call.now_ms / 1000)
                releases = served.current
            yield RolloutDesk(call.store, releases, call.access, call.purpose), call
    except (RolloutRefusedError, MetadataError) as error:
        raise WrongInput(str(error)) from error


def _list(arguments: argparse.Namespace) -> int:
    from datacenter.releases.listing import list_rollouts

    with _desk(arguments) as (_, call):
        is_seen = call.visibility().where("Rollout")
        rows = list_rollouts(call.store, [is_seen], LISTED_MAX)
    if arguments.json:
        print(json.dumps(list(map(_described, rows)), indent=2))
        return OK
    for row in rows:
        print(_line(row))
    if not rows:
        print("no rollouts")
    return OK


def _show(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        return _print(arguments, desk.seen(call.staff, arguments.number, call.now_ms), call)


def _propose(arguments: argparse.Namespace) -> int:
    from datacenter.releases.plan import RolloutPlan
    from settings.problems import SettingsError
    from settings.toml import load

    try:
        plan = load(arguments.plan, RolloutPlan)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    with _desk(arguments) as (desk, call):
        return _print(arguments, desk.propose(call.staff, plan, call.now_ms), call)


def _approve(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        return _print(arguments, desk.approve(call.staff, arguments.number, call.now_ms), call)


def _control(arguments: argparse.Namespace) -> int:
    with _desk(arguments) as (desk, call):
        row = desk.control(call.staff, arguments.number, arguments.event, call.now_ms)
        return _print(arguments, row, call)


def _print(arguments: argparse.Namespace, row: RolloutRow, call: StaffCall) -> int:
    from datacenter.releases.listing import list_failures, read_waves
    from datacenter.releases.windows import next_windows

    waves, failures = read_waves(call.store, row, call.now_ms), list_failures(call.store, row.id)
    windows = next_windows(call.store, row, call.now_ms)
    if arguments.json:
        document = _described(row) | {
            "waves": [
                {"percent": wave.percent, **wave.figures._asdict(), "end_ms": wave.end_ms} for wave in waves
            ],
            "windows": [window._asdict() for window in windows],
            "failures": [failure._asdict() for failure in failures],
        }
        print(json.dumps(document, indent=2))
        return OK
    print(_line(row))
    for wave in waves:
        counts = wave.figures
        end = f"  complete {utc_minute(wave.end_ms)} UTC" if wave.end_ms is not None else ""
        print(
            f"wave {wave.number}, up to {wave.percent} %: {counts.boxes} boxes, {counts.committed} committed,"
            f" {counts.failed} failed, {counts.open} under way, {counts.waiting + counts.withdrawn} waiting,"
            f" {counts.present} had it{end}"
        )
    for window in windows:
        print(
            f"{window.boxes} boxes of {window.zone} may restart from {utc_minute(window.begins_ms)} to"
            f" {utc_minute(window.ends_ms)} UTC"
        )
    for failed in failures:
        reason = f" ({failed.reason})" if failed.reason else ""
        print(f"{failed.box}: {failed.state}{reason}")
    return OK


def _line(row: RolloutRow) -> str:
    reason = f" ({row.reason})" if row.reason else ""
    release = f"{row.release}, {row.name}" + ("" if row.kind == "system" else f" ({row.kind})")
    return f"{row.id}  {row.state}{reason}  release {release}  {row.plan.place}  by {row.requester}"


def _described(row: RolloutRow) -> dict[str, Any]:
    import msgspec

    return row._asdict() | {"plan": msgspec.to_builtins(row.plan)}
