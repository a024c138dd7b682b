"""Rollouts on their pages and in the API: one person proposes them, another starts them, and either stops them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from datacenter.access.vocabulary import Purpose
from datacenter.releases.runner import advance_rollouts
from datacenter.store.store import Store
from tests.support.datacenter.rollouts import release_set, served_releases
from tests.support.datacenter.web.client import Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet

SERVICE: Purpose = "service"


@pytest.fixture
def rolling(tmp_path: Path) -> Iterator[WebClient]:
    """A browser on a separate store with the fleet, at a data center with the releases 11 and 12."""
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    yield open_web(store, lambda: NOW_MS, releases=served_releases(tmp_path, 11, 12))
    store.close()


def send(client: WebClient, target: str, **fields: str) -> Answer:
    return client.post(target, {"form_token": client.form_token(), **fields})


def proposed(client: WebClient, **fields: str) -> str:
    """Propose a rollout; return the URL of its page."""
    answer = send(client, "/rollouts", **{"release": "12", **fields})
    assert answer.status == 303, answer.text
    return answer.headers["location"]


def test_a_rollout_is_proposed_approved_paused_and_withdrawn(rolling: WebClient) -> None:
    engineer, supervisor = rolling.sign_in("engineer"), rolling.sign_in("supervisor")
    page = proposed(
        engineer,
        place="region/europe",
        begins="22:00",
        ends="04:00",
        days="mon, fri",
        answer_hours="120",
        waves="50 100",
    )
    text = engineer.get(page).text
    assert "A supervisor other than the requester must approve" in text
    assert "from 22:00 to 04:00 by the time of their site, on mon, fri" in text
    assert "Next times to restart" in text and "Europe/Berlin" in text
    assert "Approve and start" not in text
    assert "Approve and start" in supervisor.get(page).text
    assert send(supervisor, f"{page}/approve").status == 303
    assert "approved by supervisor" in engineer.get(page).text
    assert send(supervisor, f"{page}/approve").status == 409
    for verb, state in (("pause", "paused"), ("resume", "running"), ("withdraw", "withdrawn")):
        assert send(engineer, f"{page}/{verb}").status == 303
        assert f"<strong>{state}</strong>" in engineer.get(page).text
    refused = send(engineer, f"{page}/resume")
    assert (refused.status, "rollout is withdrawn" in refused.text) == (409, True)


def test_nobody_starts_a_rollout_that_they_proposed(rolling: WebClient) -> None:
    supervisor = rolling.sign_in("supervisor")
    page = proposed(supervisor)
    refused = send(supervisor, f"{page}/approve")
    assert (refused.status, "nobody approves a change that they requested" in refused.text) == (
        403,
        True,
    )
    assert "<strong>proposed</strong>" in supervisor.get(page).text
    assert send(rolling.sign_in("engineer"), f"{page}/approve").status == 403, "not a supervisor"


def test_a_plan_cannot_exceed_the_scope_of_its_author(rolling: WebClient) -> None:
    european = rolling.sign_in("european")
    assert send(european, "/rollouts", release="12", place="everywhere").status == 403
    assert send(european, "/rollouts", release="12", place="country/US").status == 403
    assert send(european, "/rollouts", release="12", place="site/berlin-1").status == 303
    assert send(rolling.sign_in("observer"), "/rollouts", release="12").status == 403


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"release": "13"}, 409, "There is no release 13; the releases are: 11, 12"),
        ({"place": "site/nowhere"}, 409, "No box is in the group"),
        ({"place": "europe"}, 400, "give everywhere, or a place such as country/DE"),
        ({"waves": "10, 50"}, 400, "the last is 100"),
        ({"waves": "ten"}, 400, "waves"),
        ({"begins": "22:00"}, 400, "ends"),
        ({"begins": "22:00", "ends": "04:00", "answer_hours": "10"}, 400, "give at least 48"),
        ({"answer_hours": "0"}, 400, "answer_hours"),
        ({"days": "mon"}, 400, "also give the times from and until which boxes restart"),
        ({"begins": "22:00", "ends": "04:00", "days": "monday"}, 400, "days"),
    ],
)
def test_a_wrong_plan_is_refused_with_what_would_be_right(
    rolling: WebClient, fields: dict[str, str], status: int, message: str
) -> None:
    answer = send(rolling.sign_in("engineer"), "/rollouts", **{"release": "12", **fields})
    assert (answer.status, message in answer.text) == (status, True), answer.text


def test_the_page_shows_waves_failures_and_the_expected_end(rolling: WebClient) -> None:
    text = rolling.sign_in("engineer").get("/rollouts/7001").text
    assert "returned: unhealthy" in text
    assert "up to 50 %" in text and "expected" in text
    listed = rolling.sign_in("european").get("/rollouts").text
    assert "/rollouts/7001" in listed and "/rollouts/7002" not in listed


def test_without_releases_the_page_says_what_to_do(changing: WebClient) -> None:
    assert "Add <code>[releases]</code>" in changing.sign_in("engineer").get("/rollouts").text


def test_a_program_proposes_watches_and_pauses_rollouts_but_cannot_start_them(rolling: WebClient) -> None:
    program = rolling.sign_in("engineer").program(SERVICE)
    plan = {"release": 12, "waves": [100], "begins": "22:00", "ends": "04:00"}
    answer = program.post_json("/api/v1/rollouts", msgspec.json.encode(plan))
    assert answer.status == 200, answer.text
    rollout = msgspec.json.decode(answer.body)
    assert (rollout["state"], rollout["place"], rollout["wave"]) == ("proposed", "everywhere", 0)
    path = f"/api/v1/rollouts/{rollout['rollout']}"
    assert program.post_json(f"{path}/approve").status == 404, "there is no such route"
    assert program.post_json(f"{path}/pause").status == 409
    assert send(rolling.sign_in("supervisor"), f"/rollouts/{rollout['rollout']}/approve").status == 303
    assert rolling.store is not None
    advance_rollouts(rolling.store, release_set(12), NOW_MS)
    shown = msgspec.json.decode(program.get(path).body)
    assert (shown["state"], shown["wave"], shown["waves"][0]["percent"]) == ("running", 1, 100)
    assert shown["waves"][0]["open"] + shown["waves"][0]["waiting"] == shown["waves"][0]["boxes"] > 0
    assert msgspec.json.decode(program.post_json(f"{path}/pause").body)["state"] == "paused"
    first = msgspec.json.decode(program.get("/api/v1/rollouts?limit=1").body)
    rest = msgspec.json.decode(program.get(f"/api/v1/rollouts?cursor={first['next']}").body)
    assert [one["rollout"] for one in (*first["items"], *rest["items"])] == [rollout["rollout"], 7002, 7001]
    wrong = program.post_json("/api/v1/rollouts", b'{"release": 12, "waves": [5]}')
    assert (wrong.status, "the last is 100" in wrong.text) == (400, True)


def test_a_wrong_method_is_answered_with_those_of_all_rows_of_the_path(rolling: WebClient) -> None:
    answer = rolling.sign_in("engineer").program(SERVICE).request("PUT", "/api/v1/rollouts", b"", {})
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
