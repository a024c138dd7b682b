"""A day of 10,000 instruments, ingested at once: `python -m bench.datacenter.day [--json]`.

The boxes of 10,000 instruments that report each minute send the reports of a day in batches of eight minutes. One
process decodes and stores them, in the transactions that the data center's queue makes while it is busy, in a
PostgreSQL server that flushes its commits. The time to make the batches does not count. `SCALE=0.1` ingests a tenth
of the day, and computes the time of the whole one.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from random import Random
from typing import Final

from bench.datacenter.ingest import INSTRUMENTS, NOW_MS, REPORTS_A_DAY, make_report
from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.store import queries
from datacenter.store.batch import Received
from datacenter.store.queue import TOGETHER_RECORDS_MAX
from datacenter.store.store import Store
from tests.support.datacenter.postgres import running_server
from wire.messages import Batch, Entry, decode, encode, encode_batch

BOXES: Final = 10_000 // INSTRUMENTS
SIZE: Final = 8 * INSTRUMENTS
BATCHES: Final = scaled(REPORTS_A_DAY // SIZE, TOGETHER_RECORDS_MAX // SIZE)


def make_batch(random: Random, place: int) -> tuple[str, bytes]:
    """Return the box and the content of a batch; all boxes send in turn."""
    first = place // BOXES * SIZE + 1
    entries = [
        (sequence, encode(Entry(f"CHEM-{sequence % INSTRUMENTS}", 1, make_report(random, sequence))))
        for sequence in range(first, first + SIZE)
    ]
    return f"RAP-{place % BOXES:04}", encode_batch(1, entries)


def ingest_seconds(store: Store) -> tuple[float, float]:
    """Store BATCHES; return the time of decoding and storing, and the processor time of this process for it."""
    random, seconds, own_seconds = Random(1), 0.0, 0.0
    step = TOGETHER_RECORDS_MAX // SIZE
    for first in range(0, BATCHES, step):
        made = [make_batch(random, place) for place in range(first, min(first + step, BATCHES))]
        began, own_began = time.perf_counter(), time.process_time()
        outcomes = store.ingest_all([Received(box, decode(Batch, data), NOW_MS) for box, data in made])
        seconds += time.perf_counter() - began
        own_seconds += time.process_time() - own_began
        assert not any(isinstance(one, Exception) for one in outcomes)
    return seconds, own_seconds


def figures() -> list[Figure]:
    """All figures."""
    with ExitStack() as stack:
        store = Store(stack.enter_context(running_server(flushes=True)))
        stack.callback(store.close)
        store.authorize([f"RAP-{box:04}" for box in range(BOXES)], 0)
        seconds, own_seconds = ingest_seconds(store)
        stored = sum(queries.counts(store).values())
        assert stored == BATCHES * SIZE
        days = REPORTS_A_DAY / stored
    return [
        figure("reports ingested", "", stored),
        figure("reports a second, one process", "1/s", stored / seconds),
        figure("a day of 10,000 instruments", "min", seconds * days / 60, "<= 10"),
        figure("of it, processor time of the process", "min", own_seconds * days / 60),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
