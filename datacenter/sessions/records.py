"""The rows of remote sessions in the store, for lists and pages. The proof of a session is the audit file."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import func, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import remote_sessions
from wire.session.table import Cause, SessionState

_S: Final = remote_sessions.c


class SessionProgress(NamedTuple):
    """The state of a session in its row."""

    session: str
    """The identifier in hexadecimal digits."""
    state: str
    cause: str


def save_progress(store: Store, progress: SessionProgress, now_ms: int) -> None:
    """Store the state of a session; committed on return. Raises: StoreError.

    An ended session remains ended; only its cause can be changed, when the box reports the reason.
    """
    session, state, cause = progress
    values: dict[str, object] = {"state": state, "cause": cause}
    if state == SessionState.OPEN:
        values["opened_at_ms"] = now_ms
    if state == SessionState.ENDED:
        values["ended_at_ms"] = func.coalesce(_S.ended_at_ms, now_ms)
    is_this = _S.id == session
    if state != SessionState.ENDED:
        is_this &= _S.state != SessionState.ENDED
    with store.transaction() as connection:
        connection.execute(update(remote_sessions).where(is_this).values(values))


def save_recording_head(store: Store, session: str, head: bytes) -> None:
    """Store the signed head of a complete recording. Raises: StoreError."""
    with store.transaction() as connection:
        connection.execute(update(remote_sessions).where(_S.id == session).values(recording_head=head))


def end_all_rows(store: Store, now_ms: int) -> None:
    """Record that a restart has ended the sessions of an earlier run. Raises: StoreError."""
    values = {"state": SessionState.ENDED, "cause": Cause.RESTARTED, "ended_at_ms": now_ms}
    with store.transaction() as connection:
        live = _S.state != SessionState.ENDED
        connection.execute(update(remote_sessions).where(live).values(values))
