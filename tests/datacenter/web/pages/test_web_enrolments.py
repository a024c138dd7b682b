"""The page and the API of certificates: decisions about requests, boxes by state, and the deny-list."""

from __future__ import annotations

import json

from datacenter.access.vocabulary import Purpose
from tests.support.datacenter.web.client import Answer, WebClient

EXPIRED, AMERICAN, UNKNOWN = "1e" * 32, "2e" * 32, "3e" * 32


def send(client: WebClient, target: str, **fields: str) -> Answer:
    return client.post(target, {"form_token": client.form_token(), **fields})


def test_requests_and_boxes_are_listed_with_what_a_person_may_do(changing: WebClient) -> None:
    text = changing.sign_in("engineer").get("/enrolments").text
    assert f'action="/enrolments/{EXPIRED}/approve"' in text and "its certificate has expired" in text
    assert "RAP-0042" in text and "the box is unknown" in text
    assert f'action="/enrolments/{UNKNOWN}/approve"' not in text, "which needs the right to enrol boxes"
    assert 'action="/boxes/RAP-0001/deny"' in text and 'action="/boxes/RAP-0004/allow"' in text
    assert "stolen &lt;van&gt;" in text
    observed = changing.sign_in("observer").get("/enrolments").text
    assert "RAP-0042" in observed
    assert not any(f'/{verb}"' in observed for verb in ("approve", "reject", "deny", "allow"))
    european = changing.sign_in("european").get("/enrolments").text
    assert EXPIRED in european and AMERICAN not in european and "RAP-0042" not in european


def test_boxes_are_found_by_their_certificates(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    for state, box in (("expired", "RAP-0001"), ("valid", "RAP-0002"), ("denied", "RAP-0004")):
        listed = engineer.get(f"/enrolments?state={state}").text.partition("boxes-heading")[2]
        assert f'href="/boxes/{box}"' in listed
        assert listed.count('<th scope="row">') == (2 if state == "valid" else 1)
    assert "matches" in engineer.get("/enrolments?q=nothing").text
    assert engineer.get("/enrolments?q=porto").text.count('href="/boxes/') == 1


def test_a_request_is_approved_once_by_staff_who_may_configure_the_box(changing: WebClient) -> None:
    approve = f"/enrolments/{EXPIRED}/approve"
    assert send(changing.sign_in("observer"), approve).status == 403
    engineer = changing.sign_in("engineer")
    assert send(engineer, approve, site="berlin-1").status == 400, "the box is known"
    assert send(engineer, approve).status == 303
    assert EXPIRED not in engineer.get("/enrolments").text
    assert send(engineer, approve).status == 409
    (entry,) = [
        one for one in changing.entries if one.action == "configure-box" and one.outcome == "permitted"
    ]
    assert (entry.actor, entry.resource) == ("engineer", "RAP-0001")


def test_a_request_is_rejected(changing: WebClient) -> None:
    supervisor = changing.sign_in("supervisor")
    assert send(supervisor, f"/enrolments/{AMERICAN}/reject").status == 303
    assert AMERICAN not in supervisor.get("/enrolments").text


def test_a_box_is_denied_with_a_reason_and_allowed_again(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert send(engineer, "/boxes/RAP-0002/deny", reason=" ").status == 400
    assert send(engineer, "/boxes/RAP-0002/deny", reason="lost <it>").status == 303
    denied = engineer.get("/enrolments?state=denied").text
    assert "lost &lt;it&gt;" in denied and "by engineer" in denied
    assert send(engineer, "/boxes/RAP-0002/allow").status == 303
    assert send(engineer, "/boxes/RAP-0002/allow").status == 409
    assert send(changing.sign_in("european"), "/boxes/RAP-0003/deny", reason="x").status == 404


def test_programs_list_reject_and_deny_with_the_purpose_of_their_token(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    service: Purpose = "service"
    program = engineer.program(service)
    listed = json.loads(program.get("/api/v1/enrolments?limit=2").body)
    assert [one["box"] for one in listed["items"]] == ["RAP-0001", "RAP-0003"]
    rest = json.loads(program.get(f"/api/v1/enrolments?limit=2&cursor={listed['next']}").body)
    assert [one["reason"] for one in rest["items"]] == ["unknown"] and rest["next"] is None
    boxes = json.loads(program.get("/api/v1/certificates?state=denied").body)["items"]
    assert [(one["box"], one["denial"]) for one in boxes] == [("RAP-0004", "stolen <van>")]
    assert program.post_json(f"/api/v1/enrolments/{EXPIRED}/approve", b"{}").status == 404
    decided = json.loads(program.post_json(f"/api/v1/enrolments/{EXPIRED}/reject").body)
    assert (decided["state"], decided["decided_by"]) == ("rejected", "engineer")
    answer = program.post_json("/api/v1/boxes/RAP-0002/deny", b'{"reason": "lost"}')
    assert json.loads(answer.body)["state"] == "denied"
    monitoring = engineer.program("monitoring")
    assert monitoring.post_json("/api/v1/boxes/RAP-0003/deny", b'{"reason": "lost"}').status == 403
    assert json.loads(program.post_json("/api/v1/boxes/RAP-0002/allow").body)["state"] == "valid"


def test_an_instrument_behind_a_box_is_shown_denied_and_allowed(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert "instrument behind RAP-0002" in engineer.get("/enrolments").text
    deny = "/boxes/RAP-0002/deny"
    assert send(engineer, deny, reason="stolen", instrument="CHEM-0009").status == 404, (
        "it has no certificate"
    )
    assert send(engineer, deny, reason="stolen", instrument="HEMA-0002").status == 303
    listed = engineer.get("/enrolments").text
    assert 'name="instrument" value="HEMA-0002"><button type="submit">Allow again' in listed
    assert 'href="/boxes/RAP-0002"' not in engineer.get("/enrolments?state=denied").text, (
        "the box is not denied"
    )
    assert send(engineer, "/boxes/RAP-0002/allow", instrument="HEMA-0002").status == 303
    assert send(engineer, "/boxes/RAP-0002/allow", instrument="HEMA-0002").status == 409


def test_programs_list_deny_and_allow_instruments(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    program = engineer.program("service")
    path = "/api/v1/instrument-certificates"

    def states(query: str = "") -> list[tuple[str, str, str]]:
        items = json.loads(program.get(path + query).body)["items"]
        return [(one["box"], one["instrument"], one["state"]) for one in items]

    assert states() == [("RAP-0002", "HEMA-0002", "valid"), ("RAP-0003", "GAS-0001", "valid")]
    first = json.loads(program.get(f"{path}?limit=1").body)
    rest = json.loads(program.get(f"{path}?limit=1&cursor={first['next']}").body)
    assert [one["instrument"] for one in (*first["items"], *rest["items"])] == ["HEMA-0002", "GAS-0001"]
    assert states("?box=RAP-0001") == states("?state=denied") == []
    instrument = "/api/v1/boxes/RAP-0002/instruments/HEMA-0002"
    assert program.post_json(f"{instrument}/deny", b'{"reason": " "}').status == 400
    denied = json.loads(program.post_json(f"{instrument}/deny", b'{"reason": "stolen"}').body)
    assert (denied["state"], denied["denial"], denied["denied_by"]) == ("denied", "stolen", "engineer")
    assert (
        states("?state=denied") == [("RAP-0002", "HEMA-0002", "denied")] and len(states("?state=valid")) == 1
    )
    assert json.loads(program.get("/api/v1/certificates?state=denied").body)["items"][0]["box"] == "RAP-0004"
    assert json.loads(program.post_json(f"{instrument}/allow").body)["state"] == "valid"
    assert program.post_json(f"{instrument}/allow").status == 409
    unknown = "/api/v1/boxes/RAP-0002/instruments/CHEM-0009"
    assert program.post_json(f"{unknown}/deny", b'{"reason": "stolen"}').status == 404, (
        "it has no certificate"
    )
    foreign = "/api/v1/boxes/RAP-0003/instruments/GAS-0001/deny"
    european = changing.sign_in("european").program("service")
    assert european.post_json(foreign, b'{"reason": "stolen"}').status == 404
