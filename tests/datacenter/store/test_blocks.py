"""The statuses of an instrument in a batch are stored as one block, and are read as separate records."""

from __future__ import annotations

from sqlalchemy import select, text

from datacenter.store import queries
from datacenter.store.store import Store
from datacenter.store.tables.schema import records
from tests.support.datacenter.store.batches import AT_MS, alert
from wire.messages import Batch, Entry, InstrumentReport, Status, decode, encode, encode_batch

BOX = "RAP-0001"


def status(number: int, at_ms: int = AT_MS) -> Status:
    return Status(number, at_ms + number, "running", number, {"lamp-h": number})


def batch_of(*entries: tuple[int, str, InstrumentReport]) -> Batch:
    """Return a batch of entries (sequence, instrument, report)."""
    encoded = [(sequence, encode(Entry(instrument, 3, report))) for sequence, instrument, report in entries]
    return decode(Batch, encode_batch(1, encoded))


def rows(store: Store) -> list[tuple[int, str, int, str, int]]:
    columns = [records.c[name] for name in ("sequence", "instrument", "number", "kind", "record_count")]
    return [tuple(row) for row in store.read(select(*columns).order_by(records.c.sequence))]


MIXED: list[tuple[int, str, InstrumentReport]] = [
    (1, "CHEM-0001", status(1)),
    (2, "HEMA-0002", status(7)),
    (3, "CHEM-0001", alert(2)),
    (5, "CHEM-0001", status(3)),
    (6, "HEMA-0002", status(8)),
]


def test_the_statuses_of_each_instrument_are_one_row(store: Store) -> None:
    assert store.ingest(BOX, batch_of(*MIXED), 9).stored == 5
    assert rows(store) == [
        (3, "CHEM-0001", 2, "alert", 1),
        (5, "CHEM-0001", 3, "status", 2),
        (6, "HEMA-0002", 8, "status", 2),
    ]


def test_records_of_blocks_have_their_own_sequence_number_time_and_body(store: Store) -> None:
    store.ingest(BOX, batch_of(*MIXED), 9)
    read_back = [
        (record.sequence, record.instrument, record.number, record.at_ms, body)
        for record, body in queries.bodies(store)
    ]
    assert read_back == [
        (sequence, instrument, report.number, report.at_ms, encode(report))
        for sequence, instrument, report in MIXED
    ]
    assert queries.counts(store) == {(BOX, "CHEM-0001"): 3, (BOX, "HEMA-0002"): 2}


def test_a_block_has_the_earliest_and_the_latest_time_of_a_clock_that_was_set_back(store: Store) -> None:
    times = (AT_MS, AT_MS + 3_600_000, AT_MS - 3_600_000)
    store.ingest(BOX, batch_of(*((n, "CHEM-0001", status(n, at)) for n, at in enumerate(times, 1))), 9)
    (row,) = store.read(select(records.c.since_ms, records.c.at_ms))
    assert tuple(row) == (AT_MS - 3_600_000 + 3, AT_MS + 3_600_000 + 2)


def test_only_the_new_statuses_of_a_batch_are_in_its_block(store: Store) -> None:
    store.ingest(BOX, batch_of((1, "CHEM-0001", status(1)), (2, "CHEM-0001", status(2))), 9)
    again = batch_of(*((n, "CHEM-0001", status(n)) for n in (2, 3, 4)))
    assert store.ingest(BOX, again, 9).stored == 2
    assert [record.number for record in queries.records(store)] == [1, 2, 3, 4]
    assert rows(store)[-1] == (4, "CHEM-0001", 4, "status", 2)


def test_long_blocks_are_compressed_by_lz4_on_postgresql(empty_postgres: str) -> None:
    store = Store(empty_postgres)
    store.authorize([BOX], 0)
    store.ingest(BOX, batch_of(*((number, "CHEM-0001", status(number)) for number in range(1, 201))), 9)
    with store.transaction() as connection:
        assert connection.scalars(text("SELECT pg_column_compression(body) FROM records")).all() == ["lz4"]
    store.close()
