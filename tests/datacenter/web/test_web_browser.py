"""The pages in headless Chromium: accessibility (axe-core), charts, keyboard, narrow windows, without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datacenter.store.store import Store
from tests.support.datacenter.papers import fill_papers
from tests.support.datacenter.rollouts import served_releases
from tests.support.datacenter.store.box_audit import fill_box_audit
from tests.support.datacenter.web.browser import PROGRAM, BrowserPage, axe_violations, open_browser
from tests.support.datacenter.web.client import open_web
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet, raise_alert
from tests.support.datacenter.web.server import served
from tests.support.datacenter.web.triggers import known_triggers

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter")

INSTRUMENT = "/instruments/RAP-0001/CHEM-0001"
EVIDENCE = "/alerts/aee3c094058b8971"
PAGES = [
    "/",
    "/?view=sites",
    "/?view=map",
    "/?q=nothing",
    "/sites/berlin-1",
    "/sites/berlin-1/papers",
    "/sites/porto-1/papers",
    "/sites/boston-1/papers",
    "/sites/osaka-1/papers",
    "/boxes/RAP-0001",
    INSTRUMENT,
    "/alerts?state=all",
    "/alerts/a-lamp",
    "/triggers",
    "/triggers/chemistry-lamp",
    EVIDENCE,
    "/base",
    "/base?model=chemistry-analyzer",
    "/base?model=chemistry-analyzer&reading=vacuum-pa",
    "/commands",
    "/commands?instrument=CHEM-0001&box=RAP-0001",
    "/files",
    "/maintenance?box=RAP-0001&instrument=CHEM-0001",
    "/sessions?box=RAP-0001&instrument=CHEM-0001",
    f"/sessions/{1:032x}",
    "/rollouts",
    "/rollouts/7001",
    "/enrolments",
    "/sign-in",
    "/nope",
]
AUDIT_PAGES = [
    "/audit",
    "/audit/boxes",
    "/audit/boxes?text=nothing",
    "/audit/chains",
    "/audit/chains?box=RAP-0001",
]
SIGN_IN = "document.querySelector('button[value=engineer]').click()"
DRAWN = "document.querySelector('.charts').dataset.drawnMs"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the pages, which a thread serves."""
    folder = tmp_path_factory.mktemp("web")
    store = Store(f"sqlite:///{folder / 'store.db'}", durable=False)
    fill_fleet(store)
    raise_alert(store)
    fill_box_audit(store, NOW_MS)
    fill_papers(store, NOW_MS)
    releases = served_releases(folder, 11, 12)
    web = open_web(store, lambda: NOW_MS, known=known_triggers(), releases=releases)
    with served(web.application) as url:
        yield url
    store.close()


@pytest.fixture(scope="module")
def browser(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    """A browser in which the service engineer has signed in."""
    with open_browser(tmp_path_factory.mktemp("chromium")) as page:
        page.open(f"{address}/sign-in")
        page.evaluate(SIGN_IN)
        page.wait_for("document.querySelector('h1')?.textContent === 'Fleet'")
        yield page


@pytest.fixture(scope="module")
def auditing(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    """A browser in which the auditor has signed in."""
    with open_browser(tmp_path_factory.mktemp("chromium-auditor")) as page:
        page.open(f"{address}/sign-in")
        page.evaluate(SIGN_IN.replace("engineer", "auditor"))
        page.wait_for("document.querySelector('h1')?.textContent === 'Fleet'")
        yield page


@pytest.mark.parametrize("target", AUDIT_PAGES)
def test_the_pages_of_auditors_have_no_violation_and_fit(
    auditing: BrowserPage, address: str, target: str
) -> None:
    for dark in (False, True):
        auditing.resize(1280, 800, dark=dark)
        auditing.open(address + target)
        assert axe_violations(auditing) == []
    auditing.resize(400, 800)
    auditing.open(address + target)
    assert auditing.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("target", PAGES)
def test_axe_finds_no_violation(browser: BrowserPage, address: str, target: str, dark: bool) -> None:
    browser.resize(1280, 800, dark=dark)
    browser.open(address + target)
    assert axe_violations(browser) == []


@pytest.mark.parametrize("width", [400, 760, 1100, 1280])
def test_the_menu_of_the_person_is_within_the_window(browser: BrowserPage, address: str, width: int) -> None:
    browser.resize(width, 800)
    browser.open(f"{address}/")
    browser.evaluate("document.querySelector('.user').open = true")
    left, right = browser.evaluate(
        "(({left, right}) => [left, right])(document.querySelector('.menu').getBoundingClientRect())"
    )
    assert 0 <= left < right <= width


@pytest.mark.parametrize("target", PAGES)
def test_a_narrow_window_needs_no_scrolling_to_the_side(
    browser: BrowserPage, address: str, target: str
) -> None:
    browser.resize(400, 800)
    browser.open(address + target)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400


def test_charts_are_drawn_without_errors(browser: BrowserPage, address: str) -> None:
    browser.resize(1280, 800)
    browser.problems.clear()
    browser.open(address + INSTRUMENT)
    browser.wait_for(DRAWN)
    figures = browser.evaluate("document.querySelectorAll('.chart').length")
    assert figures == 10
    assert browser.evaluate("document.querySelectorAll('.chart canvas').length") == figures
    assert browser.problems == []


def test_a_selected_part_of_a_reduced_period_is_loaded_in_full(browser: BrowserPage, address: str) -> None:
    browser.resize(1280, 800)
    browser.problems.clear()
    browser.open(address + INSTRUMENT)
    browser.wait_for(DRAWN)
    browser.evaluate("window.asked = []; const own = fetch; fetch = (u, o) => (asked.push(u), own(u, o)); 0")
    select_part(browser, 0.6, 0.9)
    since, until = browser.evaluate("[...asked[0].matchAll(/_ms=([0-9]+)/g)].map(one => Number(one[1]))")
    assert 0 < until - since < 3 * 86_400_000
    assert browser.evaluate("document.querySelectorAll('.chart canvas').length") == 10
    assert browser.problems == []


def test_a_selected_part_without_readings_says_so(browser: BrowserPage, address: str) -> None:
    browser.resize(1280, 800)
    browser.problems.clear()
    browser.open(address + INSTRUMENT)
    browser.wait_for(DRAWN)
    select_part(browser, 0.05, 0.2)
    texts = "[...document.querySelectorAll('.charts .plot')].map(plot => plot.textContent)"
    assert browser.evaluate(texts) == ["No readings in this period"] * 10
    browser.evaluate(
        "document.querySelector('.chart').dispatchEvent(new MouseEvent('dblclick', {bubbles: true})); 0"
    )
    browser.wait_for("document.querySelectorAll('.chart canvas').length === 10")
    assert browser.problems == []


def select_part(browser: BrowserPage, first: float, last: float) -> None:
    """Select the part of the charts between two fractions of their width, and wait until it is shown."""
    drag = (
        "new MouseEvent('{0}', {{bubbles: true, clientX: box.left + {1} * box.width, clientY: box.top + 40,"
        " movementX: 1}})"
    )
    steps = [("mousemove", first), ("mousedown", first), ("mousemove", last), ("mouseup", last)]
    events = ", ".join(drag.format(*step) for step in steps)
    browser.evaluate(
        "{ const over = document.querySelector('.u-over'), box = over.getBoundingClientRect();"
        f"for (const event of [{events}]) (event.type === 'mouseup' ? document : over).dispatchEvent(event); }} 0"
    )
    browser.wait_for("document.querySelector('.chart-state').textContent.includes('A part of the period')")


def test_the_evidence_of_an_alert_is_drawn_with_its_threshold(browser: BrowserPage, address: str) -> None:
    browser.resize(1280, 800)
    browser.problems.clear()
    browser.open(address + EVIDENCE)
    browser.wait_for(DRAWN)
    assert browser.evaluate("document.querySelectorAll('.chart canvas').length") == 2
    labels = "[...document.querySelectorAll('.chart .u-label')].map(label => label.textContent)"
    of_readings, of_count = ["Time", "reading", "value", "threshold"], ["Time", "value", "threshold"]
    assert browser.evaluate(labels) == [*of_readings, *of_count]
    assert browser.problems == []


def test_a_search_replaces_the_results_alone_and_is_in_the_address(
    browser: BrowserPage, address: str
) -> None:
    browser.open(f"{address}/")
    browser.evaluate(
        "window.kept = true; q.value = 'HEMA'; q.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    browser.wait_for("document.querySelectorAll('tbody tr').length === 1")
    assert browser.evaluate("window.kept && document.querySelector('tbody a').textContent") == "HEMA-0001"
    browser.wait_for("location.search.includes('q=HEMA')")


def test_the_keyboard_reaches_the_content_first(browser: BrowserPage, address: str) -> None:
    browser.open(f"{address}/")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    browser.press("Enter")
    browser.wait_for("document.activeElement.id === 'main'")


def test_the_keyboard_reaches_each_site_on_the_map(browser: BrowserPage, address: str) -> None:
    browser.resize(1280, 800)
    browser.open(f"{address}/?view=map")
    browser.evaluate("document.querySelector('.map .scroll').focus()")
    names = []
    for _ in range(3):
        browser.press("Tab")
        names.append(browser.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert names == [
        "Harbor Medical Center: 1 critical",
        "Klinikum Nord: 1 error, 1 ok",
        "Hospital d'Água & <Rio>: 1 silent",
    ]
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    browser.wait_for("location.pathname === '/sites/porto-1'")


def test_without_scripts_every_page_has_its_content(address: str, tmp_path: Path) -> None:
    with open_browser(tmp_path) as page:
        page.without_scripts()
        page.open(f"{address}/sign-in")
        page.evaluate(SIGN_IN)
        page.wait_for("document.querySelector('h1')?.textContent === 'Fleet'")
        page.open(f"{address}/?q=chem")
        assert page.evaluate("document.querySelectorAll('tbody tr').length") == 2
        page.open(address + INSTRUMENT)
        assert (
            page.evaluate("document.querySelectorAll('[aria-label=\"Readings in numbers\"] tbody tr').length")
            == 10
        )
        assert page.evaluate("document.querySelectorAll('svg.levey circle').length") > 100


def test_a_file_is_sent_without_scripts(address: str, tmp_path: Path) -> None:
    file = tmp_path / "Hilfe für „CHEM“.pdf"
    file.write_bytes(bytes(1_000_000))
    with open_browser(tmp_path / "profile") as page:
        page.without_scripts()
        page.open(f"{address}/sign-in")
        page.evaluate(SIGN_IN)
        page.wait_for("document.querySelector('h1')?.textContent === 'Fleet'")
        page.open(f"{address}/commands?instrument=CHEM-0001&box=RAP-0001")
        page.evaluate("document.querySelector('select[name=verb]').value = 'help-file'")
        page.choose_file("input[type=file]", file)
        page.evaluate("document.querySelector('form[enctype] button').click()")
        page.wait_for("document.querySelector('tbody')?.textContent.includes('1,000,000 bytes')")
        assert file.name in page.evaluate("document.querySelector('tbody').textContent")


LONG = "LlanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogochLaboratory"


@pytest.mark.parametrize(
    "target", ["/", "/?view=sites", "/?view=map", "/alerts", "/sites/berlin-1", "/boxes/RAP-0001", INSTRUMENT]
)
def test_a_long_name_of_a_site_needs_no_scrolling_to_the_side(
    browser: BrowserPage, address: str, target: str
) -> None:
    browser.resize(400, 800)
    browser.open(address + target)
    browser.evaluate(
        "const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); let text;"
        f" while ((text = texts.nextNode())) text.data = text.data.replaceAll('Klinikum Nord', '{LONG}'); 0"
    )
    assert browser.evaluate(f"document.body.textContent.includes('{LONG}')")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
