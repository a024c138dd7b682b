"""Lists remote sessions page by page, newest first, with the location and model of their instruments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, and_, select, tuple_

from datacenter.access.request import Resource
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, instruments, remote_sessions, session_notes, sites
from wire.session.table import SessionState

SessionKey: TypeAlias = tuple[int, str]
"""The sort key of a session in the list: time of the request, and identifier."""
SessionPhase: TypeAlias = Literal["live", "ended"]
_S: Final = remote_sessions.c


class SessionFilter(NamedTuple):
    """Selects sessions; all if no field is given."""

    box: str = ""
    instrument: str = ""
    staff: str = ""
    state: SessionPhase | None = None

    @property
    def clauses(self) -> list[ColumnElement[bool]]:
        """The conditions for the rows."""
        given = ((_S.box, self.box), (_S.instrument, self.instrument), (_S.staff, self.staff))
        conditions = [column == value for column, value in given if value]
        if self.state:
            is_ended = _S.state == SessionState.ENDED
            conditions.append(is_ended if self.state == "ended" else ~is_ended)
        return conditions


class SessionRow(NamedTuple):
    """A session with the location and model of its instrument."""

    id: str
    box: str
    instrument: str
    staff: str
    role: str
    purpose: str
    mode: str
    service: str
    reason: str
    ticket: str
    port: int
    tcp_port: int
    requested_at_ms: int
    expires_at_ms: int
    state: str
    cause: str
    opened_at_ms: int | None
    ended_at_ms: int | None
    recording_head: bytes | None
    recording_deleted_at_ms: int | None
    model: str | None
    site: str | None
    country: str | None
    region: str | None

    @property
    def key(self) -> SessionKey:
        """Its sort key in the list."""
        return self.requested_at_ms, self.id

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state != SessionState.ENDED

    @property
    def has_recording(self) -> bool:
        """Whether a complete recording is stored."""
        return self.recording_head is not None and self.recording_deleted_at_ms is None

    @property
    def resource(self) -> Resource:
        """The session as a resource of policies."""
        location = {"site": self.site or "", "country": self.country or "", "region": self.region or ""}
        return Resource("Session", self.id, **location, model=self.model or "", staff=self.staff)


class SessionNote(NamedTuple):
    """A note about a session."""

    number: int
    at_ms: int
    staff: str
    text: str


_TABLES: Final = remote_sessions.join(PLACED_BOXES, _S.box == boxes.c.serial).outerjoin(
    instruments, and_(instruments.c.box == _S.box, instruments.c.serial == _S.instrument)
)
_ROWS: Final = select(
    *(_S[name] for name in SessionRow._fields if name in _S),
    instruments.c.model,
    boxes.c.site,
    sites.c.country,
    sites.c.region,
).select_from(_TABLES)


def find_session_row(store: Store, session: str) -> SessionRow | None:
    """Return a session; None if there is none. Raises: StoreError."""
    row = next(store.read(_ROWS.where(_S.id == session)), None)
    return None if row is None else SessionRow._make(row)


def find_session(store: Store, session: str) -> Resource | None:
    """Return the resource of a session; None if it does not exist. Raises: StoreError."""
    row = find_session_row(store, session)
    return row.resource if row else None


def list_sessions(
    store: Store,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    before: SessionKey | None = None,
    after: SessionKey | None = None,
) -> list[SessionRow]:
    """Return at most `limit` sessions, newest first: the newest before a key, or the oldest after it."""
    key = tuple_(_S.requested_at_ms, _S.id)
    query: Any = _ROWS.where(*conditions).limit(limit)
    if after is not None:
        query = query.where(key > after).order_by(_S.requested_at_ms, _S.id)
    else:
        query = query.order_by(_S.requested_at_ms.desc(), _S.id.desc())
        query = query.where(key < before) if before is not None else query
    rows = [SessionRow._make(row) for row in store.read(query)]
    return rows if after is None else rows[::-1]


def list_notes(store: Store, session: str) -> list[SessionNote]:
    """Return the notes about a session, the oldest first. Raises: StoreError."""
    columns = (session_notes.c[name] for name in SessionNote._fields)
    query = select(*columns).where(session_notes.c.session == session).order_by(session_notes.c.number)
    return [SessionNote._make(row) for row in store.read(query)]
