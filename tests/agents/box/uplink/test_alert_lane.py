"""Alerts do not wait for routine batches that the data center processes slowly; in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain, cycle, repeat
from math import inf
from random import Random
from typing import cast
from unittest.mock import AsyncMock

import pytest

from agents.box.uplink.alert_lane import LANE_IDLE_SECONDS, LANE_REST_SECONDS, AlertLane
from agents.box.uplink.batching import SLOW_SECONDS
from agents.box.uplink.stream import Stream, StreamEnd, StreamError
from agents.spool import Priority
from datacenter.store import queries
from sim.net.loop import SimLoop
from tests.support.agents.uplink.intermediary import ShortGatewayTimeout, best_seconds
from tests.support.agents.uplink.slow_datacenter import Slow
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages

ALERT_SECONDS_MAX = SLOW_SECONDS + 2.0
"""SLOW_SECONDS, and 2 s for handshake and exchange at 128 kbit/s while a batch of half a second is sent."""
ROUTINE_WAITS = [25.0, 90.0, 40.0, 60.0]


class Alerted(Slow):
    """Raises an alert every `every_s` seconds while a backlog drains; only responses to routine batches are slow."""

    every_s = 7.3
    alerts = 100

    def __init__(self, pki: Hierarchy, delays: Iterable[float], backlog: int = 60_000) -> None:
        super().__init__(pki, delays, backlog)
        self.alert_seconds: list[float] = []
        self.bypassed = 0

    @property
    def has_second_connection(self) -> bool:
        return len(self.center.connected) > 1

    async def work(self) -> None:
        if any(isinstance(entry.body, messages.Quality) for entry in self.center.batches[-1]):
            await asyncio.sleep(next(self.delays))

    async def alert(self, number: int) -> None:
        entry = messages.Entry("CHEM-1", 2, messages.Alert(number, 0, "L0100", "lamp", "error"))
        raised_at = self.loop.time()
        (sequence,) = await self.buffer.append(Priority.ALERT, messages.encode(entry))
        async with asyncio.timeout(3600):
            while self.buffer.delivered[Priority.ALERT] < sequence:
                await asyncio.sleep(0.1)
        self.alert_seconds.append(self.loop.time() - raised_at)
        self.bypassed += self.has_second_connection

    async def live(self) -> None:
        await asyncio.sleep(10)
        for number in range(1, self.alerts + 1):
            await self.alert(number)
            await asyncio.sleep(self.every_s)

    def check(self) -> None:
        assert self.center.alerts == list(range(1, self.alerts + 1))
        assert max(self.alert_seconds) < ALERT_SECONDS_MAX, sorted(self.alert_seconds)[-5:]


def test_alerts_do_not_wait_for_slow_routine_batches(pki: Hierarchy) -> None:
    world = Alerted(pki, cycle(ROUTINE_WAITS))
    world.run()
    world.check()
    assert world.bypassed > world.alerts / 2
    assert world.forwarder.traffic.connections <= 4, "the lane stays open while responses are slow"


class Separated(Alerted):
    """Alerts are so rare that the alert lane is closed between them."""

    every_s = 2 * LANE_IDLE_SECONDS
    alerts = 20

    async def live(self) -> None:
        self.up = 0
        await asyncio.sleep(10)
        for number in range(1, self.alerts + 1):
            await self.alert(number)
            await asyncio.sleep(self.every_s)
            self.up += self.has_second_connection


def test_the_alert_lane_is_closed_when_idle_and_opened_again(pki: Hierarchy) -> None:
    world = Separated(pki, cycle(ROUTINE_WAITS))
    world.run()
    world.check()
    assert world.up == 0
    assert 10 < world.forwarder.traffic.connections <= 4 + world.alerts


@pytest.mark.parametrize(
    ("end", "delay_s"),
    [
        (StreamError(StreamEnd.IDLE), 0.0),
        (StreamError(StreamEnd.REFUSED, 503), LANE_REST_SECONDS),
        (StreamError(StreamEnd.REFUSED, 503, 2 * LANE_REST_SECONDS), 2 * LANE_REST_SECONDS),
    ],
    ids=["idle", "refused", "refused with Retry-After"],
)
def test_the_end_of_the_alert_lane_determines_when_it_may_be_opened_again(
    end: StreamError, delay_s: float
) -> None:
    class EndingStream:
        is_urgent = False

        async def run(self) -> None:
            raise end

    async def opens_after() -> float:
        ended = asyncio.Event()
        lane = AlertLane(
            AsyncMock(), lambda *_: cast("Stream", EndingStream()), lambda *_: ended.set(), Random(1)
        )
        lane.open()
        await ended.wait()
        while lane.opens_at() == inf:
            await asyncio.sleep(0)
        return lane.opens_at() - asyncio.get_running_loop().time()

    loop = SimLoop()
    assert loop.run_until_complete(opens_after()) == pytest.approx(delay_s)


class Recovering(Alerted):
    """The data center becomes fast while the alert lane is open."""

    alerts = 30

    async def live(self) -> None:
        await super().live()
        self.was_up = self.has_second_connection


def test_the_alert_lane_is_closed_when_the_data_center_is_fast_again(pki: Hierarchy) -> None:
    world = Recovering(pki, chain([0.1] * 3, [30.0, 30.0], repeat(0.1)))
    world.run()
    world.check()
    assert 0 < world.bypassed < world.alerts and not world.was_up
    assert max(world.alert_seconds[-5:]) < 1, "alerts are sent on the first connection again"


class Broken(Alerted):
    """The alert lane is aborted repeatedly, with or without an alert in flight."""

    every_break_s = 11.0

    async def live(self) -> None:
        breaking = asyncio.ensure_future(self.abort_often())
        await super().live()
        breaking.cancel()

    async def abort_often(self) -> None:
        while True:
            await asyncio.sleep(self.every_break_s)
            if self.has_second_connection:
                self.center.connected[-1].hang_up()


@pytest.mark.parametrize("every_break_s", [3.1, 5.03, 7.37, 11.0])
def test_alerts_arrive_although_the_alert_lane_is_aborted_repeatedly(
    pki: Hierarchy, every_break_s: float
) -> None:
    world = Broken(pki, cycle(ROUTINE_WAITS))
    world.every_break_s = every_break_s
    world.run()
    world.check()


class SlowForAll(Alerted):
    """Responses to alerts and audit records take 15 s."""

    alerts = 10

    async def work(self) -> None:
        await super().work()
        await asyncio.sleep(15)


def test_a_slow_alert_waits_for_at_most_one_other_urgent_batch(
    pki: Hierarchy,
) -> None:
    world = SlowForAll(pki, repeat(90.0))
    world.run()
    assert world.center.alerts == list(range(1, world.alerts + 1))
    assert max(world.alert_seconds) < 2 * 15 + ALERT_SECONDS_MAX


class Cut(Alerted):
    """The box program is killed while the alert lane is open, and the data center closes connections."""

    alerts = 40

    async def live(self) -> None:
        await asyncio.sleep(10)
        for number in range(1, self.alerts + 1):
            await self.alert(number)
            if number % 10 == 5:
                await self.restart()
            if number % 10 == 0:
                self.center.hang_up()
            await asyncio.sleep(self.every_s)


def test_restarts_and_lost_connections_lose_no_alert(pki: Hierarchy) -> None:
    world = Cut(pki, cycle(ROUTINE_WAITS))
    world.run()
    assert sorted(world.center.alerts) == list(range(1, world.alerts + 1))


@pytest.mark.parametrize("delays", [lambda: repeat(25.0), lambda: cycle([5.0, 0.0, 60.0])])
def test_all_routine_records_arrive_while_alerts_are_sent(
    pki: Hierarchy, delays: Callable[[], Iterable[float]]
) -> None:
    class All(Alerted):
        alerts = 20

        async def live(self) -> None:
            await super().live()
            await self.drained()

    world = All(pki, delays(), backlog=4000)
    world.run()
    world.check()
    assert len(world.center.reports) == 4000 + world.alerts


class ShortGatewayTimeoutAndAlerts(ShortGatewayTimeout):
    """The data center processes one batch at a time, for at least 25 s; an intermediary times out after 30 s."""

    async def live(self) -> None:
        raising = asyncio.ensure_future(self.raise_alerts())
        await super().live()
        await raising

    async def raise_alerts(self) -> None:
        for number in range(1, 21):
            entry = messages.Entry("CHEM-2", 1, messages.Alert(number, 0, "L0100", "lamp", "error"))
            await self.buffer.append(Priority.ALERT, messages.encode(entry))
            await asyncio.sleep(100)


@pytest.mark.parametrize("connections", [1, 2], ids=["one connection", "spread"])
def test_two_connections_do_not_prevent_each_other_from_timely_responses(
    pki: Hierarchy, connections: int
) -> None:
    world = ShortGatewayTimeoutAndAlerts(pki, 30.0, connections, least_s=25.0, quick=0)
    world.run()
    assert queries.counts(world.store)["RAP-1", "CHEM-2"] == 20
    assert world.drained_at < 3.5 * best_seconds(30.0, 25.0)
