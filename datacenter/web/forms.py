"""Reads forms, and refuses those that another site has sent."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from datacenter.web.parameters import ParameterError, parse_pairs

FORM_BYTES_MAX: Final = 16 * 1024
FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
_KIND: Final = "application/x-www-form-urlencoded"


class ForgedFormError(PermissionError):
    """The form was sent by another site, or does not carry the token of its session."""


async def read_form(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form. Raises: ForgedFormError, ParameterError."""
    require_own_site(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _KIND:
        raise ParameterError(f"a form must have the content type {_KIND}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES_MAX:
            raise ParameterError(f"the form is larger than {FORM_BYTES_MAX} bytes")
    try:
        return parse_pairs(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ParameterError("the form is not valid UTF-8") from error


def require_own_site(request: Request) -> None:
    """Refuse a form of another site, according to the browser's header Sec-Fetch-Site. Raises: ForgedFormError."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ForgedFormError("the form was sent by another site")
