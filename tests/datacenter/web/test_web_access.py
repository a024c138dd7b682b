"""Every route refuses whoever may not: without a session, without the right, and for what the person may not see."""

from __future__ import annotations

import pytest

from datacenter.access.vocabulary import ACTIONS
from datacenter.web.pages import ROUTES
from datacenter.web.routes import WebRoute
from datacenter.web.sessions import SESSION_MS
from tests.support.datacenter.web_client import Answer, WebClient
from tests.support.datacenter.web_fleet import NOW_MS

IN_EUROPE = {
    "site": "berlin-1",
    "box": "RAP-0001",
    "instrument": "CHEM-0001",
    "alert": "a-lamp",
    "command": "1",
}
IN_AMERICA = {
    "site": "boston-1",
    "box": "RAP-0003",
    "instrument": "GAS-0001",
    "alert": "a-slot",
    "command": "2",
}
UNKNOWN = {"site": "nowhere", "box": "RAP-9999", "instrument": "NONE-1", "alert": "none", "command": "none"}
HINTS = ("CHEM-0001", "GAS-0001", "RAP-0003", "Harbor", "boston", "Klinikum", "blood")
"""Texts of the fleet that no refusal may contain."""
OF_ONE = [row for row in ROUTES if row.kind in ACTIONS["view"].kinds]
MARKS = {
    "/api/v1/sites": ("boston-1", "berlin-1"),
    "/api/v1/boxes": ("RAP-0003", "RAP-0001"),
    "/base": ("blood gas", "chemistry"),
}
"""What a list has of America and of Europe, unless these are instruments."""
LISTS = [row for row in ROUTES if not row.kind]


def call(client: WebClient, row: WebRoute, names: dict[str, str]) -> Answer:
    path = row.path.format(**names)
    if row.answer == "api" and row.method == "POST":
        return (client.program() if client.staff else client).post_json(path)
    return client.get(path) if row.method == "GET" else client.post(path)


def named(row: WebRoute) -> str:
    return f"{row.method} {row.path}"


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_without_a_session_every_route_is_refused(web: WebClient, row: WebRoute) -> None:
    answer = call(web, row, IN_EUROPE)
    assert answer.status == 401
    assert not any(hint in answer.text for hint in HINTS[1:])


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_an_expired_session_is_refused(web: WebClient, row: WebRoute) -> None:
    old = web.signer.begin("engineer", NOW_MS - SESSION_MS)
    assert call(WebClient(web.application, web.signer, web.now_ms, cookie=old), row, IN_EUROPE).status == 401


@pytest.mark.parametrize("row", ROUTES, ids=named)
def test_a_person_whose_account_is_not_active_is_refused(web: WebClient, row: WebRoute) -> None:
    assert call(web.sign_in("former"), row, IN_EUROPE).status == 401


@pytest.mark.parametrize("row", [row for row in OF_ONE if row.method == "GET"], ids=named)
def test_a_permitted_person_gets_every_page(web: WebClient, row: WebRoute) -> None:
    assert call(web.sign_in("european"), row, IN_EUROPE).status == 200


@pytest.mark.parametrize("row", OF_ONE, ids=named)
def test_what_is_out_of_scope_looks_like_what_does_not_exist(web: WebClient, row: WebRoute) -> None:
    person = web.sign_in("european")
    foreign, unknown = call(person, row, IN_AMERICA), call(person, row, UNKNOWN)
    assert foreign.status == unknown.status == 404
    assert foreign.body == unknown.body
    assert foreign.headers == unknown.headers


@pytest.mark.parametrize("row", OF_ONE, ids=named)
def test_a_person_without_a_role_sees_nothing(web: WebClient, row: WebRoute) -> None:
    assert call(web.sign_in("newcomer"), row, IN_EUROPE).status == 404


@pytest.mark.parametrize("row", LISTS, ids=named)
def test_lists_have_only_what_the_person_may_see(web: WebClient, row: WebRoute) -> None:
    query = "?state=all" if row.path.endswith("/alerts") else ""
    foreign, own = MARKS.get(row.path, ("GAS-0001", "CHEM-0001"))
    everything = web.sign_in("engineer").get(row.path + query).text
    seen = web.sign_in("european").get(row.path + query).text
    nothing = web.sign_in("newcomer").get(row.path + query).text
    assert foreign in everything and own in everything
    assert own in seen
    for hint in ("GAS-0001", "RAP-0003", "Harbor", "boston", "blood"):
        assert hint not in seen
    assert not any(hint in nothing for hint in HINTS)


def test_counts_and_sites_have_only_what_the_person_may_see(web: WebClient) -> None:
    seen = web.sign_in("european").get("/?view=sites").text
    assert "Klinikum Nord" in seen
    assert "Harbor" not in seen and "Osaka" not in seen
    assert '<span class="count">3</span> <span class="of">all</span>' in seen
    assert '<span class="count">5</span> <span class="of">all</span>' in web.sign_in("engineer").get("/").text


def test_an_action_that_is_not_permitted_is_refused_with_its_reason(web: WebClient) -> None:
    viewer = web.sign_in("observer")
    refused = viewer.post("/alerts/a-lamp/acknowledge")
    assert refused.status == 403
    assert "o policy permits observer to acknowledge Alert a-lamp" in refused.text
    refused = viewer.get("/instruments/RAP-0001/CHEM-0001/readings.csv")
    assert refused.status == 403
    assert "Export as CSV" not in viewer.get("/instruments/RAP-0001/CHEM-0001").text
    assert "Acknowledge</button>" not in viewer.get("/alerts/a-lamp").text


def test_every_refusal_of_a_resource_is_noted_with_its_reason(web: WebClient) -> None:
    web.sign_in("european").get("/boxes/RAP-0003")
    web.sign_in("observer").post("/alerts/a-lamp/acknowledge")
    refused = [entry for entry in web.entries if entry.outcome == "refused"]
    assert [(one.actor, one.resource) for one in refused] == [
        ("european", "RAP-0003"),
        ("observer", "a-lamp"),
    ]
    assert all(one.reason for one in refused)


def test_a_link_to_a_known_instrument_of_another_box_shows_nothing(web: WebClient) -> None:
    assert web.sign_in("european").get("/instruments/RAP-0001/GAS-0001").status == 404
    assert web.sign_in("engineer").get("/instruments/RAP-0001/GAS-0001").status == 404


def test_a_staff_member_who_was_removed_from_the_directory_is_refused(web: WebClient) -> None:
    assert web.sign_in("zoe").get("/").status == 401


def test_the_shown_path_continues_after_the_sign_in(web: WebClient) -> None:
    assert 'name="next" value="/alerts?state=ended"' in web.get("/alerts?state=ended").text
