"""Heads of HTTP messages, remembered: between two programs that exchange messages of one kind, few heads differ.

Parsing a message takes ten calls from llhttp for some hundred bytes. A message that has come whole, with a head that
was parsed before, needs none of them. Everything else (a message in parts, a head that is long, unusual or wrong) is
left to the connection's own parser, which gives the same result for what is remembered here.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

import httptools

REMEMBERED_BYTES_MAX: Final = 512
"""Of one head."""
REMEMBERED_MAX: Final = 256
"""Requests, and as many responses: 256 KiB at most."""
_END: Final = b"\r\n\r\n"
_DATE: Final = b"\r\nDate: "
_DATE_BYTES: Final = len("Thu, 01 Jan 1970 00:00:00 GMT")


class Head(NamedTuple):
    """What a head says. `headers` are shared by all messages that have it, and must not be changed."""

    method: str
    target: str
    status: int
    headers: dict[str, str]
    body_bytes: int


def whole_request(data: bytes) -> tuple[Head, bytes] | None:
    """The head and the body of the request that is all of `data`; None if a parser must look at it."""
    end = data.find(_END, 0, REMEMBERED_BYTES_MAX) + len(_END)
    head = _request(data[:end]) if end >= len(_END) else None
    if head is None or end + head.body_bytes != len(data):
        return None
    return head, data[end:]


def whole_response(data: bytes) -> tuple[Head, str, bytes] | None:
    """The head, its `Date` and the body of the response that is all of `data`; None if a parser must look at it.

    The date, in which responses of one kind differ, is not among the head's headers.
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
    """Takes what the parser finds in one head."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.is_complete = True

    def body_bytes(self) -> int | None:
        """The length of the body; None if the headers do not say it plainly."""
        length = self.headers.get("content-length", "")
        is_plain = self.is_complete and length.isascii() and length.isdigit()
        if not is_plain or "transfer-encoding" in self.headers or "upgrade" in self.headers:
            return None
        return int(length)


@lru_cache(maxsize=REMEMBERED_MAX)
def _request(head: bytes) -> Head | None:
    found = _Collector()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    body_bytes = found.body_bytes()
    if body_bytes is None:
        return None
    method, target = parser.get_method().decode("latin-1"), found.target.decode("latin-1")
    return Head(method, target, 0, found.headers, body_bytes)


@lru_cache(maxsize=REMEMBERED_MAX)
def _response(head: bytes) -> Head | None:
    found = _Collector()
    parser = httptools.HttpResponseParser(found)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    status, body_bytes = parser.get_status_code(), found.body_bytes()
    has_body = status >= HTTPStatus.OK and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
    if body_bytes is None or not has_body or "date" in found.headers:
        return None
    if "connection" in found.headers or parser.get_http_version() != "1.1":
        return None  # it may end the connection
    return Head("", "", status, found.headers, body_bytes)
