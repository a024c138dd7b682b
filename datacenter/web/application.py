"""The staff's web application (ASGI): routing, sign-in, access checks, form tokens and security headers.

Every HTTP response has the headers of `SECURITY_HEADERS`. Before the handler of a page is called, the request passes
these checks in this order: host name, session, form token, parameters, and the access check of its row in the route
table. A request to the API is identified by `Callers` instead of a session and a form token.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datacenter.access.directory import StaffPerson
from datacenter.commands.desk import SentFile
from datacenter.commands.files import FileTooLargeError, NoRoomForUploadError
from datacenter.fleet.visible import Visibility
from datacenter.store.errors import StoreError
from datacenter.web.api.callers import (
    Callers,
    TooManyRequestsError,
    UnknownCallerError,
    UnsupportedBodyError,
    caller_problem,
    read_json,
)
from datacenter.web.api.json_responses import PREFIX as API
from datacenter.web.api.json_responses import problem
from datacenter.web.api.openapi import openapi
from datacenter.web.api.stream import PATH as STREAM
from datacenter.web.api.stream import RawStreams
from datacenter.web.assets import PREFIX, serve_asset
from datacenter.web.forms import FORM_TOKEN, ForgedFormError, read_form
from datacenter.web.pages import ROUTES
from datacenter.web.parameters import ParameterError, parse_pairs, read_body, read_parameters
from datacenter.web.rendering import render
from datacenter.web.responses import SECURITY_HEADERS, html
from datacenter.web.routes import (
    ConflictError,
    NoParameters,
    NotFoundError,
    PageRequest,
    RefusedError,
    WebRoute,
    WebServices,
    check_access,
    record_refusal,
    wants_fragment,
)
from datacenter.web.sessions import StaffSession
from datacenter.web.signing_in.sign_in import sign_in_page, sign_in_routes
from datacenter.web.signing_in.sign_on import sign_on_routes
from datacenter.web.uploads import MULTIPART, FileReceiver, NotReceivedError, media_type
from datacenter.web.viewer import PATH as VIEWER
from datacenter.web.viewer import REPLAY, DesktopViewers

_TITLES: Final = {
    400: "The request is not valid",
    401: "Sign in first",
    403: "Not permitted",
    404: "Not found",
    405: "The page does not support this method",
    408: "The upload took too long",
    409: "Not possible in the current state",
    413: "The file is too large",
    429: "Too many uploads at once",
    500: "Internal error",
    503: "The database does not respond",
    507: "Not enough storage for the file",
}
RETRY_SECONDS: Final = 10
"""Time after which a file that was not received can be sent again."""
_HIDDEN: Final = "not found, or not permitted"
"""The reason in a 404 response, which does not reveal whether the resource exists."""
_log: Final = logging.getLogger(__name__)


def make_web(
    services: WebServices, hosts: Collection[str] = (), routes: Sequence[WebRoute] = ROUTES
) -> ASGIApp:
    """Return the application. `hosts` are the allowed names in `Host`, besides those of loopback."""
    callers, receiver = Callers(services), FileReceiver()
    document = msgspec.json.encode(openapi(routes))

    async def show_document(_: Request) -> Response:
        return Response(document, media_type="application/json")

    pages = [
        Route(
            row.path,
            _endpoint(row, services, callers, receiver),
            methods=[row.method],
            name=f"{row.method} {row.path}",
        )
        for row in routes
    ]
    described = Route(f"{API}/openapi.json", show_document, methods=["GET"])
    static = Route(f"{PREFIX}/{{path:path}}", _static)
    viewers = DesktopViewers(services)
    sockets = [
        WebSocketRoute(VIEWER, viewers.serve),
        WebSocketRoute(REPLAY, viewers.replay),
        WebSocketRoute(STREAM, RawStreams(services, callers).serve),
    ]
    application = Starlette(
        routes=[*sign_in_routes(services), *sign_on_routes(services), static, described, *sockets, *pages],
        exception_handlers={HTTPException: _http_error, StoreError: _store_error, Exception: _internal_error},
    )
    return _Guarded(application, frozenset(hosts))


class _Guarded:
    """Refuses requests with a foreign host name, and adds the security headers to every HTTP response.

    In a DNS rebinding attack, the host name of another site resolves to this server; the requests of its pages have
    that name in `Host`.
    """

    def __init__(self, application: ASGIApp, hosts: frozenset[str]) -> None:
        self._application, self._hosts = application, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if self._is_own(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
                await self._application(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        host = Request(scope).headers.get("host", "")
        if not self._is_own(host):
            refusal: ASGIApp = PlainTextResponse(
                "unknown host name; use the address of the staff pages\n", 421
            )
            await refusal(scope, receive, send_guarded)
            return
        await self._application(scope, receive, send_guarded)

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name in self._hosts or name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False


def _endpoint(
    row: WebRoute, services: WebServices, callers: Callers, receiver: FileReceiver
) -> Callable[[Request], Awaitable[Response]]:
    """Return the ASGI endpoint of a row of the route table."""
    if row.response_kind == "api":
        return _api_endpoint(row, services, callers, receiver)
    run = services.read if row.method == "GET" else services.write

    async def endpoint(request: Request) -> Response:
        now_ms = services.now_ms()
        session = await services.session(request)
        entry = services.person(session)
        if session is None or entry is None:
            return _sign_in_first(row, request, services)
        visible = Visibility(services.policies, entry.principal, now_ms, row.purpose)
        async with AsyncExitStack() as received:
            try:
                pairs, file = await _receive(row, request, session, receiver, received)
                query = read_parameters(row.parameters, pairs)
            except ParameterError as error:
                return _error(request, 400, str(error), row)
            except ForgedFormError as error:
                return _error(request, 403, str(error), row)
            except FileTooLargeError as error:
                return await _too_large(row, services, request, visible, error)
            except NotReceivedError as error:
                return _not_received(row, request, error)
            person = session.staff, entry, session.form_token
            find_person = partial(services.person, session)
            handle = partial(
                _handle,
                row,
                services,
                request,
                visible,
                *person,
                query,
                file,
                find_person,
                session.other_sign_in_ms,
            )
            return await _run_handler(row, request, run, handle)

    return endpoint


def _api_endpoint(
    row: WebRoute, services: WebServices, callers: Callers, receiver: FileReceiver
) -> Callable[[Request], Awaitable[Response]]:
    """Return the ASGI endpoint of a row of the API, whose caller is identified by an API token or a session."""
    run = services.read if row.method == "GET" else services.write

    async def endpoint(request: Request) -> Response:
        try:
            caller = await callers.identify(request, changes=row.method != "GET")
        except (UnknownCallerError, TooManyRequestsError) as error:
            return caller_problem(error)
        purpose = caller.purpose or row.purpose
        visible = Visibility(
            services.policies, caller.entry.principal, services.now_ms(), purpose, caller.token
        )
        async with AsyncExitStack() as received:
            try:
                query, file = await _receive_call(row, request, caller.staff, receiver, received)
            except UnsupportedBodyError as error:
                return caller_problem(error)
            except ParameterError as error:
                return _error(request, 400, str(error), row)
            except FileTooLargeError as error:
                return await _too_large(row, services, request, visible, error)
            except NotReceivedError as error:
                return _not_received(row, request, error)
            person = caller.staff, caller.entry, ""
            find_person = partial(services.known_person, caller.staff)
            handle = partial(_handle, row, services, request, visible, *person, query, file, find_person)
            return await _run_handler(row, request, run, handle)

    return endpoint


def _handle(
    row: WebRoute,
    services: WebServices,
    request: Request,
    visible: Visibility,
    staff: str,
    entry: StaffPerson,
    form_token: str,
    query: Struct,
    file: SentFile | None,
    find_person: Callable[[], StaffPerson | None],
    other_sign_in_ms: int | None = None,
) -> Response:
    """Check the access, and call the handler. Raises: the errors of `check_access` and of the handler."""
    names = dict(request.path_params)
    resource = check_access(row, services, visible, names)
    target, headers = _target(request), dict(request.headers)
    return row.handler(
        PageRequest(
            services,
            staff,
            entry,
            visible,
            form_token,
            resource,
            names,
            query,
            target,
            headers,
            file,
            find_person,
            other_sign_in_ms,
        )
    )


async def _run_handler(
    row: WebRoute, request: Request, run: Callable[..., Awaitable[Response]], handle: Callable[[], Response]
) -> Response:
    """Run a handler, and return its response, or the response for its exception."""
    try:
        return await run(handle)
    except NotFoundError:
        return _error(request, 404, _HIDDEN, row)
    except RefusedError as error:
        return _error(request, 403, str(error), row)
    except ParameterError as error:
        return _error(request, 400, str(error), row)
    except ConflictError as error:
        return _error(request, 409, str(error), row)
    except FileTooLargeError as error:
        return _error(request, 507 if isinstance(error, NoRoomForUploadError) else 413, str(error), row)
    except StoreError as error:
        _log.error("%s %s: the database failed: %s", row.method, row.path, error)
        return _error(request, 503, "Nothing was changed. Try again in a minute.", row)


async def _receive(
    row: WebRoute,
    request: Request,
    session: StaffSession,
    receiver: FileReceiver,
    received: AsyncExitStack,
) -> tuple[list[tuple[str, str]], SentFile | None]:
    """Return the parameters of the URL or form, and the form's file, which exists until `received` is closed."""
    if row.method == "GET":
        return parse_pairs(request.url.query), None
    if row.takes_file and media_type(request) == MULTIPART:
        form = await received.enter_async_context(
            receiver.form(request, session.staff, lambda pairs: _require_token(pairs, session))
        )
        return _without_token(form.pairs), form.file
    pairs = await read_form(request)
    _require_token(pairs, session)
    return _without_token(pairs), None


async def _receive_call(
    row: WebRoute, request: Request, staff: str, receiver: FileReceiver, received: AsyncExitStack
) -> tuple[Struct, SentFile | None]:
    """Return the parameters and the file of a request to the API; the file exists until `received` is closed."""
    pairs = parse_pairs(request.url.query)
    if row.method == "GET":
        return read_parameters(row.parameters, pairs), None
    if row.takes_file:
        query = read_parameters(row.parameters, pairs)
        return query, await received.enter_async_context(receiver.file(request, staff))
    read_parameters(NoParameters, pairs)
    return read_body(row.parameters, await read_json(request)), None


async def _too_large(
    row: WebRoute, services: WebServices, request: Request, visible: Visibility, error: FileTooLargeError
) -> Response:
    """Record that a file is too large, and return status 413, whether or not the resource exists."""

    def record() -> Response:
        reason = f"the file is too large: {error}"
        record_refusal(row, services, visible, dict(request.path_params), reason)
        raise error

    return await _run_handler(row, request, services.write, record)


def _not_received(row: WebRoute, request: Request, error: NotReceivedError) -> Response:
    response = _error(request, error.status, str(error), row)
    response.headers["retry-after"] = str(RETRY_SECONDS)
    return response


def _require_token(pairs: list[tuple[str, str]], session: StaffSession) -> None:
    """Check the token of a form. Raises: ForgedFormError."""
    token = next((value for name, value in pairs if name == FORM_TOKEN), "")
    if not session.is_form_token(token):
        raise ForgedFormError("the form belongs to another session: load the page again, and submit it again")


def _without_token(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields of a form without its token."""
    return [(name, value) for name, value in pairs if name != FORM_TOKEN]


def _sign_in_first(row: WebRoute, request: Request, services: WebServices) -> Response:
    """Return the response to a request without a valid session.

    If htmx requested a part of a page, the response makes it reload the whole page, which is then the sign-in page.
    After a link from another site, such as a web mail, the browser omits the cookie (SameSite=Strict): the response
    is a page that reloads itself, and the browser then sends the cookie.
    """
    if row.response_kind != "page":
        return _error(request, 401, "The session has ended: sign in again.", row)
    if wants_fragment(request.headers):
        return Response(status_code=401, headers={"hx-refresh": "true"})
    if request.headers.get("sec-fetch-site") == "cross-site":
        return html(render("reload.html", target=_target(request)))
    return sign_in_page(services, _target(request), 401)


def _target(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


async def _static(request: Request) -> Response:
    response = serve_asset(request.url.path, request.headers.get("accept-encoding", ""))
    if response is None:
        raise HTTPException(404)
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = _HIDDEN if error.status_code == 404 else error.detail
    response = _error(request, error.status_code, reason)
    response.headers.update(error.headers or {})
    if error.status_code == 405:
        response.headers["allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """Return the methods of all rows with the path of a request; each row is a separate route."""
    routes = [one for one in request.app.routes if isinstance(one, Route)]
    return {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


async def _store_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s: the database failed: %s", request.method, request.url.path, error)
    return _error(request, 503, "Nothing was changed. Try again in a minute.")


async def _internal_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(
        request,
        500,
        "The error was logged. Try again; if the error occurs again, report its time to the administrator.",
    )


def _error(request: Request, status: int, reason: str, row: WebRoute | None = None) -> Response:
    title = _TITLES.get(status, "The request failed")
    if request.url.path.startswith(f"{API}/"):
        return problem(status, title, reason)
    if row is not None and row.response_kind in ("json", "file"):
        return PlainTextResponse(f"{title}: {reason}\n", status)
    is_fragment = wants_fragment(request.headers)
    return html(
        render("error.html", title=title, reason=reason, status=status, is_fragment=is_fragment), status
    )
