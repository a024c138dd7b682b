"""Proxies, data centers, boxes and name services that take up to 3 minutes for a response, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

import pytest

from agents.box.clock_sync import ask_data_center
from agents.instrument.agent import POST_SECONDS_MAX, InstrumentAgent
from agents.spool import Priority
from settings.types import Endpoint, Proxy
from sim.net.host import SimHost
from sim.net.link import Link, LinkQuality
from sim.proxies.http import HttpConnectProxy
from sim.proxies.http_auth import AcceptAllVerifier
from sim.proxies.relay import Behavior, ProxyTunnel
from sim.proxies.socks5 import Socks5Proxy
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire.dial.adaptive_timeout import GROWTH, AdaptiveTimeout
from wire.dial.dialer import DIAL_TIMEOUT_FACTOR_MAX, HANDSHAKE_SECONDS_MAX, PROXY_SECONDS_MAX
from wire.dial.proxy import ProxyError
from wire.http.connection import Request, Response
from wire.messages import Alert, Entry, Receipt, Reports, decode, encode
from wire.messages import Quality as QualityReport
from wire.tls.context import client_context

LINE: Final = LinkQuality(1_000_000, 20_000_000)
SECONDS: Final = (5, 25, 45, 60, 120, 180)
RECONNECTS: Final = 5
SLACK_SECONDS: Final = 30
"""Allowance for back-off after the first failures, and for round trips."""


class SlowHttp(HttpConnectProxy):
    """Answers each request after `seconds`."""

    def __init__(self, behavior: Behavior, seconds: float) -> None:
        super().__init__(behavior, AcceptAllVerifier())
        self.seconds = seconds

    def answer(self, data: bytes) -> None:
        self._loop.call_later(self.seconds, super().answer, data)


class SlowSocks(Socks5Proxy):
    """Takes `seconds` for the two responses together."""

    def __init__(self, behavior: Behavior, seconds: float) -> None:
        super().__init__(behavior, None)
        self.seconds = seconds

    def answer(self, data: bytes) -> None:
        self._loop.call_later(self.seconds / 2, super().answer, data)


class SlowServer(ProxyTunnel):
    """A data center whose TLS handshake begins after `seconds`: it receives no bytes earlier."""

    def __init__(self, behavior: Behavior, seconds: float) -> None:
        super().__init__(behavior)
        self.seconds = seconds

    def negotiate(self, _received: bytearray) -> None:
        self._opening = True
        self._loop.call_later(self.seconds, self.open, "localhost", 443)

    def established(self) -> bytes:
        return b""


class SlowPath(World):
    """A slow proxy or server of the class `between` on a host between box and data center."""

    def __init__(
        self, pki: Hierarchy, between: Callable[[Behavior, float], ProxyTunnel], seconds: float
    ) -> None:
        super().__init__(pki, LINE)
        self.between, self.behavior, self.seconds = between, Behavior(), seconds
        self.middle = SimHost(self.network, "middle")
        for near, far in ((self.box, self.middle), (self.middle, self.datacenter)):
            self.network.connect(near, far, Link(self.loop.env, f"{near.name}-way", LINE, Random(4)))
        self.accepted = 0
        if between is SlowServer:
            self.far_end = Endpoint("localhost", 443, "middle")
        else:
            self.proxy = Proxy("http" if between is SlowHttp else "socks5", "middle", 443)

    def run(self) -> None:
        listening = self.middle.power_on().run(self.loop, self.listen())
        self.loop.run_until_complete(listening)
        super().run()

    async def listen(self) -> None:
        await self.loop.create_server(self.accept, "middle", 443)

    def accept(self) -> asyncio.BaseProtocol:
        self.accepted += 1
        return self.between(self.behavior, self.seconds)

    async def alert(self, number: int) -> None:
        entry = Entry("CHEM-1", 1, Alert(number, 0, "L0100", "lamp", "error"))
        await self.buffer.append(Priority.ALERT, encode(entry))
        async with asyncio.timeout(3600):
            while number not in self.center.alerts:
                await asyncio.sleep(1)

    async def live(self) -> None:
        await self.alert(1)
        self.first_at, self.accepted_first = self.loop.time(), self.accepted
        for number in range(2, RECONNECTS + 2):
            self.center.hang_up()
            await self.alert(number)


def time_needed(usual: float, seconds: float) -> float:
    """Return the time until a growing timeout is long enough, and the response has arrived."""
    spent, limit = 0.0, usual
    while limit < seconds:
        spent += limit
        limit = min(limit * GROWTH, usual * DIAL_TIMEOUT_FACTOR_MAX)
    return spent + seconds


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("between", [SlowHttp, SlowSocks, SlowServer])
def test_a_slow_handshake_is_awaited_and_its_duration_remembered(
    pki: Hierarchy, between: Callable[[Behavior, float], ProxyTunnel], seconds: float
) -> None:
    world = SlowPath(pki, between, seconds)
    world.run()
    usual = HANDSHAKE_SECONDS_MAX if between is SlowServer else PROXY_SECONDS_MAX
    assert world.first_at <= time_needed(usual, seconds + 1) + SLACK_SECONDS
    assert world.accepted - world.accepted_first == RECONNECTS, "no connection attempt failed"


@pytest.mark.parametrize("between", [SlowHttp, SlowSocks])
def test_the_bytes_exchanged_with_a_proxy_are_counted(
    pki: Hierarchy, between: Callable[[Behavior, float], ProxyTunnel]
) -> None:
    world = SlowPath(pki, between, 0)
    world.run()
    traffic = world.forwarder.traffic
    assert traffic.proxy_bytes_sent > 10 * traffic.connections
    assert traffic.proxy_bytes_received > 10 * traffic.connections


@pytest.mark.parametrize("seconds", [9, 60])
def test_a_slow_name_service_delays_and_does_not_prevent_connecting(pki: Hierarchy, seconds: int) -> None:
    class SlowNames(SlowPath):
        async def live(self) -> None:
            end = self.network.names.delay(seconds * 1_000_000_000)
            alert = asyncio.ensure_future(self.alert(1))
            await asyncio.sleep(600)
            if seconds > 10:
                assert not alert.done(), "the resolver gives up before"
                end()
            await alert
            self.first_at = self.loop.time()

    world = SlowNames(pki, SlowServer, 0)
    world.run()
    assert world.first_at <= 600 + 90


class AgentWorld(World):
    """An agent on the host "box", and a box on the host "localhost" that responds to a post after `post_seconds`."""

    post_seconds: float = 0
    posts: int = 0

    def run(self) -> None:
        self.center.handle = self.take  # type: ignore[method-assign]
        super().run()

    async def take(self, request: Request) -> Response:
        self.posts += 1
        await asyncio.sleep(self.post_seconds)
        return Response(200, encode(Receipt(len(decode(Reports, request.body).reports))))

    async def forward(self) -> None:
        agent = InstrumentAgent(
            self.far_end, client_context(self.pki.box), run_number=1, clock=self.clock, random=Random(5)
        )
        running = asyncio.ensure_future(agent.run())
        for _ in range(3):
            agent.submit(QualityReport, "glu", 1, 0)
            async with asyncio.timeout(3600):
                while agent.waiting:
                    await asyncio.sleep(1)
        running.cancel()


@pytest.mark.parametrize("seconds", SECONDS)
def test_an_instrument_waits_for_a_slow_box(pki: Hierarchy, seconds: float) -> None:
    world = AgentWorld(pki, LINE)
    world.post_seconds = seconds
    world.run()
    assert world.posts <= (3 if seconds < POST_SECONDS_MAX else 5)
    assert world.loop.time() <= time_needed(POST_SECONDS_MAX, seconds + 1) + 2 * seconds + SLACK_SECONDS


@pytest.mark.parametrize("seconds", SECONDS)
def test_an_instrument_waits_for_the_handshake_of_a_slow_box(pki: Hierarchy, seconds: float) -> None:
    class AgentOnSlowPath(AgentWorld, SlowPath):
        pass

    world = AgentOnSlowPath(pki, SlowServer, seconds)
    world.run()
    assert world.loop.time() <= time_needed(HANDSHAKE_SECONDS_MAX, seconds + 1) + SLACK_SECONDS


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("between", [SlowHttp, SlowServer])
def test_the_time_request_adapts_its_time_out(
    pki: Hierarchy, between: Callable[[Behavior, float], ProxyTunnel], seconds: float
) -> None:
    class Asking(SlowPath):
        async def forward(self) -> None:
            adaptive_timeout, tries = AdaptiveTimeout(DIAL_TIMEOUT_FACTOR_MAX), 0
            while True:
                tries += 1
                assert tries < 5
                try:
                    await ask_data_center(
                        self.far_end, client_context(self.pki.box), self.proxy, adaptive_timeout
                    )
                    return
                except (OSError, ProxyError):
                    pass

    world = Asking(pki, between, seconds)

    async def slow_answer(request: Request) -> Response:
        await asyncio.sleep(seconds)
        return Response(204)

    world.center.handle = slow_answer  # type: ignore[method-assign]
    world.run()


def test_a_slow_response_to_the_time_request_is_awaited(pki: Hierarchy) -> None:
    class Asking(SlowPath):
        async def forward(self) -> None:
            adaptive_timeout = AdaptiveTimeout(DIAL_TIMEOUT_FACTOR_MAX)
            for last in (False, True):
                try:
                    await ask_data_center(self.far_end, client_context(self.pki.box), None, adaptive_timeout)
                except TimeoutError:
                    assert not last
            self.asked_until = self.loop.time()

    world = Asking(pki, SlowServer, 0)

    async def slow_answer(request: Request) -> Response:
        await asyncio.sleep(100)
        return Response(204)

    world.center.handle = slow_answer  # type: ignore[method-assign]
    world.run()
    assert world.asked_until >= 160, "a timeout of 60 s, and then 100 s"


def test_after_fast_handshakes_a_dead_proxy_is_detected_as_fast_as_before(pki: Hierarchy) -> None:
    class Recovering(SlowPath):
        async def live(self) -> None:
            await self.alert(1)
            self.seconds = 0.0
            for number in range(2, 16):
                self.center.hang_up()
                await self.alert(number)
            self.seconds = 1e6
            self.center.hang_up()
            before = self.accepted
            await asyncio.sleep(70)
            self.tries = self.accepted - before

    world = Recovering(pki, SlowHttp, 60)
    world.run()
    assert world.tries >= 2
