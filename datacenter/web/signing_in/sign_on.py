"""Sign-on by an OpenID Connect provider: authorization code with PKCE, state and nonce.

The state is bound to the browser by a separate cookie (`PendingSignOn`), which is SameSite=Lax because the provider
redirects to the callback. The session's cookie is SameSite=Strict, and a redirect would not send it; therefore the
sign-on ends with a page that loads the next one. Each outcome is recorded before it takes effect.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from datacenter.sign_on.claims import ClaimError, person_of, read_claims
from datacenter.sign_on.pending import PENDING_MS, PendingSignOn
from datacenter.sign_on.provider import ProviderError, TokenError
from datacenter.sign_on.sign_on import SignOn
from datacenter.web.rendering import render
from datacenter.web.responses import html, is_local_path
from datacenter.web.routes import WebServices
from datacenter.web.sessions import SignedOn
from datacenter.web.signing_in.limits import RefusalLimits
from datacenter.web.signing_in.sign_in import (
    PATH,
    SIGN_ON_PATH,
    begin_session,
    end_session,
    record_sign_in,
    set_session,
    sign_in_page,
)

BROWSER_COOKIE: Final = "rap-sign-on"
CALLBACK: Final = f"{PATH}/callback"
ERRORS: Final = frozenset(
    {"access_denied", "login_required", "consent_required", "interaction_required", "invalid_request",
     "invalid_scope", "server_error", "temporarily_unavailable", "unauthorized_client"}
)  # fmt: skip
"""The codes of errors that a provider may send (RFC 6749, 4.1.2.1; OpenID Connect Core, 3.1.2.6)."""
_AGAIN: Final = (
    "Sign in again; if it is refused again, ask your administrator for the reason in the audit log."
)
_WRONG_STATE: Final = "the state is unknown, used, expired, or of another browser"
_log: Final = logging.getLogger(__name__)


class _Refused(Exception):
    """A sign-on is refused; `staff` is empty unless the ID token was verified."""

    def __init__(self, reason: str, status: int = 403, staff: str = "") -> None:
        super().__init__(reason)
        self.status, self.staff = status, staff


def sign_on_routes(services: WebServices) -> list[BaseRoute]:
    """Return the routes of the sign-on; none without a provider."""
    sign_on = services.sign_on
    if sign_on is None:
        return []
    limits = RefusalLimits()

    async def begin(request: Request) -> Response:
        target = request.query_params.get("next", "/")
        pending = PendingSignOn.begin(target if is_local_path(target) else "/", services.now_ms())
        try:
            url = await sign_on.provider.authorization_url(pending.state, pending.nonce, pending.verifier)
        except ProviderError as error:
            return await refuse(request, _Refused(f"the provider: {error}", 503))
        response = Response(status_code=303, headers={"location": url})
        response.set_cookie(
            BROWSER_COOKIE,
            pending.cookie,
            PENDING_MS // 1000,
            path=PATH,
            secure=sign_on.settings.is_secure,
            httponly=True,
            samesite="lax",
        )
        return response

    async def callback(request: Request) -> Response:
        try:
            pending = _pending(services, request)
            signed_on = await _signed_on(services, sign_on, request, pending)
        except _Refused as error:
            return await refuse(request, error)
        staff = signed_on.claimed.staff
        if not (cookie := await begin_session(services, staff, signed_on)):
            return await refuse(request, _Refused(_WRONG_STATE))
        await record_sign_in(services, staff, "permitted", f"by {sign_on.settings.issuer}")
        if previous := await services.session(request):
            await end_session(services, previous)
        response = html(render("reload.html", target=pending.target))
        set_session(response, cookie, secure=sign_on.settings.is_secure)
        response.delete_cookie(BROWSER_COOKIE, path=PATH, httponly=True, samesite="lax")
        return response

    async def refuse(request: Request, error: _Refused) -> Response:
        if wait := limits.take(request, services.now_ms()):
            headers = {"retry-after": str(int(wait) + 1)}
            return Response("too many refused sign-ons; try again later\n", 429, headers, "text/plain")
        _log.warning("a sign-on was refused: %s", error)
        await record_sign_in(services, error.staff, "refused", str(error))
        if error.status == 503:
            return sign_in_page(
                services, "/", 503, "The sign-on service does not respond. Try again in a minute."
            )
        return sign_in_page(services, "/", error.status, f"The sign-on was refused. {_AGAIN}")

    return [Route(SIGN_ON_PATH, begin, methods=["GET"]), Route(CALLBACK, callback, methods=["GET"])]


def _pending(services: WebServices, request: Request) -> PendingSignOn:
    """Return the sign-on that this browser has begun. Raises: _Refused."""
    state, browser = request.query_params.get("state", ""), request.cookies.get(BROWSER_COOKIE, "")
    pending = PendingSignOn.of_cookie(browser, state, services.now_ms())
    if pending is None:
        raise _Refused(_WRONG_STATE)
    return pending


async def _signed_on(
    services: WebServices, sign_on: SignOn, request: Request, pending: PendingSignOn
) -> SignedOn:
    """Return the provider's claims about a person who may sign in. Raises: _Refused."""
    query = request.query_params
    if query.get("iss", sign_on.settings.issuer) != sign_on.settings.issuer:
        raise _Refused("the response is from another issuer")
    if problem := query.get("error"):
        raise _Refused(f"the provider refuses: {problem if problem in ERRORS else 'unknown error'}")
    if not (code := query.get("code")):
        raise _Refused("the response contains no code")
    try:
        claims, id_token = await sign_on.provider.exchange(code, pending.verifier, pending.nonce)
    except ProviderError as error:
        raise _Refused(f"the provider: {error}", 503) from error
    except TokenError as error:
        raise _Refused(str(error)) from error
    try:
        claimed = read_claims(sign_on.settings, claims)
        person_of(claimed, services.directory.people)
    except ClaimError as error:
        subject = claims["sub"]
        raise _Refused(f"{error}", staff=subject if isinstance(subject, str) else "") from error
    return SignedOn(claimed, id_token, sign_on.settings.fingerprint, pending.state)
