"""Sends notices: a task of the data center's program, which any number of processes may run at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

from datacenter.notices.notice import Notice
from datacenter.notices.outbox import (
    LEASE_MS,
    ROUTED_MAX,
    AttemptOutcome,
    AttemptResult,
    claim,
    claim_open,
    have_work,
    route,
    settle,
)
from datacenter.notices.targets import NoticeTarget
from datacenter.notices.transports import ATTEMPT_SECONDS_MAX, Transport
from datacenter.store.calls import call_database
from datacenter.store.errors import StoreError
from datacenter.store.store import Store

PAUSE_SECONDS: Final = 1.0
END_SECONDS_MAX: Final = 8.0
REFRESH_MS: Final = 300_000
"""The interval at which open alerts are posted again, because an Alertmanager that restarts loses its alerts."""
SETTLE_TRIES: Final = 10
_log: Final = logging.getLogger(__name__)
T = TypeVar("T")

assert LEASE_MS > 2 * 1000 * ATTEMPT_SECONDS_MAX, "an attempt must end before its lease"


class NoticeSender:
    """Sends the notices in a store to targets. `process` must differ between processes; `link` is the pages' address.

    The database is called on `executor`; None is the event loop's default executor.
    """

    def __init__(
        self,
        store: Store,
        targets: Sequence[NoticeTarget],
        transport: Transport,
        process: str,
        now_ms: Callable[[], int],
        executor: Executor | None = None,
        link: str = "",
    ) -> None:
        self._store, self._targets, self._transport = store, targets, transport
        self._process, self._now_ms, self._executor, self._link = process, now_ms, executor, link
        self._refreshed_ms: dict[str, int] = {}

    async def run(self) -> None:
        """Send until cancelled, then finish attempts within END_SECONDS_MAX. Failures of the database are logged."""
        while True:
            sending = asyncio.ensure_future(self.send_due())
            try:
                await asyncio.shield(sending)
            except StoreError as error:
                _log.error("notices: the database failed: %s", error)
            except asyncio.CancelledError:
                await asyncio.wait([sending], timeout=END_SECONDS_MAX)
                sending.cancel()
                await asyncio.wait([sending])
                raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def send_due(self) -> int:
        """Send the due notices to each target in one message; return the number of messages. Raises: StoreError."""
        while await self._call(route, self._targets, self._now_ms()) == ROUTED_MAX:
            pass
        waiting = await self._call(have_work)
        outcomes = await asyncio.gather(
            *(self._serve(target, has_work=target.name in waiting) for target in self._targets),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return sum(outcome for outcome in outcomes if isinstance(outcome, int))

    async def _serve(self, target: NoticeTarget, *, has_work: bool) -> int:
        sent = await self._send(target) if has_work else 0
        if target.alertmanager and not sent:
            await self._refresh(target)
        return sent

    async def _send(self, target: NoticeTarget) -> int:
        due = await self._call(claim, target, self._process, self._link, self._now_ms())
        if not due:
            return 0
        outcome = await self._attempt(target, due)
        await self._settle(target, due, outcome)
        return 1

    async def _attempt(self, target: NoticeTarget, due: Sequence[Notice]) -> AttemptOutcome:
        try:
            outcome = await self._transport.send(target, due, self._now_ms())
        except Exception as error:
            outcome = AttemptOutcome(AttemptResult.UNCERTAIN, f"internal error: {type(error).__name__}")
        if outcome.result is not AttemptResult.SENT:
            keys = ", ".join(notice.key for notice in due)
            _log.warning("notices %s to %s: %s: %s", keys, target.name, outcome.result, outcome.problem)
        return outcome

    async def _settle(self, target: NoticeTarget, due: Sequence[Notice], outcome: AttemptOutcome) -> None:
        """Record the outcome, with several tries: without a record, it would be uncertain. Raises: StoreError."""
        for _ in range(SETTLE_TRIES - 1):
            try:
                await self._call(settle, target, self._process, due, outcome, self._now_ms())
                return
            except StoreError as error:
                _log.error("notices: the outcome could not be recorded: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
        await self._call(settle, target, self._process, due, outcome, self._now_ms())

    async def _refresh(self, target: NoticeTarget) -> None:
        """Post open alerts again to an Alertmanager."""
        now_ms = self._now_ms()
        if now_ms < self._refreshed_ms.get(target.name, 0) + REFRESH_MS:
            return
        again = await self._call(claim_open, target, self._process, self._link, now_ms)
        if again is not None:
            self._refreshed_ms[target.name] = now_ms
            outcome = await self._attempt(target, again) if again else AttemptOutcome(AttemptResult.SENT)
            await self._settle(target, [], outcome)

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await call_database(self._executor, partial(function, self._store, *arguments))
