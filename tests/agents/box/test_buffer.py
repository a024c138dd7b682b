"""The buffer: a record is durable when its append returns, and concurrent appends share a flush."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from random import Random
from typing import Any

import pytest

from agents.box.buffer import Buffer
from agents.spool import PreparedGroup, Priority, Records, Spool, SpoolError, SpoolErrorKind
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import LIMITS, encode_gap
from tests.support.eventually import WAIT_SECONDS_MAX

ALERT, AUDIT, ROUTINE = Priority


class InLine(Executor):
    """Runs calls inline, like the executor of the virtual world."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def run(test: Callable[[Buffer, EmulDisk, Spool], Awaitable[None]], executor: Executor | None = None) -> None:
    async def main() -> None:
        disk = EmulDisk(1 << 30, Random(1))
        spool = Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)
        await test(Buffer(spool, executor), disk, spool)

    asyncio.run(main())


@pytest.mark.parametrize("executor", [None, InLine()], ids=["thread", "in line"])
def test_append_read_ack_close(executor: Executor | None) -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        assert await buffer.append(ROUTINE, b"one") == range(1, 2)
        after = Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)
        assert after.read(ROUTINE, 9, 99) == [(1, b"one")], "durable on return"
        assert await buffer.append_all((ALERT, ROUTINE), (b"two", b"three")) == range(2, 4)
        assert await buffer.read(ALERT, 9, 99) == [(2, b"two")]
        await buffer.ack(ROUTINE, 1)
        assert await buffer.read(ROUTINE, 9, 99) == [(3, b"three")]
        assert (await buffer.status()).records == {ALERT: 1, AUDIT: 0, ROUTINE: 1}
        await buffer.close()
        again = Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)
        assert again.recovery.was_closed and again.epoch == buffer.epoch

    run(test, executor)


def test_concurrent_appends_share_a_flush() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        await buffer.append(ROUTINE, b"first")
        before = disk.backend.flushes
        waiting = [buffer.append(ROUTINE, b"%d" % n) for n in range(LIMITS.group_records_max * 2)]
        numbers = [(await append)[0] for append in waiting]
        assert numbers == list(range(2, 2 + len(waiting)))
        assert disk.backend.flushes == before + 2
        assert [p for _, p in await buffer.read(ROUTINE, 99, 1 << 20, 1)] == [b"%d" % n for n in range(32)]
        await buffer.close()

    run(test)


@pytest.mark.parametrize("late", [0, 1])
def test_waiting_records_are_prepared_as_a_group_while_the_disk_is_busy(late: int) -> None:
    """The group is encoded again if more records join it."""

    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        flushing, may_flush = threading.Event(), threading.Event()
        real_flush, real_prepare = disk.flush, spool.prepare_group
        prepared: list[int] = []

        def flush(name: str) -> None:
            flushing.set()
            assert may_flush.wait(WAIT_SECONDS_MAX)
            real_flush(name)

        def prepare_group(records: Records) -> PreparedGroup:
            prepared.append(len(records.payloads))
            return real_prepare(records)

        disk.flush, spool.prepare_group = flush, prepare_group  # type: ignore[method-assign]
        first = buffer.append(ROUTINE, b"1")
        await asyncio.to_thread(flushing.wait, 5)
        during = [buffer.append(ROUTINE, b"2"), buffer.append(AUDIT, b"3")]
        await asyncio.sleep(0)
        assert prepared == [1, 2]
        after = [buffer.append(ROUTINE, b"4") for _ in range(late)]
        may_flush.set()
        assert [(await append)[0] for append in (first, *during, *after)] == list(range(1, 4 + late))
        assert prepared == [1, 2] + [3] * late and disk.backend.flushes == 2
        await buffer.close()
        again = Spool.open(disk, LIMITS, random=Random(1), encode_gap=encode_gap)
        assert [seq for seq, _ in again.read(ROUTINE, 9, 99)] == [1, 2, 4][: 2 + late]
        assert again.read(AUDIT, 9, 99) == [(3, b"3")] and not again.recovery.gaps

    run(test)


def test_groups_respect_the_limit_of_bytes() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        waiting = [buffer.append(ROUTINE, bytes(LIMITS.record_bytes_max)) for _ in range(5)]
        await asyncio.gather(*waiting)
        assert disk.backend.flushes == 3
        await buffer.close()

    run(test)


def test_code_after_an_append_runs_before_the_next_group() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        marks: list[int] = []
        seen: list[int] = []
        spool_append = spool.append_prepared

        def append(group: PreparedGroup) -> range:
            seen.append(len(marks))
            return spool_append(group)

        spool.append_prepared = append  # type: ignore[method-assign]

        async def collector() -> None:
            for _ in range(3):
                marks.append((await buffer.append(ROUTINE, b"x"))[0])

        async def crowd() -> None:
            for _ in range(20):
                await buffer.append(AUDIT, b"y")

        await asyncio.gather(collector(), crowd())
        assert marks == sorted(marks) and seen[:4] == [0, 1, 2, 3]
        await buffer.close()

    run(test)


def test_listeners_are_called_for_durable_records() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        received: list[tuple[Priority, int]] = []
        stop = buffer.listen(lambda priority, records: received.append((priority, records)))
        await buffer.append_all((ROUTINE, ALERT, ROUTINE), (b"a", b"b", b"c"))
        assert received == [(ALERT, 1), (ROUTINE, 2)]
        assert buffer.arrived[ALERT].is_set() and not buffer.arrived[AUDIT].is_set()
        stop()
        await buffer.append(AUDIT, b"c")
        assert len(received) == 2
        await buffer.close()

    run(test)


def test_an_error_reaches_all_callers_of_the_group_and_later_appends_succeed() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        await buffer.append(ROUTINE, b"before")
        disk.backend.fail_next_flush(2)
        results = await asyncio.gather(
            buffer.append(ROUTINE, b"a"), buffer.append(ALERT, b"b"), return_exceptions=True
        )
        assert [type(result) for result in results] == [SpoolError, SpoolError]
        assert all(isinstance(r, SpoolError) and r.kind is SpoolErrorKind.IO for r in results)
        assert await buffer.append(ROUTINE, b"after") == range(2, 3)
        await buffer.close()

    run(test)


def test_a_cancelled_append_does_not_affect_others() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        cancelled, kept = buffer.append(ROUTINE, b"a"), buffer.append(ROUTINE, b"b")
        cancelled.cancel()
        assert await kept == range(2, 3)
        await buffer.close()

    run(test)


def test_exceeded_limits_raise_immediately() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        with pytest.raises(ValueError, match="record_bytes_max"):
            buffer.append(ROUTINE, bytes(LIMITS.record_bytes_max + 1))
        with pytest.raises(ValueError, match="group_records_max"):
            buffer.append_all([ROUTINE] * 17, [b""] * 17)
        await buffer.close()
        with pytest.raises(RuntimeError, match="after close"):
            buffer.append(ROUTINE, b"x")

    run(test)


def test_close_waits_for_queued_records() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        waiting = [buffer.append(ROUTINE, b"x") for _ in range(100)]
        await buffer.close()
        assert all(append.done() and not append.exception() for append in waiting)

    run(test)


def test_gaps_found_at_start_are_reported_without_other_records() -> None:
    async def test(buffer: Buffer, disk: EmulDisk, spool: Spool) -> None:
        await buffer.append(ROUTINE, b"x")
        spool = Spool.open(disk.backend.cut_power(), LIMITS, random=Random(1), encode_gap=encode_gap)
        after = Buffer(spool)
        await after.report_gaps()
        assert after.arrived[AUDIT].is_set()
        assert len(await after.read(AUDIT, 9, 1 << 20)) == 1
        await after.close()

    run(test)
