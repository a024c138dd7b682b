"""Writes the transitions of sessions to the audit file of one end, and signs its head when sessions open and end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from wire.session.audit import Kind, SessionRecord
from wire.session.executor import Transition
from wire.session.log import SessionLog
from wire.session.table import SessionState

_MS: Final = 1_000_000
_SIGNED_AT: Final = (SessionState.OPEN, SessionState.ENDED)
_TAKES_EFFECT_UNRECORDED: Final = (SessionState.ENDING, SessionState.ENDED)
"""States that are entered even if the transition could not be recorded."""
RETRY_SECONDS: Final = 10.0
"""Pause before another attempt to write the record of an end."""


class SessionRecorder:
    """The audit log of one end. Records are written one after the other, on `executor` (None: the loop's default).

    An end that cannot be recorded takes effect nevertheless: its record is written as soon as the disk permits it,
    before any other, with the time of the end.
    """

    def __init__(
        self,
        log: SessionLog,
        key: EllipticCurvePrivateKey,
        run: str,
        wall_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        send_head: Callable[[bytes, bytes], object],
        executor: Executor | None = None,
    ) -> None:
        """`run` identifies this run of the program; `send_head` sends a signed head to the other end of a session."""
        self._log, self._key, self._run = log, key, run
        self._wall_ns, self._monotonic_ns = wall_ns, monotonic_ns
        self._send_head, self._executor = send_head, executor
        self._lock = asyncio.Lock()
        self._outstanding: deque[tuple[SessionRecord, Transition]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recording = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def idle(self) -> None:
        """Return when no transition is being recorded: a session that has ended is recorded after its end."""
        await self._is_idle.wait()

    def use_key(self, key: EllipticCurvePrivateKey) -> None:
        """Sign heads with another key from now on."""
        self._key = key

    def knows(self, session: bytes) -> bool:
        """See `SessionAudit.knows`."""
        return self._log.is_used(session)

    async def record(self, transition: Transition) -> bool:
        """As `SessionAudit.record`; the head is signed, recorded and sent when the session opens or ends."""
        self._recording += 1
        self._is_idle.clear()
        try:
            return await self._recorded(transition)
        finally:
            self._recording -= 1
            if not self._recording:
                self._is_idle.set()

    async def _recorded(self, transition: Transition) -> bool:
        async with self._lock:
            record = self._record(
                "transition",
                session=transition.session.hex(),
                event=transition.event,
                actor=transition.actor,
                state=transition.state,
                cause=transition.cause or "",
                deadline_ms=transition.deadline_ns // _MS,
                message=transition.message.hex(),
            )
            is_durable = await self._write_outstanding() and await self._write(record)
        if is_durable:
            await self._sign(transition)
        elif transition.state in _TAKES_EFFECT_UNRECORDED:
            self._outstanding.append((record, transition))
            if len(self._outstanding) == 1:
                self._start(self._retry_outstanding())
        return is_durable

    def refused(self, session: bytes, reason: str) -> None:
        """See `SessionAudit.refused`."""
        self._start(self._append("refusal", session=session.hex(), cause=reason))

    def peer_head(self, head: bytes) -> None:
        """Record the signed head that the other end has sent."""
        self._start(self._append("peer head", message=head.hex()))

    def _record(self, kind: Kind, **fields: Any) -> SessionRecord:
        at_ms, monotonic_ms = self._wall_ns() // _MS, self._monotonic_ns() // _MS
        return SessionRecord(at_ms=at_ms, monotonic_ms=monotonic_ms, run=self._run, kind=kind, **fields)

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sign(self, transition: Transition) -> None:
        """Sign the head of the file if a session has opened or ended, and record and send it."""
        if transition.state not in _SIGNED_AT:
            return
        head = self._log.signed_head(self._key)
        if await self._append("head", message=head.hex()):
            self._send_head(transition.session, head)

    async def _retry_outstanding(self) -> None:
        """Write the outstanding records of ends until there are none."""
        while self._outstanding:
            await asyncio.sleep(RETRY_SECONDS)
            async with self._lock:
                await self._write_outstanding()

    async def _append(self, kind: Kind, **fields: Any) -> bool:
        """Write a record with the current time: the times of a file do not decrease."""
        async with self._lock:
            return await self._write_outstanding() and await self._write(self._record(kind, **fields))

    async def _write_outstanding(self) -> bool:
        """Write the outstanding records in order; return whether none is left."""
        while self._outstanding:
            record, transition = self._outstanding[0]
            if not await self._write(record):
                return False
            self._outstanding.popleft()
            self._start(self._sign(transition))
        return True

    async def _write(self, record: SessionRecord) -> bool:
        with suppress(OSError):
            await asyncio.get_running_loop().run_in_executor(self._executor, self._log.append, record)
            return True
        return False
