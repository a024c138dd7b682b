"""Sign-in for development: the user is chosen on a page. Sign-out.

It is for a data center on the same machine alone, as no password is asked.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from datacenter.web.forms import FORM_TOKEN, ForgedFormError, read_form
from datacenter.web.parameters import ParameterError
from datacenter.web.rendering import render
from datacenter.web.responses import html, is_local_path, redirect
from datacenter.web.routes import WebServices
from datacenter.web.sessions import COOKIE, SESSION_MS

PATH: Final = "/sign-in"


def sign_in_routes(services: WebServices) -> list[BaseRoute]:
    """Return the routes of sign-in and sign-out, which need no session."""

    async def show(request: Request) -> Response:
        target = request.query_params.get("next", "/")
        return sign_in_page(services, target if is_local_path(target) else "/")

    async def sign_in(request: Request) -> Response:
        fields = await _fields(request)
        if not services.development:
            return sign_in_page(services, "/", 403, "Sign-in by choice is for development only.")
        if not services.signer.is_form_token(None, fields.get(FORM_TOKEN, "")):
            return sign_in_page(services, "/", 403, "The form has expired: choose again.")
        entry = services.directory.people.get(fields.get("staff", ""))
        target = fields.get("next", "/")
        target = target if is_local_path(target) else "/"
        if entry is None or not entry.principal.active:
            await _record(services, fields.get("staff", ""), "refused", "unknown, or not active")
            return sign_in_page(services, target, 403, "This person may not sign in.")
        await _record(services, fields["staff"], "permitted", "chosen on the page for development")
        response = redirect(target)
        cookie = services.signer.begin(fields["staff"], services.now_ms())
        response.set_cookie(
            COOKIE, cookie, max_age=SESSION_MS // 1000, httponly=True, samesite="strict", path="/"
        )
        return response

    async def sign_out(request: Request) -> Response:
        session = services.signer.verify(request.cookies.get(COOKIE, ""), services.now_ms())
        token = (await _fields(request)).get(FORM_TOKEN, "")
        if session is not None and not services.signer.is_form_token(session, token):
            return html(
                render("error.html", title="Not permitted", reason="Load the page again.", status=403), 403
            )
        response = redirect(PATH)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    return [
        Route(PATH, show, methods=["GET"]),
        Route(PATH, sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]


def sign_in_page(services: WebServices, target: str, status: int = 200, message: str = "") -> Response:
    """Return the page on which a user is chosen; `target` is shown afterwards."""
    staff = [(name, entry) for name, entry in services.directory.people.items() if entry.principal.active]
    return html(
        render(
            "sign_in.html",
            staff=staff if services.development else [],
            target=target,
            message=message,
            path=PATH,
            form_token=services.signer.form_token(None),
        ),
        status,
    )


async def _record(services: WebServices, staff: str, outcome: str, reason: str) -> None:
    """Record a sign-in. Raises: StoreError."""

    def record() -> Response:
        services.log.sign_in(services.now_ms(), staff, outcome, reason)
        return Response()

    await services.write(record)


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a form; none if it is not valid or was sent by another site."""
    try:
        return dict(await read_form(request))
    except (ParameterError, ForgedFormError):
        return {}
