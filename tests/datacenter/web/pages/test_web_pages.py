"""Content of pages: complete structure for screen readers, gaps, times in two time zones, and ETags of chart data."""

from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser

import pytest
from sqlalchemy import insert, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, deliveries, instruments
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import (
    NOW_MS,
    OFF_MS,
    alert_row,
    fill_fleet,
    ingest,
    simulated_reports,
)
from tests.support.datacenter.web.triggers import known_triggers

INSTRUMENT = "/instruments/RAP-0001/CHEM-0001"
PAGES = [
    "/",
    "/?view=sites",
    "/sites/berlin-1",
    "/boxes/RAP-0001",
    INSTRUMENT,
    "/alerts?state=all",
    "/alerts/a-lamp",
    "/triggers",
    "/triggers/chemistry-lamp",
    "/base",
    "/base?model=chemistry-analyzer",
    "/base?model=chemistry-analyzer&reading=vacuum-pa",
    "/sign-in",
    "/nope",
]


class Structure(HTMLParser):
    """The elements of a page, in document order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("target", PAGES)
def test_a_page_has_a_complete_structure(web: WebClient, target: str) -> None:
    page = Structure(web.sign_in("engineer").get(target).text)
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert page.all("title")
    assert page.all("html")[0]["lang"] == "en"
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    labelled = {attributes.get("for") for attributes in page.all("label")}
    for field in page.all("input"):
        assert field.get("type") == "hidden" or field.get("id") in labelled or field.get("name") == "q"
    assert all(header.get("scope") for header in page.all("th"))
    assert all(link.get("href") for link in page.all("a"))


@pytest.mark.parametrize("target", PAGES)
def test_a_page_has_no_inline_code(web: WebClient, target: str) -> None:
    page = Structure(web.sign_in("engineer").get(target).text)
    assert not page.all("style")
    assert all("src" in script for script in page.all("script"))
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    sources = [script["src"] for script in page.all("script")] + [link["href"] for link in page.all("link")]
    assert all(source and source.startswith("/static/") for source in sources)


def test_the_fragment_of_a_page_is_its_results_alone(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    fragment = engineer.get("/?q=CHEM", hx_request="true", hx_request_type="partial").text
    assert "CHEM-0001" in fragment
    assert "<html" not in fragment
    assert fragment.strip() in re.sub(r"[^\S\n]+\n", "\n", engineer.get("/?q=CHEM").text)


@pytest.mark.parametrize(
    ("query", "serials"),
    [
        ("", {"CHEM-0001", "CHEM-0002", "GAS-0001", "HEMA-0001", "IMMU-0001"}),
        ("q=chem", {"CHEM-0001", "CHEM-0002"}),
        ("q=rap-0003", {"GAS-0001"}),
        ("q=klinikum+chem", {"CHEM-0001"}),
        ("region=europe", {"CHEM-0001", "CHEM-0002", "HEMA-0001"}),
        ("site=osaka-1", {"IMMU-0001"}),
        ("model=blood-gas-analyzer", {"GAS-0001"}),
        ("health=critical", {"GAS-0001"}),
        ("health=error", {"CHEM-0001"}),
        ("health=silent", {"CHEM-0002"}),
        ("health=ok", {"HEMA-0001", "IMMU-0001"}),
        ("health=warning", set()),
        ("health=ok&region=asia", {"IMMU-0001"}),
    ],
)
def test_filters_select_instruments(url: str, query: str, serials: set[str]) -> None:
    store = Store(url)
    fill_fleet(store, with_reports=False)
    answer = open_web(store, lambda: NOW_MS).sign_in("engineer").get(f"/?{query}")
    assert set(re.findall(r'"/instruments/RAP-\d+/([A-Z0-9-]+)"', answer.text)) == serials
    store.close()


def test_every_page_works_on_every_database(url: str) -> None:
    store = Store(url)
    fill_fleet(store, with_reports=False)
    ingest(store, "RAP-0001", "CHEM-0001", simulated_reports()[:200])
    engineer = open_web(store, lambda: NOW_MS, known=known_triggers()).sign_in("engineer")
    for target in (*PAGES[:-1], "/instruments.csv", "/?q=klin&view=sites", "/alerts?q=lamp&region=europe"):
        assert engineer.get(target).status == 200, target
    assert engineer.post("/alerts/a-lamp/acknowledge").status == 303
    store.close()


def test_the_worst_health_comes_first(web: WebClient) -> None:
    text = web.sign_in("engineer").get("/").text
    assert re.findall(r'<td><span class="pill (\w+)"', text) == ["critical", "error", "silent", "ok", "ok"]


def test_times_are_in_the_zones_of_the_viewer_and_of_the_site(web: WebClient) -> None:
    assert "local time" in web.sign_in("engineer").get(INSTRUMENT).text
    observer = web.sign_in("observer").get("/alerts/a-lamp").text
    assert " EST</time>" in observer and " CET</time>" in observer


def test_the_numbers_that_are_not_stored_are_shown(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    assert "1500–1700" in engineer.get("/boxes/RAP-0001").text
    page = engineer.get(INSTRUMENT).text
    assert "201 not stored" in page
    assert "2 spans without reports" in page


def test_an_instrument_with_a_wrong_clock_is_marked(changing: WebClient) -> None:
    engineer, page = changing.sign_in("engineer"), "/instruments/RAP-0001/CHEM-0001"
    assert "wrong clock" not in engineer.get(page).text
    assert changing.store is not None
    with changing.store.transaction() as connection:
        connection.execute(update(instruments).values(at_ms=2_082_758_400_000))
    text = engineer.get(page).text
    assert "wrong clock" in text
    assert "2036" in text


def test_no_line_crosses_a_gap(web: WebClient) -> None:
    data = json.loads(web.sign_in("engineer").get(f"{INSTRUMENT}/readings.json?period=7d").body)
    kinds = [kind for _, _, kind in data["spans"]]
    assert sorted(kinds) == ["missing", "silent"]
    silent = next(span for span in data["spans"] if span[2] == "silent")
    assert silent[0] < OFF_MS[0] + 60_000 and silent[1] >= OFF_MS[1]
    temperatures = data["channels"]["reaction-temp-mc"]
    assert data["times"] == sorted(data["times"])
    for since_ms, until_ms, _ in data["spans"]:
        inside = [n for n, at_ms in enumerate(data["times"]) if since_ms <= at_ms <= until_ms]
        assert None in [temperatures[n] for n in inside]
        # the interval at each edge of the gap has two points, its lowest and its highest reading
        assert sum(temperatures[n] is not None for n in inside) <= 4


def test_the_validator_of_chart_data_changes_when_a_report_is_stored() -> None:
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    reports = simulated_reports()
    ingest(store, "RAP-0001", "CHEM-0001", reports[:100])
    engineer = open_web(store, lambda: NOW_MS, known=known_triggers()).sign_in("engineer")
    target = f"{INSTRUMENT}/readings.json?period=7d"
    first = engineer.get(target)
    etag = first.headers["etag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = engineer.get(target, if_none_match=given)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert engineer.get(target, if_none_match='"other"').status == 200
    assert engineer.get(f"{target[:-2]}6h", if_none_match=etag).status == 200
    ingest(store, "RAP-0001", "CHEM-0001", reports[100:101], first=101)
    assert engineer.get(target, if_none_match=etag).status == 200
    store.close()


def test_chart_data_is_compressed_and_pages_are_not(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    plain = engineer.get(f"{INSTRUMENT}/readings.json")
    packed = engineer.get(f"{INSTRUMENT}/readings.json", accept_encoding="gzip")
    assert gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in engineer.get("/", accept_encoding="gzip").headers


def test_exported_statuses_are_those_that_were_reported(web: WebClient) -> None:
    lines = web.sign_in("engineer").get(f"{INSTRUMENT}/readings.csv?period=7d").text.split("\r\n")
    assert lines[0].startswith("run,number,at_ms,state,samples,")
    numbers = [int(line.split(",")[1]) for line in lines[1:-1]]
    assert numbers == sorted(numbers)
    assert not any(1500 <= number <= 1700 for number in numbers)


def test_an_empty_data_center_says_what_to_do() -> None:
    store = Store("sqlite://")
    engineer = open_web(store, lambda: NOW_MS, known=known_triggers()).sign_in("engineer")
    assert "No instrument has reported yet" in engineer.get("/").text
    assert "No alert is open" in engineer.get("/alerts").text
    store.close()


def test_the_page_of_an_alert_shows_the_state_of_its_notices(changing: WebClient) -> None:
    assert changing.store is not None
    engineer = changing.sign_in("engineer")
    assert "Notices" not in engineer.get("/alerts/a-lamp").text
    row = {
        "alert": "a-lamp",
        "kind": "raised",
        "attempts": 1,
        "alone": 0,
        "created_at_ms": 1,
        "changed_at_ms": 2,
    }
    with changing.store.transaction() as connection:
        rows = [{**row, "target": "mail", "state": "uncertain"}, {**row, "target": "pager", "state": "sent"}]
        connection.execute(insert(deliveries), rows)
    text = engineer.get("/alerts/a-lamp").text
    assert re.findall(r"<span>(\w+)</span> <strong>(\w+)</strong>", text) == [
        ("mail", "uncertain"),
        ("pager", "sent"),
    ]
    assert text.count("ask the receivers whether it arrived") == 1


def test_an_alert_of_silence_shows_no_component(changing: WebClient) -> None:
    assert changing.store is not None
    row = alert_row("a-silent", "RAP-0001", "", "", "silent-box", "error", "")
    with changing.store.transaction() as connection:
        connection.execute(insert(alerts).values(row | {"text": "The box sends nothing", "parts": ""}))
    engineer = changing.sign_in("engineer")
    (line,) = re.findall(r"<tr>(?:(?!</tr>).)*a-silent.*?</tr>", engineer.get("/alerts").text, re.DOTALL)
    assert "The box sends nothing" in line and "unknown" not in line
    text = engineer.get("/alerts/a-silent").text
    assert "The box sends nothing" in text and "Component</dt>" not in text and "Parts to bring" not in text
    assert "inspect the component" not in text and "whether power and network are working" in text
