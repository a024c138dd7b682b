"""A browser that signs on at an OpenID Connect provider."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from datacenter.sign_on.provider import Provider
from datacenter.sign_on.settings import Oidc
from datacenter.sign_on.sign_on import SignOn
from datacenter.store.store import Store
from datacenter.web.sessions import COOKIE
from datacenter.web.signing_in.sign_on import BROWSER_COOKIE
from tests.support.datacenter.web.client import Answer, WebClient, open_web

PAGES = "http://127.0.0.1:8080"


class Begun(NamedTuple):
    """The authorization request, and the cookie that binds it to the browser."""

    url: str
    query: dict[str, str]
    cookie: str


def open_pages(
    store: Store,
    settings: Oidc,
    now_ms: Callable[[], int],
    now_s: Callable[[], float],
    *,
    development: bool = False,
) -> WebClient:
    sign_on = SignOn(settings, Provider(settings, now_s))
    return open_web(store, now_ms, development=development, sign_on=sign_on)


def begin(web: WebClient, target: str = "/") -> Begun:
    answer = web.get(f"/sign-in/oidc?next={target}")
    assert answer.status == 303, answer.text
    url = answer.headers["location"]
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    return Begun(url, query, cookie_of(answer, BROWSER_COOKIE))


def call_back(web: WebClient, begun: Begun, code: str = "code", **changes: str) -> Answer:
    """Request the callback, as after the redirect from the provider.

    `changes` replace query parameters (an empty text removes one) and, as `cookie`, the browser's cookie.
    """
    cookie = changes.pop("cookie", begun.cookie)
    query = {"state": begun.query["state"], "code": code, **changes}
    text = "&".join(f"{name}={value}" for name, value in query.items() if value)
    return web.get(f"/sign-in/callback?{text}", cookie=f"{BROWSER_COOKIE}={cookie}")


def signed_on(web: WebClient, answer: Answer) -> WebClient:
    """Return the browser with the session whose cookie the answer sets."""
    cookie = cookie_of(answer, COOKIE)
    session = web.sessions.find(cookie, web.now_ms())
    assert session is not None
    return replace(web, cookie=cookie, staff=session.staff)


def cookie_of(answer: Answer, name: str) -> str:
    match = re.search(rf"(?:^|\n){name}=([^;]+);", answer.cookies)
    assert match, f"no cookie {name}: {answer.cookies}"
    return match[1].strip('"')
