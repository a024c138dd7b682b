"""Snapshots of the installed base cover the preceding days, never change, and are named in evidence of alerts."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import delete, select

from datacenter.base.snapshot import DAYS, StoredBases, take_snapshot, window
from datacenter.evaluation.alerts import AlertEvidence
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.explanation.evidence import evidence_of, read_record
from datacenter.explanation.replay import recompute
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, base_snapshots
from datacenter.triggers.terms.term import ABSENT
from tests.support.datacenter.evaluation.base import BOXES, DAY, MODEL, READING, Fleet
from tests.support.datacenter.evaluation.triggers import trigger

LOW = trigger(f"{READING} < base({READING}, 5) - 3", name="low")


def counted(store: Store, fleet: Fleet) -> None:
    fleet.count_archived()


def snapshot(store: Store, day: int) -> dict[str, list[int]]:
    with store.transaction() as connection:
        return take_snapshot(connection, MODEL, day)


def test_a_snapshot_ends_with_the_second_day_before_its_day() -> None:
    assert window(DAY) == range(DAY - 91, DAY - 1) and len(window(DAY)) == DAYS


def test_a_snapshot_never_changes(store: Store) -> None:
    fleet = Fleet(store)
    for number, box in enumerate(BOXES):
        fleet.report(box, day=0, count=3, value=100 + number)
    counted(store, fleet)
    assert snapshot(store, DAY + 1) == {}
    first = snapshot(store, DAY + 2)
    assert (first[READING][0], first[READING][49], first[READING][98]) == (100, 102, 105)
    for box in BOXES:
        fleet.report(box, day=0, count=9, value=1)
    counted(store, fleet)
    assert snapshot(store, DAY + 2) == first
    assert snapshot(store, DAY + 3)[READING][0] == 1
    assert snapshot(store, DAY + DAYS + 1)[READING][0] == 1
    assert snapshot(store, DAY + DAYS + 2) == {}


def test_unknown_percentiles_are_absent(store: Store) -> None:
    fleet = Fleet(store)
    for number, box in enumerate(BOXES):
        fleet.report(box, day=0, count=3, value=number)
    counted(store, fleet)
    with store.transaction() as connection:
        bases = StoredBases(connection, MODEL)
        assert [bases(DAY + 2, READING, percentile) for percentile in (1, 50, 99)] == [0, 2, 5]
        assert bases(DAY + 2, "lamp-h", 50) == ABSENT
        assert StoredBases(connection, "hematology-analyzer")(DAY + 2, READING, 50) == ABSENT


@pytest.mark.parametrize("late", [False, True])
def test_the_evidence_has_the_snapshot_from_which_the_alert_is_recomputed(store: Store, late: bool) -> None:
    fleet = Fleet(store, TriggerSet([LOW]))
    for number, box in enumerate(BOXES):
        fleet.report(box, day=0, count=3, value=100 + number)
    counted(store, fleet)
    fleet.report("RAP-0002", day=2, count=2, value=100)
    fleet.evaluate()
    if late:  # the installed base changes before the report of the same day arrives
        for box in BOXES:
            fleet.report(box, day=0, count=50, value=1)
        counted(store, fleet)
    fleet.report("RAP-0001", day=2, count=2, value=96)
    fleet.evaluate()
    (alert,) = store.read(select(alerts.c.id).where(alerts.c.box == "RAP-0001"))
    record = read_record(store, alert.id)
    assert record is not None
    evidence = evidence_of(record)
    assert isinstance(evidence, AlertEvidence)
    assert evidence.base_day == DAY + 2
    assert evidence.terms == {READING: 96, f"base({READING}, 5)": 100}
    assert recompute(store, record, evidence, LOW).differences == []
    with store.transaction() as connection:
        connection.execute(delete(base_snapshots).where(base_snapshots.c.day == DAY + 2))
    assert recompute(store, record, evidence, LOW).differences != []


def test_a_trigger_without_the_base_takes_no_snapshot(store: Store) -> None:
    fleet = Fleet(store, TriggerSet([trigger(f"{READING} < 97", name="fixed")]))
    fleet.report("RAP-0001", day=2, count=2, value=96)
    fleet.evaluate()
    ((encoded,),) = store.read(select(alerts.c.evidence))
    assert msgspec.msgpack.decode(encoded, type=AlertEvidence).base_day is None
    assert list(store.read(select(base_snapshots.c.day))) == []
