"""Responses: security headers, pages, redirections, JSON with validators, and CSV without formulas."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from starlette.responses import Response, StreamingResponse

SECURITY_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every response. Browsers store nothing except static files."""
GZIP_BYTES_MIN: Final = 1024
PART_BYTES: Final = 64 * 1024
"""Minimum size of the parts of a file that is generated while it is sent, except the last."""
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet interprets a cell that begins with one of these as a formula (OWASP, CSV injection)."""


def html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an HTML page."""
    return Response(text, status, headers, "text/html; charset=utf-8")


def redirect(target: str) -> Response:
    """Return a redirection after a form, to a path of this server."""
    assert is_local_path(target), "redirections stay on this server"
    return Response(status_code=303, headers={"location": target})


def is_local_path(target: str) -> bool:
    """Return whether a target is a path on this server. `//host` and `/\\host` are other servers for a browser."""
    return target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()


def json_data(body: bytes, etag: str, accepted_encoding: str) -> Response:
    """Return JSON with its validator, compressed if the client accepts gzip.

    Only data without secrets is compressed: pages carry form tokens, which the length of a compressed page could
    reveal.
    """
    headers = {"etag": etag, "vary": "accept-encoding"}
    if "gzip" in accepted_encoding and len(body) >= GZIP_BYTES_MIN:
        body = gzip.compress(body, 1, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, 200, headers, "application/json")


def not_modified(etag: str) -> Response:
    """Return the response 304 (Not Modified): the client's copy is current."""
    return Response(status_code=304, headers={"etag": etag, "vary": "accept-encoding"})


def matches(etag: str, if_none_match: str) -> bool:
    """Return whether the header If-None-Match contains the validator (RFC 9110, 13.1.2)."""
    return if_none_match.strip() == "*" or etag in (
        given.strip().removeprefix("W/") for given in if_none_match.split(",")
    )


def csv_file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """Return a CSV file (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), 200, headers, "text/csv; charset=utf-8")


def csv_stream(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    """Return a CSV file as `csv_file` does, in parts: memory use does not grow with its length."""

    def parts() -> Iterator[bytes]:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([csv_cell(value) for value in row])
            if text.tell() >= PART_BYTES:
                yield text.getvalue().encode()
                text.seek(0)
                text.truncate()
        yield text.getvalue().encode()

    return file_stream(name, parts(), "text/csv; charset=utf-8")


def lines_stream(name: str, lines: Iterable[str]) -> Response:
    """Return a file of JSON lines, in parts."""

    def parts() -> Iterator[bytes]:
        waiting = bytearray()
        for line in lines:
            waiting += f"{line}\n".encode()
            if len(waiting) >= PART_BYTES:
                yield bytes(waiting)
                waiting.clear()
        yield bytes(waiting)

    return file_stream(name, parts(), "application/jsonl; charset=utf-8")


def file_stream(name: str, parts: Iterator[bytes], media: str) -> Response:
    """Return a file that is made while it is sent."""
    return StreamingResponse(parts, 200, {"content-disposition": f'attachment; filename="{name}"'}, media)


def csv_cell(value: object) -> object:
    """Return a value as a cell that no spreadsheet interprets as a formula."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
