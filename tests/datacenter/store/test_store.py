"""The store keeps each report once, stores batches atomically, and repeats commands without a result."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from datacenter.store import queries
from datacenter.store.batches.batch import REPEAT_MS_MAX, REPEAT_MS_MIN, repeat_delay_ms
from datacenter.store.errors import StoreError, UnknownBoxError
from datacenter.store.store import Store
from datacenter.store.tables.schema import coverage
from tests.support.datacenter.store.batches import AT_MS, alert, batch, result
from tests.support.datacenter.store.duplicates import duplicates
from wire.messages import (
    COMMAND_BODY_BYTES_MAX,
    COMMANDS_PER_REPLY_MAX,
    RECORDS_PER_BATCH_MAX,
    Audit,
    CommandStep,
    Gap,
)

BOX = "RAP-0001"


def numbers(store: Store) -> list[tuple[int, int, int | None]]:
    return [(record.epoch, record.sequence, record.number) for record in queries.records(store)]


def test_a_record_is_stored_with_the_columns_of_queries(store: Store) -> None:
    assert store.ingest(BOX, batch(alert(3), first=12, epoch=4, run=9), AT_MS + 500).stored == 1
    assert list(queries.records(store)) == [
        (BOX, 4, 12, "CHEM-0001", 9, 3, "alert", AT_MS + 3, AT_MS + 500),
    ]


def test_a_repeated_batch_is_stored_once(store: Store) -> None:
    sent = batch(alert(1), alert(2), alert(3))
    assert [store.ingest(BOX, sent, now).stored for now in (10, 20, 30)] == [3, 0, 0]
    assert {record.stored_at_ms for record in queries.records(store)} == {10}


def test_overlapping_batches_are_stored_once(store: Store) -> None:
    store.ingest(BOX, batch(alert(1), alert(2)), 0)
    assert store.ingest(BOX, batch(alert(2), alert(3), first=2), 0).stored == 1
    assert numbers(store) == [(1, 1, 1), (1, 2, 2), (1, 3, 3)]


def test_a_report_that_the_box_accepted_twice_is_stored_once(store: Store) -> None:
    store.ingest(BOX, batch(alert(1)), 0)
    assert store.ingest(BOX, batch(alert(1), first=50), 0).stored == 0
    assert store.ingest(BOX, batch(alert(1), epoch=2), 0).stored == 0
    assert numbers(store) == [(1, 1, 1)]


def test_equal_numbers_of_another_run_instrument_or_box_are_other_reports(store: Store) -> None:
    store.ingest(BOX, batch(alert(1)), 0)
    store.ingest(BOX, batch(alert(1), first=2, run=2), 0)
    store.ingest(BOX, batch(alert(1), first=3, instrument="HEMA-0002"), 0)
    store.ingest("RAP-0002", batch(alert(1)), 0)
    assert queries.counts(store) == {
        (BOX, "CHEM-0001"): 2,
        (BOX, "HEMA-0002"): 1,
        ("RAP-0002", "CHEM-0001"): 1,
    }


def test_records_of_the_box_itself_are_identified_by_their_sequence(store: Store) -> None:
    again = Audit(AT_MS, "port-down", 1)
    sent = batch(again, again, instrument="", run=0)
    assert [store.ingest(BOX, sent, 0).stored for _ in range(2)] == [2, 0]
    assert numbers(store) == [(1, 1, None), (1, 2, None)]


def test_the_largest_batch_is_stored_completely(store: Store) -> None:
    sent = batch(*(alert(number) for number in range(1, RECORDS_PER_BATCH_MAX + 1)))
    assert store.ingest(BOX, sent, 0).stored == RECORDS_PER_BATCH_MAX
    assert len(numbers(store)) == RECORDS_PER_BATCH_MAX


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), max_size=8))
def test_repetitions_in_any_order_are_stored_once(sent: list[tuple[int, int]]) -> None:
    store = Store("sqlite://", durable=False)
    store.authorize([BOX], 0)
    stored = sum(
        store.ingest(BOX, batch(*(alert(n) for n in range(first, first + count)), first=first), 0).stored
        for first, count in sent
    )
    acknowledged = {n for first, count in sent for n in range(first, first + count)}
    assert [sequence for _, sequence, _ in numbers(store)] == sorted(acknowledged)
    assert stored == len(acknowledged)
    store.close()


def test_a_box_that_is_not_authorized_may_not_send(store: Store) -> None:
    with pytest.raises(UnknownBoxError):
        store.ingest("RAP-0003", batch(alert(1)), 0)
    assert queries.counts(store) == {}


def test_a_box_that_is_no_longer_authorized_may_not_send_and_its_records_are_kept(store: Store) -> None:
    store.ingest(BOX, batch(alert(1)), 0)
    store.authorize(["RAP-0002"], 5)
    with pytest.raises(UnknownBoxError):
        store.ingest(BOX, batch(alert(2), first=2), 0)
    assert queries.counts(store) == {(BOX, "CHEM-0001"): 1}
    store.authorize([BOX, "RAP-0002"], 6)
    assert store.ingest(BOX, batch(alert(2), first=2), 0).stored == 1


def test_a_failure_in_the_middle_stores_nothing_of_the_batch(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(text("DROP TABLE commands"))
    with pytest.raises(StoreError):
        store.ingest(BOX, batch(alert(1), alert(2)), 0)
    assert queries.counts(store) == {}


def test_a_store_works_again_after_a_failure(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(text("ALTER TABLE records RENAME TO hidden"))
    with pytest.raises(StoreError):
        store.ingest(BOX, batch(alert(1)), 0)
    with store.transaction() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO records"))
    assert store.ingest(BOX, batch(alert(1)), 0).stored == 1


def test_connections_that_the_server_has_closed_fail_only_one_call(empty_postgres: str) -> None:
    """After a restart of the server, all connections of the pool are replaced, not only the one that failed."""
    with closing(Store(empty_postgres)) as store:
        store.authorize([BOX], 0)
        with store.transaction(), store.transaction():
            pass  # two connections are in the pool now
        store.ingest(BOX, batch(alert(1)), 0)
        with psycopg.connect(empty_postgres.replace("+psycopg", ""), autocommit=True) as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database()"
            )
        with pytest.raises(StoreError):
            store.ingest(BOX, batch(alert(2), first=2), 0)
        assert store.ingest(BOX, batch(alert(2), first=2), 0).stored == 1
        with store.transaction(), store.transaction():
            pass


def test_stored_records_are_visible_to_the_next_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    for expected in (1, 0):
        store = Store(url)
        store.authorize([BOX], 0)
        assert store.ingest(BOX, batch(alert(1)), 0).stored == expected
        store.close()


@pytest.mark.parametrize(("durable", "journal", "synchronous"), [(True, "wal", 2), (False, "memory", 0)])
def test_a_commit_is_flushed_unless_durable_is_false(
    tmp_path: Path, durable: bool, journal: str, synchronous: int
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", durable=durable)
    with store.transaction() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == journal
        assert connection.scalar(text("PRAGMA synchronous")) == synchronous
    store.close()


def test_queries_see_what_another_thread_has_committed(store: Store) -> None:
    thread = threading.Thread(target=store.ingest, args=(BOX, batch(alert(1)), 0))
    thread.start()
    thread.join()
    assert numbers(store) == [(1, 1, 1)]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:?uri=true"])
def test_all_threads_share_a_database_in_memory(url: str) -> None:
    store = Store(url)
    store.authorize([BOX], 0)
    thread = threading.Thread(target=store.ingest, args=(BOX, batch(alert(1)), 0))
    thread.start()
    thread.join()
    assert numbers(store) == [(1, 1, 1)]
    store.close()


def test_a_store_opens_when_another_process_has_released_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "store.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE it_exists (at INTEGER)")
    other.execute("BEGIN EXCLUSIVE")
    waits = []

    def released(seconds: float) -> None:
        waits.append(seconds)
        other.execute("ROLLBACK")

    monkeypatch.setattr("datacenter.store.store.time.sleep", released)
    monkeypatch.setattr("datacenter.store.store.LOCK_SECONDS_MAX", 0)
    Store(f"sqlite:///{file}").close()
    other.close()
    assert len(waits) == 1


def test_rows_of_records_are_in_the_tree_of_their_identity(store: Store) -> None:
    with pytest.raises(StoreError, match="rowid"):
        list(store.read(text("SELECT rowid FROM records")))


def test_a_database_that_cannot_be_opened_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^unable to open database file$"):
        Store(f"sqlite:///{tmp_path / 'missing' / 'store.db'}")


@pytest.mark.parametrize("url", ["", "reports.db", "mysql://localhost/rap", "postgresql+psycopg2://h/d"])
def test_a_url_of_another_database_system_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^.*: "):
        Store(url)


def test_gaps_are_returned_with_the_record_that_reports_them(store: Store) -> None:
    gap = Gap(AT_MS, "disk-full", 128, ((1, 64), (70, 133)))
    store.ingest(BOX, batch(Audit(AT_MS, "port-up", 1), gap, first=134, instrument="", run=0), 0)
    assert queries.gaps(store) == [(BOX, 1, 135, gap)]


def test_coverage_has_lost_numbers_only_of_streams_with_gaps(store: Store) -> None:
    store.ingest(BOX, batch(alert(1)), 0)
    query = select(coverage.c.stream).where(coverage.c.lost.is_not(None))
    assert list(store.read(query)) == []
    store.ingest(BOX, batch(Gap(AT_MS, "disk-full", 3, ((5, 7),)), first=2), 0)
    assert len(list(store.read(query))) == 1


def test_duplicates_are_found_by_content(store: Store) -> None:
    store.ingest(BOX, batch(alert(1), alert(2)), 0)
    assert duplicates(store) == []
    # the same report of the same instrument, but of another run
    store.ingest(BOX, batch(alert(1), first=9, run=2), 0)
    assert duplicates(store) == [(BOX, "CHEM-0001", "alert", AT_MS + 1, 2)]


def test_a_command_is_sent_with_the_next_reply_and_not_repeated_immediately(store: Store) -> None:
    number = store.queue_command(BOX, "CHEM-0001", "help-file", b"text", 0)
    first, second = (store.ingest(BOX, batch(alert(n), first=n), n) for n in (1, 2))
    assert [(c.id, c.instrument, c.verb, c.body) for c in first.commands] == [
        (number, "CHEM-0001", "help-file", b"text")
    ]
    assert second.commands == []


def test_a_command_is_repeated_at_growing_intervals_until_its_result_arrives(store: Store) -> None:
    number = store.queue_command(BOX, "CHEM-0001", "send-inventory", b"", 0)
    delivered = []
    for minute in range(20):
        if store.ingest(BOX, batch(alert(minute + 1), first=minute + 1), minute * 60_000).commands:
            delivered.append(minute)
    assert delivered == [0, 1, 3, 7, 15]
    store.ingest(BOX, batch(result(100, number), first=100), 10**9)
    assert store.ingest(BOX, batch(alert(101), first=101), 10**10).commands == []
    (command,) = queries.commands(store)
    assert (command.outcome, command.closed_at_ms, command.delivered_count) == ("done", 10**9, 5)


def test_a_command_passes_through_the_states_that_the_box_reports(store: Store) -> None:
    number = store.queue_command(BOX, "CHEM-0001", "help-file", b"", 0)
    delivered = batch(CommandStep(2, AT_MS, number, "delivered"), first=2)
    executing = batch(CommandStep(3, AT_MS, number, "executing"), first=3)
    states = []
    for at_ms, sent in enumerate((batch(alert(9)), delivered, executing, batch(result(4, number), first=4))):
        store.ingest(BOX, sent, at_ms)
        states.append(queries.commands(store)[0].state)
    assert states == ["queued", "delivered", "executing", "done"]


def test_a_repeated_result_changes_nothing(store: Store) -> None:
    number = store.queue_command(BOX, "CHEM-0001", "send-inventory", b"", 0)
    store.ingest(BOX, batch(result(1, number, "done")), 10)
    store.ingest(BOX, batch(result(2, number, "failed"), first=2), 20)
    (command,) = queries.commands(store)
    assert (command.outcome, command.closed_at_ms) == ("done", 10)


@pytest.mark.parametrize(("box", "instrument"), [("RAP-0002", "CHEM-0001"), (BOX, "HEMA-0002")])
def test_a_result_closes_only_a_command_of_its_own_box_and_instrument(
    store: Store, box: str, instrument: str
) -> None:
    number = store.queue_command(BOX, "CHEM-0001", "send-inventory", b"", 0)
    store.ingest(box, batch(result(1, number), instrument=instrument), 10)
    assert queries.commands(store)[0].outcome is None


def test_a_reply_holds_commands_up_to_the_limit_oldest_first(store: Store) -> None:
    ids = [
        store.queue_command(BOX, "CHEM-0001", "data-upload", bytes(COMMAND_BODY_BYTES_MAX), 0)
        for _ in range(COMMANDS_PER_REPLY_MAX + 1)
    ]
    first, second = (store.ingest(BOX, batch(alert(n), first=n), n).commands for n in (1, 2))
    assert [command.id for command in first] == ids[:-1]
    assert [command.id for command in second] == ids[-1:]


def test_a_command_for_a_box_that_does_not_exist_is_refused(store: Store) -> None:
    with pytest.raises(UnknownBoxError):
        store.queue_command("RAP-0009", "", "help-file", b"", 0)


def test_the_interval_of_repetitions_stays_within_its_limits() -> None:
    delays = [repeat_delay_ms(deliveries) for deliveries in range(1, 100)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (REPEAT_MS_MIN, REPEAT_MS_MAX)


def test_another_program_may_read_while_the_store_is_written(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    store = Store(f"sqlite:///{file}")
    store.authorize([BOX], 0)
    reader = sqlite3.connect(file)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM records").fetchone() == (0,)
    assert store.ingest(BOX, batch(alert(1)), 0).stored == 1
    reader.close()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO missing_table (content) VALUES (:content)",
        "INSERT INTO boxes (serial, enrolled_at_ms) VALUES (:content, 1), (:content, 1)",
        "INSERT INTO boxes (serial, enrolled_at_ms, site) VALUES ('RAP-9999', NULL, :content)",
        "INSERT INTO boxes (serial, enrolled_at_ms) SELECT 'RAP-9999', CAST(:content AS BIGINT) / (1 - 1)",
    ],
)
def test_the_error_of_a_failed_statement_has_no_contents_of_rows(
    store: Store, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        try:
            with store.transaction() as connection:
                connection.execute(text(statement), {"content": "glucose 5.4"})
        except StoreError:
            logging.getLogger(__name__).exception("the statement failed")
    assert "StoreError" in caplog.text
    assert "glucose" not in caplog.text
