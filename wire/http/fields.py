"""Status lines, header fields and their dates, and removal of gzip content coding."""

from __future__ import annotations

import zlib
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final

_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_GZIP_ONLY: Final = 16 + zlib.MAX_WBITS
_STATUS_LINES: Final[dict[int, str]] = {
    status: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


def status_line(status: int) -> str:
    """Return the status line; without a reason phrase for an unregistered status (RFC 9112, 4)."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"


def add_field(headers: dict[str, str], name: str, value: str) -> None:
    """Add a header field; fields of the same name are joined by commas (RFC 9110, 5.3), so that none is lost."""
    headers[name] = f"{headers[name]}, {value}" if name in headers else value


def date_text(second: int) -> str:
    """Format seconds since 1970 as an HTTP date (RFC 9110, 5.6.7)."""
    day, in_day = divmod(second, 86400)
    return f"{_day(day)} {in_day // 3600:02}:{in_day // 60 % 60:02}:{in_day % 60:02} GMT"


@lru_cache(maxsize=4)
def _day(day: int) -> str:
    return formatdate(day * 86400, usegmt=True)[: len("Thu, 01 Jan 1970")]


def date_s(value: str) -> float | None:
    """Parse an HTTP date in any of its three forms (RFC 9110, 5.6.7) to seconds since 1970; None if invalid."""
    try:
        date = parsedate_to_datetime(value)
        # the asctime form has no zone; HTTP dates are always in UTC
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def uncompressed(body: bytes, bytes_max: int) -> bytes:
    """Remove gzip coding that an intermediary may have applied to a body (RFC 9110, 8.4.1.3).

    The coding is recognized by its magic number and not by `Content-Encoding`, which intermediaries leave in place or
    omit; no message of this project begins like that. A damaged body, or one longer than `bytes_max` bytes when
    decoded, is returned unchanged.
    """
    if not body.startswith(_GZIP_MAGIC):
        return body
    decoder = zlib.decompressobj(_GZIP_ONLY)
    try:
        plain = decoder.decompress(body, bytes_max + 1)
    except zlib.error:
        return body
    return plain if decoder.eof and len(plain) <= bytes_max else body
