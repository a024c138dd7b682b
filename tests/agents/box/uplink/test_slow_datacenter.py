"""A data center with slow responses, in simulated time: a backlog is delivered with few repetitions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from itertools import chain, cycle, repeat

import pytest

from agents.box.uplink.stream import KEEP_ALIVE_SECONDS, REPLY_SECONDS
from agents.spool import Priority
from tests.support.agents.uplink.slow_datacenter import BACKLOG, Slow
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages
from wire.dial.adaptive_timeout import AdaptiveTimeout

ANSWERS_TO_RECOVER = 12


@cache
def bytes_without_delay(pki: Hierarchy) -> int:
    world = Slow(pki, repeat(0.0))
    world.run()
    return world.bytes_sent


@pytest.mark.parametrize(
    "delays",
    [
        lambda: repeat(5.0),
        lambda: repeat(REPLY_SECONDS),
        lambda: repeat(25.0),
        lambda: repeat(60.0),
        lambda: repeat(180.0),
        lambda: cycle([5.0, 5.0, 60.0, 0.0, 25.0]),
        lambda: chain(repeat(0.0, 8), repeat(45.0, 10), repeat(0.0, 30), repeat(45.0)),
    ],
    ids=["5s", "at the limit", "25s", "60s", "180s", "varying", "slow, fast, and slow again"],
)
def test_a_backlog_is_delivered_with_few_repetitions(
    pki: Hierarchy, delays: Callable[[], Iterable[float]]
) -> None:
    world = Slow(pki, delays())
    world.run()
    assert sorted(world.center.reports) == [("CHEM-1", 1, n) for n in range(1, BACKLOG + 1)]
    assert world.bytes_sent <= 2 * bytes_without_delay(pki)
    assert world.drained_at < 3600


class WithAlerts(Slow):
    """Alerts during a backlog. Each must be sent directly after the batches in flight."""

    async def live(self) -> None:
        self.alert_seconds: list[float] = []
        await asyncio.sleep(200)
        for number in (1, 2, 3):
            raised_at = self.loop.time()
            entry = messages.Entry("CHEM-1", 2, messages.Alert(number, 0, "L0100", "lamp", "error"))
            await self.buffer.append(Priority.ALERT, messages.encode(entry))
            while number not in self.center.alerts:
                await asyncio.sleep(0.1)
            self.alert_seconds.append(self.loop.time() - raised_at)
            await asyncio.sleep(7)
        await self.drained()


def test_an_alert_waits_for_one_batch_and_not_for_the_backlog(pki: Hierarchy) -> None:
    world = WithAlerts(pki, repeat(25.0), backlog=20_000)
    world.run()
    # until its arrival at the data center: the batch in flight may take another 25 s
    assert max(world.alert_seconds) < 30


class Recovering(Slow):
    """A data center that is first slow, then fast, and then never responds on one connection."""

    async def live(self) -> None:
        await self.drained()
        for _ in range(ANSWERS_TO_RECOVER):
            await self.more()
        self.delays = chain([1e9], repeat(0.0))
        before = self.loop.time()
        await self.more()
        self.noticed_after = self.loop.time() - before

    async def more(self) -> None:
        await self.routine(64, first=self.backlog + 1)
        self.backlog += 64
        await self.drained()


def test_after_recovery_a_lost_response_is_detected_as_fast_as_before(pki: Hierarchy) -> None:
    world = Recovering(pki, chain(repeat(60.0, 8), repeat(0.0)))
    world.run()
    assert world.noticed_after < REPLY_SECONDS + 10


class CutOff(Slow):
    """An intermediary closes connections that were idle for `idle_s` seconds."""

    idle_s = 30.0

    async def live(self) -> None:
        watching = asyncio.ensure_future(self.watch())
        await self.drained()
        watching.cancel()

    async def watch(self) -> None:
        seen, since = self.bytes_sent, self.loop.time()
        while True:
            await asyncio.sleep(1)
            if self.bytes_sent != seen:
                seen, since = self.bytes_sent, self.loop.time()
            elif self.loop.time() - since > self.idle_s:
                since = self.loop.time()
                self.center.hang_up()


def test_a_connection_with_a_slow_response_is_not_idle(pki: Hierarchy) -> None:
    world = CutOff(pki, repeat(100.0), backlog=100)
    assert world.idle_s > KEEP_ALIVE_SECONDS
    world.run()
    assert sorted(world.center.reports) == [("CHEM-1", 1, n) for n in range(1, 101)]


class ConnectionsCutAfterAMinute(Slow):
    """The data center takes two seconds for each record; connections without a response for a minute are closed."""

    async def work(self) -> None:
        cut = self.loop.call_later(60, self.center.hang_up)
        await asyncio.sleep(2.0 * len(self.center.batches[-1]))
        cut.cancel()


def test_batches_shrink_until_they_pass_an_intermediary_with_a_short_time_out(pki: Hierarchy) -> None:
    world = ConnectionsCutAfterAMinute(pki, repeat(0.0), backlog=300)
    world.run()
    assert sorted(world.center.reports) == [("CHEM-1", 1, n) for n in range(1, 301)]


def test_time_outs_grow_are_remembered_and_shrink_again() -> None:
    timeout = AdaptiveTimeout(30.0)
    for factor in (4, 16, 30, 30):
        timeout.expired()
        assert timeout.factor == factor
    timeout.answered(9.0)
    assert timeout.factor == 27
    answers = 0
    while timeout.factor > 1:
        timeout.answered(0.01)
        answers += 1
    assert 10 <= answers <= 20
    timeout.answered(1e9)
    assert timeout.factor == 30
