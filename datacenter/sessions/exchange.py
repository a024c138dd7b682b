"""Answers `POST /v1/sessions`, by which a box and the data center exchange the messages of sessions.

The response is sent when there is a message for the box, the box sends a further request on the same connection, or
HOLD_SECONDS have passed. A box therefore learns immediately of actions of staff, and can always report actions of the
person. Requests are short and infrequent: two a minute and less than a kilobyte while nothing happens.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from datacenter.sessions.desk import Outbox, SessionDesk
from wire.http.connection import Request, Response
from wire.messages import MessageError, decode, encode
from wire.session.messages import HOLD_SECONDS, Exchange, ExchangeReply


class SessionExchange:
    """Exchanges messages with boxes, whose names their certificates have proved."""

    def __init__(self, desk: SessionDesk, outbox: Outbox) -> None:
        self._desk, self._outbox = desk, outbox

    async def answer(self, box: str, request: Request) -> Response:
        """Handle the messages of a box, and return those for it."""
        try:
            exchange = decode(Exchange, request.body)
        except MessageError as error:
            return Response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error).encode(), close=True)
        for message in exchange.messages:
            await self._desk.receive(box, message)
        self._desk.repeat_messages(box)
        released = asyncio.Event()
        request.peer.on_next = released.set
        if not exchange.messages:
            await self._outbox.wait(box, released, HOLD_SECONDS)
        return Response(HTTPStatus.OK, encode(ExchangeReply(self._outbox.take(box))))
