"""A store with shards behaves like a single database, and the reports of a box are only in its shard."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, update

from datacenter.access.request import Principal
from datacenter.base.visible import permitted_bases, visible_days
from datacenter.config import RetentionConfig
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.explanation.reports import ReportRange, load_reports
from datacenter.fleet.alerts import AlertFilter, list_alerts
from datacenter.fleet.boxes import list_events, read_box
from datacenter.fleet.completeness import coverage_tag, stream_completeness
from datacenter.fleet.instruments import FleetFilter, count_health, list_instruments
from datacenter.fleet.readings import load_period, make_chart
from datacenter.fleet.reports import list_errors
from datacenter.fleet.visible import Visibility
from datacenter.history.archive import history
from datacenter.monitoring.figures import read_figures
from datacenter.retention import delete_piece, find_expired
from datacenter.store import queries
from datacenter.store.batches.batch import Received
from datacenter.store.errors import StoreError, UnknownBoxError
from datacenter.store.shards import ShardedStore, choose_shard, open_store
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import boxes, chunks, coverage, records
from rap.__main__ import main
from tests.support.datacenter.evaluation.base import BOXES, DAY, MODEL, READING, Fleet
from tests.support.datacenter.evaluation.triggers import trigger
from tests.support.datacenter.programs import configure_boxes, send_batches, serving
from tests.support.datacenter.store.batches import alert, batch, encoded, result
from tests.support.datacenter.store.postgres import PostgresServer
from tests.support.datacenter.store.sharded import NAMES, open_sharded
from tests.support.datacenter.web.client import POLICIES, WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet
from tests.support.datacenter.web.triggers import known_triggers

VIEWER = Principal("viewer", frozenset({"viewer"}), frozenset({"everywhere"}))
TRIGGERS = TriggerSet([trigger(f"{READING} > 80", name="high")])
END_MS = (DAY + 20) * DAY_MS


@pytest.fixture
def sharded(urls: list[str]) -> Iterator[ShardedStore]:
    with closing(open_sharded(urls)) as store:
        yield store


def live(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Store, evaluate, archive, count and delete the reports of six boxes; return the results of all readers."""
    monkeypatch.setattr("datacenter.base.percentiles.INSTRUMENTS_MIN", 1)
    fleet, random = Fleet(store, TRIGGERS), Random(3)
    for box in BOXES:
        for day in range(2):
            fleet.report(box, day, 20, random=random)
        error = batch(alert(1000), first=100, instrument=fleet.instrument(box))
        for _ in range(2):
            store.ingest(box, error, fleet.now_ms)
    fleet.evaluate()
    shown: dict[str, Any] = {"unevaluated": read_figures(store, fleet.now_ms).unevaluated_records}
    shown["rows"] = list(queries.records(store))
    shown["counted"] = fleet.count_archived()
    for box in BOXES:  # after archiving, so that these reports remain in rows
        fleet.report(box, 2, 5, random=random)
    fleet.evaluate()
    visible = Visibility(POLICIES, VIEWER, fleet.now_ms)
    shown |= {
        "counts": queries.counts(store),
        "profiles": queries.profiles(store, {MODEL: 1}),
        "epochs": queries.epochs(store),
        "instruments": list_instruments(store, visible, FleetFilter(), 1),
        "health": count_health(store, visible, FleetFilter()),
        "alerts": list_alerts(store, visible, AlertFilter("all"), 1),
        "base": {
            day: one.histogram.readings.tolist()
            for day, one in visible_days(
                store, permitted_bases(store, visible)[MODEL], range(DAY, DAY + 9), READING
            )[READING].items()
        },
    }
    for box in BOXES:
        name = fleet.instrument(box)
        all_reports = ReportRange(box, name, (1, 1), (1, 1000), END_MS)
        shown[box] = [
            read_box(store, box),
            list_events(store, box),
            [one._asdict() | {"missing": list(one.missing)} for one in stream_completeness(store, box)],
            coverage_tag(store, box, name),
            history(store, box, name, 0, END_MS).readings[READING].values.tolist(),
            make_chart(load_period(store, box, name, DAY * DAY_MS, (DAY + 3) * DAY_MS, END_MS)),
            list_errors(store, box, name, 0, END_MS),
            [one.id for one in load_reports(store, all_reports).in_order()],
        ]
    late_ms = END_MS + 100 * DAY_MS
    limits = RetentionConfig(readings_days=100, errors_days=30)
    shown["expired"] = find_expired(store, limits, late_ms)
    while delete_piece(store, "readings", 100, late_ms) or delete_piece(store, "errors", 30, late_ms):
        pass
    shown["kept"] = [queries.counts(store), find_expired(store, limits, late_ms)]
    return shown


def rows_of(store: Store, box: str) -> int:
    tables = (records, chunks, coverage)
    return sum(next(store.read(select(func.count()).where(one.c.box == box)))[0] for one in tables)


@pytest.mark.slow("starts three database servers")
def test_readers_return_the_same_as_for_one_database(
    sharded: ShardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store("sqlite://")) as single:
        expected = live(single, monkeypatch)
    results = live(sharded, monkeypatch)
    assert expected["alerts"] and expected["counted"] and expected["expired"][0].rows
    for name, value in expected.items():
        assert results[name] == value, name
    fleet, *shards = sharded.parts
    for box in BOXES:
        assert rows_of(fleet, box) == 0
        assert [rows_of(shard, box) > 0 for shard in shards] == [
            name == choose_shard(box, NAMES) for name in NAMES
        ]
    assert {choose_shard(box, NAMES) for box in BOXES} == set(NAMES)


@pytest.mark.slow("opens each page twice, beside three database servers")
def test_pages_show_the_same_as_for_one_database(sharded: ShardedStore) -> None:
    shown = []
    with closing(Store("sqlite://")) as single:
        for store in (single, sharded):
            fill_fleet(store)
            shown.append(pages(open_web(store, lambda: NOW_MS, known=known_triggers()).sign_in("engineer")))
    of_single, of_sharded = shown
    assert len(of_single) > 30 and list(of_sharded) == list(of_single)
    for target, page in of_single.items():
        assert of_sharded[target] == page, target


def pages(web: WebClient) -> dict[str, tuple[int, str]]:
    """Follow one link of each kind, starting at the fleet; return status and content, without form tokens."""
    opened: dict[str, tuple[int, str]] = {}
    kinds: set[str] = set()
    waiting = ["/"]
    while waiting:
        target = waiting.pop(0)
        kind = re.sub(r"=[^&]*|[^/?&=]*\d[^/?&=]*", "", target)
        if kind in kinds:
            continue
        kinds.add(kind)
        answer = web.get(target)
        text = (
            re.sub(r'name="form_token" value="\w+"', "", answer.text) if "html" in str(answer.headers) else ""
        )
        opened[target] = answer.status, text
        links = re.findall(r'href="(/(?!static)[^"#]*)"', text)
        waiting += [unescape(link) for link in links]
    return opened


def test_a_batch_is_stored_once_and_commands_follow_it(
    sharded: ShardedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded.authorize(["RAP-0001"], 0)
    command = sharded.queue_command("RAP-0001", "CHEM-0001", "send-inventory", b"", 0)
    assert [one.id for one in sharded.ingest("RAP-0001", batch(alert(1)), 1).commands] == [command]
    done = batch(result(2, command), first=2)
    with monkeypatch.context() as failing:
        failing.setattr("datacenter.store.shards.exchange_commands", _fail)
        with pytest.raises(StoreError, match="main database"):
            sharded.ingest("RAP-0001", done, 2)
    assert sharded.ingest("RAP-0001", done, 3).stored == 0
    assert [one.state for one in queries.commands(sharded)] == ["done"]
    assert queries.counts(sharded) == {("RAP-0001", "CHEM-0001"): 2}
    with pytest.raises(UnknownBoxError):
        sharded.ingest("RAP-0002", batch(alert(1)), 4)
    sharded.authorize(["RAP-0002"], 5)
    with pytest.raises(UnknownBoxError):
        sharded.ingest("RAP-0001", done, 6)


def _fail(*_: object) -> None:
    raise StoreError("the main database failed")


def test_batches_of_several_shards_are_answered_in_their_order(sharded: ShardedStore) -> None:
    names = [f"RAP-{number:04}" for number in range(8)]
    sharded.authorize(names[1:], 0)
    outcomes = sharded.ingest_all(
        [Received(box, batch(*map(alert, range(1, count + 1))), 1) for count, box in enumerate(names, 1)]
    )
    assert isinstance(outcomes[0], UnknownBoxError)
    assert [one.stored for one in outcomes[1:] if not isinstance(one, Exception)] == list(range(2, 9))


def test_with_a_further_shard_no_box_moves(urls: list[str]) -> None:
    names = [f"RAP-{number:04}" for number in range(60)]
    with closing(open_store(urls[0], {})) as store:
        store.authorize(names[:10], 0)
        store.ingest(names[0], batch(alert(1)), 1)
    with closing(open_store(urls[0], {"a": urls[1]})) as store:
        store.authorize(names[:30], 1)
        assert store.ingest(names[0], batch(alert(1)), 2).stored == 0
        store.ingest(names[29], batch(alert(1)), 2)
    with closing(open_sharded(urls)) as store:
        store.authorize(names, 2)
        assert store.ingest(names[29], batch(alert(1)), 3).stored == 0
        main, a, b = store.parts
        assert {store.of(box) for box in names[:10]} == {main}
        assert {store.of(box) for box in names[10:30]} == {a}
        assert {store.of(box) for box in names[30:]} == {a, b}


def test_the_weights_distribute_boxes_evenly_and_do_not_change() -> None:
    names = [f"RAP-{number:04}" for number in range(3000)]
    three = {box: choose_shard(box, ["a", "b", "c"]) for box in names}
    assert all(900 < count < 1100 for count in Counter(three.values()).values())
    four = {box: choose_shard(box, ["d", "c", "b", "a"]) for box in names}
    assert all(four[box] in (three[box], "d") for box in names)
    assert "".join(three[box] for box in names[:12]) == "bcaaabcacbbb"


def test_databases_that_do_not_match_the_configuration_are_refused(urls: list[str]) -> None:
    main, a, b = urls
    with closing(open_sharded(urls)) as sharded:
        sharded.authorize([f"RAP-{number:04}" for number in range(8)], 0)
    for named, problem in (
        ({"a": b, "b": a}, "database of shard a is that of shard b"),
        ({"a": a}, r"shard b, which is not configured: .*\[\[store.shards\]\]"),
        ({}, "shard a, which is not configured"),
    ):
        with closing(open_store(main, named)) as store, pytest.raises(StoreError, match=problem):
            store.check()
    with closing(Store(main)) as store, store.transaction() as connection:
        connection.execute(update(boxes).values(shard=None))
    with (
        closing(open_store(a, {"a": main})) as store,
        pytest.raises(StoreError, match="reports of a main database"),
    ):
        store.check()


def test_a_box_that_another_process_authorizes_can_send_at_once(
    sharded: ShardedStore, urls: list[str]
) -> None:
    """RAP-0000 is in shard b."""
    with pytest.raises(UnknownBoxError):
        sharded.ingest("RAP-0000", batch(alert(1)), 1)
    with closing(open_sharded(urls)) as other:
        other.authorize_also("RAP-0000", "berlin-1", 1)
    assert sharded.ingest("RAP-0000", batch(alert(1)), 2).stored == 1
    assert queries.counts(sharded.parts[2]) == {("RAP-0000", "CHEM-0001"): 1}


def test_the_shard_of_a_box_without_reports_can_be_forgotten(sharded: ShardedStore) -> None:
    sharded.forget("RAP-9999")
    sharded.authorize(["RAP-0001"], 0)
    assert sharded.ingest("RAP-0001", batch(alert(1)), 1).stored == 1


@pytest.mark.slow("starts a program beside three database servers")
def test_a_shard_that_is_down_does_not_affect_boxes_of_the_other(
    servers: list[PostgresServer], urls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RAP-0000 is in shard b, RAP-0002 in shard a."""
    file, identities = configure_boxes(tmp_path, urls[0], ["RAP-0000", "RAP-0002"])
    shards = [
        f'[[store.shards]]\nname = "{name}"\nurl = "{url}"\n'
        for name, url in zip(NAMES, urls[1:], strict=True)
    ]
    file.write_text(file.read_text() + "".join(shards))
    assert main(["dc", "migrate", "--config", str(file)]) == 0
    assert main(["dc", "migrate", "--config", str(file), "--check"]) == 0
    with serving(file) as port:

        def send(box: str, number: int) -> list[int]:
            return asyncio.run(send_batches(port, identities[box], encoded(alert(number), first=number)))

        assert send("RAP-0000", 1) == send("RAP-0002", 1) == [200]
        servers[2].kill()
        assert (send("RAP-0000", 2), send("RAP-0002", 2)) == ([503], [200])
        servers[2].start()
        assert send("RAP-0000", 2) == [200]
    servers[2].kill()
    with serving(file) as port:
        assert (send("RAP-0000", 3), send("RAP-0002", 3)) == ([503], [200])
        servers[2].start()
        assert send("RAP-0000", 3) == [200]
    with closing(open_sharded(urls)) as store:
        assert [sum(queries.counts(part).values()) for part in store.parts[1:]] == [3, 3]
        assert sum(queries.counts(store).values()) == 6


def test_a_shard_that_is_opened_late_is_checked_and_has_the_current_authorizations(
    servers: list[PostgresServer], urls: list[str]
) -> None:
    in_b = [f"RAP-{number:04}" for number in range(20) if choose_shard(f"RAP-{number:04}", NAMES) == "b"]
    kept, dismissed, new = in_b[:3]
    with closing(open_sharded(urls)) as store:
        store.authorize([kept, dismissed], 0)
    servers[2].kill()
    try:
        with closing(open_sharded(urls)) as store:
            store.check()
            store.authorize([kept, new], 1)
            with pytest.raises(StoreError, match="connection"):
                store.ingest(kept, batch(alert(1)), 2)
            servers[2].start()
            assert store.ingest(kept, batch(alert(1)), 2).stored == 1
            assert store.ingest(new, batch(alert(1)), 2).stored == 1
            with pytest.raises(UnknownBoxError):
                store.ingest(dismissed, batch(alert(1)), 2)
        servers[2].kill()
        with closing(open_sharded(urls)) as store:
            servers[2].start()
            with closing(Store(urls[2])) as wrong, wrong.transaction() as connection:
                connection.execute(update(boxes).values(shard="c"))
            with pytest.raises(StoreError, match="that of shard c"):
                store.ingest(kept, batch(alert(2), first=2), 3)
            with pytest.raises(StoreError, match="that of shard c"), store.parts[2].transaction():
                pass
    finally:
        servers[2].stop()
        servers[2].start()
