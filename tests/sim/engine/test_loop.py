"""The simulated event loop: timers, the executor, and isolation from the real machine."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Generator
from random import Random

import pytest
from simpy.events import Event

from sim.engine.stalls import Stalled
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from tests.support.sim.network import Pair, Recorder


def test_time_passes_only_while_awaited_and_exact_to_the_nanosecond() -> None:
    loop = SimLoop()

    async def sleep() -> list[int]:
        times = []
        for delay in (0.5, 1e-9, 86400 * 30.0):
            await asyncio.sleep(delay)
            times.append(loop.env.now)
        return times

    assert loop.run_until_complete(sleep()) == [500_000_000, 500_000_001, 500_000_001 + 30 * 86400 * 10**9]


def test_processes_and_tasks_share_one_event_queue() -> None:
    loop, seen = SimLoop(), []

    def process() -> Generator[Event, None, None]:
        for _ in range(3):
            yield loop.env.timeout(2_000_000_000)
            seen.append(("process", loop.env.now))

    async def task() -> None:
        for _ in range(3):
            await asyncio.sleep(1.5)
            seen.append(("task", loop.env.now))

    loop.env.process(process())
    loop.run_until_complete(task())
    loop.run_for(2_000_000_000)
    assert [at for _, at in seen] == [int(s * 1e9) for s in (1.5, 2, 3, 4, 4.5, 6)]


def test_a_timer_is_never_early_by_a_fraction_of_a_nanosecond() -> None:
    loop = SimLoop()
    random = Random(5)
    loop.run_for(30 * 86400 * 10**9)

    async def sleep() -> None:
        for _ in range(10_000):
            deadline = loop.time() + random.random()
            called = loop.create_future()
            loop.call_at(deadline, called.set_result, None)
            await called
            assert loop.time() >= deadline

    loop.run_until_complete(sleep())


def test_many_cancelled_timers_do_not_stop_time() -> None:
    loop = SimLoop()

    async def set_and_cancel() -> int:
        for n in range(1000):
            loop.call_later(10 + n / 1000, print).cancel()
            await asyncio.sleep(0.01)
        return loop.env.now

    assert 0 <= loop.run_until_complete(set_and_cancel()) - 10_000_000_000 <= 1000  # each rounds up


def test_a_timer_for_the_past_is_due_now() -> None:
    loop, seen = SimLoop(), []
    loop.run_for(5_000_000_000)
    loop.call_at(1.0, lambda: seen.append(loop.env.now))
    loop.run_for(1)
    assert seen == [5_000_000_000]


def test_a_timer_that_an_event_sets_is_not_late() -> None:
    loop, seen = SimLoop(), []
    loop.env.after(5, lambda _: loop.call_later(1.0, lambda: seen.append(loop.env.now)))
    loop.run_for(60_000_000_000)
    assert seen == [1_000_000_005]


def test_waiting_for_an_impossible_event_is_an_error() -> None:
    loop = SimLoop()
    with pytest.raises(Stalled, match="no event is scheduled"):
        loop.run_until_complete(loop.create_future())


def test_the_executor_runs_in_the_main_thread_and_takes_the_time_of_the_devices() -> None:
    loop = SimLoop()
    host = SimHost(Network(), "box")
    incarnation = host.power_on()

    def work(answer: int) -> int:
        incarnation.spend(loop.env.now, 3_000_000)
        assert threading.current_thread() is threading.main_thread()
        return answer

    async def program() -> tuple[list[int], int]:
        return await asyncio.gather(*(loop.run_in_executor(None, work, n) for n in range(4))), loop.env.now

    assert loop.run_until_complete(incarnation.run(loop, program())) == ([0, 1, 2, 3], 12_000_000)


def test_an_exception_in_the_executor_is_raised_in_the_caller() -> None:
    loop = SimLoop()

    async def program() -> None:
        await loop.run_in_executor(None, int, "no number")

    with pytest.raises(ValueError, match="no number"):
        loop.run_until_complete(program())


def test_finally_blocks_do_no_work_on_a_host_without_power() -> None:
    loop, done = SimLoop(), list[str]()
    host = SimHost(Network(), "box")
    incarnation = host.power_on()

    async def program() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await loop.run_in_executor(None, done.append, "written")

    task = incarnation.run(loop, program())
    loop.run_for(1_000_000_000)
    host.power_off()
    loop.run_for(200_000_000_000)
    assert isinstance(task.exception(), OSError)
    assert done == []


def test_the_virtual_world_uses_no_real_socket_thread_or_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the virtual world used the real machine")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setattr(time, "time", refuse)
    pair = Pair()

    async def server() -> None:
        await pair.loop.create_server(lambda: Recorder(echo=True), "b", 7)

    async def client() -> bytes:
        _, recorder = await pair.loop.create_connection(Recorder, "b", 7)
        assert isinstance(recorder, Recorder)
        recorder.transport.write(b"hello")
        await asyncio.sleep(1)
        return bytes(recorder.received)

    pair.run(pair.b, server())
    assert pair.run(pair.a, client()) == b"hello"


def test_a_failing_callback_is_recorded_and_the_others_run() -> None:
    loop, seen = SimLoop(), list[str]()
    loop.call_soon([].pop)
    loop.call_later(1, seen.append, "later")
    loop.call_later(1, seen.append, "cancelled").cancel()
    loop.run_for(2 * 10**9)
    assert seen == ["later"]
    assert len(loop.failures) == 1 and "IndexError" in loop.failures[0]
    loop.close()
