"""The older history of a box, written at once, equals the result of ingest, evaluation and archiving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.archive import archive, history
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, coverage, evaluated, instruments, notices, records
from datacenter.triggers.triggerfile import Trigger, TriggerTable, make_trigger
from sim.fleet.archived import write_archived
from sim.fleet.box import FleetBox
from sim.fleet.plan import Outage, PlannedBox, plan_fleet
from sim.fleet.shared import MovedHistory, SharedHistory
from sim.units import DAY_NS, HOUR_NS, MILLISECOND_NS

START_MS = 20_400 * 86_400_000
DAYS = 3
OUTAGE = Outage(30 * HOUR_NS, 35 * HOUR_NS, loses_records=True)


def planned() -> PlannedBox:
    return plan_fleet(2, DAYS, seed=3)[0]._replace(outages=(OUTAGE,))


def triggers(plan: PlannedBox) -> TriggerSet:
    """Return a trigger for each model of the plan, which begins and ends alerts every few hours."""

    def trigger(model: str) -> Trigger:
        table = TriggerTable(model, "info", "software", "It runs", "state is running")
        return make_trigger(f"running-{model}", table)

    return TriggerSet([trigger(model) for model in {one.model for one in plan.instruments}])


def ingest_and_archive(store: Store, plan: PlannedBox) -> None:
    evaluator, box = Evaluator(store, triggers(plan)), FleetBox(plan, 3, START_MS)
    for received in box.until(DAYS * DAY_NS):
        store.ingest(received.box, received.batch, received.at_ms)
        evaluator.advance(plan.serial, received.at_ms)
    archive(store, START_MS + 2 * DAYS * DAY_NS // MILLISECOND_NS)


def content(store: Store, plan: PlannedBox) -> dict[str, Any]:
    a = alerts.c
    found: dict[str, Any] = {
        "alerts": {*store.read(select(a.id, a.trigger, a.began_at_ms, a.ended_at_ms, a.evidence))},
        "notices": {*store.read(select(notices.c.alert, notices.c.kind))},
        "coverage": {*store.read(select(coverage))},
        "instruments": {*store.read(select(instruments))},
        "records": {*store.read(select(records))},
        "evaluated": {*store.read(select(evaluated.c.box, evaluated.c.epoch, evaluated.c.sequence))},
    }
    for one in plan.instruments:
        statuses = history(store, plan.serial, one.serial, START_MS, START_MS + DAYS * DAY_NS)
        found[one.serial] = list(statuses.reports())
    return found


def test_the_archived_history_equals_that_of_ingest_evaluation_and_archiving(tmp_path: Path) -> None:
    plan = planned()
    stores = [Store(f"sqlite:///{tmp_path / name}.db", durable=False) for name in ("one", "other")]
    for store in stores:
        store.authorize([plan.serial], START_MS)
    ingest_and_archive(stores[0], plan)
    write_archived(stores[1], FleetBox(plan, 3, START_MS).until(DAYS * DAY_NS), triggers(plan))
    expected, found = (content(store, plan) for store in stores)
    assert found == expected
    assert len(found["alerts"]) > 4
    assert all(len(found[one.serial]) > 200 for one in plan.instruments)
    for store in stores:
        store.close()


def test_a_moved_history_is_the_shared_history_from_another_day_on() -> None:
    shared = SharedHistory("electrolyte-analyzer", 0, seed=5)
    day_ms = DAY_NS // MILLISECOND_NS
    moved = MovedHistory(shared, 2, START_MS)
    found = [(at_ms, report.number) for hour in range(1, 49) for at_ms, report in moved.until(hour * HOUR_NS)]
    expected = [(one.at_ms - 2 * day_ms + START_MS, one.number) for day in (2, 3) for one in shared.day(day)]
    assert found == expected
    assert len(found) > 2 * 144
