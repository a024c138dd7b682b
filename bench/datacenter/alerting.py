"""Time from the commit of a report to the commit of its alert: `python -m bench.datacenter.alerting [--json]`.

The boxes of 10,000 instruments that report each minute send as usual, a batch of eight instruments a minute, to the
data center's queue, store and evaluation on a PostgreSQL server that flushes its commits. A report of each batch
raises an alert of one of thirty triggers. The time is from the end of the transaction with the batch to the end of
the transaction with the alert, by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Final

import numpy as np

from bench.datacenter.scale import scaled
from bench.datacenter.triggers import CHANNELS, quiet_triggers
from bench.figures import Figure, figure, run
from datacenter.evaluation.evaluator import Advance, Evaluator
from datacenter.evaluation.follower import Follower
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.batches.batch import Received
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from tests.support.datacenter.evaluation.triggers import MODEL
from tests.support.datacenter.store.postgres import running_server
from tests.support.eventually import eventually
from wire.messages import Batch, BatchReply, Entry, ProfileInForce, Record, Status

INSTRUMENTS: Final = 10_000
PER_BOX: Final = 8
BATCHES_PER_SECOND: Final = INSTRUMENTS / PER_BOX / 60
SECONDS: Final = scaled(20, 2)
NOW_MS: Final = 1_790_000_000_000
HIGH: Final = 1000
"""A reading above the limits of all triggers."""


def make_batch() -> Batch:
    """Return the first batch of a box; the report of its last instrument raises an alert."""
    serials = [f"CHEM-{number}" for number in range(PER_BOX)]
    entries = [Entry("", 0, ProfileInForce(NOW_MS, serial, MODEL, 1)) for serial in serials]
    for serial in serials:
        readings = dict.fromkeys(CHANNELS, 50)
        if serial == serials[-1]:
            readings[CHANNELS[0]] = HIGH
        entries.append(Entry(serial, 1, Status(1, NOW_MS, "running", 0, readings)))
    return Batch(1, 0, [Record(1, entry) for entry in entries])


class _TimedEvaluator(Evaluator):
    """Records when the alerts of each box are committed."""

    def __init__(self, store: Store, triggers: TriggerSet) -> None:
        super().__init__(store, triggers)
        self.raised_s: dict[str, float] = {}

    def advance(self, box: str, now_ms: int) -> Advance:
        result = super().advance(box, now_ms)
        if result.begun:
            self.raised_s[box] = time.monotonic()
        return result


async def latencies(store: Store, executor: ThreadPoolExecutor) -> list[float]:
    """Return the seconds from commit to alert of all batches."""
    evaluator = _TimedEvaluator(store, TriggerSet(quiet_triggers()))
    follower = Follower(evaluator, None, lambda: NOW_MS)
    committed_s: dict[str, float] = {}

    def store_all(received: list[Received]) -> Sequence[BatchReply | Exception]:
        replies = store.ingest_all(received)
        committed_s.update(dict.fromkeys((batch.box for batch in received), time.monotonic()))
        return replies

    queue = StoreQueue(executor, store_all, stored=follower.stored)
    following = asyncio.create_task(follower.run())
    boxes = [f"RAP-{number:04}" for number in range(round(SECONDS * BATCHES_PER_SECOND))]
    batch, began_s = make_batch(), time.monotonic()
    sent = []
    for index, box in enumerate(boxes):
        await asyncio.sleep(max(0.0, began_s + index / BATCHES_PER_SECOND - time.monotonic()))
        received = Received(box, batch, NOW_MS)
        sent.append(asyncio.create_task(queue.run(received, urgent=False, is_abandoned=lambda: False)))
    await asyncio.gather(*sent)
    await eventually(lambda: len(evaluator.raised_s) == len(boxes), 120, every_s=0.05)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    return [evaluator.raised_s[box] - committed_s[box] for box in boxes]


def figures() -> list[Figure]:
    """Return all figures."""
    with ExitStack() as stack:
        store = Store(stack.enter_context(running_server(flushes=True)))
        stack.callback(store.close)
        store.authorize([f"RAP-{number:04}" for number in range(INSTRUMENTS // PER_BOX)], NOW_MS)
        executor = stack.enter_context(ThreadPoolExecutor(1))
        latencies_s = asyncio.run(latencies(store, executor))
    return [
        figure("alerts, one of each batch", "", len(latencies_s)),
        figure("commit to alert, median", "ms", float(np.quantile(latencies_s, 0.5)) * 1000),
        figure("commit to alert, p99", "ms", float(np.quantile(latencies_s, 0.99)) * 1000, "<= 1000"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
