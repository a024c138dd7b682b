"""The agent on an instrument: numbers its reports and posts them to the box until they are acknowledged.

`submit` only queues a report. One request at a time is in flight, with up to 64 of the queued reports, so that a
single report is sent immediately and a thousand need few requests.

Each start of the agent needs a higher run number than the previous start. If the box responds that a run was used
before, for example because the clock that gives the run number was set back, the agent continues under the run that
the box names.

Commands arrive with the box's receipts (`agents.instrument.command_runner`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, TypeAlias

from agents.instrument.command_runner import CommandRunner, Instrument, NoCommands
from agents.instrument.files import FileClient
from agents.instrument.report_queue import QUEUE_REPORTS_MAX, ReportQueue
from hal.clock import WallClock
from settings.ranges import RangeSet
from settings.types import Endpoint
from wire.dial.adaptive_timeout import AdaptiveTimeout
from wire.dial.backoff import Backoff, retry_after
from wire.dial.dialer import DIAL_TIMEOUT_FACTOR_MAX, dial
from wire.http.connection import ClientConnection, HttpError, Response
from wire.messages import (
    NEXT_RUN,
    REPLY_BYTES_MAX,
    RUN_MAX,
    InstrumentReport,
    MessageError,
    Receipt,
    Reports,
    decode,
    encode,
)
from wire.process.ratelimit import TokenBucket
from wire.tls.context import ClientContext

POST_SECONDS_MAX: Final = 30.0
"""Timeout of a response, before `AdaptiveTimeout` extends it."""
POST_TIMEOUT_FACTOR_MAX: Final = 10.0
"""Largest factor of POST_SECONDS_MAX, for a slow box."""
DROPS_BURST: Final = 16
DROPS_PER_SECOND: Final = 1 / 600
"""Limit of the rejected reports that are dropped while the box accepts none: the box may be at fault."""

OnMade: TypeAlias = Callable[[InstrumentReport], object]
OnAcknowledged: TypeAlias = Callable[[list[InstrumentReport]], object]


def _ignore(_reports: object) -> None:
    pass


class InstrumentAgent:
    """The agent of one instrument, which its TLS certificate identifies.

    `run_number` identifies this start of the agent; it changes if the box reports that it was used before. `made`
    counts the reports of this start, which are numbered from 1 to `made`. `instrument` executes commands. `on_made`
    is called with each report when it is queued, `on_acknowledged` with the reports that the box has just stored.
    """

    def __init__(
        self,
        box: Endpoint,
        tls: ClientContext,
        *,
        run_number: int,
        clock: WallClock,
        random: Random,
        instrument: Instrument | None = None,
        on_made: OnMade = _ignore,
        on_acknowledged: OnAcknowledged = _ignore,
        queue_reports_max: int = QUEUE_REPORTS_MAX,
    ) -> None:
        self.run_number = run_number
        self.made = 0
        self._box, self._tls, self._clock = box, tls, clock
        self._on_made, self._on_acknowledged = on_made, on_acknowledged
        self._queue = ReportQueue(queue_reports_max)
        self._backoff = Backoff(random)
        self._drop_limit = TokenBucket(DROPS_PER_SECOND, DROPS_BURST)
        self._reply_timeout = AdaptiveTimeout(POST_TIMEOUT_FACTOR_MAX)
        self._dial_timeout = AdaptiveTimeout(DIAL_TIMEOUT_FACTOR_MAX)
        self._loop = asyncio.get_running_loop()
        self._queued = asyncio.Event()
        self._connection: ClientConnection | None = None
        self._files = FileClient(box, tls, random)
        self._commands = CommandRunner(self.submit, self._files, instrument or NoCommands())

    @property
    def acknowledged(self) -> RangeSet:
        """Numbers of the reports that the box has stored."""
        return self._queue.acknowledged

    @property
    def dropped(self) -> RangeSet:
        """Numbers of the reports that were dropped because the queue was full or the box rejects them."""
        return self._queue.dropped

    @property
    def waiting(self) -> int:
        """Reports that are neither acknowledged nor dropped yet."""
        return len(self._queue)

    def submit(self, kind: type[InstrumentReport], *fields: object) -> int:
        """Queue a report of `kind` with these fields after `number` and `at_ms`; returns its number."""
        self.made += 1
        report = kind(self.made, self._clock.now_ns() // 1_000_000, *fields)  # type: ignore[arg-type]
        self._on_made(report)
        self._queue.put(report)
        self._queued.set()
        return self.made

    def use(self, tls: ClientContext) -> None:
        """Use another certificate from now on: the connection is ended, and its reports are repeated on the next."""
        self._tls = tls
        self._files.use(tls)
        if self._connection is not None:
            self._connection.abort()

    async def run(self) -> None:
        """Post reports and execute commands, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._post_all())
            tasks.create_task(self._commands.run())

    # -- reports ----------------------------------------------------------------------------------------

    async def _post_all(self) -> None:
        connection: ClientConnection | None = None
        try:
            while True:
                await self._wait_for_reports()
                try:
                    if connection is None or connection.transport is None:
                        connection = self._connection = await dial(
                            self._box,
                            self._tls,
                            reply_bytes_max=REPLY_BYTES_MAX,
                            adaptive_timeout=self._dial_timeout,
                        )
                    delay = self._handle_response(await self._post(connection))
                    self._remember(connection)
                except (OSError, HttpError, MessageError):
                    self._tls.forget()
                    if connection is not None:
                        connection.abort()
                    delay = self._backoff.failed()
                if delay:
                    await asyncio.sleep(delay)
        finally:
            if connection is not None:
                connection.abort()

    async def _wait_for_reports(self) -> None:
        if not self._queue:
            self._queued.clear()
            await self._queued.wait()

    async def _post(self, connection: ClientConnection) -> Response:
        body = encode(Reports(self.run_number, self._queue.post()))
        asked_at = self._loop.time()
        timer = self._loop.call_later(
            POST_SECONDS_MAX * self._reply_timeout.factor, self._abort_request, connection
        )
        try:
            response = await connection.request("POST", "/v1/reports", body)
        finally:
            timer.cancel()
        self._reply_timeout.answered((self._loop.time() - asked_at) / POST_SECONDS_MAX)
        return response

    def _abort_request(self, connection: ClientConnection) -> None:
        self._reply_timeout.expired()
        connection.abort()

    def _handle_response(self, response: Response) -> float:
        """Act on the box's response; return the seconds to wait before the next request."""
        if response.status in (400, 413):
            return self._isolate_refused()
        if response.status == 409 and (next_run := _next_run(response)) is not None:
            self.run_number = next_run
        if response.status != 200:
            return self._backoff.failed(retry_after(response.headers, self._clock.now_ns() / 1e9))
        receipt = decode(Receipt, response.body)
        if receipt.accepted != len(self._queue.post()):
            raise MessageError(f"the receipt is for {receipt.accepted} reports")
        self._backoff.succeeded()
        self._drop_limit = TokenBucket(DROPS_PER_SECOND, DROPS_BURST)
        reports = self._queue.posted()
        self._commands.acknowledged(reports, receipt.withdrawn)
        self._on_acknowledged(reports)
        for command in receipt.commands:
            self._commands.received(command)
        return 0.0

    def _isolate_refused(self) -> float:
        """Find and drop the report that the box rejects; return the seconds to wait before the next request."""
        if self._queue.is_posting_one and self._drop_limit.take(1, self._loop.time()):
            return self._backoff.failed()
        self._queue.refused()
        return 0.0

    def _remember(self, connection: ClientConnection) -> None:
        if connection.transport is not None:
            self._tls.remember(connection.transport, self._loop.time())


def _next_run(response: Response) -> int | None:
    """Return the run that a refusal names as the next; None if there is none."""
    value = response.headers.get(NEXT_RUN, "")
    is_number = value.isascii() and value.isdigit() and len(value) <= len(str(RUN_MAX))
    return int(value) if is_number and int(value) <= RUN_MAX else None
