"""Concurrent processes store each report once, without deadlocks, and a failing batch does not affect the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import text

from datacenter.store import queries
from datacenter.store.batches.batch import Received
from datacenter.store.batches.coverage import RANGES_MAX, encode_ranges
from datacenter.store.errors import StoreError, UnknownBoxError
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from settings.ranges import RangeSet
from tests.support.datacenter.store.batches import alert, batch
from wire.messages import BatchReply

BOXES = [f"RAP-{number:04}" for number in range(1, 6)]


@pytest.fixture(params=["file", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Store]]:
    """Four stores with separate connections to one database, as in four processes."""
    if request.param == "postgresql":
        url = str(request.getfixturevalue("empty_postgres"))
    else:
        url = f"sqlite:///{tmp_path / 'store.db'}"
    stores = [Store(url) for _ in range(4)]
    stores[0].authorize(BOXES, 0)
    yield stores
    for store in stores:
        store.close()


def test_batches_that_overlap_are_stored_once_by_several_processes(stores: list[Store]) -> None:
    start, stored, failures = threading.Barrier(len(stores)), list[int](), list[object]()

    def store_all(index: int) -> None:
        random = Random(index)
        start.wait()
        for first in range(1, 60, 3):
            numbers = range(first, first + 6)
            received = [
                Received(box, batch(*(alert(number) for number in numbers), first=first), 0) for box in BOXES
            ]
            random.shuffle(received)
            for outcome in stores[index].ingest_all(received):
                if isinstance(outcome, BatchReply):
                    stored.append(outcome.stored)
                else:
                    failures.append(outcome)

    threads = [threading.Thread(target=store_all, args=(index,)) for index in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(stored) == 63 * len(BOXES)
    records = [(record.box, record.sequence, record.number) for record in queries.records(stores[0])]
    assert records == [(box, number, number) for box in BOXES for number in range(1, 64)]


def test_an_unknown_box_and_one_with_too_many_holes_do_not_fail_the_others(stores: list[Store]) -> None:
    full = encode_ranges(RangeSet((2 * n + 1, 2 * n + 1) for n in range(RANGES_MAX)))
    with stores[0].transaction() as connection:
        connection.execute(
            text("INSERT INTO coverage VALUES (:box, '', 1, :stored, NULL)"),
            {"box": BOXES[1], "stored": full},
        )
    received = [Received(box, batch(alert(1), first=2), 0) for box in (BOXES[0], "RAP-9999", BOXES[1])]
    good, unknown, holes = stores[0].ingest_all(received)
    assert good == BatchReply(1)
    assert isinstance(unknown, UnknownBoxError) and isinstance(holes, StoreError)
    assert "too many gaps" in str(holes)
    assert queries.counts(stores[0]) == {(BOXES[0], "CHEM-0001"): 1}


def test_a_batch_that_the_database_refuses_does_not_fail_the_others(stores: list[Store]) -> None:
    with stores[0].transaction() as connection:
        name = connection.dialect.name
        if name == "sqlite":
            connection.execute(
                text(
                    "CREATE TRIGGER refuse BEFORE INSERT ON records WHEN new.box = 'RAP-0002'"
                    " BEGIN SELECT RAISE(ABORT, 'refused'); END"
                )
            )
        else:
            connection.execute(text("ALTER TABLE records ADD CHECK (box <> 'RAP-0002')"))
    received = [Received(box, batch(alert(1)), 0) for box in BOXES[:3]]
    first, refused, third = stores[0].ingest_all(received)
    assert (first, third) == (BatchReply(1), BatchReply(1))
    assert isinstance(refused, StoreError)
    assert queries.counts(stores[0]) == {(BOXES[0], "CHEM-0001"): 1, (BOXES[2], "CHEM-0001"): 1}


def test_batches_of_a_box_in_one_transaction_are_stored_in_their_order(stores: list[Store]) -> None:
    number = stores[0].queue_command(BOXES[0], "CHEM-0001", "help-file", b"", 0)
    received = [
        Received(BOXES[0], batch(alert(1), alert(2)), 0),
        Received(BOXES[0], batch(alert(1), alert(2), alert(3)), 0),
    ]
    first, second = stores[0].ingest_all(received)
    assert isinstance(first, BatchReply) and isinstance(second, BatchReply)
    assert (first.stored, second.stored) == (2, 1)
    assert ([command.id for command in first.commands], second.commands) == ([number], [])


def test_rows_are_in_the_partition_of_the_day_on_which_they_were_stored(empty_postgres: str) -> None:
    store = Store(empty_postgres)
    store.authorize(BOXES, 0)
    days = [20_000, 20_001, 20_005, 19_000]
    for number, day in enumerate(days, 1):
        store.ingest(BOXES[0], batch(alert(number), first=number), day * DAY_MS + DAY_MS - 1)
    for number, day in enumerate(days, 1):
        query = text(f"SELECT number FROM records_{day}")
        assert [tuple(row) for row in store.read(query)] == [(number,)]
    store.close()
