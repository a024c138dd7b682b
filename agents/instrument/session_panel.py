"""Remote sessions on the instrument: shows requests of staff to the person there, and sends the person's actions.

The box decides whether a session is permitted. This module has no setting and no timer that permits one: it sends a
code only when `enter_code` is called, which the instrument's software does with the digits that a person has typed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from random import Random
from typing import Final, Protocol

from settings.types import Endpoint
from wire.dial.backoff import Backoff
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError, Response
from wire.messages import MessageError, decode, encode
from wire.session.panel import (
    HOLD_SECONDS,
    PATH,
    SHOWN_MAX,
    EndSession,
    EnterCode,
    PanelAsk,
    PanelReply,
    PersonAction,
    Refuse,
    ShownSession,
)
from wire.tls.context import ClientContext

REPLY_BYTES_MAX: Final = 8192
RESPONSE_SECONDS_MAX: Final = HOLD_SECONDS + 30.0


class SessionDisplay(Protocol):
    """The part of the instrument's display that shows remote sessions."""

    def show(self, sessions: Sequence[ShownSession]) -> None:
        """Show these sessions in place of the previous ones; none if the box is unreachable."""
        ...

    @property
    def displayed(self) -> Sequence[bytes]:
        """The sessions that a person can see now. A display that is off or covered has none."""
        ...


class SessionPanel:
    """Asks the box for the sessions with this instrument while `run` runs."""

    def __init__(self, box: Endpoint, tls: ClientContext, random: Random, display: SessionDisplay) -> None:
        self._box, self._tls, self._display = box, tls, display
        self._backoff = Backoff(random)
        self._actions: deque[PersonAction] = deque(maxlen=SHOWN_MAX)
        self._acted = asyncio.Event()
        self._known = ""

    def enter_code(self, session: bytes, code: str) -> None:
        """Report that the person has entered the six digits that staff gave by telephone."""
        self._act(EnterCode(session, code))

    def refuse(self, session: bytes) -> None:
        """Report that the person refuses the request."""
        self._act(Refuse(session))

    def end(self, session: bytes) -> None:
        """Report that the person ends the session."""
        self._act(EndSession(session))

    async def run(self) -> None:
        """Show the sessions until cancelled."""
        while True:
            try:
                connection = await dial(self._box, self._tls, reply_bytes_max=REPLY_BYTES_MAX)
                try:
                    while True:
                        await self._ask(connection)
                finally:
                    connection.abort()
            except (OSError, HttpError, MessageError):
                self._known = ""
                self._display.show([])
                # a code whose response was lost would count twice: the person sees the request again
                remaining = [action for action in self._actions if not isinstance(action, EnterCode)]
                self._actions = deque(remaining, maxlen=SHOWN_MAX)
                await asyncio.sleep(self._backoff.failed())

    async def _ask(self, connection: ClientConnection) -> None:
        """Request the sessions when they change; an action of the person, on the same connection, ends the wait."""
        self._acted.clear()
        if self._actions:
            self._acted.set()
        responses = [self._request(connection, None)]
        acted = asyncio.ensure_future(self._acted.wait())
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                await asyncio.wait((responses[0], acted), return_when=asyncio.FIRST_COMPLETED)
                responses += [self._request(connection, action) for action in self._actions]
                for number, response in enumerate(responses):
                    self._accept(await response)
                    if number:
                        self._actions.popleft()
        finally:
            acted.cancel()
            for response in responses:
                response.add_done_callback(_ignore_error)

    def _request(self, connection: ClientConnection, action: PersonAction | None) -> asyncio.Future[Response]:
        ask = PanelAsk(list(self._display.displayed)[:SHOWN_MAX], self._known, action)
        return connection.request("POST", PATH, encode(ask))

    def _accept(self, response: Response) -> None:
        if response.status != HTTPStatus.OK:
            raise HttpError(f"the box responded with status {response.status}")
        reply = decode(PanelReply, response.body)
        self._backoff.succeeded()
        self._known = reply.version
        self._display.show(reply.sessions)

    def _act(self, action: PersonAction) -> None:
        self._actions.append(action)
        self._acted.set()


def _ignore_error(response: asyncio.Future[Response]) -> None:
    """Retrieve the exception of a response that is no longer awaited, so that asyncio does not report it."""
    if not response.cancelled():
        response.exception()
