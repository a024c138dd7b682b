"""The sign-on in headless Chromium, with the cookies, redirects and content security policy of a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from oidc_provider_mock import User, run_server_in_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from datacenter.sign_on.settings import Oidc
from datacenter.store.store import Store
from tests.support.datacenter.web.browser import PROGRAM, BrowserPage, axe_violations, open_browser
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet
from tests.support.datacenter.web.server import served
from tests.support.datacenter.web.sign_on import open_pages

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium: make setup-datacenter")


class Pages(NamedTuple):
    address: str
    browser: BrowserPage


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    """The pages of a data center on 127.0.0.1 and a provider on localhost, which are two sites for a browser."""
    store = Store(f"sqlite:///{tmp_path / 'store.db'}", durable=False)
    fill_fleet(store, with_reports=False)
    (tmp_path / "secret").write_text("any")
    applications = list[ASGIApp]()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await applications[0](scope, receive, send)

    user = User(sub="engineer", claims={"groups": "service-engineer"})
    with (
        run_server_in_thread(user_claims=[user]) as provider,
        served(application) as address,
        open_browser(tmp_path / "chromium") as browser,
    ):
        issuer = f"http://localhost:{provider.server_port}"
        settings = Oidc(issuer, "rap", address, tmp_path / "secret", roles="groups")
        applications.append(open_pages(store, settings, lambda: NOW_MS, time.time).application)
        yield Pages(address, browser)
    store.close()


def test_a_person_signs_on_and_out_in_a_browser(pages: Pages) -> None:
    browser = pages.browser
    browser.open(f"{pages.address}/alerts?state=all")
    assert axe_violations(browser) == []
    browser.evaluate("document.querySelector('main a.button').click()")
    browser.wait_for("document.querySelector('button[value=engineer]')")
    assert browser.evaluate("location.hostname") == "localhost"
    browser.evaluate("document.querySelector('button[value=engineer]').click()")
    browser.wait_for("document.querySelector('h1')?.textContent === 'Alerts'")
    assert browser.evaluate("location.pathname + location.search") == "/alerts?state=all"
    assert browser.evaluate("document.cookie") == ""
    browser.evaluate("document.querySelector('form[action=\"/sign-out\"] button').click()")
    browser.wait_for("document.querySelector('a[href*=\"/oauth2/end_session\"]')")
    assert axe_violations(browser) == []
    browser.evaluate("document.querySelector('a[href*=\"/oauth2/end_session\"]').click()")
    browser.wait_for("location.hostname === 'localhost'")
    browser.open(f"{pages.address}/alerts")
    assert browser.evaluate("document.querySelector('h1').textContent") == "Sign in"


def test_a_person_who_refuses_at_the_provider_is_not_signed_on(pages: Pages) -> None:
    browser = pages.browser
    browser.open(f"{pages.address}/")
    browser.evaluate("document.querySelector('main a.button').click()")
    browser.wait_for("document.querySelector('button[value=deny]')")
    browser.evaluate("document.querySelector('button[value=deny]').click()")
    browser.wait_for("document.querySelector('[role=alert]')")
    assert "refused" in browser.evaluate("document.querySelector('[role=alert]').textContent")
    browser.open(f"{pages.address}/")
    assert browser.evaluate("document.querySelector('h1').textContent") == "Sign in"
