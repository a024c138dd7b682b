"""The pages of the boxes' audit records: search, paging, chains, export, and the recording of accesses."""

from __future__ import annotations

import csv
import io
import json
import re
from hashlib import sha256

import pytest
from sqlalchemy import delete, update

from datacenter.store.box_audit import HOLE_MS
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit
from tests.support.datacenter.store.box_audit import NOW, chain, send
from tests.support.datacenter.web.client import WebClient, open_web

LINES = 60


@pytest.fixture
def store() -> Store:
    """A store with two boxes: one with 3 audit events and 60 log lines, one with a wrong clock."""
    store = Store("sqlite://", durable=False)
    store.authorize(["RAP-0001", "RAP-0002", "RAP-0003"], 0)
    send(store, chain(3, lines=LINES))
    send(store, chain(2, at_ms=NOW + 86_400_000), box="RAP-0002")
    return store


@pytest.fixture
def auditor(store: Store) -> WebClient:
    return open_web(store, lambda: NOW + 2 * HOLE_MS).sign_in("auditor")


def shown_texts(text: str) -> list[str]:
    """Return the texts of the records that a page shows."""
    return re.findall(r"<code>([^<]*)</code>", text)


def test_records_are_searched_by_box_text_kind_and_time(auditor: WebClient) -> None:
    assert len(shown_texts(auditor.get("/audit/boxes?text=AUDIT(7.").text)) == 1
    assert shown_texts(auditor.get("/audit/boxes?box=RAP-0002").text) == ["alive value=2", "alive value=1"]
    assert len(shown_texts(auditor.get("/audit/boxes?kind=audit").text)) == 5
    assert not shown_texts(auditor.get(f"/audit/boxes?until_ms={NOW - 10_000}").text)
    assert "does not exist" not in auditor.get("/audit/boxes?box=RAP-0009").text


def test_the_parts_of_the_list_have_each_record_once(auditor: WebClient) -> None:
    address, listed = "/audit/boxes?box=RAP-0001", []
    while address:
        text = auditor.get(address).text
        listed += shown_texts(text)
        older = re.search(r'href="([^"]*)" rel="next"', text)
        address = older[1].replace("&amp;", "&") if older else ""
    assert len(listed) == len(set(listed)) == 3 + LINES
    newer = re.search(r'href="([^"]*)" rel="prev"', text)
    assert newer is not None
    assert shown_texts(auditor.get(newer[1].replace("&amp;", "&")).text) == listed[:50]


def test_a_wrong_clock_is_shown_and_found(auditor: WebClient) -> None:
    assert auditor.get("/audit/boxes").text.count("wrong clock</span> arrived") == 2
    assert shown_texts(auditor.get("/audit/boxes?clock=doubtful").text) == ["alive value=2", "alive value=1"]
    assert 'clock=doubtful">2 records</a>' in auditor.get("/audit/chains?box=RAP-0002").text
    assert "clock=doubtful" not in auditor.get("/audit/chains?box=RAP-0001").text


def test_a_record_that_has_not_arrived_is_shown_as_waiting_and_then_as_missing(
    store: Store, auditor: WebClient
) -> None:
    entries = chain(6)
    send(store, entries[:2], box="RAP-0003")
    send(store, entries[4:5], first=5, box="RAP-0003")
    page = auditor.get("/audit/chains?box=RAP-0003").text
    assert "waiting</span>" in page and "Record 3 has not arrived" in page
    send(store, entries[5:], first=6, box="RAP-0003", now_ms=NOW + HOLE_MS)
    page = auditor.get("/audit/chains").text
    assert "broken</span>" in page and "records 3 to 4 are missing" in page
    assert "1 chain has</strong>" not in page
    assert "1 chain has missing or changed records" in auditor.get("/audit/boxes").text


def test_a_changed_and_a_removed_record_are_shown_for_the_box(store: Store, auditor: WebClient) -> None:
    assert "complete and unchanged" in auditor.get("/audit/chains?box=RAP-0001").text
    with store.transaction() as connection:
        connection.execute(update(box_audit).where(box_audit.c.number == 2).values(text="nothing happened"))
        connection.execute(delete(box_audit).where(box_audit.c.box == "RAP-0001", box_audit.c.number == 10))
    page = auditor.get("/audit/chains?box=RAP-0001").text
    assert "record 2 was changed" in page and "records 10 to 10 are missing" in page
    assert "RAP-0002: " not in page


def test_an_export_has_what_is_needed_to_verify_it(auditor: WebClient) -> None:
    lines = auditor.get("/audit/boxes.jsonl?box=RAP-0001").text.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["number"] for record in records] == list(range(1, 4 + LINES))
    assert all(sha256(bytes.fromhex(one["entry"])).hexdigest() == one["hash"] for one in records)
    rows = list(csv.DictReader(io.StringIO(auditor.get("/audit/boxes.csv?clock=doubtful").text)))
    assert [(row["box"], row["clock_doubtful"]) for row in rows] == [("RAP-0002", "true")] * 2
    assert auditor.get("/audit/boxes.csv?box=RAP-0009").text.startswith("box,chain,number,")


def test_a_text_that_a_spreadsheet_would_execute_is_exported_as_text(
    store: Store, auditor: WebClient
) -> None:
    with store.transaction() as connection:
        connection.execute(update(box_audit).values(text="=1+1"))
    assert ",'=1+1," in auditor.get("/audit/boxes.csv").text


def test_each_export_is_recorded_and_nobody_else_exports(auditor: WebClient) -> None:
    for _ in range(2):
        for path in ("/audit/boxes", "/audit/boxes.csv", "/audit/boxes.jsonl", "/audit.csv"):
            assert auditor.get(path).status == 200
    resources = [entry.resource for entry in auditor.entries]
    assert resources.count("records of boxes") == 1
    assert resources.count("export of records of boxes") == 4
    assert resources.count("export of the log") == 2
    for staff in ("engineer", "supervisor", "observer"):
        answer = auditor.sign_in(staff).get("/audit/boxes.jsonl")
        assert answer.status == 403 and "alive" not in answer.text


@pytest.mark.parametrize("query", ["before=x", "kind=nothing", "since_ms=-1", "after=gqVhbGw"])
def test_wrong_parameters_are_refused(auditor: WebClient, query: str) -> None:
    assert auditor.get(f"/audit/boxes?{query}").status == 400
