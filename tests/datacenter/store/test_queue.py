"""The queue for the store's thread while the database hangs: its bound, its order, and calls that are abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread

import pytest

from datacenter.store.queue import QueueFullError, StoreQueue


class Hanging:
    """A queue of 100 records whose thread is busy with a call until `goes_on` is set; `made` are the calls since."""

    def __init__(self) -> None:
        self.goes_on, self.made = Event(), list[str]()
        self.executor = ThreadPoolExecutor(1)
        self.queue = StoreQueue(self.executor, 100)
        self.tasks = [self.call("first", 10, wait=True)]

    def call(
        self,
        name: str,
        records: int,
        *,
        urgent: bool = False,
        wait: bool = False,
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> asyncio.Task[str]:
        def made() -> str:
            if wait:
                self.goes_on.wait(20)
            self.made.append(name)
            return name

        return asyncio.ensure_future(self.queue.run(made, records, urgent=urgent, is_abandoned=is_abandoned))

    async def end(self, *tasks: asyncio.Task[str]) -> list[str | BaseException]:
        await asyncio.sleep(0)
        self.goes_on.set()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*self.tasks, *tasks, return_exceptions=True)
        self.executor.shutdown()
        assert self.queue.filling() == (0, 100)
        return results[1:]


def test_calls_beyond_the_bound_are_refused_and_none_below() -> None:
    async def run() -> None:
        hanging = Hanging()
        full, beyond = hanging.call("full", 80), hanging.call("beyond", 1)
        urgent = hanging.call("urgent", 10, urgent=True)
        urgent_beyond = hanging.call("urgent beyond", 1, urgent=True)
        await asyncio.sleep(0)
        assert hanging.queue.filling() == (100, 100)
        results = await hanging.end(full, beyond, urgent, urgent_beyond)
        assert (results[0], results[2]) == ("full", "urgent")
        assert isinstance(results[1], QueueFullError) and isinstance(results[3], QueueFullError)

    asyncio.run(run())


def test_urgent_calls_overtake_and_others_keep_their_order() -> None:
    async def run() -> None:
        hanging = Hanging()
        calls = [hanging.call(f"routine {n}", 1) for n in range(3)]
        calls += [hanging.call(f"urgent {n}", 1, urgent=True) for n in range(3)]
        await hanging.end(*calls)
        assert hanging.made[1:] == [f"{kind} {n}" for kind in ("urgent", "routine") for n in range(3)]

    asyncio.run(run())


def test_a_call_whose_client_has_disconnected_is_dropped_and_frees_its_place() -> None:
    async def run() -> None:
        hanging, disconnected = Hanging(), set[int]()
        abandoned = [hanging.call(f"{n}", 8, is_abandoned=lambda n=n: n in disconnected) for n in range(10)]
        await asyncio.sleep(0)
        disconnected.update(range(9))
        others = [hanging.call("other", 70), hanging.call("beyond", 10)]
        *results, other, beyond = await hanging.end(*abandoned, *others)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[:9])
        assert (results[9], other) == ("9", "other") and isinstance(beyond, QueueFullError)
        assert hanging.made == ["first", "9", "other"]

    asyncio.run(run())


def test_a_batch_larger_than_the_bound_is_taken_by_an_empty_queue() -> None:
    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            queue = StoreQueue(executor, 100)
            assert await queue.run(lambda: 1, 1000, urgent=False, is_abandoned=lambda: False) == 1

    asyncio.run(run())


def test_calls_are_made_in_the_thread_of_the_store() -> None:
    async def run() -> str:
        with ThreadPoolExecutor(1, thread_name_prefix="store") as executor:
            queue = StoreQueue(executor, 100)
            return await queue.run(lambda: current_thread().name, 1, urgent=False, is_abandoned=lambda: False)

    assert asyncio.run(run()) == "store_0"


def test_an_error_of_one_call_does_not_affect_others() -> None:
    async def run() -> None:
        hanging = Hanging()

        def failing() -> str:
            raise ValueError("the database failed")

        failed = asyncio.ensure_future(
            hanging.queue.run(failing, 1, urgent=False, is_abandoned=lambda: False)
        )
        error, after = await hanging.end(failed, hanging.call("after", 1))
        assert isinstance(error, ValueError) and after == "after"
        with pytest.raises(ValueError, match="failed"):
            failed.result()

    asyncio.run(run())
