"""The page for signing in; sign-in for development; sign-out.

For development, the user is chosen on the page, without a password. This is only for a data center on the same
machine. `datacenter.web.signing_in.sign_on` implements sign-on by a provider.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from datacenter.sign_on.provider import ProviderError
from datacenter.web.forms import FORM_TOKEN, ForgedFormError, read_form
from datacenter.web.parameters import ParameterError
from datacenter.web.rendering import render
from datacenter.web.responses import html, is_local_path, redirect
from datacenter.web.routes import WebServices
from datacenter.web.sessions import (
    COOKIE,
    SESSION_MS,
    SESSIONS_OF_PERSON_MAX,
    SignedOn,
    StaffSession,
    is_same_token,
)

PATH: Final = "/sign-in"
_TIMED_OUT: Final = f"the session expired: the person was idle, or {SESSION_MS // 3_600_000} hours had passed"
_TOO_MANY: Final = f"the oldest session ends, because a person has at most {SESSIONS_OF_PERSON_MAX}"
_SIGNED_OUT: Final = "You are signed out: the session has ended on the server."
SIGN_ON_PATH: Final = "/sign-in/oidc"


def sign_in_routes(services: WebServices) -> list[BaseRoute]:
    """Return the routes of sign-in and sign-out, which need no session."""

    async def show(request: Request) -> Response:
        target = request.query_params.get("next", "/")
        message = _SIGNED_OUT if "signed-out" in request.query_params else ""
        return sign_in_page(services, target if is_local_path(target) else "/", message=message)

    async def sign_in(request: Request) -> Response:
        fields = await _fields(request)
        if not services.development:
            return sign_in_page(
                services, "/", 403, "Signing in without a password is possible on development systems only."
            )
        if not is_same_token(services.sign_in_token, fields.get(FORM_TOKEN, "")):
            return sign_in_page(services, "/", 403, "The form has expired: choose again.")
        entry = services.directory.people.get(fields.get("staff", ""))
        target = fields.get("next", "/")
        target = target if is_local_path(target) else "/"
        if entry is None or not entry.principal.active:
            await record_sign_in(services, fields.get("staff", ""), "refused", "unknown, or not active")
            return sign_in_page(services, target, 403, "This person may not sign in.")
        await record_sign_in(services, fields["staff"], "permitted", "chosen on the page for development")
        response = redirect(target)
        set_session(response, await begin_session(services, fields["staff"]))
        return response

    async def sign_out(request: Request) -> Response:
        session = await services.session(request)
        token = (await _fields(request)).get(FORM_TOKEN, "")
        if session is not None and not session.is_form_token(token):
            return html(
                render(
                    "error.html",
                    title="Not permitted",
                    reason="Load the page again, and sign out again.",
                    status=403,
                ),
                403,
            )
        response: Response = redirect(f"{PATH}?signed-out")
        if session is not None:
            await record_sign_in(services, session.staff, "permitted", "signed out", action="sign-out")
            await end_session(services, session)
            response = await _provider_end(services, session) or response
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    return [
        Route(PATH, show, methods=["GET"]),
        Route(PATH, sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]


async def begin_session(services: WebServices, staff: str, signed_on: SignedOn | None = None) -> str:
    """Open a session, and return its cookie; empty if the sign-on has already opened one. Raises: StoreError.

    Expired sessions, and other sessions of the person, are recorded. The oldest ends if there are more than
    SESSIONS_OF_PERSON_MAX.
    """
    now_ms, sessions, log = services.now_ms(), services.sessions, services.log

    def begin() -> str:
        for one in sessions.expired(now_ms):
            log.sign_in(one.ended_at_ms, one.staff, "permitted", _TIMED_OUT, action="sign-out")
        others = sessions.count(staff, now_ms)
        cookie = sessions.begin(staff, now_ms, signed_on)
        if cookie and others:
            text = f"{others} other {'session' if others == 1 else 'sessions'} of the person open"
            log.sign_in(now_ms, staff, "permitted", text)
        if cookie and others >= SESSIONS_OF_PERSON_MAX:
            log.sign_in(now_ms, staff, "permitted", _TOO_MANY, action="sign-out")
            sessions.end_oldest(cookie, staff, SESSIONS_OF_PERSON_MAX)
        return cookie

    cookie: str = await services.write(begin)
    return cookie


async def end_session(services: WebServices, session: StaffSession) -> None:
    """End a session. Raises: StoreError."""
    await services.write(lambda: services.sessions.end(session))


async def _provider_end(services: WebServices, session: StaffSession) -> Response | None:
    """Return a page with a link that ends the provider's session; None if the provider offers none or fails."""
    if services.sign_on is None or not session.id_token:
        return None
    try:
        end = await services.sign_on.provider.end_session_url(session.id_token)
    except ProviderError:
        return None
    return sign_in_page(services, "/", provider_end=end) if end else None


def set_session(response: Response, cookie: str, *, secure: bool = False) -> None:
    """Set the cookie of a session in a response."""
    response.set_cookie(
        COOKIE, cookie, SESSION_MS // 1000, path="/", secure=secure, httponly=True, samesite="strict"
    )


def sign_in_page(
    services: WebServices, target: str, status: int = 200, message: str = "", *, provider_end: str = ""
) -> Response:
    """Return the page for signing in.

    `target` is the path that is shown after the sign-in. `provider_end` is the URL that ends the provider's session.
    """
    staff = [(name, entry) for name, entry in services.directory.people.items() if entry.principal.active]
    return html(
        render(
            "sign_in.html",
            staff=staff if services.development else [],
            sign_on=SIGN_ON_PATH if services.sign_on else "",
            provider_end=provider_end,
            target=target,
            message=message,
            path=PATH,
            form_token=services.sign_in_token,
        ),
        status,
    )


async def record_sign_in(
    services: WebServices, staff: str, outcome: str, reason: str, *, action: str = "sign-in"
) -> None:
    """Record a sign-in or sign-out. Raises: StoreError."""

    def record() -> Response:
        services.log.sign_in(services.now_ms(), staff, outcome, reason, action=action)
        return Response()

    await services.write(record)


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a form; none if it is not valid or was sent by another site."""
    try:
        return dict(await read_form(request))
    except (ParameterError, ForgedFormError):
        return {}
