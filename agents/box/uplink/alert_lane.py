"""The alert lane: a second connection for alerts while the data center responds slowly to routine records.

Responses arrive in the order of the requests, so an alert on the first connection would wait for all batches before
it. The alert lane is opened when an alert waits behind a batch that has been unanswered for SLOW_SECONDS. It carries
all unacknowledged urgent records (alerts and audit records); meanwhile the first connection carries routine records
only. An alert that was already sent on the first connection is sent twice, and the data center stores it once. The
alert lane is closed when the first connection's responses are fast again, or after LANE_IDLE_SECONDS without a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from typing import Final

from agents.box.uplink.batching import LinkEstimator
from agents.box.uplink.stream import Stream, StreamEnd, StreamError
from agents.spool import SpoolError
from wire.dial.backoff import Backoff
from wire.dial.proxy import ProxyError
from wire.http.connection import ClientConnection

LANE_IDLE_SECONDS: Final = 60.0
LANE_REST_SECONDS: Final = 600.0
"""Minimum time that the lane stays closed after a 5xx response, which an intermediary sends if it waited too long.
If the data center processes one batch at a time, two connections can make both too slow for the intermediary."""


class AlertLane:
    """The second connection, opened on demand; a `Bypass` of the stream on the first one."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[ClientConnection]],
        make_stream: Callable[[ClientConnection, LinkEstimator], Stream],
        ended: Callable[[ClientConnection | None, Exception, bool], object],
        random: Random,
    ) -> None:
        """`ended(connection, error, unsent)` is called when the lane was closed or could not be opened.

        `unsent` is True if urgent records may be waiting.
        """
        self._dial, self._make_stream, self._ended = dial, make_stream, ended
        self._loop = asyncio.get_running_loop()
        self._estimator = LinkEstimator()
        self._backoff = Backoff(random)
        self._opens_at = -inf
        self._running: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._has_answered = False
        self.connection: ClientConnection | None = None
        """The connection; None while the lane is closed."""

    @property
    def is_up(self) -> bool:
        """Whether the lane carries the urgent records."""
        return self._stream is not None

    def opens_at(self) -> float:
        """Return the event loop time from which `open` may be called; inf while the lane is open or being opened."""
        return inf if self._running is not None else self._opens_at

    def open(self) -> None:
        """Start opening the lane."""
        assert self._running is None
        self._running = self._loop.create_task(self._run())

    def answered(self) -> bool:
        """Record a response; return whether it is the first response on this connection."""
        self._backoff.succeeded()
        is_first, self._has_answered = not self._has_answered, True
        return is_first

    def release(self) -> None:
        """Close the lane as soon as no record waits and no response is awaited."""
        if self._stream is not None:
            self._stream.release()

    def abort(self) -> None:
        """Close the lane at once, because the network path may have changed."""
        if self.connection is not None:
            self.connection.abort()

    def cancel(self) -> None:
        """Close the lane, or abort the attempt to open it, at the end of the program."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        self._has_answered = False
        try:
            self.connection = await self._dial()
            self._stream = self._make_stream(self.connection, self._estimator)
            await self._stream.run()
        except (OSError, ProxyError, StreamError, SpoolError) as error:
            self._opens_at = self._loop.time() + self._delay(error)
            self._ended(self.connection, error, self._may_have_unsent(error))
        finally:
            self._running = self._stream = self.connection = None

    def _may_have_unsent(self, error: Exception) -> bool:
        """Return whether there may be unacknowledged urgent records."""
        is_idle = isinstance(error, StreamError) and error.kind is StreamEnd.IDLE
        return not is_idle or self._stream is None or self._stream.is_urgent

    def _delay(self, error: Exception) -> float:
        """Return how long the lane stays closed, in seconds."""
        if isinstance(error, StreamError):
            if error.kind is StreamEnd.IDLE:
                return 0.0
            if error.kind is StreamEnd.REFUSED and error.status >= 500:
                return max(LANE_REST_SECONDS, error.retry_after_s)
            return self._backoff.failed(error.retry_after_s)
        return self._backoff.failed()
