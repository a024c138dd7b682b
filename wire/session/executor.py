"""Executes the table for one session at one end: records each transition, then acts, one event at a time.

A row towards a session is executed after its audit record is durable, and if it still applies then; otherwise the
session ends, because its log records an action that was not performed. A row towards the end is executed first and
recorded afterwards, because nothing may prevent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, MutableMapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from wire.session.guards import Facts
from wire.session.step import Refusal, rows, step
from wire.session.table import Action, Actor, Cause, End, Event, Row, SessionState

_AUDITED: Final = "audit_written"
_SECOND_HAND: Final = (Cause.LINE_LOST, Cause.PEER_ENDED)
HISTORY_MAX: Final = 100
"""Maximum number of ended sessions that are kept, for the person's page and for notifying the other end."""


class Transition(NamedTuple):
    """A transition as recorded in the audit log."""

    session: bytes
    event: Event
    actor: Actor
    state: SessionState
    cause: Cause | None = None
    deadline_ns: int = 0
    """On the monotonic clock of this end, in the record of the first transition."""
    message: bytes = b""
    """The offer in the record of the first transition, the grant in the record of the transition to `authorized`, and
    the hash chain of the desktop's stream at its end: at the box in the record of the transition to `ending`, at the
    data center in that to `ended`."""


class SessionAudit(Protocol):
    """The log of sessions of one end."""

    def knows(self, session: bytes) -> bool:
        """Return whether the log has a record of this session."""
        ...

    async def record(self, transition: Transition) -> bool:
        """Write a transition; return whether it is durable."""
        ...

    def refused(self, session: bytes, reason: str) -> None:
        """Record an event that changed nothing."""
        ...

    def peer_head(self, head: bytes) -> None:
        """Record the signed head of the other end's audit file."""
        ...


class SessionExecutor:
    """The state of one session at one end; `BoxSession` and `DeskSession` have the facts and the actions."""

    end: End

    def __init__(self, session: bytes, audit: SessionAudit) -> None:
        self.id = session
        """The session's identifier."""
        self.state = SessionState.NEW
        self.cause: Cause | None = None
        self._peer_cause: Cause | None = None
        self._audit = audit
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_over(self) -> bool:
        """Whether it has ended and nothing of it is left."""
        return self.state is SessionState.ENDED

    @property
    def shown_cause(self) -> Cause | None:
        """The cause of the end, for people: the other end's reason if this end has only lost the connection.

        Packets stop before a message arrives: if the other end ends a session, this end often detects a lost line
        first.
        """
        return self._peer_cause if self.cause in _SECOND_HAND and self._peer_cause else self.cause

    async def peer_ended(self, cause: str, actor: Actor) -> None:
        """Handle the other end's message that it has ended the session, with its reason."""
        with suppress(ValueError):  # a word of a later version
            if (peer_cause := Cause(cause)) not in _SECOND_HAND:
                self._peer_cause = peer_cause
        await self.event(Event.PEER_ENDED, actor)

    async def event(self, event: Event, actor: Actor, **facts: Any) -> None:
        """Handle an event, with facts that concern only it."""
        async with self._lock:
            await self._step(event, actor, **facts)

    def later(self, event: Event, actor: Actor) -> None:
        """Handle an event after the current one."""
        self._start(self.event(event, actor))

    # facts and actions of the ends

    def _facts(self, **known: Any) -> Facts:
        """Return the current facts of this end, updated with `known`."""
        raise NotImplementedError

    async def _act(self, action: Action) -> None:
        """Execute one action of a row."""
        raise NotImplementedError

    def _message(self, row: Row) -> bytes:  # noqa: ARG002
        """Return the message that belongs to the record of a row."""
        return b""

    def _deadline_ns(self, row: Row) -> int:  # noqa: ARG002
        """Return the deadline, for the record of the row at which this end has computed it."""
        return 0

    def _changed(self, row: Row) -> None:
        """Called after a row was executed."""

    # the table

    async def _step(self, event: Event, actor: Actor, **facts: Any) -> None:
        row = step(self.end, self.state, event, actor, self._facts(audit_written=True, **facts))
        if isinstance(row, Refusal):
            if rows(self.end, self.state, event):
                self._audit.refused(self.id, row.reason)
        elif _AUDITED in row.guards:
            await self._record_then_execute(row, actor, facts)
        else:
            await self._execute(row)
            await self._audit.record(self._transition(row, actor))

    async def _record_then_execute(self, row: Row, actor: Actor, facts: dict[str, Any]) -> None:
        """Record a row towards a session, then execute it if it still applies."""
        is_written = await self._audit.record(self._transition(row, actor))
        second = step(self.end, self.state, row.event, actor, self._facts(audit_written=is_written, **facts))
        if isinstance(second, Row):
            await self._execute(second)
        elif not is_written:
            await self._step(Event.AUDIT_FAILS, _OWN[self.end])
        else:
            self._audit.refused(self.id, second.reason)
            self.state = row.next  # as the log states, although no action was executed
            await self._step(Event.DEADLINE, Actor.CLOCK)
            if self.state is row.next:
                await self._step(Event.AUDIT_FAILS, _OWN[self.end])

    def _transition(self, row: Row, actor: Actor) -> Transition:
        message, deadline_ns = self._message(row), self._deadline_ns(row)
        return Transition(self.id, row.event, actor, row.next, row.cause, deadline_ns, message)

    async def _execute(self, row: Row) -> None:
        self.state = row.next
        self.cause = row.cause or self.cause
        for action in row.actions:
            await self._act(action)
        self._changed(row)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine concurrently with the events of the session."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


S = TypeVar("S", bound=SessionExecutor)
_OWN: Final = {End.BOX: Actor.BOX, End.DATA_CENTER: Actor.DATA_CENTER}


def forget_old(sessions: MutableMapping[bytes, S]) -> None:
    """Remove the oldest sessions that are over, and keep HISTORY_MAX of these."""
    ended = [id for id, session in sessions.items() if session.is_over]
    for id in ended[: max(0, len(ended) - HISTORY_MAX)]:
        del sessions[id]


class Deadline:
    """Passes the event `deadline` to a session when the monotonic clock has reached its deadline."""

    def __init__(self, session: SessionExecutor, at_ns: int, now_ns: int) -> None:
        self._session = session
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0, at_ns - now_ns) / 1e9, self._reached)

    def cancel(self) -> None:
        """Cancel the timer of a session that has ended."""
        self._timer.cancel()

    def _reached(self) -> None:
        self._session.later(Event.DEADLINE, Actor.CLOCK)
        self._timer = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._reached)


_AGAIN_SECONDS: Final = 1.0
"""The timer may fire a moment before the clock shows the deadline."""
