"""Triggers and maintenance windows in the API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from datacenter.access.directory import StaffDirectory
from datacenter.access.tokens import create_token
from datacenter.evaluation.knowledge import read_knowledge
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, maintenance
from settings.toml import dumps
from tests.support.datacenter.evaluation.scored_triggers import write_triggers
from tests.support.datacenter.web.client import PEOPLE, Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, alert_row
from tests.support.datacenter.web.triggers import LAMP

API = "/api/v1"
HOUR_MS = 3_600_000
WINDOW_PATHS = {
    "site": f"{API}/sites/berlin-1/maintenance",
    "box": f"{API}/boxes/RAP-0001/maintenance",
    "instrument": f"{API}/instruments/RAP-0001/CHEM-0001/maintenance",
}


def read(client: WebClient, target: str) -> Any:
    return json.loads(client.get(f"{API}/{target}").body)


def send(client: WebClient, target: str, **members: object) -> Answer:
    return client.post_json(target, json.dumps(members).encode())


def windows(client: WebClient, query: str = "state=all") -> list[str]:
    return [one["window"] for one in read(client, f"maintenance?{query}")["items"]]


def test_the_list_of_triggers_has_scores_and_filters(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    items = read(engineer, "triggers")["items"]
    assert [one["trigger"] for one in items] == ["silent-box", "gas-slot-heater", "chemistry-lamp"]
    assert (items[2]["score"]["recall"], items[1]["score"]) == (0.9, None)
    for query in ("model=chemistry-analyzer", "severity=warning", "severity=warning&state=live"):
        assert read(engineer, f"triggers?{query}")["items"] == [items[2]]
    assert read(engineer, "triggers?state=scored")["items"] == []


def test_a_trigger_has_its_comparisons_and_the_address_of_its_alerts(changing: WebClient) -> None:
    assert changing.store is not None
    for identity, box, instrument in (("a1", "RAP-0001", "CHEM-0001"), ("a2", "RAP-0003", "GAS-0001")):
        row = alert_row(identity, box, instrument, "chemistry-analyzer", "chemistry-lamp", "warning", "lamp")
        with changing.store.transaction() as connection:
            connection.execute(insert(alerts).values(row))
    trigger = read(changing.sign_in("european"), "triggers/chemistry-lamp")
    (comparison,) = trigger["comparisons"]
    assert (comparison["value"], comparison["sign"]) == ("mean(lamp-intensity-pct, 12h)", "<")
    assert (comparison["threshold"], comparison["reading"]) == ("80", "lamp-intensity-pct")
    assert (comparison["unit"], trigger["open_alerts"]) == ("%", 1)
    of_trigger = json.loads(changing.sign_in("european").get(trigger["alerts"]).body)["items"]
    assert [one["id"] for one in of_trigger] == ["a1"]


def test_a_foreign_trigger_is_as_one_that_does_not_exist(web: WebClient) -> None:
    european = web.sign_in("european")
    foreign, unknown = (european.get(f"{API}/triggers/{name}") for name in ("gas-slot-heater", "nothing"))
    assert (foreign.status, foreign.headers, foreign.body) == (404, unknown.headers, unknown.body)


def test_a_trigger_with_a_newer_text_says_that_it_is_not_live(filled: Store, tmp_path: Path) -> None:
    write_triggers(tmp_path, lamp=dumps(LAMP))
    known = read_knowledge(tmp_path)
    (tmp_path / "lamp.toml").write_text(dumps(LAMP).replace("80", "81"))
    (tmp_path / "broken.toml").write_text("model = ")
    engineer = open_web(filled, lambda: NOW_MS, known=known).sign_in("engineer")
    lamp = read(engineer, "triggers/lamp")
    assert (lamp["state"], lamp["newer"]["state"]) == ("live", "without score")
    assert "< 80" in lamp["condition"] and lamp["fingerprint"] != lamp["newer"]["fingerprint"]
    assert [one["state"] for one in read(engineer, "triggers")["items"] if one["trigger"] == "lamp"] == [
        "live",
        "without score",
    ]
    broken = read(engineer, "triggers/broken")
    assert (broken["state"], broken["comparisons"], bool(broken["problem"])) == ("not valid", [], True)


@pytest.mark.parametrize("kind", WINDOW_PATHS)
def test_a_program_plans_reads_and_ends_a_window(changing: WebClient, kind: str) -> None:
    program = changing.sign_in("supervisor").program("service")
    answer = send(program, WINDOW_PATHS[kind], hours=2, reason="new pump")
    window = json.loads(answer.body)
    assert (answer.status, window["kind"], window["state"], window["planned_by"]) == (
        200, kind, "in progress", "supervisor",
    )  # fmt: skip
    assert window["until_ms"] - window["from_ms"] == 2 * HOUR_MS
    assert read(program, f"maintenance/{window['window']}") == window
    assert windows(program, "") == [window["window"]]
    assert window["window"] not in windows(program, "state=past")
    for _ in range(2):
        ended = json.loads(send(program, f"{API}/maintenance/{window['window']}/end").body)
        assert (ended["state"], ended["until_ms"], ended["ended_by"]) == ("ended", NOW_MS, "supervisor")
    assert {one.purpose for one in changing.entries if one.action.startswith("silence-")} == {"service"}


def test_a_window_that_has_not_begun_is_cancelled(changing: WebClient) -> None:
    program = changing.sign_in("supervisor").program("service")
    window = json.loads(send(program, WINDOW_PATHS["site"], from_ms=NOW_MS + HOUR_MS, reason="move").body)
    assert window["state"] == "planned"
    assert json.loads(send(program, f"{API}/maintenance/{window['window']}/end").body)["state"] == "cancelled"
    assert "cancelled" in changing.sign_in("supervisor").get("/maintenance").text


@pytest.mark.parametrize(
    ("members", "right"),
    [
        ({"reason": ""}, "a reason in one line"),
        ({"hours": 0, "reason": "x"}, ">= 1"),
        ({"hours": "4", "reason": "x"}, "hours"),
        ({"hours": 1.5, "reason": "x"}, "hours"),
        ({"from_ms": 0, "reason": "x"}, "in the future"),
        ({"form_ms": 0, "reason": "x"}, "did you mean from_ms?"),
        ({"reason": ["x"]}, "reason"),
    ],
)
def test_a_wrong_window_is_refused_with_what_would_be_right(
    changing: WebClient, members: dict[str, object], right: str
) -> None:
    program = changing.sign_in("supervisor").program("service")
    answer = send(program, WINDOW_PATHS["site"], **members)
    assert answer.status == 400 and right in json.loads(answer.body)["detail"]
    assert windows(program, "") == []


def test_the_limits_of_a_token_hold_for_windows(changing: WebClient) -> None:
    assert changing.store is not None

    store = changing.store

    def program(actions: set[str], scope: str) -> WebClient:
        limits = frozenset(actions), frozenset({scope})
        secret, _ = create_token(store, "supervisor", "service", *limits, NOW_MS, NOW_MS + HOUR_MS)
        return replace(changing, secret=secret)

    reader = program({"read"}, "everywhere")
    assert send(reader, WINDOW_PATHS["site"], reason="x").status == 403
    american = program({"read", "change"}, "region/america")
    assert send(american, WINDOW_PATHS["site"], reason="x").status == 404
    assert windows(american) == ["m1"]
    assert american.get(f"{API}/maintenance/m0").status == 404
    assert send(american, f"{API}/maintenance/m0/end").status == 404
    assert len(list(store.read(select(maintenance.c.id)))) == 2


def test_the_rights_are_those_of_the_sign_on(changing: WebClient) -> None:
    """A person whose roles the identity provider gives need not be in the staff directory."""
    assert changing.store is not None
    nobody = StaffDirectory({}, {}, {"supervisor": PEOPLE["supervisor"]})
    program = open_web(changing.store, lambda: NOW_MS, staff=nobody).sign_in("supervisor").program()
    assert send(program, WINDOW_PATHS["site"], reason="x").status == 200
