"""`rap dc visit`: the parts to bring to a visit."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from rap.dc.staff import StaffCall, add_staff_verb, staff_call
from rap.outcome import OK, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.visits.parts import VisitPart


def add_visit(parser: Parser) -> None:
    """Add the verb `rap dc visit`."""
    visit = add_staff_verb(parser, "visit", "list the parts to bring to an instrument or a site", _visit)
    visit.add_argument("place", metavar="INSTRUMENT|SITE", help="serial number of an instrument, or a site")


def _visit(arguments: argparse.Namespace) -> int:
    from datacenter.evaluation.knowledge import read_knowledge
    from datacenter.visits.parts import totals
    from datacenter.visits.read import visit_parts

    with staff_call(arguments) as call:
        site, box, instrument = _place(call, arguments.place)
        knowledge = read_knowledge(call.config.evaluation.triggers)
        parts = visit_parts(call.store, call.visibility(), knowledge, site, box, instrument)
    if arguments.json:
        document = {
            "parts": [
                part._asdict() | {"reasons": [reason._asdict() for reason in part.reasons]} for part in parts
            ],
            "totals": [total._asdict() for total in totals(parts)],
        }
        print(json.dumps(document, indent=2))
        return OK
    for total in totals(parts):
        print(f"{total.quantity} × {total.part}, {total.expected:.1f} expected to be needed")
    for part in parts:
        print(_line(part))
    if not parts:
        print("no parts: no open alert names one, and no trigger is close to raising an alert")
    return OK


def _line(part: VisitPart) -> str:
    line = f"  {part.part} for {part.component} of {part.instrument} at {part.box}"
    if part.is_due_soon:
        return f"{line}: due soon, {part.reasons[0].share:.0%} of the way to {part.reasons[0].trigger}"
    score = "no score" if part.probability is None else f"right with probability {part.probability:.2f}"
    return (
        f"{line}: {score}, alert {', '.join(f'{reason.alert} ({reason.trigger})' for reason in part.reasons)}"
    )


def _place(call: StaffCall, place: str) -> tuple[str, str, str]:
    """Return site, box and instrument of a place that the person may see. Raises: WrongInput."""
    from sqlalchemy import select

    from datacenter.fleet.visible import find_instrument, find_site
    from datacenter.store.tables.schema import instruments

    site = find_site(call.store, place)
    if site is not None and call.decide("view", site).permitted:
        return place, "", ""
    boxes = call.store.read(select(instruments.c.box).where(instruments.c.serial == place))
    for (box,) in boxes:
        resource = find_instrument(call.store, box, place)
        if resource is not None and call.decide("view", resource).permitted:
            return "", box, place
    raise WrongInput(f"there is no instrument and no site {place}; the page of the fleet lists them")
