"""Triggers on pages: scores and alerts, triggers that are not live, and only triggers of visible models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import insert

from datacenter.evaluation.knowledge import read_knowledge
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts
from settings.toml import dumps
from tests.support.datacenter.evaluation.scored_triggers import write_triggers
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, alert_row
from tests.support.datacenter.web.triggers import HEATER, HISTORY, LAMP


def names(text: str) -> list[str]:
    return re.findall(r'href="/triggers/([^"?]+)"', text)


def test_the_list_has_scores_and_open_alerts(changing: WebClient) -> None:
    assert changing.store is not None
    row = alert_row("a1", "RAP-0001", "CHEM-0001", "chemistry-analyzer", "chemistry-lamp", "warning", "lamp")
    with changing.store.transaction() as connection:
        connection.execute(insert(alerts).values(row))
    text = changing.sign_in("engineer").get("/triggers").text
    assert names(text) == ["silent-box", "gas-slot-heater", "chemistry-lamp"]
    lamp = re.findall(r"<tr>(?:(?!</tr>).)*chemistry-lamp.*?</tr>", text, re.DOTALL)[0]
    assert "90 %" in lamp and "59 %" in lamp and "0.14" in lamp and "15 d" in lamp
    assert 'href="/alerts?q=chemistry-lamp">1<' in lamp
    assert "predicts nothing" in text and "no score" in text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("model=chemistry-analyzer", ["chemistry-lamp"]),
        ("severity=error&q=heater", ["gas-slot-heater"]),
        ("q=state+RUNNING", ["chemistry-lamp"]),
        ("q=no+match", []),
    ],
)
def test_filters_are_in_the_address(web: WebClient, query: str, expected: list[str]) -> None:
    assert names(web.sign_in("engineer").get(f"/triggers?{query}").text) == expected


def test_a_trigger_has_its_text_parts_score_and_alerts(changing: WebClient) -> None:
    assert changing.store is not None
    for identity, box, instrument in (("a1", "RAP-0001", "CHEM-0001"), ("a2", "RAP-0003", "GAS-0001")):
        row = alert_row(identity, box, instrument, "chemistry-analyzer", "chemistry-lamp", "warning", "lamp")
        with changing.store.transaction() as connection:
            connection.execute(insert(alerts).values(row))
    text = changing.sign_in("engineer").get("/triggers/chemistry-lamp").text
    assert "mean(lamp-intensity-pct, 12h) &lt; 80 and state is running" in text
    assert "<li>Halogen lamp</li>" in text and HISTORY in text and "14.0 instrument-years" in text
    assert 'href="/alerts/a1"' in text and 'href="/alerts/a2"' in text
    assert 'href="/alerts/a2"' not in changing.sign_in("european").get("/triggers/chemistry-lamp").text


def test_only_triggers_of_visible_models_exist(web: WebClient) -> None:
    european, newcomer = web.sign_in("european"), web.sign_in("newcomer")
    assert "gas-slot-heater" not in european.get("/triggers").text
    hidden, unknown = european.get("/triggers/gas-slot-heater"), european.get("/triggers/nothing")
    assert (hidden.status, hidden.body) == (unknown.status, unknown.body)
    assert hidden.status == 404 and newcomer.get("/triggers/chemistry-lamp").status == 404
    assert names(newcomer.get("/triggers").text) == []


def test_a_trigger_without_a_score_is_shown_as_not_live(filled: Store, tmp_path: Path) -> None:
    write_triggers(tmp_path, lamp=dumps(LAMP), heater=dumps(HEATER))
    known = read_knowledge(tmp_path)
    (tmp_path / "unscored.toml").write_text(dumps(LAMP))
    (tmp_path / "broken.toml").write_text("model = ")
    (tmp_path / "lamp.toml").write_text(dumps(LAMP).replace("80", "81"))
    (tmp_path / "heater.toml").write_text(dumps(HEATER).replace("weak", "very weak"))
    engineer = open_web(filled, lambda: NOW_MS, known=known).sign_in("engineer")
    text = engineer.get("/triggers").text
    assert "4 triggers are not live" in text
    assert text.count("no score of this text") == 0 and text.count("because this text has no score") == 2
    assert text.count("not live until the data center is started again") == 1
    page = engineer.get("/triggers/lamp").text
    assert "evaluated with every report" in page and "&lt; 80" in page
    assert "A newer text in the file lamp.toml is not live" in page
    assert "A trigger becomes live only with a score" in engineer.get("/triggers/unscored").text
    assert "broken.toml is not live, because the file is not valid" in engineer.get("/triggers/broken").text


def test_an_instrument_shows_the_thresholds_of_its_triggers(web: WebClient) -> None:
    text = web.sign_in("engineer").get("/instruments/RAP-0001/CHEM-0001").text
    figures = [one for one in text.split("<figure") if "chemistry-lamp" in one]
    assert len(figures) == 1 and 'data-channel="lamp-intensity-pct"' in figures[0]
    assert "[[80.0, &#34;chemistry-lamp&#34;, &#34;--warning&#34;, false]]" in figures[0]
    assert 'trigger chemistry-lamp: mean(lamp-intensity-pct, 12h) &lt; 80 %."' in figures[0]
