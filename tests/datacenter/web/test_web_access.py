"""Responses to people with and without a permission. `tests/datacenter/access/test_routes.py` checks every route."""

from __future__ import annotations

import pytest

from datacenter.access.vocabulary import ACTIONS
from datacenter.web.pages import ROUTES
from datacenter.web.routes import WebRoute
from tests.support.datacenter.access.checks import EUROPE, call, named
from tests.support.datacenter.web.client import WebClient

OF_ONE = [row for row in ROUTES if row.kind in ACTIONS["view"].kinds]
OTHERWISE = {"/sessions/{session}/desktop": 303, "/sessions/{session}/recording": 403}
"""The session has ended, so that its desktop redirects to its page; this person may not play its recording."""


@pytest.mark.parametrize("row", [row for row in OF_ONE if row.method == "GET"], ids=named)
def test_a_permitted_person_gets_every_page(web: WebClient, row: WebRoute) -> None:
    assert call(web.sign_in("european"), row, EUROPE).status == OTHERWISE.get(row.path, 200)


@pytest.mark.parametrize("row", OF_ONE, ids=named)
def test_a_person_without_a_role_sees_nothing(web: WebClient, row: WebRoute) -> None:
    assert call(web.sign_in("newcomer"), row, EUROPE).status == 404


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


def test_a_staff_member_who_was_removed_from_the_directory_is_refused(web: WebClient) -> None:
    assert web.sign_in("zoe").get("/").status == 401


def test_the_shown_path_continues_after_the_sign_in(web: WebClient) -> None:
    assert 'name="next" value="/alerts?state=ended"' in web.get("/alerts?state=ended").text
