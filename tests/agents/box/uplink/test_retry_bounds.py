"""The number of retries per minute is limited, regardless of why a connection ends or a batch is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import pytest

import agents.box.uplink.forwarder
from agents.box.clock_sync import ClockSync
from agents.box.uplink.forwarder import DIALS_BURST, DIALS_PER_SECOND
from agents.spool import Priority
from settings.types import Proxy
from sim.net import link
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire.dial.dialer import dial
from wire.http.connection import PIPELINE_MAX, Request, Response
from wire.messages import Alert, Entry, Quality, encode

LINE = link.LinkQuality(10_000_000, 10_000_000)
PERIOD_SECONDS: Final = 1200
ALERT_EVERY_SECONDS: Final = 5.0
PER_MINUTE_MAX: Final = DIALS_BURST + 60 * DIALS_PER_SECOND
PATIENT_PER_MINUTE_MAX: Final = 4
"""Long-term rate without success: the back-off has reached its maximum, half a minute on average."""
PROXY = Proxy("http", "localhost", 3128, "lab", "secret")

Handler = Callable[["Refusing", Request], Awaitable[Response]]


class Refusing(World):
    """A box whose data center responds to each batch with `answer`; `accept` replaces the peer's whole protocol.
    `meanwhile` runs beside the box.
    """

    def __init__(self, pki: Hierarchy) -> None:
        super().__init__(pki, LINE)
        self.answer: Handler | None = None
        self.accept: type[asyncio.Protocol] | None = None
        self.meanwhile: Callable[[Refusing], Awaitable[None]] | None = None
        self.is_clock_unstable = False
        self.backlog = 0
        self.drained_at = 0.0
        self.dialed: list[float] = []
        self.requested: list[float] = []
        self.store = self.center.handle
        self.center.handle = self.handle  # type: ignore[method-assign]

    async def handle(self, request: Request) -> Response:
        self.requested.append(self.loop.time())
        return await (self.answer(self, request) if self.answer else self.store(request))

    async def serve(self) -> None:
        if self.accept is None:
            await super().serve()
            return
        for port in (443, PROXY.port):
            await self.loop.create_server(self.accept, "localhost", port)

    def clock_sync(self) -> ClockSync | None:
        return UnstableClock() if self.is_clock_unstable else None

    async def fill(self) -> None:
        for number in range(1, self.backlog + 1):
            body = Quality(number, 0, "glu", 1, number)
            await self.buffer.append(Priority.ROUTINE, encode(Entry("CHEM-1", 1, body)))

    async def drained(self) -> None:
        while (await self.buffer.status()).records[Priority.ROUTINE]:
            await asyncio.sleep(0.1)
        self.drained_at = self.loop.time()

    async def live(self) -> None:
        meanwhile = asyncio.ensure_future(self.meanwhile(self)) if self.meanwhile else None
        for number in range(1, int(PERIOD_SECONDS / ALERT_EVERY_SECONDS)):
            body = Alert(number, 0, "L0100", "lamp", "error")
            await self.buffer.append(Priority.ALERT, encode(Entry("CHEM-1", 1, body)))
            await asyncio.sleep(ALERT_EVERY_SECONDS)
        if meanwhile is not None:
            meanwhile.cancel()


class UnstableClock(ClockSync):
    """A clock whose corrections succeed but do not last."""

    def __init__(self) -> None:
        pass

    def confirm(self, _date: str) -> None:
        pass

    async def recover(self, _error: Exception) -> bool:
        return True


class Resets(asyncio.Protocol):
    """A peer that resets each connection immediately."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class ResetsHello(asyncio.Protocol):
    """A peer that resets each connection at its first bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, _data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.abort()


def replies(reply: bytes) -> type[asyncio.Protocol]:
    class Replies(asyncio.Protocol):
        """A proxy with one reply to everything."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, _data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(reply)

    return Replies


def always(status: int, **headers: str) -> Handler:
    async def answer(_world: Refusing, _request: Request) -> Response:
        return Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def hang_up(_world: Refusing, request: Request) -> Response:
    request.peer.hang_up()
    return Response(200)


async def answer_and_close(world: Refusing, request: Request) -> Response:
    response = await world.store(request)
    return replace(response, headers={"connection": "close"}, close=True)


async def resumed_are_dropped(world: Refusing, request: Request) -> Response:
    response = await world.store(request)
    if not world.center.drop_resumed():
        response.close = True
    return response


async def nothing_is_readable(world: Refusing, request: Request) -> Response:
    world.center.unreadable = lambda _sequence, _entry: True
    return await world.store(request)


async def close_after_five_seconds(world: Refusing) -> None:
    while True:
        await asyncio.sleep(5.1)
        world.center.hang_up()


async def flap(world: Refusing) -> None:
    while True:
        await asyncio.sleep(0.2)
        world.uplink.backend.unplug()
        await asyncio.sleep(0.2)
        world.uplink.backend.plug()


def set_up(world: Refusing, **attributes: Any) -> None:
    for name, value in attributes.items():
        assert hasattr(world, name)
        setattr(world, name, value)


WITHOUT_SUCCESS: Final[dict[str, dict[str, Any]]] = {
    **{str(status): {"answer": always(status)} for status in (400, 403, 409, 421, 425, 429, 500, 503, 504)},
    "Retry-After: 0": {"answer": always(503, retry_after="0")},
    "redirect": {"answer": always(307, location="/v1/batches")},
    "407 from the data center": {"answer": always(407)},
    "interim responses alone": {"answer": always(103)},
    "nothing is readable": {"answer": nothing_is_readable},
    "connection lost instead of a response": {"answer": hang_up},
    "reset immediately": {"accept": Resets},
    "reset at the first bytes": {"accept": ResetsHello},
    "proxy resets": {"accept": Resets, "proxy": PROXY},
    "407 from the proxy": {
        "accept": replies(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n"),
        "proxy": PROXY,
    },
    "stale nonces": {
        "accept": replies(
            b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n"
            b'Proxy-Authenticate: Digest realm="r", nonce="n", stale=true, qop="auth"\r\n\r\n'
        ),
        "proxy": PROXY,
    },
    "interim responses from the proxy": {
        "accept": replies(b"HTTP/1.1 100 Continue\r\n\r\n" * 4),
        "proxy": PROXY,
    },
    "redirect from the proxy": {
        "accept": replies(b"HTTP/1.1 302 Found\r\nLocation: http://login\r\n\r\n"),
        "proxy": PROXY,
    },
}
"""Failures without any success: the intervals between attempts grow."""
WITH_PROGRESS: Final[dict[str, dict[str, Any]]] = {
    "answer, then close": {"answer": answer_and_close},
    "resumed sessions are dropped": {"answer": resumed_are_dropped},
    "closed every five seconds": {"meanwhile": close_after_five_seconds},
    "flapping carrier": {"meanwhile": flap},
    "flapping carrier, reset": {"meanwhile": flap, "accept": Resets},
    "unstable clock": {"is_clock_unstable": True, "accept": Resets},
}
"""Failures after each of which the box retries immediately."""


def run(pki: Hierarchy, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any]) -> Refusing:
    world = Refusing(pki)
    set_up(world, **attributes)

    async def counted(*args: Any, **kwargs: Any) -> Any:
        world.dialed.append(world.loop.time())
        return await dial(*args, **kwargs)

    monkeypatch.setattr(agents.box.uplink.forwarder, "dial", counted)
    world.run()
    return world


def per_minute_max(times: list[float]) -> int:
    return max((sum(start <= time < start + 60 for time in times) for start in times), default=0)


@pytest.mark.parametrize("kind", WITHOUT_SUCCESS)
@pytest.mark.slow("minutes of the box, with thousands of connections")
def test_without_success_the_intervals_grow(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    world = run(pki, monkeypatch, WITHOUT_SUCCESS[kind])
    assert 2 <= per_minute_max(world.dialed) <= PER_MINUTE_MAX
    assert per_minute_max(world.requested) <= PER_MINUTE_MAX * 2
    late = [time for time in world.dialed if time > PERIOD_SECONDS / 2]
    assert late, "the box stopped trying"
    assert len(late) / (PERIOD_SECONDS / 2 / 60) <= PATIENT_PER_MINUTE_MAX


@pytest.mark.slow("labs of twenty minutes, with TLS")
@pytest.mark.parametrize("kind", WITH_PROGRESS)
def test_immediate_retries_are_limited(pki: Hierarchy, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    world = run(pki, monkeypatch, WITH_PROGRESS[kind])
    assert (
        len(world.dialed) <= len(world.center.batches) + DIALS_BURST + PERIOD_SECONDS * DIALS_PER_SECOND + 1
    )
    assert per_minute_max(world.requested) <= PER_MINUTE_MAX * PIPELINE_MAX
    if "accept" in WITH_PROGRESS[kind]:
        assert per_minute_max(world.dialed) <= PER_MINUTE_MAX
    else:
        assert len(world.center.alerts) >= len(range(1, int(PERIOD_SECONDS / ALERT_EVERY_SECONDS))) - 15


@pytest.mark.slow("minutes of the box, with thousands of connections")
def test_connections_that_deliver_something_are_not_limited(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = run(
        pki, monkeypatch, {"answer": answer_and_close, "backlog": 20_000, "meanwhile": Refusing.drained}
    )
    assert len(world.center.batches) > 3 * DIALS_BURST
    assert 0 < world.drained_at < 120, f"{len(world.center.batches)} batches"
