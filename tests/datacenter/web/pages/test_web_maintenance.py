"""Maintenance windows on their page, and the silencing of an alert on the alert's page."""

from __future__ import annotations

import re

from tests.support.datacenter.web.client import Answer, WebClient

TARGET = "/maintenance?box=RAP-0001&instrument=CHEM-0001"
FORM = "/instruments/RAP-0001/CHEM-0001/maintenance"


def send(client: WebClient, target: str, **fields: str) -> Answer:
    return client.post(target, {"form_token": client.form_token(), **fields})


def test_a_window_is_planned_shown_and_ended(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert f'action="{FORM}" method="post"' in engineer.get(TARGET).text
    answer = send(engineer, FORM, hours="4", reason="new <pump>", begins="2025-11-08T12:00")
    assert (answer.status, answer.headers["location"]) == (303, TARGET)
    text = engineer.get("/maintenance").text
    assert "new &lt;pump&gt;" in text and "08 Nov 2025, 12:00 CET" in text
    assert "without critical alerts" in text
    (window,) = re.findall(r'name="window" value="(\w+)"', text)
    assert send(engineer, FORM, window=window).status == 303
    assert 'name="window"' not in engineer.get("/maintenance").text


def test_staff_who_may_not_silence_alerts_get_no_form_and_are_refused(changing: WebClient) -> None:
    observer = changing.sign_in("observer")
    assert "You may not silence these alerts" in observer.get(TARGET).text
    assert send(observer, FORM, reason="x").status == 403
    assert "CHEM-0001" not in changing.sign_in("newcomer").get(TARGET).text.partition("<h1>")[2]
    engineer = changing.sign_in("engineer")
    assert send(engineer, "/sites/berlin-1/maintenance", reason="x").status == 403
    assert send(changing.sign_in("supervisor"), "/sites/berlin-1/maintenance", reason="x").status == 303
    assert send(changing.sign_in("supervisor"), "/boxes/RAP-0001/maintenance", reason="x").status == 303


def test_wrong_times_and_hours_are_named(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert "give a time such as" in send(engineer, FORM, reason="x", begins="tomorrow").text
    assert send(engineer, FORM, reason="x", hours="0").status == 400


def test_an_alert_is_silenced_with_a_reason(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert send(engineer, "/alerts/a-lamp/silence", hours="2", reason="part <ordered>").status == 303
    text = engineer.get("/alerts/a-lamp").text
    assert "Silenced until" in text and "by Service engineer: part &lt;ordered&gt;." in text
    assert "silenced until" in engineer.get("/alerts").text
    assert send(engineer, "/alerts/a-lamp/silence", hours="2").status == 400
    assert send(changing.sign_in("observer"), "/alerts/a-lamp/silence", hours="2", reason="x").status == 403
