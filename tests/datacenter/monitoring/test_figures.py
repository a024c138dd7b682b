"""Metrics from the database, and readiness, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from prometheus_client import generate_latest
from sqlalchemy import text

from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.monitoring import probe
from datacenter.monitoring.figures import families, read_figures
from datacenter.monitoring.metrics import Metrics
from datacenter.monitoring.probe import CachedProbe, NoAnswerError
from datacenter.monitoring.readiness import readiness
from datacenter.notices.outbox import route
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import REVISION
from tests.support.datacenter.monitoring import promtool_findings, values
from tests.support.datacenter.notices import CHAT, raise_alert, resolve_alert
from tests.support.datacenter.store.batches import AT_MS, alert, batch

T = TypeVar("T")


def shown(store: Store, now_ms: int) -> dict[str, float]:
    """Return the samples of the database; promtool must accept the exposition."""
    metrics = Metrics()
    metrics.add(lambda: families(read_figures(store, now_ms)))
    exposition = generate_latest(metrics.registry).decode()
    assert promtool_findings(exposition) == ""
    return values(exposition)


def test_open_alerts_and_notices_are_counted(store: Store) -> None:
    for name, severity in (("a", "warning"), ("b", "warning"), ("c", "critical")):
        raise_alert(store, name, 1_000, severity=severity)
    resolve_alert(store, "b", 2_000)
    before = shown(store, 5_000)
    assert before['rap_open_alerts{severity="warning"}'] == 1
    assert before['rap_open_alerts{severity="critical"}'] == 1
    assert before['rap_open_alerts{severity="info"}'] == 0
    assert before["rap_notices_unrouted"] == 4
    assert before["rap_notice_oldest_pending_seconds"] == 0
    route(store, [CHAT], 3_000)
    after = shown(store, 5_000)
    assert after["rap_notices_unrouted"] == 0
    assert after['rap_notice_deliveries{state="waiting",target="chat"}'] == 4
    assert after['rap_notice_deliveries{state="failed",target="chat"}'] == 0
    assert after["rap_notice_oldest_pending_seconds"] == 2


def test_commands_and_boxes_are_counted(store: Store) -> None:
    store.queue_command("RAP-0001", "CHEM-0001", "send-inventory", b"", 0)
    store.withdraw_command(store.queue_command("RAP-0001", "CHEM-0001", "send-inventory", b"", 0), 1)
    store.authorize(["RAP-0001"], 5)
    samples = shown(store, 5_000)
    assert samples['rap_commands{state="queued"}'] == 1
    assert 'rap_commands{state="withdrawn"}' not in samples
    assert samples["rap_boxes"] == 1


def test_records_wait_for_their_evaluation_until_it_is_done(store: Store) -> None:
    store.ingest("RAP-0001", batch(alert(1), alert(2)), AT_MS)
    store.ingest("RAP-0002", batch(alert(1)), AT_MS)
    assert shown(store, AT_MS)["rap_unevaluated_records"] == 3
    Evaluator(store, TriggerSet([])).advance("RAP-0001", AT_MS)
    assert shown(store, AT_MS)["rap_unevaluated_records"] == 1


def test_without_figures_only_their_absence_is_shown() -> None:
    metrics = Metrics()
    metrics.add(lambda: families(None))
    samples = values(generate_latest(metrics.registry).decode())
    assert samples["rap_database_up"] == 0
    assert "rap_boxes" not in samples and "rap_open_alerts" not in samples


def test_tables_of_another_revision_are_not_ready(store: Store, url: str) -> None:
    problem = readiness(store, url)
    assert problem() == ""
    with store.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert (
        problem() == f"the tables have revision 0001, but this program needs {REVISION}: run `rap dc migrate`"
    )
    with store.transaction() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
    assert "have revision None" in problem()
    with store.transaction() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(StoreError, match=r"^the database failed$"):
        problem()


def probed(
    function: Callable[[], T], use: Callable[[CachedProbe[T]], Awaitable[None]], keep_s: float = 0
) -> None:
    with ThreadPoolExecutor(1) as executor:

        async def run() -> None:
            await use(CachedProbe(executor, function, keep_s))

        asyncio.run(run())


def test_a_database_that_hangs_is_called_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_SECONDS_MAX", 0.01)
    answers, calls = threading.Event(), list[int]()

    def hang() -> str:
        calls.append(1)
        answers.wait()
        return "answered"

    async def ask(hanging: CachedProbe[str]) -> None:
        for _ in range(3):
            with pytest.raises(NoAnswerError, match=r"has not answered for 0.01 s"):
                await hanging.result()
            assert hanging.latest is None
        answers.set()
        monkeypatch.setattr(probe, "ANSWER_SECONDS_MAX", 20.0)
        assert await hanging.result() == "answered"
        assert (hanging.latest, len(calls)) == ("answered", 1)

    probed(hang, ask)


def test_a_result_is_kept_for_some_time() -> None:
    numbers = iter(range(10))

    async def ask(kept: CachedProbe[int]) -> None:
        assert [await kept.result() for _ in range(3)] == [0, 0, 0]

    async def ask_again(fresh: CachedProbe[int]) -> None:
        assert [await fresh.result() for _ in range(3)] == [1, 2, 3]

    probed(lambda: next(numbers), ask, keep_s=3600)
    probed(lambda: next(numbers), ask_again)


def test_a_failure_is_raised_and_not_kept() -> None:
    def fail() -> str:
        raise StoreError("down")

    async def ask(failing: CachedProbe[str]) -> None:
        with pytest.raises(StoreError, match="down"):
            await failing.result()
        assert failing.latest is None

    probed(fail, ask)
