"""Responses of the API: JSON with validators, problems (RFC 9457), and cursors of lists."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.web.parameters import ParameterError
from datacenter.web.responses import json_data, matches, not_modified
from datacenter.web.routes import PageRequest

PREFIX: Final = "/api/v1"
LIMIT_MAX: Final = 500
Limit: TypeAlias = Annotated[
    int, Meta(ge=1, le=LIMIT_MAX, description="the maximum number of items in the response")
]
Cursor: TypeAlias = Annotated[str, Meta(max_length=400, description="`next` of the previous response")]
Item = TypeVar("Item")
K = TypeVar("K")
_ENCODE: Final = msgspec.json.Encoder().encode


class ProblemDetails(Struct, frozen=True):
    """Why a request failed (RFC 9457); `detail` is the reason, with the correction if there is one."""

    title: str
    status: int
    detail: str


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a problem response without the path, so that responses for different names are equal."""
    body = _ENCODE(ProblemDetails(title, status, detail))
    return Response(body, status, headers, "application/problem+json")


def json_response(page: PageRequest, value: object) -> Response:
    """Return the value as JSON, or 304 (Not Modified) if the client's copy is current.

    The validator depends only on the content.
    """
    body = _ENCODE(value)
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    if matches(etag, page.headers.get("if-none-match", "")):
        return not_modified(etag)
    return json_data(body, etag, page.headers.get("accept-encoding", ""))


def next_cursor(items: Sequence[Item], limit: int, key: Callable[[Item], tuple[object, ...]]) -> str | None:
    """Return the cursor of the next part of a list; None at its end.

    `items` has one item more than `limit` if there is a next part; `key` returns the sort key of an item. A cursor
    grants no access.
    """
    return encode_cursor(key(items[limit - 1])) if len(items) > limit else None


def encode_cursor(key: tuple[object, ...]) -> str:
    """Return the cursor of the items after a sort key."""
    return urlsafe_b64encode(msgspec.msgpack.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[K]) -> K | None:
    """Return the sort key of a cursor; None for the beginning. Raises: ParameterError."""
    if not cursor:
        return None
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        return msgspec.msgpack.decode(data, type=kind)
    except (ValueError, msgspec.DecodeError) as error:
        raise ParameterError("cursor: must be `next` of a response of the same list") from error
