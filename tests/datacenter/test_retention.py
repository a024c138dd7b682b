"""Only data older than its retention period is deleted, in bounded transactions; the audit log is never deleted."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import AuditTrail
from datacenter.config import RetentionConfig, load_config
from datacenter.history import archivist
from datacenter.history.archive import archive
from datacenter.retention import KINDS, delete_piece, find_expired, kept_days
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    alerts,
    audit,
    base_days,
    chunks,
    commands,
    deliveries,
    evaluated,
    file_parts,
    files,
    notices,
    records,
)
from settings.problems import SettingsError
from sim.net.loop import SimLoop
from tests.support.datacenter.evaluation.base import DAY, Fleet
from tests.support.datacenter.web.fleet import COMMAND, alert_row
from wire.messages import Alert, Batch, Calibration, Entry, InstrumentReport, Inventory, Quality, Record

DAY_MS = 86_400_000
NOW_MS = (DAY + 200) * DAY_MS
LIMITS = RetentionConfig(**{f"{kind}_days": 100 for kind in KINDS})
OLD, RECENT = NOW_MS - 101 * DAY_MS, NOW_MS - 99 * DAY_MS


def fill(store: Store) -> None:
    """Store data of each kind that is older than 100 days, and data of each kind that is not."""
    fleet = Fleet(store)
    for day in (0, 150):
        fleet.report("RAP-0001", day=day, count=2)
    fleet.evaluate()
    archive(store, fleet.now_ms + 1)
    for first, stored_ms in ((1, OLD), (9, RECENT)):
        reports: list[InstrumentReport] = [
            Alert(first, 0, "T0101", "bath", "warning"),
            Quality(first + 1, 0, "glu", 1, 0),
            Calibration(first + 2, 0, "na", 0, 0, True),
            Inventory(first + 3, 0, {"na": 1}),
        ]
        entries = [Record(1, Entry("X", 1, report)) for report in reports]
        store.ingest("RAP-0002", Batch(7, first - 1, entries), stored_ms)
    part = {
        "model": "chemistry-analyzer",
        "reading": "x",
        "place": "everywhere",
        "instruments": 1,
        "body": b"",
    }
    with store.transaction() as connection:
        connection.execute(insert(evaluated).values(box="RAP-0002", epoch=7, sequence=12, moved_at_ms=0))
        for name, ended in (("old", OLD), ("recent", RECENT), ("open", None)):
            row = alert_row(name, "RAP-0001", "X", "chemistry-analyzer", "t", "error", "lamp", began_at_ms=1)
            connection.execute(insert(alerts).values(row | {"ended_at_ms": ended, "resolved_at_ms": ended}))
            notice = {"alert": name, "kind": "raised", "created_at_ms": 1}
            connection.execute(insert(notices).values(**notice, routed_at_ms=2))
            delivery = notice | {"target": "t", "attempts": 1, "alone": 0, "changed_at_ms": 3}
            connection.execute(insert(deliveries).values(**delivery, state="sent"))
        for day in (DAY, DAY + 150):
            connection.execute(insert(base_days).values(**part, day=day))
    for number, closed in enumerate((OLD, RECENT, None), 1):
        file = {"file": f"f{number}", "file_bytes": 1}
        store.queue_command("RAP-0001", "X", "help-file", b"", 0, **COMMAND, **file, closed_at_ms=closed)
        with store.transaction() as connection:
            connection.execute(insert(files).values(sha256=f"f{number}", bytes=1, stored_at_ms=1))
            connection.execute(insert(file_parts).values(file=f"f{number}", position=0, body=b"x"))
    AuditTrail(store).append([AuditEntry(1, *([""] * 10))])


def delete_all(store: Store, limits: RetentionConfig, limit: int = 1000) -> list[int]:
    """Delete all expired data; return the number of rows that each call deleted."""
    pieces = []
    for kind, days in kept_days(limits).items():
        while deleted := delete_piece(store, kind, days, NOW_MS, limit):
            pieces.append(deleted)
    return pieces


def left(store: Store) -> dict[str, int]:
    """Return the number of rows of each table, and of reports of each kind."""
    tables = (chunks, alerts, notices, deliveries, commands, files, file_parts, base_days, audit)
    counts = {}
    for table in tables:
        ((counts[table.name],),) = store.read(select(func.count()).select_from(table))
    kinds = store.read(select(records.c.kind, func.count()).group_by(records.c.kind))
    return counts | {kind: count for kind, count in kinds if kind != "profile"}


def test_only_expired_and_finished_data_is_deleted(store: Store) -> None:
    fill(store)
    assert set(left(store).values()) == {2, 3, 1}
    expired = {one.kind: one.rows for one in find_expired(store, LIMITS, NOW_MS)}
    assert {kind: rows for kind, rows in expired.items() if kind not in ("base", "box_audit", "files")} == {
        "readings": 1, "errors": 1, "controls": 1, "calibrations": 1, "inventories": 1,
        "notices": 1, "alerts": 1, "commands": 1,
    }  # fmt: skip
    before = left(store)
    delete_all(store, RetentionConfig())
    assert left(store) == before, "data without a limit is kept"
    delete_all(store, LIMITS)
    assert left(store) == {
        "chunks": 1, "alerts": 2, "notices": 2, "deliveries": 2, "commands": 2, "files": 2, "file_parts": 2,
        "base_days": 1, "audit": 1, "alert": 1, "quality": 1, "calibration": 1, "inventory": 1,
    }  # fmt: skip
    assert [one.rows for one in find_expired(store, LIMITS, NOW_MS)] == [0] * len(KINDS)


def test_reports_that_are_not_evaluated_and_unsettled_deliveries_are_kept(store: Store) -> None:
    fill(store)
    with store.transaction() as connection:
        connection.execute(delete(evaluated).where(evaluated.c.epoch == 7))
        connection.execute(update(deliveries).values(state="waiting"))
    delete_all(store, LIMITS)
    kept = left(store)
    assert (kept["alert"], kept["quality"], kept["calibration"], kept["inventory"]) == (2, 2, 2, 2)
    assert (kept["deliveries"], kept["notices"], kept["alerts"]) == (3, 3, 3)


def test_deletions_are_bounded(store: Store) -> None:
    fill(store)
    assert set(delete_all(store, LIMITS, limit=1)) == {1}
    assert left(store)["chunks"] == 1


def test_the_archivist_deletes_expired_data(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("sqlite://")
    fill(store)
    loop = SimLoop()

    async def one_hour() -> None:
        keeping = archivist.archive_hourly(store, None, lambda: NOW_MS, rows_days=1, retention=LIMITS)
        task = asyncio.ensure_future(keeping)
        await asyncio.sleep(60)
        task.cancel()

    loop.run_until_complete(one_hour())
    assert left(store)["chunks"] == 1 and left(store)["audit"] == 1
    store.close()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("audit_days = 400", "unknown key"),
        ("readings_days = 30", "100"),
        ("errors_days = 5", "30"),
        ("error_days = 500", "errors_days"),
    ],
)
def test_limits_that_are_wrong_are_refused(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "datacenter.toml"
    for name in ("a.crt", "a.key", "a.ca"):
        (tmp_path / name).write_text("")
    text = f"""
boxes = ["RAP-0001"]
[tls]
certificate = "a.crt"
key = "a.key"
authorities = "a.ca"
[store]
url = "sqlite://"
[store.retention]
{line}
"""
    file.write_text(text)
    with pytest.raises(SettingsError, match=problem):
        load_config(file)


def test_empty_partitions_of_past_days_are_dropped(empty_postgres: str) -> None:
    with closing(Store(empty_postgres)) as store:
        store.authorize(["RAP-0002"], 0)
        for first, day in enumerate((0, 5, 9, 10)):
            store.ingest("RAP-0002", Batch(7, first, [_alert(first + 1)]), day * DAY_MS)
        with store.transaction() as connection:
            connection.execute(delete(records).where(records.c.stored_at_ms != 5 * DAY_MS))
        with store.transaction() as reading:
            reading.execute(select(func.count()).select_from(records))
            assert store.drop_empty_partitions(10 * DAY_MS) == 0, "they are in use"
        assert store.drop_empty_partitions(10 * DAY_MS) == 3
        assert _partitions(store) == {5, 9, 10, 11}
        assert store.drop_empty_partitions(20 * DAY_MS) == 3, "by a clock that is ahead"
        with pytest.raises(StoreError, match="check violation"):
            store.ingest("RAP-0002", Batch(7, 4, [_alert(5)]), 10 * DAY_MS)
        store.ingest("RAP-0002", Batch(7, 4, [_alert(5)]), 10 * DAY_MS)
        assert _partitions(store) == {5, 10, 11}


def _alert(number: int) -> Record:
    return Record(1, Entry("X", 1, Alert(number, 0, "T0101", "bath", "warning")))


def _partitions(store: Store) -> set[int]:
    names = store.read(text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'records_%'"))
    return {int(name[8:]) for (name,) in names}
