"""The queue of the store's thread: its bound, its order, grouping in transactions, and abandoned batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import contains
from threading import Event, current_thread

import pytest

from datacenter.store.batches.batch import Received
from datacenter.store.queue import TOGETHER_RECORDS_MAX, QueueFullError, StoreQueue
from tests.support.datacenter.store.batches import alert, batch
from tests.support.eventually import WAIT_SECONDS_MAX
from wire.messages import BatchReply


def received(name: str, records: int) -> Received:
    return Received(name, batch(*(alert(number) for number in range(1, records + 1))), 0)


class Hanging:
    """A queue whose store is busy with the first batch, of 10 records, until `resumed` is set.

    `stored` has the boxes of the batches of each transaction; batches of the boxes in `failing` fail.
    """

    def __init__(self, records_max: int = 100) -> None:
        self.resumed, self.stored, self.failing = Event(), list[list[str]](), set[str]()
        self.executor = ThreadPoolExecutor(1)
        self.queue = StoreQueue(self.executor, self.store_all, records_max)
        self.tasks = [self.call("first", 10)]

    def store_all(self, together: Sequence[Received]) -> list[BatchReply | Exception]:
        boxes = [one.box for one in together]
        if "first" in boxes:
            self.resumed.wait(WAIT_SECONDS_MAX)
        self.stored.append(boxes)
        return [
            ValueError(one.box) if one.box in self.failing else BatchReply(len(one.batch.records))
            for one in together
        ]

    def call(
        self,
        name: str,
        records: int,
        *,
        urgent: bool = False,
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> asyncio.Task[BatchReply]:
        call = self.queue.run(received(name, records), urgent=urgent, is_abandoned=is_abandoned)
        return asyncio.ensure_future(call)

    async def end(self, *tasks: asyncio.Task[BatchReply]) -> list[BatchReply | BaseException]:
        await asyncio.sleep(0)
        self.resumed.set()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            results = await asyncio.gather(*self.tasks, *tasks, return_exceptions=True)
        self.executor.shutdown()
        assert self.queue.filling()[0] == 0
        return results[1:]


def test_batches_are_refused_only_beyond_the_bound() -> None:
    async def run() -> None:
        hanging = Hanging()
        full, beyond = hanging.call("full", 80), hanging.call("beyond", 1)
        urgent = hanging.call("urgent", 10, urgent=True)
        urgent_beyond = hanging.call("urgent beyond", 1, urgent=True)
        await asyncio.sleep(0)
        assert hanging.queue.filling() == (100, 100)
        results = await hanging.end(full, beyond, urgent, urgent_beyond)
        assert (results[0], results[2]) == (BatchReply(80), BatchReply(10))
        assert isinstance(results[1], QueueFullError) and isinstance(results[3], QueueFullError)

    asyncio.run(run())


def test_urgent_batches_overtake_and_those_of_a_kind_are_stored_together_in_order() -> None:
    async def run() -> None:
        hanging = Hanging()
        calls = [hanging.call(f"routine {n}", 1) for n in range(3)]
        calls += [hanging.call(f"urgent {n}", 1, urgent=True) for n in range(3)]
        await hanging.end(*calls)
        assert hanging.stored[1:] == [[f"{kind} {n}" for n in range(3)] for kind in ("urgent", "routine")]

    asyncio.run(run())


def test_no_more_records_than_the_limit_are_stored_together() -> None:
    async def run() -> None:
        hanging = Hanging(10 * TOGETHER_RECORDS_MAX)
        fitting = [f"{n}" for n in range(TOGETHER_RECORDS_MAX // 1024)]
        await hanging.end(*(hanging.call(name, 1024) for name in [*fitting, "further"]))
        assert hanging.stored[1:] == [fitting, ["further"]]

    asyncio.run(run())


def test_a_batch_whose_client_has_disconnected_is_dropped_and_frees_its_space() -> None:
    async def run() -> None:
        hanging, disconnected = Hanging(), set[int]()
        abandoned = [
            hanging.call(f"{n}", 8, is_abandoned=partial(contains, disconnected, n)) for n in range(10)
        ]
        await asyncio.sleep(0)
        disconnected.update(range(9))
        others = [hanging.call("other", 70), hanging.call("beyond", 10)]
        *results, other, beyond = await hanging.end(*abandoned, *others)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[:9])
        assert (results[9], other) == (BatchReply(8), BatchReply(70))
        assert isinstance(beyond, QueueFullError)
        assert hanging.stored == [["first"], ["9", "other"]]

    asyncio.run(run())


def test_a_batch_whose_client_disconnects_while_it_waits_is_not_stored() -> None:
    async def run() -> None:
        hanging, disconnected = Hanging(), set[str]()
        gone = hanging.call("gone", 8, is_abandoned=lambda: "gone" in disconnected)
        stays = hanging.call("stays", 8)
        await asyncio.sleep(0)
        disconnected.add("gone")
        results = await hanging.end(gone, stays)
        assert isinstance(results[0], asyncio.CancelledError)
        assert hanging.stored == [["first"], ["stays"]]

    asyncio.run(run())


def test_a_batch_larger_than_the_bound_is_taken_by_an_empty_queue() -> None:
    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            queue = StoreQueue(executor, lambda together: [BatchReply(1) for _ in together], 100)
            assert await queue.run(
                received("b", 1000), urgent=False, is_abandoned=lambda: False
            ) == BatchReply(1)

    asyncio.run(run())


def test_batches_are_stored_in_the_thread_of_the_store() -> None:
    threads = []

    def store_all(together: Sequence[Received]) -> list[BatchReply]:
        threads.append(current_thread().name)
        return [BatchReply(1) for _ in together]

    async def run() -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="store") as executor:
            queue = StoreQueue(executor, store_all, 100)
            await queue.run(received("b", 1), urgent=False, is_abandoned=lambda: False)

    asyncio.run(run())
    assert threads == ["store_0"]


def test_an_error_of_one_batch_does_not_affect_others() -> None:
    async def run() -> None:
        hanging = Hanging()
        hanging.failing = {"failed"}
        error, beside = await hanging.end(hanging.call("failed", 1), hanging.call("beside", 1))
        assert isinstance(error, ValueError) and beside == BatchReply(1)

    asyncio.run(run())


def test_an_error_of_the_store_reaches_all_batches_of_the_transaction() -> None:
    def store_all(together: Sequence[Received]) -> list[BatchReply]:
        raise RuntimeError(f"{len(together)}")

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            queue = StoreQueue(executor, store_all, 100)
            with pytest.raises(RuntimeError):
                await queue.run(received("b", 1), urgent=False, is_abandoned=lambda: False)
            assert queue.filling() == (0, 100)

    asyncio.run(run())
