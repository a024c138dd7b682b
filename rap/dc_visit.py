"""`rap dc visit`: the parts to bring to a visit."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from rap.dc_staff import StaffCall, add_staff_verb, staff_call
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
        known = read_knowledge(call.config.evaluation.triggers)
        parts = visit_parts(call.store, call.visibility(), known, site, box, instrument)
    if arguments.json:
        document = {
            "parts": [one._asdict() | {"reasons": [why._asdict() for why in one.reasons]} for one in parts],
            "totals": [one._asdict() for one in totals(parts)],
        }
        print(json.dumps(document, indent=2))
        return OK
    for total in totals(parts):
        print(f"{total.quantity} × {total.part}, {total.expected:.1f} expected to be needed")
    for one in parts:
        print(_line(one))
    if not parts:
        print("no parts: no open alert names one, and no trigger is near to an alert")
    return OK


def _line(one: VisitPart) -> str:
    about = f"  {one.part} for {one.component} of {one.instrument} at {one.box}"
    if one.is_due_soon:
        return f"{about}: due soon, {one.reasons[0].share:.0%} of the way to {one.reasons[0].trigger}"
    known = "no score" if one.probability is None else f"right with probability {one.probability:.2f}"
    return f"{about}: {known}, alert {', '.join(f'{why.alert} ({why.trigger})' for why in one.reasons)}"


def _place(call: StaffCall, place: str) -> tuple[str, str, str]:
    """Return site, box and instrument of a place that the person may see. Raises: WrongInput."""
    from sqlalchemy import select

    from datacenter.fleet.visible import find_instrument, find_site
    from datacenter.store.schema import instruments

    site = find_site(call.store, place)
    if site is not None and call.decide("view", site).permitted:
        return place, "", ""
    boxes = call.store.read(select(instruments.c.box).where(instruments.c.serial == place))
    for (box,) in boxes:
        found = find_instrument(call.store, box, place)
        if found is not None and call.decide("view", found).permitted:
            return "", box, place
    raise WrongInput(f"there is no instrument and no site {place}; the page of the fleet lists them")
