"""The state of a box is that of the epoch whose records were stored last, whatever its number."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from datacenter.fleet.boxes import read_box
from datacenter.store.store import Store
from datacenter.store.tables.schema import evaluated
from tests.support.datacenter.store.batches import AT_MS, alert, batch

BOX = "RAP-0001"


def state(store: Store) -> tuple[int | None, int | None, int | None, int | None, int | None]:
    box = read_box(store, BOX)
    return box.contact_ms, box.reported_ms, box.epoch, box.sequence, box.evaluated_sequence


def test_a_box_without_records_has_no_contact(store: Store) -> None:
    assert state(store) == (None, None, None, None, None)


@pytest.mark.parametrize(("first", "second"), [(3, 9), (9, 3)])
def test_the_latest_epoch_is_the_one_that_was_stored_last(store: Store, first: int, second: int) -> None:
    store.ingest(BOX, batch(alert(1), alert(2), epoch=first), 1000)
    store.ingest(BOX, batch(alert(3), epoch=second), 2000)
    with store.transaction() as connection:
        for epoch, sequence in ((first, 2), (second, 0)):
            connection.execute(
                insert(evaluated).values(box=BOX, epoch=epoch, sequence=sequence, moved_at_ms=0)
            )
    assert state(store) == (2000, AT_MS + 3, second, 1, 0)


def test_an_epoch_that_is_not_evaluated_yet_has_no_position(store: Store) -> None:
    store.ingest(BOX, batch(alert(1)), 1000)
    assert state(store) == (1000, AT_MS + 1, 1, 1, None)
