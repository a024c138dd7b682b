"""Archiving does not change the history, also with late reports and after failures."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert, select, text

from datacenter.history import archivist
from datacenter.history.archive import archive, archive_instrument, history
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import chunks, evaluated, records
from sim.net.loop import SimLoop
from tests.support.datacenter.store.batches import alert
from tests.support.runner.logged import logged
from wire.messages import Batch, Entry, InstrumentReport, Status, decode, encode, encode_batch

BOX, SERIAL = "RAP-0001", "CHEM-0001"
T0 = 20_000 * DAY_MS


def status(number: int) -> Status:
    """Return the n-th status; there is one every six hours."""
    return Status(number, T0 + number * DAY_MS // 4, "running", number, {"lamp-h": 100 + number})


def ingest(store: Store, *numbers: int, stored_at_ms: int, instrument: str = SERIAL) -> None:
    entries: list[tuple[int, InstrumentReport]] = [(number, status(number)) for number in numbers]
    encoded = [(sequence, encode(Entry(instrument, 1, report))) for sequence, report in entries]
    assert store.ingest(BOX, decode(Batch, encode_batch(1, encoded)), stored_at_ms).stored == len(numbers)


def evaluate_until(store: Store, sequence: int) -> None:
    with store.transaction() as connection:
        connection.execute(insert(evaluated).values(box=BOX, epoch=1, sequence=sequence, moved_at_ms=0))


def numbers(store: Store, since_ms: int = 0, until_ms: int = 2**52) -> list[int]:
    """Return the numbers of the reports in the history, whose contents must be unchanged."""
    reports = list(history(store, BOX, SERIAL, since_ms, until_ms).reports())
    assert reports == [(1, status(report.number)) for _, report in reports]
    return [report.number for _, report in reports]


def days(store: Store) -> list[tuple[int, int]]:
    """Return the chunks: day, counted from T0, and number of statuses."""
    query = select(chunks.c.day, chunks.c.statuses).order_by(chunks.c.day)
    return [(day - 20_000, statuses) for day, statuses in store.read(query)]


def test_history_is_the_same_from_rows_from_chunks_and_from_both(store: Store) -> None:
    ingest(store, *range(1, 9), stored_at_ms=10)
    ingest(store, *range(9, 13), stored_at_ms=20)
    evaluate_until(store, 100)
    expected = list(range(1, 13))
    assert numbers(store) == expected
    assert archive(store, 20) == 8
    assert numbers(store) == expected
    assert archive(store, 21) == 4
    assert numbers(store) == expected
    assert days(store) == [(0, 3), (1, 4), (2, 4), (3, 1)]
    assert list(store.read(select(records.c.sequence))) == []


def test_the_start_of_a_history_is_inclusive_and_its_end_exclusive(store: Store) -> None:
    ingest(store, *range(1, 13), stored_at_ms=10)
    evaluate_until(store, 100)
    for _ in range(2):
        assert numbers(store, status(3).at_ms, status(7).at_ms) == [3, 4, 5, 6]
        archive(store, 11)


def test_late_reports_change_the_chunks_of_their_days_only(store: Store) -> None:
    ingest(store, 1, 2, 9, 10, stored_at_ms=10)
    evaluate_until(store, 100)
    archive(store, 11)
    untouched = dict(map(tuple, store.read(select(chunks.c.day, chunks.c.body))))
    ingest(store, 5, 6, stored_at_ms=50)
    archive(store, 51)
    after = dict(map(tuple, store.read(select(chunks.c.day, chunks.c.body))))
    assert numbers(store) == [1, 2, 5, 6, 9, 10]
    assert {day: body for day, body in after.items() if day in untouched} == untouched


def test_a_repeated_batch_is_not_new_after_its_rows_were_archived(store: Store) -> None:
    ingest(store, 1, 2, stored_at_ms=10)
    evaluate_until(store, 100)
    archive(store, 11)
    encoded = [(number, encode(Entry(SERIAL, 1, status(number)))) for number in (1, 2)]
    assert store.ingest(BOX, decode(Batch, encode_batch(1, encoded)), 60).stored == 0
    assert numbers(store) == [1, 2]


def test_other_kinds_and_records_not_yet_evaluated_are_kept(store: Store) -> None:
    ingest(store, 1, 2, stored_at_ms=10)
    ingest(store, 3, stored_at_ms=10)
    entry = encode(Entry(SERIAL, 1, alert(9)))
    store.ingest(BOX, decode(Batch, encode_batch(1, [(50, entry)])), 10)
    evaluate_until(store, 2)
    assert archive(store, 11) == 2
    rows = store.read(select(records.c.kind, records.c.sequence).order_by(records.c.sequence))
    assert [tuple(row) for row in rows] == [("status", 3), ("alert", 50)]


def test_statuses_of_a_box_that_was_never_evaluated_are_kept(store: Store) -> None:
    ingest(store, 1, stored_at_ms=10)
    assert archive(store, 11) == 0
    assert numbers(store) == [1]


def test_a_failure_leaves_each_status_in_its_row(store: Store) -> None:
    ingest(store, *range(1, 9), stored_at_ms=10)
    evaluate_until(store, 100)
    with store.transaction() as connection:
        if connection.dialect.name == "sqlite":
            refuse = (
                "CREATE TRIGGER refuse BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        else:
            refuse = "ALTER TABLE chunks ADD CHECK (day < 20001)"
        connection.execute(text(refuse))
    with pytest.raises(StoreError):
        archive(store, 11)
    assert numbers(store) == list(range(1, 9))
    assert days(store) == []


def test_the_program_archives_old_statuses_hourly_and_continues_after_a_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hour_ms = DAY_MS // 24
    ingest(store, 1, 2, stored_at_ms=hour_ms // 2)
    ingest(store, 3, 4, stored_at_ms=2 * hour_ms)
    evaluate_until(store, 100)
    archived, loop = list[int](), SimLoop()

    def fail_once(*_: object) -> int:
        monkeypatch.setattr(archivist, "archive_instrument", archive_instrument)
        raise StoreError("the disk is full")

    async def main() -> None:
        archiving = archivist.archive_hourly(store, None, lambda: round(loop.time() * 1000), rows_days=1)
        task = asyncio.create_task(archiving)
        for _ in range(28):
            await asyncio.sleep(archivist.ARCHIVE_SECONDS)
            archived.append(sum(statuses for _, statuses in days(store)))
        task.cancel()

    monkeypatch.setattr(archivist, "archive_instrument", fail_once)
    loop.run_until_complete(main())
    assert archived[23:] == [0, 0, 0, 2, 4]  # before the runs of hours 24 to 28; that of hour 25 fails
    assert logged(caplog, "datacenter") == ["statuses are not archived: the disk is full"]
    assert numbers(store) == [1, 2, 3, 4]
