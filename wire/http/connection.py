"""HTTP/1.1 client and server connections with pipelining, for communication between programs.

llhttp (through httptools) parses; this module adds bounds and the order of responses. A general framework
took fifteen times as much processor time as the whole exchange takes now, most of it for unused features.
Deliberately unsupported: `Expect`, upgrades, sending of chunked bodies or compressed content.
Changes by intermediaries are accepted: chunked bodies, responses delimited by the end of the connection, HTTP/1.0,
unrequested gzip, error pages longer than any expected reply.

Bounds: HEAD_BYTES_MAX for headers; the caller's limit for a body, CHUNKING_FACTOR times as much for a chunked body
with its framing; PIPELINE_MAX waiting requests; IDLE_SECONDS_MAX without a complete request. RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import httptools

from wire.http.admission import Admissions, Crowded, Limits, Unsecured
from wire.http.fields import add_field, date_text, status_line, uncompressed
from wire.http.heads import whole_request, whole_response
from wire.tls.peer import ClientCheck
from wire.tls.session import keep_session

HEAD_BYTES_MAX: Final = 8 * 1024
CHUNKING_FACTOR: Final = 8
"""A chunk of one byte takes six bytes; ignored extensions and trailer fields may take the rest."""
PIPELINE_MAX: Final = 8
INTERIM_MAX: Final = 64
"""Maximum interim responses (1xx) before a final one."""
IDLE_SECONDS_MAX: Final = 15 * 60.0
DEFAULT_LIMITS: Final = Limits()


class HttpError(Exception):
    """The exchange cannot continue: the connection is lost, or the other end does not speak HTTP."""


class HttpFinished(HttpError):
    """The other end closed the connection after answering another request, as it had announced."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Peer:
    """The client of a server's connection; the handler owns `state`, which lives as long as the connection."""

    name: str
    """Common name of the verified certificate; empty without one."""
    address: str
    hang_up: Callable[[], None]
    """Aborts the connection immediately; unsent responses are discarded."""
    resumed: bool = False
    """Whether the connection resumed a TLS session."""
    tls: ssl.SSLObject | None = None  # has the certificate
    state: dict[str, Any] = field(default_factory=dict)
    is_lost: bool = False
    """Whether the connection is lost."""
    on_next: Callable[[], object] = lambda: None
    """Called when a request arrives: the handler of the previous request may stop waiting."""


@dataclass(slots=True)  # not frozen: construction, once per exchange, would take three times as long
class Request:
    """One complete request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    peer: Peer


@dataclass(slots=True)
class Response:
    """One complete response; `headers` by lower-case name. A server adds length and date itself."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    """Server only: end the connection after this response."""


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class _Parsing(asyncio.Protocol):
    """Common part of parsing requests and responses."""

    def __init__(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._transport: asyncio.Transport | None = None
        self._in_head = False
        self._fed_bytes = 0
        self._reset()

    def _feed(self, parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes) -> None:
        """Parse `data`, with a bound on the header section, which the parser itself does not have."""
        self._fed_bytes += len(data)
        parser.feed_data(data)
        if self._in_head and self._fed_bytes > HEAD_BYTES_MAX:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._is_chunked and self._fed_bytes > 2 * HEAD_BYTES_MAX + CHUNKING_FACTOR * self._body_bytes_max:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _reset(self) -> None:
        self._is_between = True  # no part of the next message has been parsed
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_chunked = False
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_message_begin(self) -> None:
        self._is_between, self._in_head, self._fed_bytes = False, True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._in_head:  # a trailer field must not be taken for a header field (RFC 9110, 6.5.1)
            add_field(self._headers, _header_name(name), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        coding = self._headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise _Refused(HTTPStatus.NOT_IMPLEMENTED)
            self._is_chunked = True
        elif int(self._headers.get("content-length", "0")) > self._body_bytes_max:
            self._refuse_body()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._body_bytes_max:
            self._refuse_body()
        self._body.append(body)

    def _refuse_body(self) -> None:
        """Stop parsing because the body is too long."""
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _take_body(self) -> bytes:
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)


class _Refused(Exception):
    """The message being received is refused with this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def _status(error: Exception) -> HTTPStatus:
    """Return the status for a parser error; the parser raises its own, with a callback's as context."""
    if isinstance(error, httptools.HttpParserUpgrade):
        return HTTPStatus.NOT_IMPLEMENTED
    refused = error if isinstance(error, _Refused) else error.__context__
    return refused.status if isinstance(refused, _Refused) else HTTPStatus.BAD_REQUEST


@lru_cache(maxsize=64)
def _header_name(name: bytes) -> str:
    """Decode a header name in lower case (names are case-insensitive); cached, because there are few."""
    return name.decode("latin-1").lower()


class ServerConnection(_Parsing):
    """The server's end of one connection: answers requests in the order received."""

    def __init__(
        self,
        handler: Handler,
        body_bytes_max: int,
        now: Callable[[], float],
        request_s: float,
        lost: Callable[[], None],
        check: ClientCheck | None = None,
    ) -> None:
        """`request_s` bounds the time from a request's first to its last byte; `lost` is called at the end."""
        super().__init__(body_bytes_max)
        self._handler = handler
        self._now = now
        self._request_s = request_s
        self._lost = lost
        self._check = check
        self._is_refused: Callable[[], bool] | None = None
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._waiting: deque[Request | Response] = deque()
        self._to_do: asyncio.Future[None] = self._loop.create_future()
        self._ended = False
        self._writable = True
        self._is_answering = False
        self.last_request = self._loop.time()
        self._request_begun_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        address = str((transport.get_extra_info("peername") or ("",))[0])
        name = common_name(transport.get_extra_info("peercert"))
        tls = transport.get_extra_info("ssl_object")
        self.peer = Peer(name, address, transport.abort, tls is not None and bool(tls.session_reused), tls)
        if self._check is not None:
            self._is_refused = self._check.begin(tls, name)
        self._idle = self._loop.call_later(IDLE_SECONDS_MAX, self._check_idle)
        self._worker = self._loop.create_task(self._answer())
        if self._is_refused is not None and self._is_refused():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None and self.peer.tls is not None:
            keep_session(self.peer.tls)
        self._transport = None
        self.peer.is_lost = True
        self._lost()
        self._idle.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        self._waiting.clear()
        self._wake()

    def pause_writing(self) -> None:
        """Pause processing of requests while the peer does not read its responses."""
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    def close(self) -> None:
        """End the connection after pending data has been sent."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            whole = whole_request(data) if self._is_between else None
            if whole is not None and len(whole[1]) <= self._body_bytes_max:
                head, body = whole
                self._take(Request(head.method, head.target, head.headers.copy(), body, self.peer))
                return
            self._feed(self._parser, data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, _Refused) as error:
            self._refuse(_status(error))
        if self._request_begun_at is not None and self._deadline is None:
            self._deadline = self._loop.call_later(self._request_s, self._check_request)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._request_begun_at = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > HEAD_BYTES_MAX:
            raise _Refused(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_message_complete(self) -> None:
        request = Request(
            self._parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            self._headers,
            self._take_body(),
            self.peer,
        )
        self._target = b""
        self._reset()
        self._request_begun_at = None
        self._take(request)

    def _take(self, request: Request) -> None:
        self.last_request = self._loop.time()
        if len(self._waiting) >= PIPELINE_MAX:
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS)
        self._queue(request)
        self.peer.on_next()

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer earlier requests, then send `status` and close: the rest of the input cannot be interpreted."""
        self._ended = True
        self._queue(Response(status, status.phrase.encode(), close=True))

    def _queue(self, item: Request | Response) -> None:
        self._waiting.append(item)
        self._wake()

    def _wake(self) -> None:
        if not self._to_do.done():
            self._to_do.set_result(None)

    async def _answer(self) -> None:
        """Answer requests; one task per connection, since one per request would cost more than the other work."""
        while self._transport is not None:
            if not self._waiting or not self._writable:
                self._to_do = self._loop.create_future()
                await self._to_do
                continue
            item = self._waiting.popleft()
            self._is_answering = True
            response = item if isinstance(item, Response) else await self._handle(item)
            self._is_answering = False
            if self._transport is None:
                return
            self._transport.write(self._head(response) + response.body)
            if response.close:
                self._ended = True
                self._waiting.clear()
                self._transport.close()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._is_answering

    async def _handle(self, request: Request) -> Response:
        if self._is_refused is not None and self._is_refused():
            return Response(HTTPStatus.FORBIDDEN, b"the certificate is revoked", close=True)
        try:
            return await self._handler(request)
        except Exception as bug:
            # respond with 500 rather than leave the connection open, and report the bug
            self._loop.call_exception_handler({"message": "HTTP handler failed", "exception": bug})
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, close=True)

    def _head(self, response: Response) -> bytes:
        extra = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
        head = f"{status_line(response.status)}Date: {date_text(int(self._now()))}\r\n"
        return f"{head}Content-Length: {len(response.body)}\r\n{extra}\r\n".encode("latin-1")

    def _check_request(self) -> None:
        """End the connection if its request has been incomplete for too long."""
        self._deadline = None
        if self._request_begun_at is None or self._transport is None:
            return
        remaining_s = self._request_begun_at + self._request_s - self._loop.time()
        if remaining_s > 0:
            self._deadline = self._loop.call_later(remaining_s, self._check_request)
        else:
            self._transport.abort()

    def _check_idle(self) -> None:
        remaining_s = self.last_request + IDLE_SECONDS_MAX - self._loop.time()
        if remaining_s > 0:
            self._idle = self._loop.call_later(remaining_s, self._check_idle)
        elif self._transport is not None:
            self._transport.abort()


class Server:
    """A listening HTTP server; created by `serve`."""

    def __init__(self, listener: asyncio.Server, admissions: Admissions) -> None:
        self._listener = listener
        self._admissions = admissions

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """The number of connections, including those still in their TLS handshake."""
        return len(self._admissions)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context for new connections; None for plain HTTP."""
        return self._admissions.tls

    def connection_usage(self) -> tuple[int, int]:
        """Return the number of connections and its limit."""
        return len(self._admissions), self._admissions.limits.connections_max

    def use(self, tls: ssl.SSLContext) -> None:
        """Use another TLS context for new connections."""
        self._admissions.tls = tls

    async def close(self) -> None:
        """Stop listening and end every connection, within a few seconds regardless of the peers."""
        self._listener.close()
        await self._admissions.close()


async def serve(
    handler: Handler,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    body_bytes_max: int,
    now: Callable[[], float],
    check: ClientCheck | None = None,
    limits: Limits = DEFAULT_LIMITS,
    crowded: Crowded | None = None,
    unsecured: Unsecured | None = None,
) -> Server:
    """Serve requests at `host`:`port` with `handler`; `now` is the wall clock in seconds, for `Date`.

    `check` can refuse clients that `tls` accepts. For the callbacks `crowded` and `unsecured` see their types.
    """

    def serve_connection(lost: Callable[[], None]) -> asyncio.Protocol:
        return ServerConnection(handler, body_bytes_max, now, limits.request_s, lost, check)

    admissions = Admissions(limits, tls, serve_connection, crowded, unsecured)
    create_server = asyncio.get_running_loop().create_server
    listener = await create_server(admissions.accept, host, port, backlog=limits.backlog)
    return Server(listener, admissions)


class ClientConnection(_Parsing):
    """The client's end of one connection. Requests may be sent before earlier ones are answered.

    A response with a body longer than the limit is returned without its body, and ends the connection.
    The byte counters are for accounting; they count bytes before encryption.
    """

    def __init__(self, authority: str, body_bytes_max: int) -> None:
        super().__init__(body_bytes_max)
        self._authority = authority
        self._parser = httptools.HttpResponseParser(self)
        self._pending: deque[asyncio.Future[Response]] = deque()
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.date = ""
        """The `Date` of the last response."""
        self.is_finished = False
        """Whether the other end closed the connection after announcing it in a response (RFC 9112, 9.6)."""
        self._ends_with_connection = False  # of the response being received
        self._interim = 0  # interim responses since the last final one
        self.head_bytes_sent = self.body_bytes_sent = 0
        self.head_bytes_received = self.body_bytes_received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def transport(self) -> asyncio.Transport | None:
        """The underlying transport; None once the connection is lost."""
        return self._transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(HttpError(f"connection lost: {exc}" if exc else "connection closed by the other end"))

    def request(
        self, method: str, target: str, body: bytes = b"", headers: str = ""
    ) -> asyncio.Future[Response]:
        """Send a request; the future gets its response, or HttpError if the connection ends before it.

        `headers` are additional header lines, each terminated by CRLF.
        """
        future: asyncio.Future[Response] = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(HttpError("connection is closed"))
            return future
        start = f"{method} {target} HTTP/1.1\r\nHost: {self._authority}\r\n"
        head = f"{start}Content-Length: {len(body)}\r\n{headers}\r\n"
        self._transport.write(head.encode("latin-1") + body)
        self.head_bytes_sent += len(head)
        self.body_bytes_sent += len(body)
        self._pending.append(future)
        return future

    def send_empty_line(self) -> None:
        """Send an empty line, which a server ignores before a request (RFC 9112, 2.2), as keep-alive."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"\r\n")
            self.head_bytes_sent += 2

    def close(self) -> None:
        """End the connection; pending requests fail."""
        if self._transport is not None:
            self._transport.close()
        self._fail(HttpError("connection closed"))

    def abort(self) -> None:
        """End the connection without waiting for pending data to be sent."""
        self._end(HttpError("connection aborted"))

    def data_received(self, data: bytes) -> None:
        try:
            whole = whole_response(data) if self._is_between else None
            if whole is not None and len(whole[2]) <= self._body_bytes_max:
                head, date, body = whole
                self._take(Response(head.status, body, {**head.headers, "date": date}))
            else:
                self._feed(self._parser, data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, _Refused) as error:
            self._end(HttpError(f"invalid HTTP/1.1 response: {error}"))
            return
        self.head_bytes_received += len(data)

    def eof_received(self) -> None:
        """Complete a response that the end of the connection delimits; TLS authenticates that end (close_notify)."""
        if self._ends_with_connection and self._pending:
            self._settle(self._take_body())
            self._finish()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._ends_with_connection = (
            "content-length" not in self._headers
            and not self._is_chunked
            and self._parser.get_status_code() >= HTTPStatus.OK
        )

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < HTTPStatus.OK:
            self._skip_interim()
            return
        self._settle(self._take_body())
        if not self._parser.should_keep_alive():
            self._finish()

    def _refuse_body(self) -> None:
        """Deliver a response with an overlong body, such as a proxy's error page, without that body."""
        if self._parser.get_status_code() >= HTTPStatus.OK:
            self._settle(b"")
        super()._refuse_body()

    def _settle(self, body: bytes) -> None:
        """Deliver the parsed response."""
        headers, status = self._headers, self._parser.get_status_code()
        self._reset()
        self._take(Response(status, body, headers))

    def _take(self, response: Response) -> None:
        """Deliver a final response to the oldest pending request. Its bytes were counted as header bytes."""
        self._interim, self._ends_with_connection = 0, False
        self.date = response.headers.get("date", "")
        self.body_bytes_received += len(response.body)
        self.head_bytes_received -= len(response.body)
        if not self._pending:
            raise _Refused(HTTPStatus.BAD_GATEWAY)
        future = self._pending.popleft()
        if not future.done():
            response.body = uncompressed(response.body, self._body_bytes_max)
            future.set_result(response)

    def _finish(self) -> None:
        """End the connection after a response that announced it."""
        self.is_finished = True
        self._end(HttpFinished("the other end closes the connection after each response"))

    def _skip_interim(self) -> None:
        """Skip an interim response (RFC 9110, 15.2)."""
        self._reset()
        self._interim += 1
        if self._interim > INTERIM_MAX:
            raise _Refused(HTTPStatus.BAD_GATEWAY)

    def _end(self, error: HttpError) -> None:
        transport = self._transport
        self._fail(error)
        if transport is not None:
            transport.abort()

    def _fail(self, error: HttpError) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        while self._pending:
            future = self._pending.popleft()
            if not future.done():
                future.set_exception(error)


def without_zone(host: str) -> str:
    """Return `host` without the zone of an IPv6 address, which is local to this machine (RFC 6874)."""
    return host.partition("%")[0] if ":" in host else host


def bracketed(host: str) -> str:
    """Format `host` for a URI or `Host` field: IPv6 addresses in brackets (RFC 3986, 3.2.2)."""
    return f"[{without_zone(host)}]" if ":" in host else host


def common_name(certificate: dict[str, Any] | None) -> str:
    """Return the subject's common name of a certificate in the `ssl` module's form; empty without one."""
    for rdn in (certificate or {}).get("subject", ()):
        for key, value in rdn:
            if key == "commonName":
                return str(value)
    return ""
