"""An error in one part of the box affects only that part, which is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest

import wire.dial.backoff
from agents.box.commands import CommandDispatcher
from agents.box.firewall import FirewallGuard, FirewallService
from agents.box.health.alarm import AlarmLed
from agents.box.health.supervision import STEADY_SECONDS, keep_running
from agents.box.intake.collector import Collector
from agents.box.uplink.forwarder import Forwarder
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from netfw.events import Event, FirewallState
from sim.net.loop import SimLoop
from tests.support.agents.boxes import box_config, disk, running_agent, running_box
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from wire.messages import Command, Quality


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MIN", 0.0)
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MAX", 0.002)
    yield


class FakeAudit:
    def __init__(self) -> None:
        self.events: list[str] = []

    def note(self, event: str, value: int = 0, *, port: int = 0, unlimited: bool = False) -> None:
        self.events.append(event)


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def failing(times: int, work: Callable[..., Any], only_port: int | None = None) -> Callable[..., Any]:
    """Return `work`, changed to raise an unexpected error in the first `times` calls (only for `only_port`)."""
    left = times

    async def fail_first(self: object, *arguments: Any) -> Any:
        nonlocal left
        if left and only_port in (None, *arguments[:1]):
            left -= 1
            raise UnicodeError("a bug")
        return await work(self, *arguments)

    return fail_first


@pytest.mark.usefixtures("short_delays")
@pytest.mark.parametrize(
    ("part", "method", "port", "event"),
    [
        (Forwarder, "run", None, "part-failed-forwarder"),
        (CommandDispatcher, "run", None, "part-failed-commands"),
        (Collector, "listen", 2, "part-failed-port"),
    ],
)
def test_a_failing_part_is_recorded_and_restarted(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch, part: type, method: str, port: int | None, event: str
) -> None:
    async def scenario() -> None:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: reported.append(repr(c["exception"])))
        async with stand_in(pki.datacenter) as center:
            center.commands = [Command(6, "", "send-inventory")]
            config = box_config(pki, center.server.port, linger_s=0)
            async with running_box(config, disk()) as box, running_agent(box, pki.instrument) as agent:
                agent.submit(Quality, "glu", 1, 17)
                await center.until(lambda: len(center.reports) == 1 and "command-done" in center.audits)
                assert center.audits.count(event) == 3
        assert reported == ["UnicodeError('a bug')"] * 3

    monkeypatch.setattr(part, method, failing(3, getattr(part, method), port))
    asyncio.run(scenario())


def test_pauses_grow_while_a_part_fails_immediately_and_are_short_after_steady_running() -> None:
    async def scenario() -> None:
        loop, audit, starts = asyncio.get_running_loop(), FakeAudit(), list[float]()

        async def part() -> None:
            starts.append(loop.time())
            if len(starts) == 20:
                await asyncio.sleep(STEADY_SECONDS)
            raise RuntimeError("a bug")

        loop.set_exception_handler(lambda *_: None)
        running = asyncio.ensure_future(keep_running("forwarder", part, audit, Random(1)))  # type: ignore[arg-type]
        await asyncio.sleep(3600)
        await cancelled(running)
        pauses = [after - before for before, after in pairwise(starts)]
        assert max(pauses[:3]) < 5
        assert max(pauses[10:19]) > 20
        assert pauses[19] <= STEADY_SECONDS + 1
        assert len(audit.events) >= len(starts) - 1

    SimLoop().run_until_complete(scenario())


class BrokenService:
    """Confirms that the policy is in force, and then has a bug."""

    def __init__(self) -> None:
        self.break_now = asyncio.Event()

    async def follow(self, on_event: Callable[[Event], None]) -> None:
        on_event(FirewallState(in_force=True, problem=""))
        await self.break_now.wait()
        self.break_now.clear()
        raise RuntimeError("a bug")


def test_nothing_is_served_while_the_firewall_state_is_unknown() -> None:
    async def scenario() -> None:
        loop, audit, service = asyncio.get_running_loop(), FakeAudit(), BrokenService()
        lights, at_work = EmulIndicators(["alarm"], []), 0
        guard = FirewallGuard(
            cast(FirewallService, service), AlarmLed(lights).used_by("firewall"), lambda _: None
        )

        async def work() -> None:
            nonlocal at_work
            at_work += 1
            try:
                await asyncio.Event().wait()
            finally:
                at_work -= 1

        async def guarded() -> None:
            await guard.guard(audit, work)  # type: ignore[arg-type]

        loop.set_exception_handler(lambda *_: None)
        running = asyncio.ensure_future(keep_running("firewall", guarded, audit, Random(1)))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        assert (at_work, guard.status().in_force) == (1, True)
        service.break_now.set()
        await asyncio.sleep(0.01)
        assert (at_work, guard.status().in_force) == (0, False)
        assert "a bug" in guard.status().problem
        assert lights.backend.lights["alarm"] is Light.FAST
        assert audit.events[-2:] == ["firewall-not-in-force", "part-failed-firewall"]
        await asyncio.sleep(5)
        assert (at_work, guard.status().in_force) == (1, True)
        await cancelled(running)

    SimLoop().run_until_complete(scenario())
