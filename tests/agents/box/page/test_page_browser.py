"""The local page in headless Chromium, through httpd: with and without scripts, accessibility, narrow windows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.agents.served_page import ServedPage
from tests.support.datacenter.web.browser import PROGRAM, BrowserPage, axe_violations, open_browser
from tests.support.httpd import CAN_RUN, REASON
from wire.session.table import Cause, SessionState

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter"),
    pytest.mark.skipif(not CAN_RUN, reason=REASON),
]
NUMBERS = count(1)
SHOTS = os.environ.get("RAP_SCREENSHOTS", "")
"""A folder for screenshots of the pages. Empty: none are taken."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    with open_browser(tmp_path_factory.mktemp("chromium"), "--ignore-certificate-errors") as page:
        yield page


def offer(served: ServedPage) -> str:
    """Let the data center offer a further session; return its code."""
    return served.offer(next(NUMBERS).to_bytes(16, "big"))


def path(served: ServedPage) -> str:
    return f"/offer/{served.box.session.id.hex()}"


def permit(browser: BrowserPage, code: str) -> None:
    """Enter a code, and click the button."""
    browser.evaluate(f"document.querySelector('#code').value = '{code}'")
    browser.evaluate("document.querySelector('button.permit').click()")


def click(browser: BrowserPage, selector: str) -> None:
    browser.evaluate(f"document.querySelector('{selector}').click()")


def test_the_page_follows_a_session_without_being_reloaded(served: ServedPage, browser: BrowserPage) -> None:
    browser.problems.clear()
    browser.open(served.address())
    browser.evaluate("window.isSamePage = true")
    code = offer(served)
    browser.wait_for("document.querySelector('.offer')")
    assert browser.evaluate("window.isSamePage")
    click(browser, ".offer a.button")
    browser.wait_for("document.querySelector('#code')")
    permit(browser, code)
    browser.wait_for("document.querySelector('.live')")
    served.reach(SessionState.OPEN)
    browser.wait_for("document.querySelector('.live h2').textContent === 'A remote session is running'")
    click(browser, ".end")
    served.reach(SessionState.ENDED)
    browser.wait_for("document.querySelector('table.history')?.textContent.includes('ended here')")
    assert served.box.session.cause is Cause.ENDED_BY_PERSON
    assert browser.problems == []


def test_the_page_of_an_offer_is_left_when_the_offer_ends(served: ServedPage, browser: BrowserPage) -> None:
    offer(served)
    browser.open(served.address() + path(served))
    browser.evaluate("document.querySelector('#code').value = '12'")
    served.end_all()
    browser.wait_for("location.pathname === '/' && !document.querySelector('.offer')")


def test_a_button_that_is_pressed_is_not_replaced(served: ServedPage, browser: BrowserPage) -> None:
    """A click needs the same element at press and release, and would be lost otherwise."""
    code = offer(served)
    browser.open(served.address() + path(served))
    permit(browser, code)
    browser.wait_for("document.readyState === 'complete' && document.querySelector('.end')")
    browser.evaluate(
        "window.end = document.querySelector('.end'),"
        "end.dispatchEvent(new MouseEvent('mousedown', {bubbles: true})), 0"
    )
    browser.evaluate(
        "window.shown = '', new EventSource('/events').onmessage = event => shown = event.data, 0"
    )
    served.reach(SessionState.OPEN)
    browser.wait_for("shown.includes('A remote session is running')")
    assert browser.evaluate("end.isConnected")
    browser.evaluate("end.dispatchEvent(new MouseEvent('mouseup', {bubbles: true})), 0")
    browser.wait_for("!end.isConnected")


def _prepare(served: ServedPage, browser: BrowserPage, state: str) -> None:
    browser.open(served.address())
    if state == "quiet":
        return
    code = offer(served)
    browser.open(served.address() + (path(served) if state != "offer" else ""))
    if state == "wrong code":
        permit(browser, f"{(int(code) + 1) % 1_000_000:06}")
        browser.wait_for("document.querySelector('.note.bad')")
    if state == "running":
        permit(browser, code)
        browser.wait_for("document.querySelector('.live')")
        served.reach(SessionState.OPEN)
        browser.wait_for("document.querySelector('.live h2').textContent === 'A remote session is running'")
    if state == "shared":
        permit(browser, code)
        browser.wait_for("document.querySelector('.live')")
        served.reach(SessionState.OPEN)
        served.offer(next(NUMBERS).to_bytes(16, "big"), instrument="CH-4712")
        browser.wait_for("document.querySelector('.offer')")


STATES = ("quiet", "offer", "answer", "wrong code", "running", "shared")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation(served: ServedPage, browser: BrowserPage, state: str, dark: bool) -> None:
    browser.resize(1280, 800, dark=dark)
    _prepare(served, browser, state)
    assert axe_violations(browser) == []
    _shot(browser, f"{state}-1280-{'dark' if dark else 'light'}")


@pytest.mark.parametrize("state", STATES)
def test_a_narrow_window_needs_no_horizontal_scrolling(
    served: ServedPage, browser: BrowserPage, state: str
) -> None:
    browser.resize(400, 800)
    _prepare(served, browser, state)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    _shot(browser, f"{state}-400")


def _shot(browser: BrowserPage, name: str) -> None:
    if SHOTS:
        browser.screenshot(Path(SHOTS) / f"{name}.png")


def test_a_session_is_permitted_and_ended_without_scripts(
    served: ServedPage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    code = offer(served)
    with open_browser(tmp_path_factory.mktemp("chromium"), "--ignore-certificate-errors") as browser:
        browser.without_scripts()
        browser.open(served.address())
        assert browser.evaluate("document.querySelector('meta[http-equiv=refresh]').content") == "10"
        click(browser, ".offer a.button")
        browser.wait_for("document.querySelector('#code')")
        assert not browser.evaluate("document.querySelector('meta[http-equiv=refresh]')")
        permit(browser, code)
        browser.wait_for("document.querySelector('.live')")
        served.reach(SessionState.OPEN)
        click(browser, ".end")
        served.reach(SessionState.ENDED)
        assert served.box.session.cause is Cause.ENDED_BY_PERSON
