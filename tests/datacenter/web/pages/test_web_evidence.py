"""The page of an alert shows its condition and evidence; its charts have the readings and the threshold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from datacenter.explanation.replay import Recomputation, recompute
from datacenter.store.store import Store
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet, raise_alert

ALERT = "/alerts/aee3c094058b8971"


@pytest.fixture(scope="module")
def warm() -> Iterator[Store]:
    """A store with an alert that evaluation has raised; tests share it and must not change it."""
    store = Store("sqlite://")
    fill_fleet(store)
    raise_alert(store)
    yield store
    store.close()


@pytest.fixture
def engineer(warm: Store) -> WebClient:
    return open_web(warm, lambda: NOW_MS).sign_in("engineer")


def test_the_page_has_the_condition_and_the_moments_as_a_table(engineer: WebClient) -> None:
    text = engineer.get(ALERT).text
    assert "mean(ambient-temp-mc, 1h) &gt; mean(ambient-temp-mc, 6h) + 100" in text
    assert "Recomputed from" in text and "the alert begins with the same report" in text
    rows = text.partition("Table: Moments before the alert")[2].partition("</table>")[0].split("<tr>")[2:]
    assert len(rows) >= 10
    assert [row.rpartition("<td>")[2].partition("<")[0] for row in rows][-1] == "the alert begins"


def test_only_all_reports_can_show_that_an_alert_is_not_confirmed(
    engineer: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recompute_span_wrongly(*arguments: Any, is_whole: bool = True, **others: Any) -> Recomputation:
        recomputation = recompute(*arguments, is_whole=is_whole, **others)
        recomputation.differences += [] if is_whole else ["of an average"]
        return recomputation

    monkeypatch.setattr("datacenter.web.evidence.recompute", recompute_span_wrongly)
    text = engineer.get(ALERT).text
    assert "the alert begins with the same report" in text and "of an average" not in text


def test_the_data_of_the_charts_crosses_the_threshold_with_the_alert(engineer: WebClient) -> None:
    answer = engineer.get(f"{ALERT}/evidence.json")
    data = json.loads(answer.body)
    last = len(data["times"]) - 1
    value, threshold = data["channels"]["value-0"], data["channels"]["threshold-0"]
    assert (value[last] > threshold[last] and value[0] is None) or value[0] <= threshold[0]
    kinds = {kind: (since, until) for since, until, kind in data["spans"]}
    assert kinds["evidence"][1] == kinds["held"][1] == data["times"][last]
    assert kinds["held"][1] - kinds["held"][0] >= 600_000
    assert engineer.get(f"{ALERT}/evidence.json", if_none_match=answer.headers["etag"]).status == 304


def test_the_readings_are_only_for_those_who_may_see_the_instrument(warm: Store) -> None:
    stranger = open_web(warm, lambda: NOW_MS).sign_in("newcomer")
    assert stranger.get(f"{ALERT}/evidence.json").status == 404
    assert stranger.get("/alerts/a-lamp/evidence.json").status == 404


def test_an_alert_that_cannot_be_recomputed_says_so(engineer: WebClient) -> None:
    assert (
        "The alert cannot be recomputed: the evidence of alert a-lamp" in engineer.get("/alerts/a-lamp").text
    )
    assert json.loads(engineer.get("/alerts/a-lamp/evidence.json").body)["times"] == []
