"""Certificates for programs: boxes and instruments, pending requests and their rejection, and the deny-list.

Requests are approved by a person on a page; programs cannot enrol a box.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.enrolment.desk import PURPOSE, REASON_CHARACTERS_MAX, EnrolmentRequest
from datacenter.enrolment.listing import (
    CertificateState,
    CertifiedInstrument,
    EnrolledBox,
    InstrumentState,
    find_request,
    is_in_state,
    list_boxes,
    list_instruments,
    list_requests,
)
from datacenter.enrolment.registration import Reason
from datacenter.store.tables.schema import boxes
from datacenter.store.tables.schema import certificates as certificates_of
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.desks import enrolment_desk
from datacenter.web.routes import Handler, NoParameters, PageRequest, WebRoute

PATH: Final = f"{PREFIX}/enrolments"
_INSTRUMENT: Final = f"{PREFIX}/boxes/{{box}}/instruments/{{instrument}}"


class ApiEnrolmentsQuery(Struct, frozen=True):
    """Selects a part of the list of pending requests."""

    limit: Limit = 100
    cursor: Cursor = ""


class ApiCertificatesQuery(Struct, frozen=True):
    """Selects a part of the list of boxes with their certificates."""

    state: Literal["", "denied", "expired", "none", "valid"] = ""
    limit: Limit = 100
    cursor: Cursor = ""


class ApiInstrumentCertificatesQuery(Struct, frozen=True):
    """Selects a part of the list of instruments that received certificates through their box."""

    box: Annotated[str, Meta(max_length=24, description="only those behind this box")] = ""
    state: Literal["", "denied", "expired", "valid"] = ""
    limit: Limit = 100
    cursor: Cursor = ""


class NewDenial(Struct, frozen=True):
    """The reason why a box or an instrument is denied."""

    reason: Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX, description="in one line")] = ""


class ApiEnrolment(Struct, frozen=True):
    """A request for a certificate; `enrolment` is the SHA-256 of its key, in hexadecimal.

    `instrument` is the instrument behind the box that requests the certificate; empty for the box itself.
    """

    enrolment: str
    box: str
    instrument: str
    reason: Reason
    state: str
    asked_at_ms: int
    seen_at_ms: int
    decided_by: str | None
    decided_at_ms: int | None


class EnrolmentList(Struct, frozen=True):
    """A part of the list of pending requests, the oldest first."""

    items: list[ApiEnrolment]
    next: str | None


class ApiCertificate(Struct, frozen=True):
    """A box with its latest certificate from the data center, and its denial. What is missing is null."""

    box: str
    site: str | None
    state: CertificateState
    issued_at_ms: int | None
    expires_at_ms: int | None
    denied_at_ms: int | None
    denied_by: str | None
    denial: str | None


class ApiInstrumentCertificate(Struct, frozen=True):
    """An instrument with its box, its latest certificate, and its denial, which is null if there is none."""

    box: str
    instrument: str
    state: InstrumentState
    issued_at_ms: int
    expires_at_ms: int
    denied_at_ms: int | None
    denied_by: str | None
    denial: str | None


class InstrumentCertificateList(Struct, frozen=True):
    """A part of the list of instruments, by box and serial number."""

    items: list[ApiInstrumentCertificate]
    next: str | None


class CertificateList(Struct, frozen=True):
    """A part of the list of boxes, by serial number."""

    items: list[ApiCertificate]
    next: str | None


def requests(page: PageRequest) -> Response:
    """Return a part of the list of pending requests."""
    query: ApiEnrolmentsQuery = page.query
    after = decode_cursor(query.cursor, tuple[int, str])
    rows = list_requests(page.store, page.visible.where("Box"), query.limit + 1, after)
    items = [_item(row) for row in rows[: query.limit]]
    return json_response(
        page, EnrolmentList(items, next_cursor(rows, query.limit, lambda row: (row.asked_at_ms, row.key)))
    )


def certificates(page: PageRequest) -> Response:
    """Return a part of the list of boxes with their certificates."""
    query: ApiCertificatesQuery = page.query
    after = decode_cursor(query.cursor, tuple[str])
    which = [page.visible.where("Box")]
    if query.state:
        which.append(is_in_state(query.state, page.now_ms))
    rows = list_boxes(page.store, which, page.now_ms, query.limit + 1, after[0] if after else "")
    items = [ApiCertificate(*row) for row in rows[: query.limit]]
    return json_response(page, CertificateList(items, next_cursor(rows, query.limit, lambda row: (row.box,))))


def instrument_certificates(page: PageRequest) -> Response:
    """Return a part of the list of instruments that received certificates through their box."""
    query: ApiInstrumentCertificatesQuery = page.query
    after = decode_cursor(query.cursor, tuple[str, str])
    which = [page.visible.where("Box")]
    if query.box:
        which.append(boxes.c.serial == query.box)
    rows = list_instruments(page.store, which, page.now_ms, query.limit + 1, query.state, after)
    items = [ApiInstrumentCertificate(*row) for row in rows[: query.limit]]
    following = next_cursor(rows, query.limit, lambda row: (row.box, row.instrument))
    return json_response(page, InstrumentCertificateList(items, following))


def reject(page: PageRequest) -> Response:
    """Reject a request, and return it."""
    request = _request(page)
    with enrolment_desk(page) as desk:
        decided = desk.reject(page.staff, request.box, request.key, page.now_ms)
    return json_response(page, _item(decided))


def deny(page: PageRequest) -> Response:
    """Add a box to the deny-list, and return the box."""
    wanted: NewDenial = page.query
    with enrolment_desk(page) as desk:
        desk.deny(page.staff, page.names["box"], wanted.reason, page.now_ms)
    return json_response(page, _box(page))


def allow(page: PageRequest) -> Response:
    """Remove a box from the deny-list, and return the box."""
    with enrolment_desk(page) as desk:
        desk.allow(page.staff, page.names["box"], page.now_ms)
    return json_response(page, _box(page))


def deny_instrument(page: PageRequest) -> Response:
    """Add an instrument behind a box to the deny-list, and return the instrument."""
    wanted: NewDenial = page.query
    with enrolment_desk(page) as desk:
        desk.deny(page.staff, page.names["box"], wanted.reason, page.now_ms, page.names["instrument"])
    return json_response(page, _instrument(page))


def allow_instrument(page: PageRequest) -> Response:
    """Remove an instrument from the deny-list, and return the instrument."""
    with enrolment_desk(page) as desk:
        desk.allow(page.staff, page.names["box"], page.now_ms, page.names["instrument"])
    return json_response(page, _instrument(page))


def _request(page: PageRequest) -> EnrolmentRequest:
    request = find_request(page.store, page.names["enrolment"])
    assert request is not None, "the access check has found it"
    return request


def _box(page: PageRequest) -> ApiCertificate:
    box = page.names["box"]
    rows: list[EnrolledBox] = list_boxes(page.store, [boxes.c.serial == box], page.now_ms, 1)
    return ApiCertificate(*rows[0])


def _instrument(page: PageRequest) -> ApiInstrumentCertificate:
    this = [certificates_of.c[name] == page.names[name] for name in ("box", "instrument")]
    rows: list[CertifiedInstrument] = list_instruments(page.store, this, page.now_ms, 1)
    return ApiInstrumentCertificate(*rows[0])


def _item(row: EnrolmentRequest) -> ApiEnrolment:
    device = row.box, row.instrument
    times = row.asked_at_ms, row.seen_at_ms
    return ApiEnrolment(row.key, *device, row.reason, row.state, *times, row.decided_by, row.decided_at_ms)


def _decision(
    path: str, kind: str, handler: Handler, text: str, result: type[Struct], body: type[Struct] = NoParameters
) -> WebRoute:
    """Return the row of a decision. EnrolmentDesk checks and records the right to configure or enrol the box."""
    return WebRoute("POST", path, "view", kind, handler, text, body, "api", PURPOSE, result, statuses=(409,))


ROUTES: Final = (
    WebRoute(
        "GET",
        PATH,
        "view",
        "",
        requests,
        "pending certificate requests",
        ApiEnrolmentsQuery,
        "api",
        PURPOSE,
        EnrolmentList,
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/certificates",
        "view",
        "",
        certificates,
        "boxes with their certificates",
        ApiCertificatesQuery,
        "api",
        PURPOSE,
        CertificateList,
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/instrument-certificates",
        "view",
        "",
        instrument_certificates,
        "instruments that received certificates through their box",
        ApiInstrumentCertificatesQuery,
        "api",
        PURPOSE,
        InstrumentCertificateList,
    ),
    _decision(f"{PATH}/{{enrolment}}/reject", "Enrolment", reject, "reject a request", ApiEnrolment),
    _decision(f"{PREFIX}/boxes/{{box}}/deny", "Box", deny, "deny a box", ApiCertificate, NewDenial),
    _decision(f"{PREFIX}/boxes/{{box}}/allow", "Box", allow, "allow a box again", ApiCertificate),
    _decision(
        f"{_INSTRUMENT}/deny",
        "Box",
        deny_instrument,
        "deny an instrument",
        ApiInstrumentCertificate,
        NewDenial,
    ),
    _decision(
        f"{_INSTRUMENT}/allow",
        "Box",
        allow_instrument,
        "allow an instrument again",
        ApiInstrumentCertificate,
    ),
)
