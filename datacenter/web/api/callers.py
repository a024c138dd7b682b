"""The caller of the API: a program with an API token or, for reading, a browser with the session of a person.

A cookie alone does not authorize changes, because a browser also sends it with requests that another site started. An
API token is sent only by a program that has it; therefore no form token is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from datacenter.access.directory import StaffPerson
from datacenter.access.request import ApiToken
from datacenter.access.tokens import find_token
from datacenter.access.vocabulary import Purpose
from datacenter.web.api.json_responses import problem
from datacenter.web.parameters import ParameterError
from datacenter.web.routes import WebServices
from datacenter.web.signing_in.limits import RefusalLimits
from wire.process.ratelimit import TokenBucket

REQUESTS_PER_SECOND: Final = 20.0
REQUESTS_BURST: Final = 100
BODY_BYTES_MAX: Final = 16 * 1024
REQUEST_KEY: Final = "idempotency-key"
"""The header with the caller's identifier of a request, by which repetitions are detected."""
_MISSING: Final = "send the header `Authorization: Bearer TOKEN`; `rap dc token create` makes a token"


@dataclass(frozen=True)
class Caller:
    """A member of the staff, and the API token and purpose of the program that acts for them."""

    staff: str
    entry: StaffPerson
    token: ApiToken | None = None
    purpose: Purpose | None = None


class UnknownCallerError(PermissionError):
    """The request has no valid API token or session."""


class TooManyRequestsError(Exception):
    """The limit of requests or refusals is exceeded; the next request is possible after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many requests")
        self.seconds = seconds


class UnsupportedBodyError(ValueError):
    """The body of a request cannot be read; `status` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Callers:
    """Identifies the callers of the API, and limits their requests."""

    def __init__(self, services: WebServices) -> None:
        self._services = services
        self._requests: dict[tuple[str, str], TokenBucket] = {}
        self._refusals = RefusalLimits()

    async def identify(self, request: Request, *, changes: bool) -> Caller:
        """Return the caller. Raises: UnknownCallerError, TooManyRequestsError; StoreError."""
        headers = request.headers.getlist("authorization")
        caller = (
            await self._by_token(request, headers) if headers else await self._by_session(request, changes)
        )
        key = caller.staff, caller.token.id if caller.token else ""
        bucket = self._requests.setdefault(key, TokenBucket(REQUESTS_PER_SECOND, REQUESTS_BURST))
        if wait := bucket.take(1, self._services.now_ms() / 1000):
            raise TooManyRequestsError(wait)
        return caller

    async def _by_session(self, request: Request, changes: bool) -> Caller:
        session = await self._services.session(request)
        entry = self._services.person(session)
        if session is None or entry is None:
            raise UnknownCallerError(_MISSING)
        if changes:
            raise UnknownCallerError(
                f"a session of the pages does not authorize changes through the API; {_MISSING}"
            )
        return Caller(session.staff, entry)

    async def _by_token(self, request: Request, headers: list[str]) -> Caller:
        now_ms = self._services.now_ms()
        scheme, _, secret = ", ".join(headers).partition(" ")  # several headers are refused
        caller: Caller | str = await self._services.read(
            lambda: self._look_up(scheme, secret.strip(), now_ms)
        )
        if isinstance(caller, Caller):
            return caller
        if wait := self._refusals.take(request, now_ms):
            raise TooManyRequestsError(wait)
        await self._services.write(
            lambda: self._services.log.sign_in(now_ms, "", "refused", caller, action="use-token")
        )
        raise UnknownCallerError(f"the API token is unknown, expired or revoked; {_MISSING}")

    def _look_up(self, scheme: str, secret: str, now_ms: int) -> Caller | str:
        """Return the caller, or why the token is refused, for the audit log."""
        if scheme.lower() != "bearer":
            return "not a bearer token"
        token = find_token(self._services.store, secret)
        if token is None:
            return "the API token is unknown"
        if (state := token.state(now_ms)) != "valid":
            return f"the API token {token.id} of {token.owner} is {state}"
        entry = self._services.directory.people.get(token.owner)
        if entry is None or not entry.principal.active:
            return f"{token.owner}, the owner of the API token {token.id}, is unknown or not active"
        return Caller(token.owner, entry, token.limits, token.purpose)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the members of a JSON object; none for an empty body. Raises: UnsupportedBodyError, ParameterError."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise UnsupportedBodyError(413, f"send a body of at most {BODY_BYTES_MAX} bytes")
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedBodyError(
            415, "send a JSON object with the content type application/json, or no body"
        )
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ParameterError("the body must be a JSON object") from error


def caller_problem(error: Exception) -> Response:
    """Return the response to an UnknownCallerError, TooManyRequestsError or UnsupportedBodyError."""
    if isinstance(error, TooManyRequestsError):
        seconds = str(int(error.seconds) + 1)
        text = f"the limit of requests is exceeded; try again in {seconds} s"
        return problem(429, "Too many requests", text, {"retry-after": seconds})
    if isinstance(error, UnsupportedBodyError):
        title = "The body is too large" if error.status == 413 else "The content type is not supported"
        return problem(error.status, title, str(error))
    return problem(401, "Not authorized", str(error), {"www-authenticate": 'Bearer realm="rap"'})
