"""The installed base on pages: only permitted instruments, without days of few instruments, also as tables."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import update

from datacenter.store.tables.schema import boxes
from tests.support.datacenter.web.client import WebClient
from tests.support.datacenter.web.fleet import BASE_SHORT

READING = "/base?model=chemistry-analyzer&reading=vacuum-pa"


def medians(text: str) -> list[int]:
    """Return the medians of the days in kPa, the latest day first."""
    cells = re.findall(r"<tr><th scope=\"row\"><time.*?</tr>", text)
    return [int(re.findall(r'">([\d\u202f]+) Pa<', row)[2].replace("\u202f", "")) // 1000 for row in cells]


def test_the_models_and_readings_lead_to_the_distribution_by_day(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    models = engineer.get("/base").text
    assert 'href="/base?model=chemistry-analyzer"' in models and "blood gas analyzer" in models
    readings = engineer.get("/base?model=chemistry-analyzer").text
    assert 'href="/base?model=chemistry-analyzer&amp;reading=vacuum-pa"' in readings
    text = engineer.get(READING).text
    assert len(medians(text)) == 90 and set(medians(text)) <= {79, 80}
    assert text.count('<polygon class="outer"') == 1
    assert len(medians(engineer.get(f"{READING}&days=30").text)) == 30


def test_people_see_only_their_instruments_and_no_days_of_few_instruments(changing: WebClient) -> None:
    assert changing.store is not None
    with changing.store.transaction() as connection:
        connection.execute(update(boxes).where(boxes.c.serial == "RAP-0002").values(site="boston-1"))
    text = changing.sign_in("european").get(READING).text
    assert len(medians(text)) == 90 - len(BASE_SHORT)
    assert set(medians(text)) <= {80, 81} and 81 not in medians(
        changing.sign_in("engineer").get(READING).text
    )
    assert text.count('<polygon class="outer"') == 2


@pytest.mark.parametrize(
    ("staff", "target", "status"),
    [
        ("newcomer", "/base", 200),
        ("newcomer", "/base?model=chemistry-analyzer", 404),
        ("european", "/base?model=blood-gas-analyzer", 404),
        ("engineer", "/base?model=blood-gas-analyzer", 200),
        ("engineer", "/base?model=nothing", 404),
        ("engineer", "/base?model=chemistry-analyzer&reading=nothing", 404),
        ("engineer", "/base?model=chemistry-analyzer&reading=waste-pct", 200),
        ("engineer", "/base?model=chemistry-analyzer&days=7", 400),
    ],
)
def test_data_that_may_not_be_seen_is_not_found(web: WebClient, staff: str, target: str, status: int) -> None:
    answer = web.sign_in(staff).get(target)
    assert answer.status == status
    assert "Pa<" not in answer.text or staff == "engineer"


def test_a_reading_without_enough_instruments_says_so(web: WebClient) -> None:
    text = web.sign_in("engineer").get("/base?model=chemistry-analyzer&reading=waste-pct").text
    assert "at least 5 instruments" in text and "<svg" not in text


def test_an_instrument_is_shown_with_its_installed_base(web: WebClient) -> None:
    text = web.sign_in("engineer").get("/instruments/RAP-0001/CHEM-0001").text
    low, median, high = map(
        float, re.findall(r'data-channel="vacuum-pa"[^>]* data-base="([^"]*)"', text)[0].split()
    )
    assert 78_000 < low < 79_000 and 79_900 < median < 80_100 and 81_000 < high < 82_000
    assert text.count("data-base=") == 3 and '<th scope="col" class="right">Installed base</th>' in text
    assert "data-base" not in web.sign_in("engineer").get("/instruments/RAP-0003/GAS-0001").text
