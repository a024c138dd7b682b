"""Requesting, listing, ending and annotating remote sessions by staff, within their rights.

Every decision is recorded. A request with a key that the same person has used before returns the session of the first
request.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import and_, func, insert, select

from datacenter.access.control import AccessDecider
from datacenter.access.decision import Decision
from datacenter.access.request import ApiToken, Principal, RequestContext, Resource
from datacenter.access.vocabulary import Purpose
from datacenter.fleet.visible import COLUMNS, find_instrument
from datacenter.sessions.desk import WantedSession
from datacenter.sessions.listing import (
    SessionFilter,
    SessionKey,
    SessionRow,
    find_session_row,
    list_sessions,
)
from datacenter.sessions.remote import RemoteSessions
from datacenter.sessions.rights import ACTIONS, Requester
from datacenter.store.store import Store
from datacenter.store.tables.schema import instruments, remote_sessions, session_notes
from settings.problems import SettingsError
from settings.profile import load_profile
from wire.session.grant import (
    ID_BYTES,
    LIFETIME_SECONDS_MAX,
    TEXT_CHARACTERS_MAX,
    SessionMode,
    SessionService,
)
from wire.session.table import SessionState

MINUTES_MAX: Final = LIFETIME_SECONDS_MAX // 60
TEXT_MAX: Final = 200
TICKET_MAX: Final = 64
NOTE_MAX: Final = 2000
PORT_MAX: Final = 64
NOT_CONFIGURED: Final = "remote sessions are not configured here: the configuration has no [sessions]"
_BEFORE_TUNNEL: Final = (SessionState.NEW, SessionState.REQUESTED, SessionState.OFFERED)
_LIVE_MAX: Final = 256
"""Maximum number of live sessions of a box, which has 64 ports."""
_S: Final = remote_sessions.c


class SessionRefusedError(Exception):
    """The session cannot be requested, ended or annotated; nothing was changed. The message says why."""


class WrongSessionError(SessionRefusedError):
    """The request is wrong. The message says how to correct it."""


class SessionConflictError(SessionRefusedError):
    """The state of sessions, or an earlier request with the same key, does not permit it."""


class SessionRequester(NamedTuple):
    """The acting person and the purpose; `present` returns the person with the rights at the time of the call."""

    staff: str
    purpose: Purpose
    present: Callable[[], Principal | None] = lambda: None
    token: ApiToken | None = None


class SessionOrder(NamedTuple):
    """The requested session. `key` is an idempotency key: a second request with the same key has no effect.

    `port` is 0 for the port that the box has reported.
    """

    mode: SessionMode
    port: int
    minutes: int
    reason: str
    ticket: str
    key: str = ""


@dataclass(frozen=True)
class SessionRequests:
    """Actions of staff on remote sessions. `remote` is None if they are not configured. All raise StoreError."""

    store: Store
    access: AccessDecider
    remote: RemoteSessions | None

    def request(
        self, caller: SessionRequester, box: str, instrument: str, order: SessionOrder, now_ms: int
    ) -> SessionRow:
        """Request a session, and return it. Raises: SessionRefusedError."""
        resource = find_instrument(self.store, box, instrument)
        if resource is None or not self._decide(caller, "view", resource, now_ms).permitted:
            raise SessionRefusedError(f"there is no instrument {instrument} at box {box}")
        _check_order(order)
        decision = self._decide(caller, ACTIONS[order.mode], resource, now_ms)
        if not decision.permitted:
            raise SessionRefusedError(decision.reason)
        principal = decision.request.principal
        desktop = desktop_of(resource.model)
        if desktop is None:
            raise WrongSessionError(f"instruments of the model {resource.model or 'unknown'} have no desktop")
        port = _port(self.port_of(box, instrument), order.port)
        if self.remote is None:
            raise SessionConflictError(NOT_CONFIGURED)
        service, tcp_port = desktop
        if service is SessionService.TCP:
            _check_raw(order.mode, needs_second=self.remote.needs_second(resource.site))
        earlier = self._earlier(caller, box, instrument, order)
        if earlier is not None:
            return earlier
        self._require_free(box, instrument)
        session = os.urandom(ID_BYTES)
        role = ", ".join(sorted(principal.roles))[:TEXT_CHARACTERS_MAX]
        wanted = WantedSession(
            caller.staff,
            role,
            box,
            instrument,
            port,
            service,
            tcp_port,
            order.mode,
            order.minutes * 60,
            session,
        )
        columns = {name: value for name, value in wanted._asdict().items() if name in _S}
        values = columns | {
            "id": session.hex(),
            "purpose": caller.purpose,
            "reason": order.reason.strip(),
            "ticket": order.ticket.strip(),
            "requested_at_ms": now_ms,
            "expires_at_ms": now_ms + order.minutes * 60_000,
            "state": SessionState.NEW,
            "request_key": order.key or None,
        }
        with self.store.transaction() as connection:
            connection.execute(insert(remote_sessions).values(values))
        self.remote.start(wanted, Requester(caller.present, resource, caller.purpose, caller.token))
        return self.read(session.hex())

    def port_of(self, box: str, instrument: str) -> int:
        """Return the box's port of an instrument; 0 if the box has not reported it."""
        key = and_(instruments.c.box == box, instruments.c.serial == instrument)
        row = next(self.store.read(select(instruments.c.port).where(key)), None)
        return row.port or 0 if row is not None else 0

    def end(self, caller: SessionRequester, session: str, now_ms: int) -> SessionRow:
        """End a session or withdraw its request; no effect if it has ended. Raises: SessionRefusedError."""
        row = self._viewable(caller, session, now_ms)
        self._require(caller, "end-session", row, now_ms)
        if self.remote is not None and row.is_live:
            self.remote.end(bytes.fromhex(row.id))
        return row

    def note(self, caller: SessionRequester, session: str, text: str, now_ms: int) -> SessionRow:
        """Add a note about a session. Raises: SessionRefusedError."""
        row = self._viewable(caller, session, now_ms)
        self._require(caller, "annotate-session", row, now_ms)
        if not text.strip() or len(text) > NOTE_MAX:
            raise WrongSessionError(f"give a note of at most {NOTE_MAX} characters")
        with self.store.transaction() as connection:
            last = select(func.coalesce(func.max(session_notes.c.number), 0)).where(
                session_notes.c.session == row.id
            )
            number = (connection.scalar(last) or 0) + 1
            values = {"session": row.id, "number": number, "at_ms": now_ms, "staff": caller.staff}
            connection.execute(insert(session_notes).values(text=text.strip(), **values))
        return row

    def list(
        self,
        caller: SessionRequester,
        now_ms: int,
        wanted: SessionFilter,
        limit: int,
        before: SessionKey | None = None,
        after: SessionKey | None = None,
    ) -> list[SessionRow]:
        """Return the sessions that the caller may see, as `list_sessions` does."""
        context = RequestContext(now_ms, caller.purpose)
        may_see = self.access.where(caller.staff, "view", "Session", context, COLUMNS["Session"])
        return list_sessions(self.store, [may_see, *wanted.clauses], limit, before, after)

    def read(self, session: str) -> SessionRow:
        """Return a session without a check of rights. Raises: SessionRefusedError."""
        row = find_session_row(self.store, session)
        if row is None:
            raise SessionRefusedError(f"there is no session {session}")
        return row

    def code(self, caller: SessionRequester, row: SessionRow) -> str:
        """Return the code for the person at the instrument; "" for other staff, and once it is no longer needed."""
        session = self.remote.find(bytes.fromhex(row.id)) if self.remote is not None else None
        is_waiting = session is not None and session.state in (SessionState.REQUESTED, SessionState.OFFERED)
        return session.code if session is not None and is_waiting and row.staff == caller.staff else ""

    def require_replay(self, caller: SessionRequester, row: SessionRow, now_ms: int) -> None:
        """Require the right to replay a recording; recorded. Raises: SessionRefusedError."""
        own = caller._replace(purpose=replay_purpose(row, caller.staff))
        decision = self._decide(own, "replay-session", row.resource, now_ms)
        if not decision.permitted:
            raise SessionRefusedError(decision.reason)
        if row.is_live or self.remote is None or not self.remote.has_recording(row):
            raise SessionConflictError("the session has no recording, or it was deleted")

    def may_replay(self, caller: SessionRequester, row: SessionRow, now_ms: int) -> bool:
        """Return whether to offer the recording; not recorded."""
        if row.is_live or self.remote is None or not self.remote.has_recording(row):
            return False
        own = caller._replace(purpose=replay_purpose(row, caller.staff))
        return self.may(own, "replay-session", row.resource, now_ms)

    def require_watch(self, caller: SessionRequester, instrument: Resource, now_ms: int) -> None:
        """Require the right to watch another person's session; recorded. Raises: SessionRefusedError."""
        decision = self._decide(caller, ACTIONS[SessionMode.VIEW], instrument, now_ms)
        if not decision.permitted:
            raise SessionRefusedError(decision.reason)

    def may(self, caller: SessionRequester, action: str, resource: Resource, now_ms: int) -> bool:
        """Return whether to offer an action; not recorded."""
        context = RequestContext(now_ms, caller.purpose)
        return self.access.peek(caller.staff, action, resource, context).permitted

    def _earlier(
        self, caller: SessionRequester, box: str, instrument: str, order: SessionOrder
    ) -> SessionRow | None:
        """Return the session of an earlier request with the same key; None if it is new."""
        if not order.key:
            return None
        is_same = and_(_S.staff == caller.staff, _S.request_key == order.key)
        row = next(iter(list_sessions(self.store, [is_same], 1)), None)
        if row is not None and (row.box, row.instrument, row.mode) != (
            box,
            instrument,
            order.mode,
        ):
            raise SessionConflictError(
                f"the key {order.key} was used for session {row.id}, which differs from this request: use a new key"
            )
        return row

    def _require_free(self, box: str, instrument: str) -> None:
        """Require that no session with the instrument is live, and that no permitted session of the box is.

        An instrument has one desktop, and a box has one tunnel at a time. Raises: SessionConflictError.
        """
        for live in list_sessions(self.store, SessionFilter(box, state="live").clauses, _LIVE_MAX):
            if live.instrument == instrument or live.state not in _BEFORE_TUNNEL:
                limit = "" if live.instrument == instrument else f"; {box} can have one tunnel at a time"
                raise SessionConflictError(
                    f"a session of {live.staff} with {live.instrument} has not ended{limit}: end it first, or wait"
                )

    def _viewable(self, caller: SessionRequester, session: str, now_ms: int) -> SessionRow:
        row = self.read(session)
        if not self._decide(caller, "view", row.resource, now_ms).permitted:
            raise SessionRefusedError(f"there is no session {session}")
        return row

    def _require(self, caller: SessionRequester, action: str, row: SessionRow, now_ms: int) -> None:
        decision = self._decide(caller, action, row.resource, now_ms)
        if not decision.permitted:
            raise SessionRefusedError(decision.reason)

    def _decide(self, caller: SessionRequester, action: str, resource: Resource, now_ms: int) -> Decision:
        return self.access.decide(caller.staff, action, resource, RequestContext(now_ms, caller.purpose))


def replay_purpose(row: SessionRow, staff: str) -> Purpose:
    """Return the purpose of a replay: "service" for a recording of the person's own session, else "audit"."""
    return "service" if row.staff == staff else "audit"


def desktop_of(model: str) -> tuple[SessionService, int] | None:
    """Return the service and TCP port of the desktop of a model's instruments; None if they have no desktop."""
    try:
        profile = load_profile(model)
    except SettingsError:
        return None
    if profile.desktop_port is None:
        return None
    return SessionService(profile.desktop_service), profile.desktop_port


def _check_raw(mode: SessionMode, *, needs_second: bool) -> None:
    """Check a request for a raw TCP service. Raises: SessionRefusedError."""
    if mode is not SessionMode.CONTROL:
        raise WrongSessionError(
            "the desktop of this model is a raw TCP service, which cannot be view-only: request `control`"
        )
    if needs_second:
        raise SessionConflictError(
            "desktops of this site require two viewers, and a raw TCP service has only one"
        )


def _check_order(order: SessionOrder) -> None:
    """Check a request. Raises: WrongSessionError."""
    for name, text, most in (("reason", order.reason, TEXT_MAX), ("ticket", order.ticket, TICKET_MAX)):
        if not text.strip() or not text.isprintable() or len(text) > most:
            raise WrongSessionError(f"give a {name} in one line of at most {most} characters")
    if not 1 <= order.minutes <= MINUTES_MAX:
        raise WrongSessionError(f"a session lasts 1 to {MINUTES_MAX} minutes")
    if not 0 <= order.port <= PORT_MAX:
        raise WrongSessionError(f"the port of the box is a number from 1 to {PORT_MAX}")


def _port(reported: int, given: int) -> int:
    """Return the box's port of the instrument. Raises: WrongSessionError."""
    if not reported and not given:
        raise WrongSessionError("the box has not reported the instrument's port: give the port")
    if reported and given not in (0, reported):
        raise WrongSessionError(f"the instrument is at port {reported} of the box: leave the port out")
    return reported or given
