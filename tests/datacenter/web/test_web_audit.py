"""Accesses to pages are recorded before they are answered, or refused if they cannot be; the audit log's page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import text

from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import AuditTrail
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.web.pages import ROUTES
from datacenter.web.routes import WebRoute
from tests.support.datacenter.access.checks import EUROPE, call
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet


@pytest.fixture
def recorded() -> Iterator[tuple[Store, WebClient]]:
    """A store and a browser whose accesses are recorded in the store."""
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    yield store, open_web(store, lambda: NOW_MS, append=AuditTrail(store).append)
    store.close()


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_nothing_opens_if_it_cannot_be_recorded(filled: Store, row: WebRoute) -> None:
    def fail(_: Sequence[AuditEntry]) -> None:
        raise StoreError("the disk is full")

    client = open_web(filled, lambda: NOW_MS, append=fail)
    for staff in ("engineer", "auditor", "newcomer"):
        answer = call(client.sign_in(staff), row, EUROPE)
        assert answer.status == 503
        assert "CHEM-0001" not in answer.text and "disk" not in answer.text


def test_a_change_that_cannot_be_recorded_is_not_made(filled: Store) -> None:
    def fail(_: Sequence[AuditEntry]) -> None:
        raise StoreError("the disk is full")

    open_web(filled, lambda: NOW_MS, append=fail).sign_in("engineer").post("/alerts/a-lamp/acknowledge")
    page = open_web(filled, lambda: NOW_MS).sign_in("engineer").get("/alerts/a-lamp")
    assert "Acknowledge</button>" in page.text


def test_a_sign_in_that_cannot_be_recorded_gives_no_session(filled: Store) -> None:
    def fail(_: Sequence[AuditEntry]) -> None:
        raise StoreError("the disk is full")

    web = open_web(filled, lambda: NOW_MS, append=fail)
    answer = web.post("/sign-in", web.sign_in_form("engineer"))
    assert answer.status == 503
    assert "set-cookie" not in answer.headers


def test_views_are_recorded_once_in_a_period_and_everything_else_each_time(filled: Store) -> None:
    clock = [NOW_MS]
    web = open_web(filled, lambda: clock[0])
    engineer = web.sign_in("engineer")
    for _ in range(3):
        engineer.get("/boxes/RAP-0001")
        engineer.get("/alerts")
        engineer.get("/boxes/RAP-9999")
        engineer.get("/instruments/RAP-0001/CHEM-0001/readings.csv")
    kinds = [(one.action, one.resource, one.outcome) for one in web.entries]
    assert kinds.count(("view", "RAP-0001", "permitted")) == 1
    assert kinds.count(("view", "GET /alerts", "permitted")) == 1
    assert kinds.count(("view", "RAP-9999", "refused")) == 3
    assert kinds.count(("export", "CHEM-0001", "permitted")) == 3
    clock[0] += 10 * 60_000
    engineer.get("/boxes/RAP-0001")
    web.sign_in("european").get("/boxes/RAP-0001")
    assert [one.actor for one in web.entries[-2:]] == ["engineer", "european"]


def test_a_view_that_was_not_recorded_is_recorded_with_the_next_one(filled: Store) -> None:
    entries: list[AuditEntry] = []

    def fail_once(given: Sequence[AuditEntry]) -> None:
        if not entries:
            entries.append(given[0])
            raise StoreError("the disk is full")
        entries.extend(given)

    engineer = open_web(filled, lambda: NOW_MS, append=fail_once).sign_in("engineer")
    assert [engineer.get("/boxes/RAP-0001").status for _ in range(2)] == [503, 200]
    assert len(entries) == 2


def test_auditors_read_the_log_and_nobody_else(recorded: tuple[Store, WebClient]) -> None:
    _, web = recorded
    web.sign_in("european").get("/boxes/RAP-0003")
    page = web.sign_in("auditor").get("/audit?outcome=refused").text
    assert "RAP-0003" in page and "the resource is outside of the staff&#39;s scope" in page
    assert "records are complete and unchanged" in page
    for staff in ("engineer", "observer", "newcomer"):
        for path in ("/audit", "/audit.csv"):
            answer = web.sign_in(staff).get(path)
            assert answer.status == 403
            assert "RAP-0003" not in answer.text
    assert "read-audit" in web.sign_in("auditor").get("/audit").text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("actor=european", ["RAP-0003"]),
        ("actor=engineer&action=view", ["RAP-0001"]),
        ("outcome=refused", ["RAP-0003"]),
        ("resource=rap-", ["RAP-0003", "RAP-0001"]),
        (f"until_ms={NOW_MS}", []),
        ("actor=euro", []),
    ],
)
def test_filters_select_records(recorded: tuple[Store, WebClient], query: str, expected: list[str]) -> None:
    _, web = recorded
    web.sign_in("engineer").get("/boxes/RAP-0001")
    web.sign_in("european").get("/boxes/RAP-0003")
    rows = list(csv.DictReader(io.StringIO(web.sign_in("auditor").get(f"/audit.csv?{query}").text)))
    assert [row["resource"] for row in rows] == expected


def test_a_changed_record_is_shown(recorded: tuple[Store, WebClient]) -> None:
    store, web = recorded
    web.sign_in("european").get("/boxes/RAP-0003")
    with store.transaction() as connection:
        connection.execute(text("DROP TRIGGER audit_update"))
        connection.execute(text("UPDATE audit SET outcome = 'permitted' WHERE number = 1"))
    page = web.sign_in("auditor").get("/audit").text
    assert "The chain is broken" in page and "record 1 was changed" in page
    assert "The chain is broken" in web.sign_in("auditor").get("/audit").text
