"""Alerts begin and end with the reports that change their conditions, in any order of arrival, and over restarts."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import event, select, text

from datacenter.evaluation.alerts import AlertEvidence
from datacenter.evaluation.evaluator import CLOCK_ERROR_MS_MAX, Evaluator
from datacenter.evaluation.frontier import PATIENCE_MS
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, instruments, notices
from tests.support.datacenter.evaluation.arrivals import (
    BOX,
    STORED_MS,
    TRIGGERS,
    after_random_arrival,
    batch,
    evaluator,
    expected,
    numbered,
    profile,
    random_reports,
    status,
    verdict,
)
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from tests.support.datacenter.store.batches import AT_MS
from wire.messages import Batch, Entry, Gap, Record

SEED_COUNT = 40


def test_an_alert_begins_and_ends_with_reports(store: Store) -> None:
    reports = [status(1), status(2, water=60), status(3, water=60), status(4)]
    store.ingest(BOX, batch(numbered(profile(), *reports)), STORED_MS)
    advance = evaluator(store).advance(BOX, 99)
    assert (advance.reports, len(advance.begun), len(advance.ended)) == (4, 1, 1)
    assert verdict(store) == [("water", 2, AT_MS + 120_000, 4, AT_MS + 240_000)]
    (row,) = store.read(
        select(alerts.c.id, alerts.c.raised_at_ms, alerts.c.model, alerts.c.severity, alerts.c.evidence)
    )
    assert tuple(row)[1:4] == (99, MODEL, "warning")
    evidence = msgspec.msgpack.decode(row.evidence, type=AlertEvidence)
    assert evidence == AlertEvidence(
        1,
        2,
        AT_MS + 120_000,
        TRIGGERS[0].fingerprint,
        TRIGGERS[0].table.when,
        {"water-conductivity-ns": 60, "state": 1},
        "",
        "",
        AT_MS + 120_000,
        {"water-conductivity-ns": (1, 1), "state": (1, 1)},
    )
    rows = store.read(
        select(notices.c.alert, notices.c.kind, notices.c.created_at_ms, notices.c.routed_at_ms)
    )
    assert sorted(map(tuple, rows)) == [(row.id, "raised", 99, None), (row.id, "resolved", 99, None)]


def test_the_number_of_statements_does_not_grow_with_the_instruments(store: Store) -> None:
    """SQL statements take more time than the evaluation of thirty triggers for all reports of a batch."""

    def statements(box: str, serials: list[str]) -> int:
        entries = [Entry(serial, 1, status(1)) for serial in serials]
        first = [Entry("", 0, msgspec.structs.replace(profile(), instrument=serial)) for serial in serials]
        store.authorize_also(box, "S-1", 0)
        store.ingest(box, Batch(1, 0, [Record(1, entry) for entry in [*first, *entries]]), STORED_MS)
        executed: list[str] = []
        with store.transaction() as connection:
            engine = connection.engine
        listener = lambda _c, _cursor, statement, *_: executed.append(statement)  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        assert evaluator(store).advance(box, 99).reports == len(serials)
        event.remove(engine, "before_cursor_execute", listener)
        assert {row.serial for row in store.read(select(instruments)) if row.box == box} == set(serials)
        return len(executed)

    assert statements("RAP-0008", ["CHEM-1"]) == statements("RAP-0009", [f"CHEM-{n}" for n in range(8)])


def test_the_latest_state_of_an_instrument_is_kept(store: Store) -> None:
    store.ingest(BOX, batch(numbered(profile(), status(1), status(2, water=7, lamp=80))), STORED_MS)
    evaluator(store).advance(BOX, 99)
    (row,) = store.read(select(instruments))
    assert (row.model, row.profile_version, row.run, row.number) == (MODEL, 1, 1, 2)
    assert (row.at_ms, row.stored_at_ms, row.state) == (AT_MS + 120_000, STORED_MS, "running")
    readings = {"water-conductivity-ns": 7, "lamp-intensity-pct": 80}
    assert msgspec.msgpack.decode(row.readings) == readings


def test_the_port_that_the_box_has_reported_is_kept(store: Store) -> None:
    """Records of earlier versions have no port (0)."""
    profiles = [msgspec.structs.replace(profile(), port=port) for port in (0, 3, 0, 2)]
    ports = []
    for number, record in enumerate(profiles, 1):
        store.ingest(BOX, batch([(number, record)]), STORED_MS)
        evaluator(store).advance(BOX, 99)
        ports.append(next(store.read(select(instruments))).port)
    assert ports == [None, 3, 3, 2]


@pytest.mark.parametrize("seed", range(SEED_COUNT))
def test_the_order_of_arrival_changes_no_verdict(seed: int) -> None:
    in_random_order, all_at_once = after_random_arrival(seed)
    assert in_random_order == all_at_once != []


def test_the_random_reports_begin_and_end_alerts_of_all_triggers() -> None:
    raised = [one for seed in range(SEED_COUNT) for one in expected(random_reports(seed))]
    assert {one[0] for one in raised} == {one.name for one in TRIGGERS}
    assert {one[0] for one in raised if one[3] is not None} == {one.name for one in TRIGGERS}


def test_reports_behind_a_missing_record_wait_for_it(store: Store) -> None:
    reports = [status(1), status(2, water=60), status(3, water=60), status(4)]
    records = numbered(profile(), *reports)
    store.ingest(BOX, batch([*records[:2], *records[3:]]), STORED_MS)
    assert evaluator(store).advance(BOX, 8).reports == 1
    assert verdict(store) == []
    store.ingest(BOX, batch(records[2:3]), STORED_MS)
    assert evaluator(store).advance(BOX, 10).reports == 3
    assert verdict(store) == expected(reports)


def test_a_record_that_the_box_reports_as_lost_is_not_waited_for(store: Store) -> None:
    records = numbered(profile(), status(1), status(2, water=60), status(3, water=60))
    gap = Gap(AT_MS, "disk-full", 1, ((3, 3),))
    store.ingest(BOX, batch([*records[:2], records[3], (5, gap)]), STORED_MS)
    assert evaluator(store).advance(BOX, 8).reports == 2
    assert verdict(store) == [("water", 3, AT_MS + 180_000, None, None)]


def test_a_missing_record_is_skipped_while_the_box_continues(store: Store) -> None:
    records = numbered(profile(), status(1), status(2, water=60), status(3, water=60), status(4, water=60))
    store.ingest(BOX, batch([*records[:2], records[3]]), STORED_MS)
    same_evaluator = evaluator(store)
    assert same_evaluator.advance(BOX, STORED_MS).reports == 1
    assert same_evaluator.advance(BOX, STORED_MS + 2 * PATIENCE_MS).reports == 0
    store.ingest(BOX, batch(records[4:]), STORED_MS + PATIENCE_MS)
    assert same_evaluator.advance(BOX, STORED_MS + PATIENCE_MS).reports == 2
    assert verdict(store) == [("water", 3, AT_MS + 180_000, None, None)]


def test_evaluation_continues_after_a_restart_without_repeating(store: Store) -> None:
    reports = random_reports(3)
    records = numbered(profile(), *reports)
    for first in range(0, len(records), 7):
        store.ingest(BOX, batch(records[first : first + 7]), STORED_MS)
        for _ in range(2):
            evaluator(store).advance(BOX, 8)
    assert verdict(store) == expected(reports)


def test_a_failure_in_the_middle_leaves_no_trace(store: Store) -> None:
    reports = [status(1), status(2, water=60)]
    store.ingest(BOX, batch(numbered(profile(), *reports)), STORED_MS)
    with store.transaction() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(
                text("CREATE TRIGGER refuse BEFORE INSERT ON notices BEGIN SELECT RAISE(ABORT, 'no'); END")
            )
        else:
            connection.execute(text("ALTER TABLE notices ADD CONSTRAINT no CHECK (kind <> 'raised')"))
    with pytest.raises(StoreError):
        evaluator(store).advance(BOX, 8)
    assert verdict(store) == [] and list(store.read(select(instruments.c.serial))) == []
    with store.transaction() as connection:
        name = connection.dialect.name
        connection.execute(
            text("DROP TRIGGER refuse" if name == "sqlite" else "ALTER TABLE notices DROP CONSTRAINT no")
        )
    assert evaluator(store).advance(BOX, 9).reports == 2
    assert verdict(store) == expected(reports)


def test_long_backlogs_are_evaluated_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacenter.evaluation.evaluator.SEQUENCES_MAX", 10)
    reports = random_reports(5)
    store.ingest(BOX, batch(numbered(profile(), *reports)), STORED_MS)
    assert evaluator(store).advance(BOX, 8).reports == len(reports)
    assert verdict(store) == expected(reports)


def test_an_instrument_without_a_model_is_followed_but_has_no_alerts(store: Store) -> None:
    store.ingest(BOX, batch(numbered(status(1, water=60))), STORED_MS)
    assert evaluator(store).advance(BOX, 8).reports == 1
    assert verdict(store) == []
    (row,) = store.read(select(instruments.c.model, instruments.c.number))
    assert tuple(row) == (None, 1)


def test_a_new_trigger_begins_without_a_past_and_the_others_keep_theirs(store: Store) -> None:
    records = numbered(
        profile(), status(1, water=30), status(2, water=30), *(status(n, water=30) for n in range(3, 40))
    )
    store.ingest(BOX, batch(records[:20]), STORED_MS)
    Evaluator(store, TriggerSet(TRIGGERS[3:])).advance(BOX, 8)
    store.ingest(BOX, batch(records[20:]), STORED_MS)
    added = trigger("water-conductivity-ns > 20", lasts="15min", name="added")
    Evaluator(store, TriggerSet([added, *TRIGGERS])).advance(BOX, 10)
    assert [(one[0], one[1]) for one in verdict(store)] == [("lasting", 31), ("added", 35)]


@pytest.mark.parametrize(("wrong_number", "alerts_begin"), [(1, []), (5, [("lasting", 31)])])
def test_a_clock_in_the_future_neither_stops_nor_prolongs_a_duration(
    store: Store, wrong_number: int, alerts_begin: list[tuple[str, int]]
) -> None:
    reports = [status(number, water=30) for number in range(1, 40)]
    wrong = msgspec.structs.replace(reports[wrong_number - 1], at_ms=AT_MS + 10 * 365 * 86_400_000)
    reports[wrong_number - 1] = wrong
    stored_ms = reports[-1].at_ms
    store.ingest(BOX, batch(numbered(profile(), *reports)), stored_ms)
    assert wrong.at_ms > stored_ms + CLOCK_ERROR_MS_MAX
    evaluator(store).advance(BOX, 8)
    assert [(one[0], one[1]) for one in verdict(store)] == alerts_begin
