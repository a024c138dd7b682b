"""Wrong and hostile input gets clear responses, and no text of a user or an instrument becomes code."""

from __future__ import annotations

import csv
import io
import socket
from contextlib import suppress
from urllib.parse import quote

import pytest
from sqlalchemy import insert, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, sites
from datacenter.web.assets import load_assets
from datacenter.web.responses import SECURITY_HEADERS, csv_cell
from datacenter.web.server import HEAD_BYTES_MAX
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, alert_row, fill_fleet
from tests.support.datacenter.web.server import served
from tests.support.eventually import WAIT_SECONDS_MAX

INSTRUMENT = "/instruments/RAP-0001/CHEM-0001"
HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE instruments; --",
    '" OR ""="',
    "%",
    "_____",
    "\\",
    "{{ 7*7 }}",
    "{% raw %}",
    "${7*7}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_search_finds_only_what_contains_the_text(web: WebClient, text: str) -> None:
    engineer = web.sign_in("engineer")
    for path in ("/", "/alerts"):
        answer = engineer.get(f"{path}?q={quote(text)}")
        assert answer.status == 200
        assert "Remove a filter" in answer.text
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
        assert ">49<" not in answer.text
    assert "CHEM-0001" in engineer.get("/").text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_in_a_path_is_not_found(web: WebClient, text: str) -> None:
    engineer = web.sign_in("engineer")
    for path in ("/sites/{}", "/boxes/{}", "/instruments/RAP-0001/{}", "/alerts/{}"):
        assert engineer.get(path.format(quote(text, safe=""))).status == 404


@pytest.mark.parametrize("text", ["%00", "RAP-0001%00", "%0a", "..%2f..", "%e2%80%8b"])
def test_a_name_with_unusual_characters_is_not_found(web: WebClient, text: str) -> None:
    engineer = web.sign_in("engineer")
    for path in (f"/sites/{text}", f"/boxes/{text}", f"/static/{text}"):
        assert engineer.get(path).status == 404


def test_names_from_the_database_are_shown_as_text() -> None:
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    hostile = "<script>alert(1)</script>{{ 7*7 }}\"'"
    row = alert_row("x&y", "RAP-0001", "CHEM-0001", "chemistry-analyzer", hostile, "error", hostile)
    with store.transaction() as connection:
        connection.execute(update(sites).where(sites.c.site == "berlin-1").values(name=hostile))
        connection.execute(insert(alerts).values(row))
    engineer = open_web(store, lambda: NOW_MS).sign_in("engineer")
    for path in ("/", "/?view=sites", "/sites/berlin-1", "/alerts", "/alerts/x%26y", INSTRUMENT):
        answer = engineer.get(path)
        assert answer.status == 200
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7*7 }}&#34;&#39;" in answer.text
    store.close()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_text_of_a_csv_file_is_a_formula(start: str) -> None:
    assert csv_cell(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"
    assert csv_cell("2 - 1 = 1") == "2 - 1 = 1"
    assert csv_cell(-5) == -5
    assert csv_cell(None) == ""


def test_exported_names_are_no_formulas() -> None:
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    with store.transaction() as connection:
        connection.execute(update(sites).where(sites.c.site == "berlin-1").values(name='=HYPERLINK("x")'))
    answer = open_web(store, lambda: NOW_MS).sign_in("engineer").get("/instruments.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert {row["site_name"] for row in rows if row["site"] == "berlin-1"} == {'\'=HYPERLINK("x")'}
    assert len(rows) == 5
    assert answer.headers["content-disposition"] == 'attachment; filename="instruments.csv"'
    store.close()


@pytest.mark.parametrize(
    ("target", "right"),
    [
        ("/?page=0", "page"),
        ("/?page=x", "page"),
        ("/?page=99999999999", "page"),
        ("/?health=bad", "health"),
        ("/?helth=ok", "did you mean health?"),
        ("/?q=a&q=b", "given twice"),
        ("/?q=%00", "NUL"),
        ("/?q=%ff", "UTF-8"),
        (f"/?q={'x' * 3000}", "2000 characters"),
        ("/?" + "&".join(f"a{n}=1" for n in range(60)), "at most 32"),
        ("/?view=globe", "view"),
        ("/alerts?state=lost", "state"),
        ("/alerts?severity=bad", "severity"),
        ("/sites/berlin-1?x=1", "this request takes no parameters"),
        (f"{INSTRUMENT}?period=1y", "period"),
        (f"{INSTRUMENT}?since_ms=-1", "since_ms"),
        (f"{INSTRUMENT}?since_ms=5&until_ms=5", "must be before until_ms"),
        (f"{INSTRUMENT}?since_ms=0", "at most 366 days"),
        (f"{INSTRUMENT}/readings.json?since_ms=1e400", "since_ms"),
        (f"{INSTRUMENT}/readings.csv?until_ms=99999999999999999999", "until_ms"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_would_be_right(
    web: WebClient, target: str, right: str
) -> None:
    answer = web.sign_in("engineer").get(target)
    assert answer.status == 400, answer.text
    assert right in answer.text


def test_a_page_beyond_the_last_one_says_so(web: WebClient) -> None:
    assert "beyond the last one" in web.sign_in("engineer").get("/?page=7").text
    assert "beyond the last one" in web.sign_in("engineer").get("/alerts?page=7").text


def test_a_period_at_the_end_of_the_calendar_is_shown(web: WebClient) -> None:
    last = 2**53 - 1
    answer = web.sign_in("engineer").get(f"{INSTRUMENT}?since_ms={last - 1000}&until_ms={last}")
    assert answer.status == 200
    assert "No readings in this period" in answer.text


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/nope",
        "/sign-in",
        "/?page=x",
        "/boxes/RAP-9999",
        "/instruments.csv",
        f"{INSTRUMENT}/readings.json",
    ],
)
def test_every_response_has_the_security_headers(web: WebClient, target: str) -> None:
    for client in (web, web.sign_in("engineer")):
        headers = client.get(target).headers
        assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_the_security_policy_permits_no_inline_code() -> None:
    policy = SECURITY_HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "192.0.2.1"]
)
def test_a_foreign_host_name_is_refused(web: WebClient, host: str) -> None:
    answer = web.sign_in("engineer").get("/", host=host)
    assert answer.status == 421
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "[::1]:8080", "127.0.0.2:1"])
def test_the_names_of_loopback_are_accepted(web: WebClient, host: str) -> None:
    assert web.sign_in("engineer").get("/", host=host).status == 200


def test_static_files_are_kept_by_browsers_and_are_small(web: WebClient) -> None:
    assets = load_assets()
    assert {"vendor/htmx.min.js", "vendor/uplot.min.js", "charts.js", "app.css"} <= set(assets)
    everywhere = [one for name, one in assets.items() if not name.startswith("vendor/novnc/")]
    assert sum(len(one.compressed) for one in everywhere) <= 60 * 1024
    assert sum(len(one.compressed) for one in assets.values()) <= 300 * 1024, "with the desktop's viewer"
    for asset in assets.values():
        answer = web.get(asset.path, accept_encoding="gzip")
        assert (answer.status, answer.body) == (200, asset.compressed)
        assert "immutable" in answer.headers["cache-control"]
    assert web.get("/static/0000000000000000/app.css").status == 404


def test_a_header_section_is_limited(web: WebClient) -> None:
    with served(web.application) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), WAIT_SECONDS_MAX) as client:
            client.sendall(
                f"GET /sign-in HTTP/1.1\r\nHost: {host}:{port}\r\nX: {'a' * 4096}\r\n\r\n".encode()
            )
            assert client.recv(12) == b"HTTP/1.1 200"
        refused = socket.create_connection((host, int(port)), WAIT_SECONDS_MAX)
        with (
            refused as client,
            suppress(ConnectionError),
        ):  # the server may close the connection without reading the rest
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * (64 * HEAD_BYTES_MAX))
            assert client.recv(12) in (b"HTTP/1.1 400", b"")
