"""Percentiles of the installed base: `python -m bench.datacenter.base [--json]`.

A model has 10,000 instruments with a report each minute for 90 days. The percentiles of two readings are computed
from the database: of a temperature with some 400 different values a day, and of a vacuum with some 1,500. Counting a
day of one instrument is measured with the simulated chemistry analyzer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from sqlalchemy import func, insert, select

from bench.figures import Figure, figure, run
from datacenter.base.counting import count_all
from datacenter.base.histogram import Histogram, added, encode_histogram
from datacenter.base.percentiles import percentiles_of, read_days
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.archive import archive
from datacenter.store.batches.batch import Received
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import base_days, base_instruments, chunks
from sim.instruments.history import History
from sim.units import DAY_NS
from wire.messages import Batch, Entry, ProfileInForce, Record

INSTRUMENTS: Final = 10_000
DAYS: Final = 90
MODEL: Final = "chemistry-analyzer"
READINGS: Final = {"reaction-temp-mc": (37_000, 50, 1), "vacuum-pa": (80_000, 2_000, 10)}
"""Mean, standard deviation over the instruments, and resolution."""
PERCENTILES: Final = (5, 25, 50, 75, 95)
HISTORY_DAYS: Final = 20
BATCH: Final = 500


def day_of_the_base(random: np.random.Generator, mean: int, deviation: int, resolution: int) -> Histogram:
    """Return a day's histogram of all instruments; each has ten values around its own mean."""
    means = random.normal(mean, deviation, INSTRUMENTS)
    readings = random.normal(means[:, None], deviation / 10, (INSTRUMENTS, 10))
    values, counts = np.unique(
        np.round(readings / resolution).astype(np.int64) * resolution, return_counts=True
    )
    return Histogram(values, counts * 144, counts)


def query_seconds(store: Store) -> dict[str, float]:
    """Return the processor time of a query for each reading; SQLite computes in this process."""
    random = np.random.default_rng(1)
    with store.transaction() as connection:
        for reading, shape in READINGS.items():
            for day in range(DAYS):
                body = encode_histogram(day_of_the_base(random, *shape))
                key = {"model": MODEL, "reading": reading, "place": "everywhere", "day": day}
                connection.execute(insert(base_days).values(**key, instruments=INSTRUMENTS, body=body))

    def query(reading: str) -> None:
        with store.transaction() as connection:
            percentiles_of(read_days(connection, MODEL, reading, ["everywhere"], 0, DAYS), PERCENTILES)

    return {reading: _fastest(partial(query, reading)) for reading in READINGS}


def _fastest(call: Callable[[], None]) -> float:
    seconds = []
    for _ in range(20):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return min(seconds)


def counting(store: Store) -> tuple[float, float, float]:
    """Return processor seconds for a day's histogram of an instrument, and its bytes as histogram and as chunks."""
    store.authorize(["RAP-0001"], 0)
    reports = list(History(MODEL, "CHEM-0001", seed=1).until(HISTORY_DAYS * DAY_NS))
    entries = [Entry("", 0, ProfileInForce(0, "CHEM-0001", MODEL, 1))]
    entries += [Entry("CHEM-0001", 1, report) for report in reports]
    for begin in range(0, len(entries), BATCH):
        part = [Record(1, entry) for entry in entries[begin : begin + BATCH]]
        store.ingest_all([Received("RAP-0001", Batch(1, begin, part), HISTORY_DAYS * DAY_MS)])
    Evaluator(store, TriggerSet([])).advance("RAP-0001", HISTORY_DAYS * DAY_MS)
    archive(store, HISTORY_DAYS * DAY_MS + 1)
    began = time.process_time()
    count = count_all(store, HISTORY_DAYS * DAY_MS)
    seconds = (time.process_time() - began) / count
    ((counted,),) = store.read(select(func.sum(func.length(base_instruments.c.body))))
    ((archived,),) = store.read(select(func.sum(func.length(chunks.c.body))))
    return seconds, counted / count, archived / count


def federation_is_exact() -> bool:
    """Return whether the sum of two regions has the percentiles of all instruments."""
    random = np.random.default_rng(2)
    parts = [Histogram.of_instrument(random.integers(0, 500, 1440)) for _ in range(100)]
    regions = [added(parts[:37]), added(parts[37:])]
    return added(regions).percentiles(range(101)) == added(parts).percentiles(range(101))


def figures() -> list[Figure]:
    """Return all figures."""
    with tempfile.TemporaryDirectory() as folder:
        with closing(Store(f"sqlite:///{Path(folder) / 'base.db'}")) as store:
            queries = query_seconds(store)
        with closing(Store(f"sqlite:///{Path(folder) / 'count.db'}", durable=False)) as store:
            seconds, counted, archived = counting(store)
    return [
        *(
            figure(f"percentiles of {reading}, 10,000 x 90 days", "ms of processor", query_s * 1e3, "<= 10")
            for reading, query_s in queries.items()
        ),
        figure("counting a day of an instrument", "ms of processor", seconds * 1e3),
        figure("  stored for it", "bytes", counted),
        figure("  its chunk, for comparison", "bytes", archived),
        figure("two regions have the percentiles of all", "", federation_is_exact(), ">= 1"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
