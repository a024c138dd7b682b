"""The page's HTTP application: routes, forms, and the events that keep a page up to date.

The number of the instrument port is in the header `X-Rap-Port`, which httpd sets for the virtual host of that
port's address and which replaces a header sent by the client. The page has no cookies and no accounts: permissions
follow from the port, from the code, switch or security key, and from `BoxSessions`.

**Events.** A page requests `/events` with the identifier of its displayed content (long polling). The response is one
event with the new content as soon as it differs, or empty after a while; then the browser repeats the request (HTML,
9.2: EventSource). Each request proves that the page is still open. An endless response would not: the box would
continue to write to a disconnected browser.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from agents.box.page.languages import preferred
from agents.box.page.status import PageStatus
from agents.box.page.views import View
from agents.box.sessions.security_keys import Assertion, SecurityKeys
from agents.box.sessions.session import BoxSession
from agents.box.sessions.sessions import BoxSessions
from wire.http.connection import Request, Response
from wire.session.grant import ID_BYTES, PresenceWay
from wire.session.table import SessionState

PORT_HEADER: Final = "x-rap-port"
LIVE_HOLD_SECONDS: Final = 5.0
"""How long a response to `/events` is delayed while a session is live; the page counts as closed after 20 s."""
HOLD_SECONDS: Final = 25.0
"""The delay while no session is live."""
HELD_MAX: Final = 3
"""Maximum number of delayed responses of one port; a further one ends the oldest. Each occupies a thread of httpd."""
STATUS_SECONDS: Final = 1.0
"""How long the page waits for the state of the box, which a hanging disk can delay."""
FIELDS_MAX: Final = 8
RETRY_MS: Final = 300
_ASSERTION: Final = ("id", "client_data", "authenticator_data", "signature")
_STATIC: Final = {"/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8"}
_LIVE: Final = (SessionState.AUTHORIZED, SessionState.OPENING, SessionState.OPEN)


class LocalPage:
    """The page of all instrument ports."""

    def __init__(
        self,
        box: str,
        ports: frozenset[int],
        sessions: Callable[[], BoxSessions | None],
        status: Callable[[], Awaitable[PageStatus | None]],
        security_keys: SecurityKeys | None = None,
    ) -> None:
        """`box` is the serial number of the box; `sessions` returns None while the box refuses all sessions, and
        `status` while the state of the box is unknown.
        """
        self._security_keys = security_keys
        self._box, self._ports, self._find_sessions, self._status = box, ports, sessions, status
        self._secret = secrets.token_bytes(32)
        self._held: dict[int, deque[asyncio.Event]] = {port: deque() for port in ports}

    def changed(self) -> None:
        """Send the new content to open pages."""
        for held in self._held.values():
            for event in held:
                event.set()

    async def switch_pressed(self, switch: str) -> None:
        """Handle a press of a switch of the box, which is evidence for the displayed offer."""
        if (sessions := self._find_sessions()) is not None:
            await sessions.switch_pressed(switch)

    async def end_all(self) -> None:
        """End all sessions and requests of the box, because the switch is held."""
        if (sessions := self._find_sessions()) is not None:
            await sessions.end_all()

    async def handle(self, request: Request) -> Response:
        """Respond to a request that httpd has forwarded."""
        number = request.headers.get(PORT_HEADER, "")
        port = int(number) if number.isascii() and number.isdecimal() else 0
        if port not in self._ports:
            return Response(HTTPStatus.FORBIDDEN, b"the request did not come through an instrument port")
        target = urlsplit(request.target)
        segments = target.path.strip("/").split("/")
        query = parse_qs(target.query, max_num_fields=FIELDS_MAX)
        match request.method, *segments:
            case "GET", "":
                return await self._overview(request, port, query)
            case "GET", "events":
                return await self._events(request, port)
            case "GET", "offer", id:
                return await self._offer(request, port, id, query)
            case "GET", "security-key":
                return _html((await self._view(request, port)).enrolment())
            case "GET", _ if target.path in _STATIC:
                return _static(target.path)
            case "POST", "session", id, "code" | "security-key" | "refuse" | "end" as action:
                return await self._post(request, port, id, action)
            case "GET" | "POST", *_:
                return await self._error(request, port, HTTPStatus.NOT_FOUND)
        return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "GET, POST"})

    # -- pages ------------------------------------------------------------------------------------------

    async def _overview(self, request: Request, port: int, query: dict[str, list[str]]) -> Response:
        self._seen(port)
        view = await self._view(request, port)
        return _html(view.overview(_first(query, "note")))

    async def _offer(self, request: Request, port: int, id: str, query: dict[str, list[str]]) -> Response:
        self._seen(port)
        session = self._find(id, port)
        if session is None:
            return await self._error(request, port, HTTPStatus.NOT_FOUND)
        view = await self._view(request, port)
        return _html(view.offer_page(session, _first(query, "note")))

    async def _events(self, request: Request, port: int) -> Response:
        self._seen(port)
        known = request.headers.get("last-event-id", "")
        main = (await self._view(request, port)).main()
        if _identifier(main) == known:
            await self._hold(port)
            main = (await self._view(request, port)).main()
        lines = [f"retry: {RETRY_MS}"]
        if _identifier(main) != known:
            lines += [f"id: {_identifier(main)}", *(f"data: {line}" for line in main.splitlines())]
        body = "\n".join(lines) + "\n\n"
        headers = {"content-type": "text/event-stream", "cache-control": "no-store"}
        return Response(HTTPStatus.OK, body.encode(), headers)

    async def _hold(self, port: int) -> None:
        """Wait for a change, but no longer than until the browser must repeat its request."""
        event, held = asyncio.Event(), self._held[port]
        held.append(event)
        if len(held) > HELD_MAX:
            held[0].set()
        is_live = any(each.state in _LIVE for each in self._at_port(port))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LIVE_HOLD_SECONDS if is_live else HOLD_SECONDS):
                    await event.wait()
        finally:
            held.remove(event)

    def _seen(self, port: int) -> None:
        for session in self._at_port(port):
            session.page_seen()

    def _at_port(self, port: int) -> list[BoxSession]:
        sessions = self._find_sessions()
        return [] if sessions is None else sessions.at_port(port)

    async def _view(self, request: Request, port: int) -> View:
        status: PageStatus | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(STATUS_SECONDS):
                status = await self._status()
        sessions = self._find_sessions()
        return View(
            preferred(request.headers.get("accept-language", "")),
            self._box,
            port,
            self._at_port(port),
            () if sessions is None else sessions.ways,
            sessions is not None and sessions.is_shared(port),
            status,
            self._security_keys,
            lambda id, action: self._token(port, id, action),
        )

    async def _error(self, request: Request, port: int, status: HTTPStatus) -> Response:
        view = await self._view(request, port)
        _ = view.texts.gettext
        text = {
            HTTPStatus.NOT_FOUND: _("This page does not exist. The request or session may be over."),
            HTTPStatus.FORBIDDEN: _("The form is out of date. Go back to the overview and try again."),
        }[status]
        return _html(view.error(text), status)

    # -- forms ------------------------------------------------------------------------------------------

    async def _post(self, request: Request, port: int, id: str, action: str) -> Response:
        try:
            fields = parse_qs(request.body.decode(), max_num_fields=FIELDS_MAX, keep_blank_values=True)
        except ValueError:  # includes UnicodeDecodeError
            fields = {}
        token = _first(fields, "token").encode()
        if not _is_same_origin(request) or not hmac.compare_digest(
            token, self._token(port, id, action).encode()
        ):
            return await self._error(request, port, HTTPStatus.FORBIDDEN)
        session, sessions = self._find(id, port), self._find_sessions()
        if session is None or sessions is None:
            return await self._error(request, port, HTTPStatus.NOT_FOUND)
        match action:
            case "code":
                is_shared, code = sessions.is_shared(port), "".join(_first(fields, "code").split())
                await sessions.enter_code(session.id, port, code)
                return _answer(session, PresenceWay.CODE, is_shared=is_shared)
            case "security-key" if self._security_keys is not None:
                is_shared, assertion = (
                    sessions.is_shared(port),
                    Assertion(*map(partial(_first, fields), _ASSERTION)),
                )
                await sessions.use_security_key(session.id, port, self._security_keys, assertion)
                return _answer(session, PresenceWay.SECURITY_KEY, is_shared=is_shared)
            case "refuse":
                await sessions.refuse(session.id, port)
                return _redirect("/?note=refused")
            case "end":
                await sessions.end(session.id, port)
                return _redirect("/?note=ended")
        return await self._error(request, port, HTTPStatus.NOT_FOUND)

    def _find(self, id: str, port: int) -> BoxSession | None:
        with suppress(ValueError):
            wanted = bytes.fromhex(id) if len(id) == 2 * ID_BYTES else b""
            return next((each for each in self._at_port(port) if each.id == wanted), None)
        return None

    def _token(self, port: int, id: str, action: str) -> str:
        """Return the token of a form, which a page of another origin cannot read."""
        return hmac.digest(self._secret, f"{port}/{id}/{action}".encode(), "sha256").hex()


def _answer(session: BoxSession, way: PresenceWay, *, is_shared: bool) -> Response:
    """Redirect to the page that shows the person the result of a proof of presence."""
    if session.state is not SessionState.OFFERED:
        return _redirect("/?note=over" if session.cause else "/?note=permitted")
    is_given = any(each.way is way for each in session.evidence)
    note = "shared" if is_shared else "more" if is_given else "wrong"
    return _redirect(f"/offer/{session.id.hex()}?note={note}")


def _is_same_origin(request: Request) -> bool:
    """Return whether a form was sent by this page, as far as the browser states its origin."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    own = f"https://{request.headers.get('host', '')}"
    return origin in (None, own) and site == "same-origin"


def _first(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]


def _identifier(main: str) -> str:
    return sha256(main.encode()).hexdigest()[:16]


def _html(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    headers = {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    return Response(status, text.encode(), headers)


def _redirect(location: str) -> Response:
    headers = {"location": location, "cache-control": "no-store"}
    return Response(HTTPStatus.SEE_OTHER, headers=headers)


@cache
def _content(path: str) -> bytes:
    return (Path(__file__).with_name("static") / path.lstrip("/")).read_bytes()


def _static(path: str) -> Response:
    headers = {"content-type": _STATIC[path], "cache-control": "max-age=3600"}
    return Response(HTTPStatus.OK, _content(path), headers)
