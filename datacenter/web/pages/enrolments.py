"""Certificates of boxes and instruments: pending requests, the list with their state, and the deny-list."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import select
from starlette.responses import Response

from datacenter.access.request import RequestContext, Resource
from datacenter.enrolment.desk import PURPOSE, REASON_CHARACTERS_MAX, UNKNOWN_PURPOSE, EnrolmentRequest
from datacenter.enrolment.listing import (
    STATES,
    find_request,
    is_in_state,
    list_boxes,
    list_instruments,
    list_requests,
)
from datacenter.fleet.visible import COLUMNS, find_box, matching
from datacenter.store.tables.schema import boxes, certificates, sites
from datacenter.web.desks import enrolment_desk
from datacenter.web.pages.page import address, show
from datacenter.web.responses import redirect
from datacenter.web.routes import Handler, NoParameters, PageRequest, WebRoute

PATH: Final = "/enrolments"
PAGE_SIZE: Final = 50
REQUESTS_MAX: Final = 100
INSTRUMENTS_MAX: Final = 1000
KEY_SHOWN: Final = 16


class EnrolmentsQuery(Struct, frozen=True):
    """Selects a part of the list of boxes, by a search text and the state of the certificate.

    The part begins after `box`.
    """

    q: Annotated[str, Meta(max_length=64)] = ""
    state: Literal["", "denied", "expired", "none", "valid"] = ""
    box: Annotated[str, Meta(max_length=24)] = ""


class ApprovalForm(Struct, frozen=True):
    """The approval of a request; `site` is required for an unknown box."""

    site: Annotated[str, Meta(max_length=64)] = ""


class DenialForm(Struct, frozen=True):
    """The reason why a box, or an instrument behind it, is denied."""

    reason: Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)] = ""
    instrument: Annotated[str, Meta(max_length=24)] = ""


class AllowForm(Struct, frozen=True):
    """The box, or an instrument behind it, that is allowed again."""

    instrument: Annotated[str, Meta(max_length=24)] = ""


def enrolments(page: PageRequest) -> Response:
    """Serve the list of pending requests, and the list of boxes with their instruments."""
    query: EnrolmentsQuery = page.query
    is_seen = page.visible.where("Box")
    waiting = list_requests(page.store, is_seen, REQUESTS_MAX + 1)
    which = [is_seen]
    if query.state:
        which.append(is_in_state(query.state, page.now_ms))
    if query.q:
        which.append(matching(query.q, boxes.c.serial, boxes.c.site))
    rows = list_boxes(page.store, which, page.now_ms, PAGE_SIZE + 1, query.box)
    shown = rows[:PAGE_SIZE]
    behind = [is_seen, certificates.c.box.in_([one.box for one in shown])]
    instruments = list_instruments(page.store, behind, page.now_ms, INSTRUMENTS_MAX)
    with enrolment_desk(page) as desk:

        def may_decide(box: str) -> bool:
            known = find_box(page.store, box) or Resource("Box", box)
            return desk.may_decide(page.staff, known, page.now_ms)

        named = {*(one.box for one in waiting), *(one.box for one in shown)}
        decides = {box: may_decide(box) for box in named}
    return show(
        page,
        "enrolments.html",
        query=query,
        states=STATES,
        waiting=waiting[:REQUESTS_MAX],
        is_cut=len(waiting) > REQUESTS_MAX,
        boxes=shown,
        instruments={box: list(each) for box, each in groupby(instruments, lambda one: one.box)},
        decides=decides,
        sites=_enrolment_sites(page) if any(one.reason == "unknown" for one in waiting) else [],
        next=address(PATH, query, box=shown[-1].box) if len(rows) > PAGE_SIZE else "",
        key_shown=KEY_SHOWN,
        soon_ms=page.now_ms + 14 * 86_400_000,
    )


def approve(page: PageRequest) -> Response:
    """Approve a request."""
    form: ApprovalForm = page.query
    request = _request(page)
    with enrolment_desk(page) as desk:
        desk.approve(page.staff, request.box, request.key, page.now_ms, form.site)
    return redirect(PATH)


def reject(page: PageRequest) -> Response:
    """Reject a request."""
    request = _request(page)
    with enrolment_desk(page) as desk:
        desk.reject(page.staff, request.box, request.key, page.now_ms)
    return redirect(PATH)


def deny(page: PageRequest) -> Response:
    """Add a box, or an instrument behind it, to the deny-list."""
    form: DenialForm = page.query
    with enrolment_desk(page) as desk:
        desk.deny(page.staff, page.names["box"], form.reason, page.now_ms, form.instrument)
    return redirect(f"{PATH}?state=denied")


def allow(page: PageRequest) -> Response:
    """Remove a box, or an instrument behind it, from the deny-list."""
    form: AllowForm = page.query
    with enrolment_desk(page) as desk:
        desk.allow(page.staff, page.names["box"], page.now_ms, form.instrument)
    return redirect(PATH)


def _request(page: PageRequest) -> EnrolmentRequest:
    request = find_request(page.store, page.names["enrolment"])
    assert request is not None, "the access check has found it"
    return request


def _enrolment_sites(page: PageRequest) -> list[str]:
    """Return the sites at which the person may enrol boxes."""
    context = RequestContext(page.now_ms, UNKNOWN_PURPOSE)
    may = page.access.where(page.staff, "enrol-box", "Site", context, COLUMNS["Site"])
    query = select(sites.c.site).select_from(sites.outerjoin(boxes, boxes.c.site == sites.c.site))
    return sorted({row.site for row in page.store.read(query.where(may))})


def _form(path: str, kind: str, handler: Handler, text: str, form: type[Struct] = NoParameters) -> WebRoute:
    """Return the row of a form. EnrolmentDesk checks and records the right to configure or enrol the box."""
    return WebRoute("POST", path, "view", kind, handler, text, form, "form", PURPOSE)


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", enrolments, "certificates of boxes", EnrolmentsQuery, purpose=PURPOSE),
    _form(f"{PATH}/{{enrolment}}/approve", "Enrolment", approve, "approve a request", ApprovalForm),
    _form(f"{PATH}/{{enrolment}}/reject", "Enrolment", reject, "reject a request"),
    _form("/boxes/{box}/deny", "Box", deny, "deny a box", DenialForm),
    _form("/boxes/{box}/allow", "Box", allow, "allow a box again", AllowForm),
)
