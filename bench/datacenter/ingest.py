"""Ingest into PostgreSQL, compared with two other ways to write the same rows: `python -m bench.datacenter.ingest
[--json]`.

Batches of boxes with eight instruments are stored in turn in three ways, in one database that flushes its commits:
by the store; as one row for each report with the two unique keys that would otherwise prevent duplicates; and by COPY
of such rows into a table without any key, which is the fastest that PostgreSQL offers. Batches are decoded
beforehand. The store also gets the batches of all boxes at once, as its queue passes them on while it is busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import Any, Final

import psycopg
from sqlalchemy.engine import make_url

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.store import queries
from datacenter.store.batches.batch import Received
from datacenter.store.batches.rows import kind_of
from datacenter.store.store import Store
from settings.profile import load_profile
from tests.support.datacenter.store.postgres import running_server
from wire.messages import (
    Alert,
    Batch,
    Entry,
    InstrumentReport,
    Status,
    decode,
    encode,
    encode_batch,
    sequences,
)

REPORTS: Final = scaled(30_000, 10_240)
BOXES: Final = 20
INSTRUMENTS: Final = 8
CHANNELS: Final = list(load_profile("chemistry-analyzer").channels)
NOW_MS: Final = 1_790_000_000_000
REPORTS_A_DAY: Final = 14_400_000
"""Reports per day of 10,000 instruments that report each minute."""

_COLUMNS: Final = (
    "box text, epoch bigint, sequence bigint, instrument text, run bigint, number bigint, kind text, "
    "at_ms bigint, stored_at_ms bigint, body bytea"
)
_KEYS: Final = ", PRIMARY KEY (box, epoch, sequence), UNIQUE (box, instrument, run, number)"


def batches(size: int) -> Iterator[tuple[str, Batch]]:
    """Yield batches of `size` reports of several boxes in turn; one report of fifty is an alert."""
    random = Random(size)
    sent = 0
    while sent < REPORTS:
        for box in range(BOXES):
            first = sent // BOXES + 1
            entries = [
                (sequence, encode(Entry(f"CHEM-{sequence % INSTRUMENTS}", 1, make_report(random, sequence))))
                for sequence in range(first, first + size)
            ]
            yield f"RAP-{box:04}", decode(Batch, encode_batch(1, entries))
        sent += size * BOXES


def make_report(random: Random, sequence: int) -> InstrumentReport:
    """Return a report with this sequence number of a box; one of fifty is an alert."""
    number, at_ms = sequence // INSTRUMENTS + 1, NOW_MS + sequence * 7_500
    if random.random() < 0.02:
        return Alert(number, at_ms, "T0101", "bath", "warning", 37_900)
    return Status(number, at_ms, "running", number, {name: random.randrange(30_000) for name in CHANNELS})


def plain_rows(box: str, batch: Batch) -> list[tuple[Any, ...]]:
    """Return a row for each report."""
    rows = []
    for sequence, record in zip(sequences(batch), batch.records, strict=True):
        entry, body = record.entry, record.entry.body
        assert isinstance(body, InstrumentReport)
        identity = box, batch.epoch, sequence, entry.instrument, entry.run, body.number
        rows.append((*identity, kind_of(body), body.at_ms, NOW_MS, encode(body)))
    return rows


def with_keys(connection: psycopg.Connection[Any]) -> Callable[[str, Batch], object]:
    """Store with unique keys, a row for each report."""
    connection.execute(f"CREATE TABLE keyed ({_COLUMNS}{_KEYS})")
    connection.commit()
    insert = f"INSERT INTO keyed VALUES ({', '.join(['%s'] * 10)}) ON CONFLICT DO NOTHING"

    def store(box: str, batch: Batch) -> None:
        connection.cursor().executemany(insert, plain_rows(box, batch))
        connection.commit()

    return store


def by_copy(connection: psycopg.Connection[Any]) -> Callable[[str, Batch], object]:
    """Store by COPY, without any key."""
    connection.execute(f"CREATE TABLE bare ({_COLUMNS})")
    connection.commit()

    def store(box: str, batch: Batch) -> None:
        with connection.cursor().copy("COPY bare FROM STDIN") as copy:
            for row in plain_rows(box, batch):
                copy.write_row(row)
        connection.commit()

    return store


def rates(size: int, together: int) -> dict[str, float]:
    """Return reports per second of each method, for batches of `size`; the store gets `together` batches at once."""
    seconds: dict[str, float] = {}
    reports = 0
    with ExitStack() as stack:
        url = stack.enter_context(running_server(flushes=True))
        dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        connections = [stack.enter_context(psycopg.connect(dsn)) for _ in range(2)]
        store = Store(url)
        stack.callback(store.close)
        store.authorize([f"RAP-{box:04}" for box in range(BOXES)], 0)
        methods = {"keys": with_keys(connections[0]), "copy": by_copy(connections[1])}
        waiting: list[Received] = []
        for box, batch in batches(size):
            reports += len(batch.records)
            for name, write in methods.items():
                began = time.perf_counter()
                write(box, batch)
                seconds[name] = seconds.get(name, 0) + time.perf_counter() - began
            waiting.append(Received(box, batch, NOW_MS))
            if len(waiting) == together:
                began = time.perf_counter()
                store.ingest_all(waiting)
                seconds["store"] = seconds.get("store", 0) + time.perf_counter() - began
                waiting = []
        assert sum(queries.counts(store).values()) == reports
    return {name: reports / duration for name, duration in seconds.items()}


def figures() -> list[Figure]:
    """Return all figures."""
    measured = []
    for size, together, of_copy, of_keys in (
        (512, 1, ">= 0.5", ">= 2"),
        (64, 1, ">= 0.68", ""),
        (64, BOXES, ">= 0.68", ""),
    ):
        rate = rates(size, together)
        name = f"batches of {size}, {together} at a time"
        measured += [
            figure(f"{name}: reports a second", "1/s", rate["store"]),
            figure(f"{name}: COPY without keys, one at a time", "1/s", rate["copy"]),
            figure(f"{name}: ratio to COPY", "", rate["store"] / rate["copy"], of_copy),
            figure(f"{name}: ratio to unique keys", "", rate["store"] / rate["keys"], of_keys),
        ]
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
