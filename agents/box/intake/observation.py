"""Parses the traffic between an instrument and the laboratory's host, and stores the findings.

`ConnectionObservation.add` queues the bytes and returns at once, so that neither the parser nor the disk can delay or
change the traffic. Parsing falls behind if the disk is slow or refuses writes. Findings and up to `BEHIND_BYTES_MAX`
bytes of traffic then wait in memory; if there are more, the waiting bytes are discarded unparsed, which is counted
(`passed-unread`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agents.box.intake.adapter import report_failure
from agents.box.intake.intake import Intake, Note, Source
from wire.standards.engine import Action, Count, Deliver, Observer, Outcome
from wire.standards.extract import Extract, Reason

BEHIND_BYTES_MAX: Final = 128 * 1024
"""Maximum number of bytes of one connection that wait to be parsed."""
RETRY_SECONDS: Final = 5.0
"""Pause before another attempt to store refused findings."""
AFTER_END_SECONDS_MAX: Final = 60.0
"""How long the storing of findings is retried after the end of their connection."""

MakeObserver = Callable[[], Observer]


class ConnectionObservation:
    """The observation of one connection, or of a port's serial lines."""

    def __init__(self, intake: Intake, source: Source, make_observer: MakeObserver, note: Note) -> None:
        self._intake, self._source, self._note = intake, source, note
        self._make_observer = make_observer
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[bool, bytes] | None] = deque()
        """Direction and bytes; None where bytes are missing."""
        self._waiting_bytes = self._skips = 0
        self._changed = asyncio.Event()
        self._ended_at: float | None = None

    def add(self, data: bytes, *, from_host: bool) -> None:
        """Add bytes of the traffic. Never waits, and never fails."""
        if not from_host:
            self._source.last_byte_s = self._loop.time()
        if self._waiting_bytes + len(data) > BEHIND_BYTES_MAX:
            self._waiting.clear()
            self._waiting_bytes = 0
            self._skips += 1
            self._source.counts[Reason.PASSED_UNREAD] += 1
            self.interrupt()
        self._waiting.append((from_host, data))
        self._waiting_bytes += len(data)
        self._changed.set()

    def interrupt(self) -> None:
        """Mark a gap in the traffic: parsing starts again after it."""
        self._waiting.append(None)
        self._changed.set()

    def end(self) -> None:
        """Report that the connection has ended: `run` returns when everything is parsed."""
        self._ended_at = self._loop.time()
        self._changed.set()

    async def run(self) -> None:
        """Parse the traffic until the connection has ended and everything is parsed. Observer errors are reported."""
        observer: Observer | None = None
        while self._waiting or self._ended_at is None:
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            item = self._waiting.popleft()
            try:
                if item is None:
                    self._close(observer)
                    observer = None
                else:
                    observer = observer or self._make_observer()
                    await self._read(observer, *item)
            except Exception as error:
                report_failure(error, self._source, self._note)
                self._source.counts[Reason.PASSED_UNREAD] += 1
                observer = None
        with suppress(Exception):
            self._close(observer)

    def _close(self, observer: Observer | None) -> None:
        if observer is not None:
            self._count(observer.closed(self._loop.time()))

    async def _read(self, observer: Observer, from_host: bool, data: bytes) -> None:
        self._waiting_bytes -= len(data)
        process = observer.from_host if from_host else observer.from_instrument
        actions = process(data, self._loop.time())
        while actions:
            self._count(actions)
            last = actions[-1]
            if not isinstance(last, Deliver):
                return
            actions = observer.decided(await self._store(last.extract), self._loop.time())

    async def _store(self, extract: Extract) -> Outcome:
        """Store findings, with retries, because the host has received the message and it will not be repeated."""
        skips = self._skips
        while True:
            outcome = await self._intake.accept(self._source, extract)
            self._intake.answered(self._source)  # the host has answered it already
            if outcome is not Outcome.BUSY or self._skips != skips or self._is_too_late():
                return outcome
            await asyncio.sleep(RETRY_SECONDS)

    def _is_too_late(self) -> bool:
        ended_at = self._ended_at
        return ended_at is not None and self._loop.time() >= ended_at + AFTER_END_SECONDS_MAX

    def _count(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Count):
                self._source.counts[action.reason] += action.number
