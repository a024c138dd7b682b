"""Caches parsed HTTP header sections, because few different ones occur between two programs.

llhttp needs about ten callbacks to parse a hundred bytes. A message that was received completely and whose header
section was parsed before needs none. Everything else (partial messages, long, unusual or invalid headers) is left to
the connection's own parser, which gives the same result.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

import httptools

from wire.http.fields import add_field

REMEMBERED_BYTES_MAX: Final = 512
"""Maximum size of a cached header section."""
REMEMBERED_MAX: Final = 256
"""Maximum number of cached requests, and of responses: 256 KiB at most."""
_END: Final = b"\r\n\r\n"
_DATE: Final = b"\r\nDate: "
_DATE_BYTES: Final = len("Thu, 01 Jan 1970 00:00:00 GMT")


class Head(NamedTuple):
    """A parsed header section. `headers` is shared by all messages with equal headers and must not be changed."""

    method: str
    target: str
    status: int
    headers: dict[str, str]
    body_bytes: int


def whole_request(data: bytes) -> tuple[Head, bytes] | None:
    """Split `data` into header and body if it is exactly one complete request; None if a parser is needed."""
    end = data.find(_END, 0, REMEMBERED_BYTES_MAX) + len(_END)
    head = _request(data[:end]) if end >= len(_END) else None
    if head is None or end + head.body_bytes != len(data):
        return None
    return head, data[end:]


def whole_response(data: bytes) -> tuple[Head, str, bytes] | None:
    """Split `data` into header, `Date` and body if it is one complete response; None if a parser is needed.

    The date, which differs between responses of one kind, is not among the header's fields.
    """
    end = data.find(_END, 0, REMEMBERED_BYTES_MAX) + len(_END)
    if end < len(_END):
        return None
    at = data.find(_DATE, 0, end)
    date_at, date_end = at + len(_DATE), at + len(_DATE) + _DATE_BYTES
    date = data[date_at:date_end].decode("latin-1")
    if at <= 0 or date[-4:] != " GMT" or not date.isascii() or not date.isprintable() or date[0] == " ":
        return None
    if data[date_end : date_end + 2] != b"\r\n" or data[date_end + 2] in b" \t":
        return None
    head = _response(data[:at] + data[date_end:end])
    if head is None or end + head.body_bytes != len(data):
        return None
    return head, date, data[end:]


class _Collector:
    """Collects the parser's callbacks for one header section."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        add_field(self.headers, name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self.is_complete = True

    def body_bytes(self) -> int | None:
        """Return the length of the body; None if the headers do not give it unambiguously."""
        length = self.headers.get("content-length", "")
        is_plain = self.is_complete and length.isascii() and length.isdigit()
        if not is_plain or "transfer-encoding" in self.headers or "upgrade" in self.headers:
            return None
        return int(length)


@lru_cache(maxsize=REMEMBERED_MAX)
def _request(head: bytes) -> Head | None:
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    body_bytes = collector.body_bytes()
    if body_bytes is None:
        return None
    method, target = parser.get_method().decode("latin-1"), collector.target.decode("latin-1")
    return Head(method, target, 0, collector.headers, body_bytes)


@lru_cache(maxsize=REMEMBERED_MAX)
def _response(head: bytes) -> Head | None:
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    status, body_bytes = parser.get_status_code(), collector.body_bytes()
    has_body = status >= HTTPStatus.OK and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    if body_bytes is None or not has_body or "date" in collector.headers:
        return None
    if "connection" in collector.headers or parser.get_http_version() != "1.1":
        return None  # the body may be delimited by the end of the connection
    return Head("", "", status, collector.headers, body_bytes)
