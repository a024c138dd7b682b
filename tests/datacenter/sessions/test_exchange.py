"""Box and data center exchange the messages of sessions on a separate connection, in both directions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from agents.box.sessions.exchange import SessionMessageExchange
from datacenter.sessions.desk import Outbox
from datacenter.sessions.exchange import SessionExchange
from sim.net.loop import SimLoop
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from wire.http.connection import ClientConnection, Request, Response, serve
from wire.session.messages import (
    EXCHANGE_BYTES_MAX,
    HOLD_SECONDS,
    EndMessage,
    FromBox,
    GrantMessage,
    ShownMessage,
    ToBox,
)

BOX = "RAP-0001"
SESSION = bytes(16)
END = EndMessage(SESSION, "withdrawn")
SHOWN = ShownMessage(SESSION)


class Desk:
    """Records the messages of boxes."""

    def __init__(self) -> None:
        self.received: list[FromBox] = []
        self.times_repeated = 0

    async def receive(self, box: str, message: FromBox) -> None:
        assert box == BOX
        self.received.append(message)

    def repeat_messages(self, box: str) -> None:
        assert box == BOX
        self.times_repeated += 1


class Ends:
    """A data center, and the line of a box."""

    def __init__(self) -> None:
        self.desk, self.outbox = Desk(), Outbox()
        self.exchange = SessionExchange(self.desk, self.outbox)  # type: ignore[arg-type]
        self.received: list[ToBox] = []
        self.is_live = False
        self.dials = self.requests = 0
        self.lost_answers = 0
        self.port = 0
        self.connection: ClientConnection | None = None
        self.line = SessionMessageExchange(self.dial, self.receive, lambda: self.is_live, Random(1))

    async def handle(self, request: Request) -> Response:
        self.requests += 1
        response = await self.exchange.answer(BOX, request)
        if self.lost_answers:
            self.lost_answers -= 1
            request.peer.hang_up()
        return response

    async def dial(self) -> ClientConnection:
        self.dials += 1
        connection = ClientConnection("datacenter", EXCHANGE_BYTES_MAX)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self.port)
        self.connection = connection
        return connection

    async def receive(self, message: ToBox) -> None:
        self.received.append(message)


def run(act: Callable[[Ends], Awaitable[None]]) -> None:
    async def inside() -> None:
        ends = Ends()
        server = await serve(
            ends.handle, "127.0.0.1", 0, tls=None, body_bytes_max=EXCHANGE_BYTES_MAX, now=lambda: 0.0
        )
        ends.port = server.port
        running = asyncio.create_task(ends.line.run())
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await act(ends)
        finally:
            running.cancel()
            await server.close()

    asyncio.run(inside())


def test_a_message_that_waits_at_the_data_center_is_fetched() -> None:
    async def act(ends: Ends) -> None:
        ends.outbox.send(BOX, END)
        ends.line.wake()
        await eventually(lambda: ends.received == [END])
        assert ends.desk.times_repeated == ends.requests

    run(act)


def test_without_messages_there_is_no_connection() -> None:
    async def act(ends: Ends) -> None:
        await asyncio.sleep(0)
        assert ends.dials == 0
        ends.line.send(SHOWN)
        await eventually(lambda: ends.connection is not None and ends.connection.transport is None)
        assert ends.desk.received == [SHOWN]
        assert (ends.dials, ends.requests) == (1, 1)

    run(act)


def test_while_a_request_waits_each_end_can_send_at_once() -> None:
    async def act(ends: Ends) -> None:
        ends.is_live = True
        ends.line.wake()
        await eventually(lambda: ends.requests == 1)
        ends.line.send(SHOWN)  # the waiting request must not delay it
        await eventually(lambda: ends.desk.received == [SHOWN])
        await eventually(lambda: ends.requests == 3)
        ends.outbox.send(BOX, END)
        await eventually(lambda: ends.received == [END])
        assert ends.dials == 1

    run(act)


def test_a_message_without_an_answer_is_sent_again() -> None:
    async def act(ends: Ends) -> None:
        ends.lost_answers = 1
        ends.line.send(SHOWN)
        await eventually(lambda: ends.desk.received == [SHOWN, SHOWN])
        assert ends.dials == 2

    run(act)


def test_messages_arrive_in_their_order() -> None:
    async def act(ends: Ends) -> None:
        ends.is_live = True
        sent = [GrantMessage(SESSION, bytes([number])) for number in range(100)]
        for message in sent:
            ends.line.send(message)
            await asyncio.sleep(0)
        await eventually(lambda: len(ends.desk.received) == len(sent))
        assert ends.desk.received == sent

    run(act)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x91\x93\xa5other\x01\x02"])
def test_an_invalid_message_is_refused(body: bytes) -> None:
    async def act(ends: Ends) -> None:
        connection = await ends.dial()
        response = await connection.request("POST", "/v1/sessions", body)
        assert response.status == 422
        assert not ends.desk.received

    run(act)


def test_a_response_without_messages_is_held_for_its_time_limit() -> None:
    loop = SimLoop()

    async def wait() -> float:
        await Outbox().wait(BOX, asyncio.Event(), HOLD_SECONDS)
        return loop.time()

    assert loop.run_until_complete(wait()) == HOLD_SECONDS


def test_messages_are_sent_to_the_newest_request_of_a_box() -> None:
    async def inside() -> None:
        outbox, first, second = Outbox(), asyncio.Event(), asyncio.Event()
        older = asyncio.create_task(outbox.wait(BOX, first, 1000))
        await asyncio.sleep(0)
        newer = asyncio.create_task(outbox.wait(BOX, second, 1000))
        await asyncio.sleep(0)
        outbox.send(BOX, END)
        await newer
        assert not older.done()
        first.set()
        await older

    asyncio.run(inside())
