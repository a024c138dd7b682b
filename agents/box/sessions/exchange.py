"""The connection on which a box and the data center exchange the messages of sessions.

It exists only while there is something to exchange: the response to a batch says that messages wait at the data
center, or the box has a session or a message. One request waits at the data center, which responds as soon as there
is a message; a message of the box is sent at once with a second request. Each side repeats its messages until they
are answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from random import Random
from typing import Final

from wire.dial.backoff import Backoff
from wire.dial.proxy import ProxyError
from wire.http.connection import ClientConnection, HttpError, Response
from wire.messages import MessageError, decode, encode
from wire.session.messages import HOLD_SECONDS, MESSAGES_MAX, PATH, Exchange, ExchangeReply, FromBox, ToBox

ANSWER_SECONDS_MAX: Final = HOLD_SECONDS + 45.0
"""Time without a response after which the connection counts as dead."""


class SessionMessageExchange:
    """Sends and receives messages while there are any."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[ClientConnection]],
        receive: Callable[[ToBox], Awaitable[None]],
        is_live: Callable[[], bool],
        random: Random,
    ) -> None:
        """`dial` connects to the data center, and raises OSError or ProxyError; `receive` handles a message;
        `is_live` returns whether any session is not over.
        """
        self._dial, self._receive, self._is_live = dial, receive, is_live
        self._backoff = Backoff(random)
        self._waiting: deque[FromBox] = deque()
        self._wanted = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def send(self, message: FromBox) -> None:
        """Send a message."""
        self._waiting.append(message)
        self._emptied.clear()
        self._wanted.set()

    def wake(self) -> None:
        """Fetch the messages that wait at the data center."""
        self._wanted.set()

    async def emptied(self) -> None:
        """Wait until the data center has answered every message."""
        await self._emptied.wait()

    async def run(self) -> None:
        """Exchange messages until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                connection = await self._dial()
                try:
                    await self._exchange(connection)
                finally:
                    connection.abort()
            except (OSError, ProxyError, HttpError, MessageError):
                self._wanted.set()
                await asyncio.sleep(self._backoff.failed())

    async def _exchange(self, connection: ClientConnection) -> None:
        """Exchange messages until there is nothing to exchange. Raises: OSError, HttpError, MessageError."""
        in_flight: deque[tuple[asyncio.Future[Response], int]] = deque()
        try:
            await self._exchange_while_needed(connection, in_flight)
        finally:
            for answer, _ in in_flight:
                answer.add_done_callback(_ignore_error)

    async def _exchange_while_needed(
        self, connection: ClientConnection, in_flight: deque[tuple[asyncio.Future[Response], int]]
    ) -> None:
        sent = 0
        while True:
            self._wanted.clear()
            if len(self._waiting) > sent or not in_flight:
                messages = list(self._waiting)[sent : sent + MESSAGES_MAX]
                sent += len(messages)
                in_flight.append(
                    (connection.request("POST", PATH, encode(Exchange(messages))), len(messages))
                )
            answer, count = in_flight[0]
            if not await self._answered(answer):
                continue
            in_flight.popleft()
            response = answer.result()
            if response.status != HTTPStatus.OK:
                raise HttpError(f"the data center responded with status {response.status}")
            for _ in range(count):
                self._waiting.popleft()
            sent -= count
            if not self._waiting:
                self._emptied.set()
            self._backoff.succeeded()
            reply = decode(ExchangeReply, response.body)
            for message in reply.messages:
                await self._receive(message)
            if not (reply.messages or self._waiting or in_flight or self._is_live()):
                return

    async def _answered(self, answer: asyncio.Future[Response]) -> bool:
        """Wait for the answer or a further message; return whether the answer has arrived. Raises: TimeoutError."""
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await asyncio.wait((answer, wanted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
        return answer.done()


def _ignore_error(answer: asyncio.Future[Response]) -> None:
    """Retrieve the error of an answer that is no longer awaited, so that asyncio does not report it."""
    if not answer.cancelled():
        answer.exception()
