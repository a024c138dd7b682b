"""A day of 10,000 instruments, ingested at once: `python -m bench.datacenter.day [--json]`.

The boxes of 10,000 instruments that report each minute send the reports of a day in batches of eight minutes. One
process decodes and stores them, or two that have half of them each, in the transactions that the data center's queue
makes while it is busy, in one PostgreSQL server that flushes its commits. Batches are made in rounds, between
which all processes wait for each other; the time to make them does not count. `SCALE=0.1` ingests a tenth of the day,
and computes the time of the whole one.

Of some batches the processor time is measured step by step, of the program and of PostgreSQL, with the evaluation of
thirty triggers, which follows ingest in the background. It depends less on other load than durations do.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing import get_context
from random import Random
from threading import Barrier
from typing import Any, Final

from bench.datacenter.ingest import CHANNELS, INSTRUMENTS, NOW_MS, REPORTS_A_DAY, make_report
from bench.datacenter.scale import scaled
from bench.datacenter.triggers import quiet_triggers
from bench.figures import Figure, figure, run
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store import queries
from datacenter.store.batches.batch import Received
from datacenter.store.queue import TOGETHER_RECORDS_MAX
from datacenter.store.store import Store
from tests.support.datacenter.evaluation.triggers import MODEL
from tests.support.datacenter.store.postgres import PostgresServer, killable_server, running_server
from wire.messages import Batch, Entry, ProfileInForce, Record, Status, decode, encode, encode_batch

BOXES: Final = 10_000 // INSTRUMENTS
SIZE: Final = 8 * INSTRUMENTS
BATCHES: Final = scaled(REPORTS_A_DAY // SIZE, 2 * TOGETHER_RECORDS_MAX // SIZE)
STEP: Final = TOGETHER_RECORDS_MAX // SIZE
"""Batches that are stored in one transaction."""
ROUND: Final = 8 * STEP
"""Batches of each process that are made before any is stored."""
WAIT_SECONDS_MAX: Final = 600.0
EVALUATED_BOXES: Final = 2 * STEP
EVALUATED_ROUNDS: Final = 4


def make_batch(random: Random, index: int) -> tuple[str, bytes]:
    """Return the box and the content of a batch; all boxes send in turn."""
    first = index // BOXES * SIZE + 1
    entries = [
        (sequence, encode(Entry(f"CHEM-{sequence % INSTRUMENTS}", 1, make_report(random, sequence))))
        for sequence in range(first, first + SIZE)
    ]
    return f"RAP-{index % BOXES:04}", encode_batch(1, entries)


def rounds(process: int, processes: int) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the batches of the process `process` in rounds; all processes have equally many rounds."""
    random = Random(process)
    indexes = range(process, BATCHES, processes)
    for first in range(0, BATCHES, processes * ROUND):
        yield [
            make_batch(random, index) for index in indexes[first // processes : first // processes + ROUND]
        ]


def ingest(url: str, process: int, processes: int) -> tuple[float, float]:
    """Store the batches of a process; return the time of decoding and storing, and its processor time for it."""
    seconds = own_seconds = 0.0
    with closing(Store(url)) as store:
        for sent in rounds(process, processes):
            _barrier.wait(WAIT_SECONDS_MAX)
            began, own_began = time.perf_counter(), time.process_time()
            for first in range(0, len(sent), STEP):
                batches = sent[first : first + STEP]
                outcomes = store.ingest_all(
                    [Received(box, decode(Batch, data), NOW_MS) for box, data in batches]
                )
                assert not any(isinstance(outcome, Exception) for outcome in outcomes)
            own_seconds += time.process_time() - own_began
            _barrier.wait(WAIT_SECONDS_MAX)
            seconds += time.perf_counter() - began
    return seconds, own_seconds


_barrier: Barrier
"""The barrier at which the processes wait for each other."""


def _share(barrier: Any) -> None:
    global _barrier  # noqa: PLW0603
    _barrier = barrier


@contextmanager
def workers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Run processes that wait for each other at `_barrier`."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _share, (spawn.Barrier(processes),)) as pool:
        yield pool


def measure(processes: int) -> list[Figure]:
    """Return the figures of a run with this number of processes."""
    with running_server(flushes=True) as url, closing(Store(url)) as store, workers(processes) as pool:
        store.authorize([f"RAP-{box:04}" for box in range(BOXES)], 0)
        calls = [pool.submit(ingest, url, process, processes) for process in range(processes)]
        measured = [call.result() for call in calls]
        stored = sum(queries.counts(store).values())
        assert stored == BATCHES * SIZE
    seconds, days = max(seconds for seconds, _ in measured), REPORTS_A_DAY / stored
    own_seconds = sum(own for _, own in measured)
    name = "one process" if processes == 1 else f"{processes} processes"
    return [
        figure(f"reports a second, {name}", "1/s", stored / seconds),
        figure(f"a day of 10,000 instruments, {name}", "min", seconds * days / 60, "<= 10"),
        figure("  of it, processor time of the program", "min", own_seconds * days / 60),
    ]


class _Processor:
    """The processor time of this process and of a server, in seconds, by step."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.own: defaultdict[str, float] = defaultdict(float)
        self.servers: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time in the block."""
        own, servers = time.process_time(), self._server.processor_s()
        yield
        self.own[name] += time.process_time() - own
        self.servers[name] += self._server.processor_s() - servers


def processor_times() -> list[Figure]:
    """Return the processor time a report of each step."""
    random, boxes = Random(1), [f"RAP-{box:04}" for box in range(EVALUATED_BOXES)]
    serials = [f"CHEM-{number}" for number in range(INSTRUMENTS)]
    entries = [Entry("", 0, ProfileInForce(NOW_MS, serial, MODEL, 1)) for serial in serials]
    with killable_server(flushes=True) as server, closing(Store(server.url)) as store:
        store.authorize(boxes, 0)
        evaluator = Evaluator(store, TriggerSet(quiet_triggers()))
        first = [Received(box, Batch(2, 0, [Record(1, entry) for entry in entries]), NOW_MS) for box in boxes]
        store.ingest_all(first)
        for box in boxes:
            evaluator.advance(box, NOW_MS)
        processor = _Processor(server)
        for after in range(0, EVALUATED_ROUNDS * SIZE, SIZE):
            sent = [(box, encode_batch(1, _quiet_entries(random, after))) for box in boxes]
            with processor.step("decoding"):
                received = [Received(box, decode(Batch, data), NOW_MS) for box, data in sent]
            with processor.step("storing"):
                for start in range(0, len(received), STEP):
                    store.ingest_all(received[start : start + STEP])
            with processor.step("evaluation"):
                evaluated = sum(evaluator.advance(box, NOW_MS).reports for box in boxes)
            assert evaluated == len(boxes) * SIZE
    reports = EVALUATED_ROUNDS * EVALUATED_BOXES * SIZE
    measured = []
    for name, seconds in processor.own.items():
        measured.append(figure(f"processor time, {name}", "us/report", seconds / reports * 1e6))
        server_seconds = processor.servers[name]
        measured.append(figure("  of PostgreSQL", "us/report", server_seconds / reports * 1e6))
    total = sum(processor.own.values()) + sum(processor.servers.values())
    minutes = total / reports * REPORTS_A_DAY / 60
    return [
        *measured,
        figure("a day with evaluation, processor time on two cores", "min", minutes / 2, "<= 10"),
    ]


def _quiet_entries(random: Random, after: int) -> list[tuple[int, bytes]]:
    """Return the reports of a batch whose readings raise no alert."""
    entries = []
    for sequence in range(after + 1, after + SIZE + 1):
        number, at_ms = sequence // INSTRUMENTS + 1, NOW_MS + sequence * 7_500
        readings = {name: random.randrange(100) for name in CHANNELS}
        body = Status(number, at_ms, "running", number, readings)
        entries.append((sequence, encode(Entry(f"CHEM-{sequence % INSTRUMENTS}", 1, body))))
    return entries


def figures() -> list[Figure]:
    """Return all figures."""
    return [figure("reports ingested", "", BATCHES * SIZE), *processor_times(), *measure(1), *measure(2)]


if __name__ == "__main__":
    run(figures, __doc__)
