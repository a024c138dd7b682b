from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from wire.session.executor import SessionExecutor, Transition
from wire.session.guards import Facts
from wire.session.table import Action, Actor, Cause, End, Event, SessionState

S = SessionState
OPENED = Facts(
    deadline_ns=10, certificate_matches=True, others_with_tunnel=0, path_fenced=True, tunnel_gone=True
)


class SlowAudit:
    """An audit log that calls `during` in each write."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.during: Callable[[AuthorizedSession], object] = lambda _session: None
        self.session: AuthorizedSession | None = None
        self.is_full = False

    def knows(self, session: bytes) -> bool:
        return False

    async def record(self, transition: Transition) -> bool:
        await asyncio.sleep(0)
        assert self.session is not None
        self.during(self.session)
        if not self.is_full:
            self.transitions.append(transition)
        return not self.is_full

    def refused(self, session: bytes, reason: str) -> None:
        pass

    def peer_head(self, head: bytes) -> None:
        pass


class AuthorizedSession(SessionExecutor):
    """A session at the box whose grant exists."""

    end = End.BOX

    def __init__(self, audit: SlowAudit) -> None:
        super().__init__(b"session", audit)
        self.state = S.AUTHORIZED
        self.known = OPENED
        self.executed: list[Action | str] = []

    def _facts(self, **known: Any) -> Facts:
        return self.known._replace(**known)

    async def _act(self, action: Action) -> None:
        self.executed.append(action)


def receive_certificate(audit: SlowAudit) -> AuthorizedSession:
    async def run() -> AuthorizedSession:
        session = audit.session = AuthorizedSession(audit)
        await session.event(Event.CERTIFICATE_RECEIVED, Actor.DATA_CENTER)
        return session

    return asyncio.run(run())


def test_a_row_is_executed_after_its_record() -> None:
    audit = SlowAudit()
    audit.during = lambda session: session.executed.append("recorded")
    session = receive_certificate(audit)
    assert session.state is S.OPENING
    assert session.executed == ["recorded", Action.START_ENDPOINT]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [({"now_ns": 10}, Cause.EXPIRED), ({"path_fenced": False}, Cause.AUDIT_FAILED)],
)
def test_a_change_during_the_record_ends_the_session_with_a_recorded_cause(
    changes: dict[str, Any], cause: Cause
) -> None:
    audit = SlowAudit()
    audit.during = lambda session: setattr(session, "known", session.known._replace(**changes))
    session = receive_certificate(audit)
    assert Action.START_ENDPOINT not in session.executed
    assert session.cause is cause
    assert [transition.state for transition in audit.transitions] == [S.OPENING, S.ENDING]


def test_a_full_log_starts_nothing_and_ends_the_session() -> None:
    audit = SlowAudit()
    audit.during = lambda _: None
    audit.is_full = True
    session = receive_certificate(audit)
    assert (session.state, session.cause) == (S.ENDING, Cause.AUDIT_FAILED)
    assert Action.START_ENDPOINT not in session.executed
