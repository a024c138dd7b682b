"""Queries return records with their bodies, epochs in order, and commands whose numbers are never used twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from datacenter.store import queries
from datacenter.store.queries import FollowedProfile
from datacenter.store.store import Store, schema_revision
from datacenter.store.tables.schema import REVISION
from tests.support.datacenter.store.batches import AT_MS, alert, batch, result
from wire.messages import Alert, Audit, ProfileInForce, decode, encode

BOX = "RAP-0001"


def test_records_and_bodies_are_ordered_by_box_epoch_and_sequence(store: Store) -> None:
    for box, epoch, first, number in (("RAP-0002", 1, 1, 5), (BOX, 9, 1, 6), (BOX, 2, 7, 7), (BOX, 2, 3, 8)):
        store.ingest(box, batch(alert(number), epoch=epoch, first=first), 0)
    order = [(BOX, 2, 3, 8), (BOX, 2, 7, 7), (BOX, 9, 1, 6), ("RAP-0002", 1, 1, 5)]
    assert [(r.box, r.epoch, r.sequence, r.number) for r in queries.records(store)] == order
    pairs = list(queries.bodies(store))
    assert [record for record, _ in pairs] == list(queries.records(store))
    assert [body for _, body in pairs] == [encode(alert(number)) for *_, number in order]
    assert isinstance(pairs[0][1], bytes)
    assert decode(Alert, pairs[0][1]) == alert(8)


def test_epochs_are_ordered_by_the_time_of_their_first_record(store: Store) -> None:
    for now, epoch, first in ((10, 7, 1), (20, 3, 1), (30, 7, 2), (40, 5, 1), (50, 3, 2)):
        store.ingest(BOX, batch(alert(now), epoch=epoch, first=first), now)
    assert queries.epochs(store) == [7, 3, 5]


def test_records_of_the_box_itself_are_counted_under_the_empty_name(store: Store) -> None:
    store.ingest(BOX, batch(Audit(AT_MS, "port-up", 1), instrument="", run=0), 0)
    assert queries.counts(store) == {(BOX, ""): 1}


def test_results_of_the_box_itself_are_distinguished_by_their_sequence(store: Store) -> None:
    sent = batch(result(1, 7), result(1, 7), instrument="", run=0)
    assert [store.ingest(BOX, sent, 0).stored for _ in range(2)] == [2, 0]
    assert [record.number for record in queries.records(store)] == [None, None]


def test_profiles_are_those_that_reports_follow_and_known_up_to_the_newest_version(store: Store) -> None:
    followed = [ProfileInForce(AT_MS, "CHEM-0001", "chemistry-analyzer", version) for version in (1, 2, 3)]
    store.ingest(BOX, batch(*followed, instrument="", run=0), 0)
    assert queries.profiles(store, {"chemistry-analyzer": 2}) == [
        FollowedProfile(BOX, "CHEM-0001", "chemistry-analyzer", version, AT_MS, version <= 2)
        for version in (1, 2, 3)
    ]


def test_the_number_of_a_deleted_command_is_not_used_again(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.authorize([BOX], 0)
    numbers = [store.queue_command(BOX, "", "help-file", b"", 0) for _ in range(2)]
    with closing(sqlite3.connect(tmp_path / "store.db")) as database:
        database.execute("DELETE FROM commands")
        database.commit()
    assert store.queue_command(BOX, "", "help-file", b"", 0) == numbers[-1] + 1
    store.close()


def test_a_queued_command_is_stored_as_given_until_its_time(store: Store) -> None:
    number = store.queue_command(BOX, "CHEM-0001", "help-file", b"text", 77)
    assert queries.commands(store) == [
        queries.StoredCommand(number, BOX, "CHEM-0001", "help-file", 77, 0, None, None, "queued")
    ]
    assert store.ingest(BOX, batch(alert(1)), 76).commands == []
    assert [c.id for c in store.ingest(BOX, batch(alert(2), first=2), 77).commands] == [number]


def test_the_schema_revision_of_a_database_is_read_without_changing_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    assert schema_revision(url) is None
    Store(url).close()
    assert schema_revision(url) == REVISION


def test_a_closed_store_leaves_no_write_ahead_log(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.authorize([BOX], 0)
    store.ingest(BOX, batch(alert(1)), 0)
    assert (tmp_path / "store.db-wal").exists()
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["store.db"], "the last connection was closed"


def test_a_repeated_authorization_keeps_the_time_of_the_first(store: Store) -> None:
    store.authorize([BOX], 5)
    store.authorize([BOX, "RAP-0003"], 9)
    query = text("SELECT serial, enrolled_at_ms, dismissed_at_ms FROM boxes ORDER BY serial")
    assert [tuple(row) for row in store.read(query)] == [
        (BOX, 0, None),
        ("RAP-0002", 0, 5),
        ("RAP-0003", 9, None),
    ]
