"""Responses with a stored file: as an attachment, in ranges, with its hash as the validator (RFC 9110, RFC 6266).

Browsers never display a file: its type is `application/octet-stream`, and `nosniff` prevents browsers from
guessing another one.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from datacenter.commands.desk import StoredFile
from datacenter.web.responses import matches
from datacenter.web.routes import PageRequest

BINARY: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})", re.IGNORECASE)


def file_response(page: PageRequest, stored: StoredFile) -> Response:
    """Return the file, its requested range (206), 304 if the client's copy is current, or 416."""
    etag = f'"{stored.sha256}"'
    headers = {"etag": etag, "accept-ranges": "bytes", "content-disposition": attachment(stored.name)}
    if matches(etag, page.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    wanted = page.headers.get("range", "")
    if page.headers.get("if-range", etag) != etag:
        wanted = ""
    match = _RANGE.fullmatch(wanted.strip())
    offsets = _offsets(match[1], match[2], stored.size) if match else None
    if offsets is None:
        return _part(stored, 200, 0, stored.size, headers)
    begin, end = offsets
    if begin >= end:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{stored.size}"})
    headers["content-range"] = f"bytes {begin}-{end - 1}/{stored.size}"
    return _part(stored, 206, begin, end, headers)


def attachment(name: str) -> str:
    """Return a Content-Disposition with a name in any script, and one in ASCII for old clients."""
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _offsets(first: str, last: str, size: int) -> tuple[int, int] | None:
    """Return the beginning and the end of a range; None if the range is invalid and must be ignored."""
    if not first:
        return (max(0, size - int(last)), size) if last else None
    if not last:
        return int(first), size
    return (int(first), min(size, int(last) + 1)) if int(first) <= int(last) else None


def _part(stored: StoredFile, status: int, begin: int, end: int, headers: dict[str, str]) -> Response:
    all_headers = {**headers, "content-length": str(end - begin)}
    return StreamingResponse(stored.read(begin, end), status, all_headers, BINARY)
