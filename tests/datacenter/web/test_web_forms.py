"""Sign-in, sessions and forms of the pages; forged requests have no effect."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from sqlalchemy import select

from datacenter.store.store import Store
from datacenter.store.tables.schema import web_sessions
from datacenter.web.rendering import format_time
from datacenter.web.sessions import COOKIE, IDLE_MS, SESSION_MS, SESSIONS_OF_PERSON_MAX
from tests.support.datacenter.web.client import Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS

ACKNOWLEDGE = "/alerts/a-lamp/acknowledge"


def is_open(client: WebClient) -> bool:
    return "Acknowledged by" not in client.get("/alerts/a-lamp").text


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


def test_an_alert_is_acknowledged_once_and_the_second_person_sees_who_was_first(changing: WebClient) -> None:
    engineer, european = changing.sign_in("engineer"), changing.sign_in("european")
    assert is_open(engineer)
    answer = engineer.post(ACKNOWLEDGE)
    assert (answer.status, answer.headers["location"]) == (303, "/alerts/a-lamp")
    assert european.post(ACKNOWLEDGE).status == 303
    assert "Acknowledged by Service engineer" in european.get("/alerts/a-lamp").text
    assert "acknowledged" in european.get("/alerts").text


def test_an_alert_that_has_ended_cannot_be_acknowledged(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert engineer.post("/alerts/a-lamp-old/acknowledge").status == 303
    assert "Acknowledged by" not in engineer.get("/alerts/a-lamp-old").text


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({}, {}),
        ({"form_token": ""}, {}),
        ({"form_token": "0" * 64}, {}),
        ({"form_token": "é" * 64}, {}),
        (None, {"sec_fetch_site": "cross-site"}),
        (None, {"sec_fetch_site": "same-site"}),
    ],
)
def test_a_forged_form_is_refused_without_effect(
    changing: WebClient, form: dict[str, str] | None, headers: dict[str, str]
) -> None:
    engineer = changing.sign_in("engineer")
    assert engineer.post(ACKNOWLEDGE, form, **headers).status == 403
    assert is_open(engineer)


def test_the_token_of_another_session_is_refused(changing: WebClient) -> None:
    engineer, again = changing.sign_in("engineer"), changing.sign_in("engineer")
    for token in (again.form_token(), changing.sign_in_form("engineer")["form_token"]):
        assert engineer.post(ACKNOWLEDGE, {"form_token": token}).status == 403
    assert is_open(engineer)


def test_a_form_of_another_content_type_or_size_is_refused(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert engineer.post(ACKNOWLEDGE, None, **{"content-type": "text/plain"}).status == 400
    assert engineer.post(ACKNOWLEDGE, {"form_token": engineer.form_token(), "x": "y" * 20_000}).status == 400
    assert engineer.post(ACKNOWLEDGE, {"form_token": engineer.form_token(), "other": "1"}).status == 400
    assert is_open(engineer)


def test_a_form_cannot_be_sent_by_get(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert engineer.get(f"{ACKNOWLEDGE}?form_token={engineer.form_token()}").status == 405
    assert is_open(engineer)


def test_signing_in_gives_a_cookie_that_scripts_and_other_sites_do_not_get(web: WebClient) -> None:
    answer = web.post("/sign-in", web.sign_in_form("engineer", "/alerts?state=ended"))
    assert (answer.status, answer.headers["location"]) == (303, "/alerts?state=ended")
    attributes = answer.headers["set-cookie"].lower()
    assert attributes.startswith(f"{COOKIE}=")
    for attribute in ("httponly", "samesite=strict", "path=/", "max-age=36000"):
        assert attribute in attributes
    person = replace(web, cookie=cookie_of(answer))
    assert "Service engineer" in person.get("/").text


def test_signing_out_deletes_the_cookie(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    assert engineer.post("/sign-out", {"form_token": "x"}).status == 403
    answer = engineer.post("/sign-out")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?signed-out")
    assert 'rap-session=""' in answer.headers["set-cookie"]
    assert "You are signed out" in web.get(answer.headers["location"]).text
    assert "You are signed out" not in web.get("/sign-in").text


@pytest.mark.parametrize("staff", ["former", "nobody", "", "ENGINEER"])
def test_a_person_who_is_unknown_or_not_active_cannot_sign_in(web: WebClient, staff: str) -> None:
    answer = web.post("/sign-in", web.sign_in_form(staff))
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def test_a_forged_sign_in_is_refused(web: WebClient) -> None:
    form = web.sign_in_form("engineer")
    assert web.post("/sign-in", {**form, "form_token": "x"}).status == 403
    assert web.post("/sign-in", form, sec_fetch_site="cross-site").status == 403


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "", "/\r\nx: y"]
)
def test_the_sign_in_leads_to_no_other_server(web: WebClient, target: str) -> None:
    answer = web.post("/sign-in", web.sign_in_form("engineer", target))
    assert (answer.status, answer.headers["location"]) == (303, "/")


def test_without_development_nobody_signs_in_by_form(filled: Store) -> None:
    web = open_web(filled, lambda: NOW_MS, development=False)
    assert "Service engineer" not in web.get("/sign-in").text
    form = {"form_token": "x", "staff": "engineer", "next": "/"}
    answer = web.post("/sign-in", form)
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def test_a_forged_or_damaged_cookie_is_no_session(web: WebClient) -> None:
    cookie = web.sessions.begin("engineer", NOW_MS)
    stored = hashlib.sha256(cookie.encode()).hexdigest()
    for forged in (
        "0" * 64,
        stored,
        cookie[:-1],
        cookie + "0",
        "",
        "0",
        "\xe9" * 64,
        cookie.upper(),
        "%" * 64,
    ):
        assert web.sessions.find(forged, NOW_MS) is None
        assert web.get("/", cookie=f"{COOKIE}={forged}").status == 401
    session = web.sessions.find(cookie, NOW_MS)
    assert session is not None and session.staff == "engineer"


def test_an_idle_session_ends(changing: WebClient) -> None:
    cookie = changing.sessions.begin("engineer", NOW_MS)
    for at_ms, is_valid in ((-1, False), (0, True), (IDLE_MS - 1, True), (IDLE_MS, False)):
        assert (changing.sessions.find(cookie, NOW_MS + at_ms) is not None) is is_valid


def test_an_active_session_ends_after_a_working_day(changing: WebClient) -> None:
    cookie, at_ms = changing.sessions.begin("engineer", NOW_MS), NOW_MS
    while session := changing.sessions.find(cookie, at_ms):
        assert at_ms < NOW_MS + SESSION_MS
        changing.sessions.extend(session, at_ms)
        at_ms += IDLE_MS // 2
    assert at_ms == NOW_MS + SESSION_MS


def test_a_request_of_the_person_extends_the_session_and_one_of_the_page_does_not(
    changing: WebClient,
) -> None:
    def until(**headers: str) -> int:
        begun = changing.with_session("engineer", NOW_MS - IDLE_MS + 60_000)
        assert begun.get("/", **headers).status == 200
        assert changing.store is not None
        return int(max(row[0] for row in changing.store.read(select(web_sessions.c.ends_at_ms))))

    assert until(hx_source="div#results") == NOW_MS + 60_000
    assert until() == NOW_MS + IDLE_MS


def test_a_page_whose_session_has_ended_does_not_show_the_sign_in_within_itself(web: WebClient) -> None:
    ended = replace(web, cookie="0" * 64).get("/", hx_request_type="partial")
    assert (ended.status, ended.headers["hx-refresh"], ended.body) == (401, "true", b"")
    refused = web.sign_in("engineer").get("/?page=0", hx_request_type="partial")
    assert refused.status == 400 and "<h1>" in refused.text
    assert "<html" not in refused.text and 'class="bar"' not in refused.text


def test_a_session_is_valid_in_every_process_until_the_person_signs_out(changing: WebClient) -> None:
    assert changing.store is not None
    other = open_web(changing.store, lambda: NOW_MS)
    here = changing.sign_in("engineer")
    there = replace(other, cookie=here.cookie, staff="engineer")
    assert there.get("/").status == 200
    assert there.post(ACKNOWLEDGE).status == 303
    second = changing.sign_in("engineer")
    assert there.post("/sign-out").status == 303
    assert (here.get("/").status, second.get("/").status) == (401, 200)


def sign_in(web: WebClient) -> WebClient:
    """Sign in with the form of the page; return the browser with the new session."""
    answer = web.post("/sign-in", web.sign_in_form("engineer"))
    return replace(web, cookie=cookie_of(answer), staff="engineer")


def test_further_sessions_of_a_person_are_recorded_and_limited(changing: WebClient) -> None:
    browsers = [sign_in(changing) for _ in range(SESSIONS_OF_PERSON_MAX)]
    assert all(one.get("/").status == 200 for one in browsers)
    reasons = [one.reason for one in changing.entries if one.action == "sign-in"]
    assert "1 other session of the person open" in reasons
    assert f"{SESSIONS_OF_PERSON_MAX - 1} other sessions of the person open" in reasons
    newest = sign_in(changing)
    assert sorted(one.get("/").status for one in (*browsers, newest)) == [200] * SESSIONS_OF_PERSON_MAX + [
        401
    ]
    assert newest.get("/").status == 200
    assert [one.reason for one in changing.entries if one.action == "sign-out"] == [
        f"the oldest session ends, because a person has at most {SESSIONS_OF_PERSON_MAX}"
    ]


def test_a_sign_in_lasts_after_the_clock_was_set_back(changing: WebClient) -> None:
    for _ in range(SESSIONS_OF_PERSON_MAX):
        changing.with_session("engineer", NOW_MS + 60_000)
    assert sign_in(changing).get("/").status == 200


def test_pages_show_the_last_other_sign_in_of_the_person(changing: WebClient) -> None:
    first = changing.with_session("engineer", NOW_MS - 120_000)
    assert "Your latest other sign-in: none recorded." in first.get("/").text
    second = changing.with_session("engineer", NOW_MS - 60_000)
    changing.with_session("observer", NOW_MS)
    assert f"Your latest other sign-in: {shown(NOW_MS - 120_000)}." in second.get("/").text
    assert f"Your latest other sign-in: {shown(NOW_MS - 60_000)}." in first.get("/").text


def shown(ms: int) -> str:
    return format_time(ms, "Europe/Berlin")


def test_a_session_that_ended_by_its_time_is_recorded_with_that_time(changing: WebClient) -> None:
    changing.with_session("observer", NOW_MS - IDLE_MS - 60_000)
    sign_in(changing)
    ended = [(one.actor, one.at_ms) for one in changing.entries if one.action == "sign-out"]
    assert ended == [("observer", NOW_MS - 60_000)]
    sign_in(changing)
    assert sum(one.action == "sign-out" for one in changing.entries) == 1


def test_the_store_has_the_hash_of_a_session_until_its_end(changing: WebClient) -> None:
    assert changing.store is not None
    cookie = changing.sign_in("engineer").cookie
    (row,) = changing.store.read(select(web_sessions))
    assert cookie not in str(row) and changing.sign_in("engineer").form_token() not in str(row)
    changing.sessions.begin("observer", NOW_MS + SESSION_MS)
    assert [one.staff for one in changing.store.read(select(web_sessions))] == ["observer"]


def test_a_link_of_another_site_reaches_the_page_with_the_session(web: WebClient) -> None:
    first = web.get("/alerts/a-lamp", sec_fetch_site="cross-site")
    assert first.status == 200
    assert 'content="0;url=/alerts/a-lamp"' in first.text
    assert "lamp wears" not in first.text
    assert web.get("/alerts/a-lamp", sec_fetch_site="same-origin").status == 401
