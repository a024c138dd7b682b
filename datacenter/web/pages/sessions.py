"""Remote sessions: the list, the request form, and the page of a session with its code, its state and its notes."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.vocabulary import Purpose
from datacenter.commands.desk import REQUEST_KEY_CHARACTERS_MAX
from datacenter.desktop.recording import RecordingError
from datacenter.fleet.visible import find_instrument
from datacenter.sessions.listing import SessionFilter, SessionKey, SessionPhase, SessionRow, list_notes
from datacenter.sessions.requests import (
    MINUTES_MAX,
    NOTE_MAX,
    PORT_MAX,
    TEXT_MAX,
    TICKET_MAX,
    SessionOrder,
    desktop_of,
)
from datacenter.sessions.rights import ACTIONS
from datacenter.web.desks import session_caller, session_requests
from datacenter.web.pages.page import address, keyset, show, show_fragment
from datacenter.web.parameters import ParameterError
from datacenter.web.responses import SECURITY_HEADERS, html, redirect
from datacenter.web.routes import NoParameters, PageRequest, WebRoute
from wire.session.grant import SessionMode, SessionService
from wire.session.table import SessionState

PATH: Final = "/sessions"
PAGE_SIZE: Final = 50
PURPOSE: Final[Purpose] = "service"
REFRESH_SECONDS: Final = 2
Serial: TypeAlias = Annotated[str, Meta(max_length=64)]
Mode: TypeAlias = Literal["view", "control"]
ListKey: TypeAlias = Annotated[str, Meta(pattern=r"^([0-9]{1,15}\.[0-9a-f]{1,32})?\Z")]
MODES: Final = (("control", "see and operate"), ("view", "see only"))
STEPS: Final = {
    SessionState.NEW: "The request is being recorded.",
    SessionState.REQUESTED: "The box has not shown the request yet. It may not be connected.",
    SessionState.OFFERED: "The request is shown at the instrument. Call a person there, and tell them the code.",
    SessionState.AUTHORIZED: "The person has permitted the session.",
    SessionState.OPENING: "The tunnel is being opened.",
    SessionState.OPEN: "The session is open.",
    SessionState.ENDING: "The session is ending: no more data is transferred.",
    SessionState.ENDED: "The session has ended.",
}
"""Descriptions of the states for staff."""


class SessionsQuery(Struct, frozen=True):
    """The filters; `box` and `instrument` together name the instrument of the form that requests a session.

    The list has the sessions before or after a key: the time of a request, a point, and the session's id.
    """

    state: SessionPhase | None = None
    instrument: Serial = ""
    box: Serial = ""
    staff: Serial = ""
    before: ListKey = ""
    after: ListKey = ""


class RequestForm(Struct, frozen=True):
    """A session to request; `key` identifies the form, so that submitting it twice has one effect."""

    mode: Mode = "control"
    port: Annotated[int, Meta(ge=0, le=PORT_MAX)] = 0
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)] = 30
    reason: Annotated[str, Meta(max_length=TEXT_MAX)] = ""
    ticket: Annotated[str, Meta(max_length=TICKET_MAX)] = ""
    key: Annotated[str, Meta(max_length=REQUEST_KEY_CHARACTERS_MAX)] = ""


class SessionQuery(Struct, frozen=True):
    """Whether the page opens the desktop as soon as the session is open."""

    waiting: bool = False


class NoteForm(Struct, frozen=True):
    """A note about a session."""

    text: Annotated[str, Meta(max_length=NOTE_MAX)] = ""


def sessions(page: PageRequest) -> Response:
    """Serve the list of sessions, and the form that requests a session with an instrument."""
    query: SessionsQuery = page.query
    caller = session_caller(page)
    instrument = find_instrument(page.store, query.box, query.instrument)
    is_seen = instrument is not None and page.permits("view", instrument)
    wanted = SessionFilter(query.box, query.instrument, query.staff, query.state)
    with session_requests(page) as desk:

        def fetch(limit: int, before: str | None, after: str | None) -> list[SessionRow]:
            return desk.list(caller, page.now_ms, wanted, limit, _key(before), _key(after))

        is_port_known = desk.port_of(query.box, query.instrument) > 0
        part = keyset(PATH, query, PAGE_SIZE, fetch, lambda row: f"{row.requested_at_ms}.{row.id}")
        desktop = desktop_of(instrument.model) if is_seen and instrument is not None else None
        modes = [
            (mode, text)
            for mode, text in MODES
            if instrument is not None
            and desktop is not None
            and (mode == SessionMode.CONTROL or desktop[0] is SessionService.RFB)
            and desk.may(caller, ACTIONS[SessionMode(mode)], instrument, page.now_ms)
        ]
    return show(
        page,
        "sessions.html",
        query=query,
        part=part,
        state_choices=[(name, name) for name in get_args(SessionPhase)],
        is_seen=is_seen,
        has_desktop=desktop is not None,
        is_configured=page.services.remote is not None,
        modes=modes,
        is_port_known=is_port_known,
        minutes_max=MINUTES_MAX,
        port_max=PORT_MAX,
        reason_max=TEXT_MAX,
        ticket_max=TICKET_MAX,
        key=secrets.token_hex(16),
        clear=address(PATH, SessionsQuery()),
    )


def request_session(page: PageRequest) -> Response:
    """Request a session with an instrument."""
    form: RequestForm = page.query
    order = SessionOrder(SessionMode(form.mode), form.port, form.minutes, form.reason, form.ticket, form.key)
    with session_requests(page) as desk:
        row = desk.request(
            session_caller(page), page.names["box"], page.names["instrument"], order, page.now_ms
        )
    return redirect(f"{PATH}/{row.id}")


def session(page: PageRequest) -> Response:
    """Serve the page of a session, or the part of it that changes."""
    caller = session_caller(page)
    scheme = "http" if page.services.development else "https"
    with session_requests(page) as desk:
        row = desk.read(page.names["session"])
        values: dict[str, Any] = {
            "row": row,
            "code": desk.code(caller, row),
            "step": STEPS[SessionState(row.state)],
            "is_own": row.staff == page.staff,
            "may_end": row.is_live and desk.may(caller, "end-session", row.resource, page.now_ms),
            "refresh_seconds": REFRESH_SECONDS,
            "origin": f"{scheme}://{page.headers.get('host', '')}",
        }
        if page.is_fragment:
            shown = show_fragment(page, "_session_state.html", **values)
            if row.state == SessionState.OPEN and row.staff == page.staff and page.query.waiting:
                shown.headers["hx-redirect"] = f"{PATH}/{row.id}/desktop"
            return shown
        return show(
            page,
            "session.html",
            notes=list_notes(page.store, row.id),
            may_replay=desk.may_replay(caller, row, page.now_ms),
            may_note=desk.may(caller, "annotate-session", row.resource, page.now_ms),
            note_max=NOTE_MAX,
            **values,
        )


def desktop(page: PageRequest) -> Response:
    """Serve the desktop of an open session, or the part of its page that changes."""
    caller = session_caller(page)
    with session_requests(page) as desk:
        row = desk.read(page.names["session"])
        instrument = find_instrument(page.store, row.box, row.instrument)
        is_own = row.staff == page.staff
        if not is_own and instrument is not None:
            desk.require_watch(caller, instrument, page.now_ms)
        remote = page.services.remote
        live = remote.desktop(bytes.fromhex(row.id)) if remote is not None else None
        if live is None or live.ended.is_set():
            target = f"{PATH}/{row.id}"
            return html("", headers={"hx-redirect": target}) if page.is_fragment else redirect(target)
        values: dict[str, Any] = {
            "row": row,
            "kbit_s": live.kbit_s,
            "round_trip_ms": live.round_trip_ms,
            "awaits_second": live.awaits_second,
            "watchers": [staff for staff in live.viewers if staff != page.staff],
        }
        if page.is_fragment:
            return show_fragment(page, "_desktop_status.html", **values)
        shown = show(
            page,
            "desktop.html",
            has_control=is_own and row.mode == SessionMode.CONTROL,
            may_end=desk.may(caller, "end-session", row.resource, page.now_ms),
            refresh_seconds=REFRESH_SECONDS,
            **values,
        )
        allow_pictures(shown)
        return shown


def recording(page: PageRequest) -> Response:
    """Serve the recording of a session, in a player."""
    with session_requests(page) as desk:
        row = desk.read(page.names["session"])
        desk.require_replay(session_caller(page), row, page.now_ms)
        remote = page.services.remote
        assert remote is not None, "require_replay refuses without remote sessions"
        recorded, problem = None, ""
        try:
            recorded = remote.read_recording(row)
        except (RecordingError, OSError) as error:
            problem = str(error)
    last_ms = recorded.frames[-1].time_ms if recorded is not None and recorded.frames else 0
    shown = show(
        page,
        "recording.html",
        row=row,
        problem=problem,
        is_complete=row.recording_head is not None,
        pictures=len(recorded.frames) if recorded is not None else 0,
        last_ms=last_ms,
    )
    allow_pictures(shown)
    return shown


def end_session(page: PageRequest) -> Response:
    """End a session, or withdraw its request."""
    with session_requests(page) as desk:
        row = desk.end(session_caller(page), page.names["session"], page.now_ms)
    return redirect(f"{PATH}/{row.id}")


def note_session(page: PageRequest) -> Response:
    """Add a note about a session."""
    form: NoteForm = page.query
    with session_requests(page) as desk:
        row = desk.note(session_caller(page), page.names["session"], form.text, page.now_ms)
    return redirect(f"{PATH}/{row.id}")


def allow_pictures(response: Response) -> None:
    """Allow images with `data:` URLs, by which noVNC shows the pointer."""
    policy = SECURITY_HEADERS["content-security-policy"]
    response.headers["content-security-policy"] = policy.replace("img-src 'self'", "img-src 'self' data:")


def _key(text: str | None) -> SessionKey | None:
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+)\.([0-9a-f]+)", text)
    if match is None:
        raise ParameterError("before, after: use the links below the list")
    return int(match[1]), match[2]


# The actions of forms depend on the session: SessionRequests checks and records them.
ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", sessions, "remote sessions", SessionsQuery, purpose=PURPOSE),
    WebRoute(
        "GET",
        f"{PATH}/{{session}}",
        "view",
        "Session",
        session,
        "a remote session",
        SessionQuery,
        purpose=PURPOSE,
    ),
    WebRoute(
        "GET",
        f"{PATH}/{{session}}/desktop",
        "view",
        "Session",
        desktop,
        "the desktop of a remote session",
        purpose=PURPOSE,
    ),
    WebRoute(
        "GET",
        f"{PATH}/{{session}}/recording",
        "view",
        "Session",
        recording,
        "the recording of a remote session",
        purpose=PURPOSE,
    ),
    WebRoute(
        "POST",
        "/instruments/{box}/{instrument}/sessions",
        "view",
        "Instrument",
        request_session,
        "request a remote session",
        RequestForm,
        "form",
        PURPOSE,
    ),
    WebRoute(
        "POST",
        f"{PATH}/{{session}}/end",
        "view",
        "Session",
        end_session,
        "end a remote session",
        NoParameters,
        "form",
        PURPOSE,
    ),
    WebRoute(
        "POST",
        f"{PATH}/{{session}}/notes",
        "view",
        "Session",
        note_session,
        "write a note about a remote session",
        NoteForm,
        "form",
        PURPOSE,
    ),
)
