"""Remote sessions for programs: the list, requesting a session, its state and code, its end, and notes.

Each session requires the permission of a person at the instrument.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.vocabulary import Purpose
from datacenter.sessions.listing import SessionFilter, SessionPhase, SessionRow, list_notes
from datacenter.sessions.requests import (
    MINUTES_MAX,
    NOTE_MAX,
    PORT_MAX,
    TEXT_MAX,
    TICKET_MAX,
    SessionOrder,
    SessionRequests,
)
from datacenter.web.api.callers import REQUEST_KEY
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.desks import session_caller, session_requests
from datacenter.web.routes import NoParameters, PageRequest, WebRoute
from wire.session.grant import SessionMode
from wire.session.table import SessionState

PURPOSE: Final[Purpose] = "service"
"""The purpose of a person who reads with the session of the pages."""
_PORT: Final = "the box's port of the instrument; 0 or omitted: the port that the box has reported"
State: TypeAlias = Literal["new", "requested", "offered", "authorized", "opening", "open", "ending", "ended"]
assert set(get_args(State)) == set(SessionState), "the states of the transition table"


class ApiSessionsQuery(Struct, frozen=True):
    """Selects a part of the list of sessions, only those of one box, instrument or staff member if given."""

    state: SessionPhase | Literal[""] = ""
    box: str = ""
    instrument: str = ""
    staff: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


class NewSession(Struct, frozen=True):
    """A session to request."""

    reason: Annotated[str, Meta(max_length=TEXT_MAX, description="what is to be done, in one line")]
    ticket: Annotated[str, Meta(max_length=TICKET_MAX, description="the number of the service case")]
    mode: Literal["view", "control"] = "control"
    port: Annotated[int, Meta(ge=0, le=PORT_MAX, description=_PORT)] = 0
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)] = 30


class NewNote(Struct, frozen=True):
    """A note about a session."""

    text: Annotated[str, Meta(max_length=NOTE_MAX)]


class ApiNote(Struct, frozen=True):
    """A note about a session."""

    number: int
    at_ms: int
    staff: str
    text: str


class ApiSession(Struct, frozen=True):
    """A remote session."""

    session: str
    box: str
    instrument: str
    model: str | None
    site: str | None
    staff: str
    role: str
    purpose: str
    mode: Literal["view", "control"]
    service: Literal["rfb", "tcp"]
    port: int
    reason: str
    ticket: str
    state: State
    cause: str
    """Why it has ended; empty before."""
    code: str
    """The code for the person at the instrument, for the requester only; empty when it is not needed."""
    requested_at_ms: int
    expires_at_ms: int
    opened_at_ms: int | None
    ended_at_ms: int | None
    has_recording: bool
    notes: list[ApiNote]


class SessionList(Struct, frozen=True):
    """A part of the list of sessions, the newest first; `notes` are empty."""

    items: list[ApiSession]
    next: str | None


def list_sessions(page: PageRequest) -> Response:
    """Return a part of the list of sessions, the newest first."""
    query: ApiSessionsQuery = page.query
    after = decode_cursor(query.cursor, tuple[int, str])
    wanted = SessionFilter(query.box, query.instrument, query.staff, query.state or None)
    caller = session_caller(page)
    with session_requests(page) as desk:
        rows = desk.list(caller, page.now_ms, wanted, query.limit + 1, after)
        items = [_session(page, desk, row, []) for row in rows[: query.limit]]
    return json_response(page, SessionList(items, next_cursor(rows, query.limit, lambda row: row.key)))


def show_session(page: PageRequest) -> Response:
    """Return a session with its notes."""
    with session_requests(page) as desk:
        return _with_notes(page, desk, page.names["session"])


def request_session(page: PageRequest) -> Response:
    """Request a session, and return it."""
    form: NewSession = page.query
    key = page.headers.get(REQUEST_KEY, "")
    order = SessionOrder(SessionMode(form.mode), form.port, form.minutes, form.reason, form.ticket, key)
    with session_requests(page) as desk:
        names = page.names
        row = desk.request(session_caller(page), names["box"], names["instrument"], order, page.now_ms)
        return _with_notes(page, desk, row.id)


def end_session(page: PageRequest) -> Response:
    """End a session, or withdraw its request. A session that has ended is returned unchanged."""
    with session_requests(page) as desk:
        return _with_notes(page, desk, desk.end(session_caller(page), page.names["session"], page.now_ms).id)


def note_session(page: PageRequest) -> Response:
    """Add a note, and return the session."""
    form: NewNote = page.query
    with session_requests(page) as desk:
        row = desk.note(session_caller(page), page.names["session"], form.text, page.now_ms)
        return _with_notes(page, desk, row.id)


def _with_notes(page: PageRequest, desk: SessionRequests, session: str) -> Response:
    notes = [ApiNote(*note) for note in list_notes(page.store, session)]
    return json_response(page, _session(page, desk, desk.read(session), notes))


def _session(page: PageRequest, desk: SessionRequests, row: SessionRow, notes: list[ApiNote]) -> ApiSession:
    return ApiSession(
        row.id,
        row.box,
        row.instrument,
        row.model,
        row.site,
        row.staff,
        row.role,
        row.purpose,
        row.mode,  # type: ignore[arg-type]
        row.service,  # type: ignore[arg-type]
        row.port,
        row.reason,
        row.ticket,
        row.state,  # type: ignore[arg-type]
        row.cause,
        desk.code(session_caller(page), row),
        row.requested_at_ms,
        row.expires_at_ms,
        row.opened_at_ms,
        row.ended_at_ms,
        row.has_recording,
        notes,
    )


_ONE: Final = f"{PREFIX}/sessions/{{session}}"
# The actions of changes depend on the session: SessionRequests checks and records them.
ROUTES: Final = (
    WebRoute(
        "GET",
        f"{PREFIX}/sessions",
        "view",
        "",
        list_sessions,
        "remote sessions",
        ApiSessionsQuery,
        "api",
        PURPOSE,
        SessionList,
    ),
    WebRoute(
        "GET",
        _ONE,
        "view",
        "Session",
        show_session,
        "a remote session",
        NoParameters,
        "api",
        PURPOSE,
        ApiSession,
    ),
    WebRoute(
        "POST",
        f"{PREFIX}/instruments/{{box}}/{{instrument}}/sessions",
        "view",
        "Instrument",
        request_session,
        "request a remote session",
        NewSession,
        "api",
        PURPOSE,
        ApiSession,
        has_key=True,
        statuses=(409,),
    ),
    WebRoute(
        "POST",
        f"{_ONE}/end",
        "view",
        "Session",
        end_session,
        "end a remote session, or withdraw its request",
        NoParameters,
        "api",
        PURPOSE,
        ApiSession,
    ),
    WebRoute(
        "POST",
        f"{_ONE}/notes",
        "view",
        "Session",
        note_session,
        "write a note about a remote session",
        NewNote,
        "api",
        PURPOSE,
        ApiSession,
    ),
)
