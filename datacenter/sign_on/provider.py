"""The OpenID Connect provider: its metadata and keys, the exchange of a code, and the verification of an ID token.

OpenID Connect Core 1.0, Discovery 1.0; RFC 7636 (PKCE), RFC 9700 (best current practice). Anything unexpected is an
error, and nothing that the provider sends is used before it is verified.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from datacenter.sign_on.settings import Oidc, url_problem

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "RS384", "PS384", "ES384", "RS512", "PS512", "ES512")
"""Accepted algorithms of ID tokens: asymmetric signatures that FIPS 186-5 approves; neither `none` nor a shared
secret."""
KEY_TYPES: Final = ("RSA", "EC")
SKEW_SECONDS: Final = 60
"""Maximum difference between the clocks of the provider and of this machine."""
METADATA_SECONDS: Final = 3600.0
KEYS_SECONDS_MIN: Final = 30.0
"""Minimum interval of look-ups of unknown keys, so that tokens with invented key names do not each cause one."""
TIMEOUT_SECONDS: Final = 10.0
BYTES_MAX: Final = 256 * 1024
SCOPES: Final = "openid profile email"


S = TypeVar("S", bound=msgspec.Struct)


class ProviderError(Exception):
    """The provider does not respond, or not as specified; `status` is the HTTP status, or 0."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class TokenError(Exception):
    """The ID token is refused; the text says why, without its content."""


class Metadata(msgspec.Struct, frozen=True):
    """The members of the provider's metadata that are used here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str
    access_token: str = ""


class _Keys(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class Provider:
    """The provider that the settings name; `now_s` is the wall clock.

    Raises: OSError for an unusable file with the secret or the CAs.
    """

    def __init__(self, settings: Oidc, now_s: Callable[[], float]) -> None:
        self._settings, self._now_s = settings, now_s
        self._secret = settings.client_secret.read_text().strip() if settings.client_secret else ""
        self._tls = _tls(settings.authorities)
        self._metadata: tuple[Metadata, float] | None = None
        self._keys: tuple[KeySet, float] | None = None

    @property
    def redirect_uri(self) -> str:
        """The URL to which the provider redirects browsers."""
        return f"{self._settings.url}/sign-in/callback"

    async def authorization_url(self, state: str, nonce: str, verifier: str) -> str:
        """Return the URL of a request for authorization. Raises: ProviderError."""
        metadata = await self._find_metadata()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": SCOPES,
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        return _with_query(metadata.authorization_endpoint, query)

    async def end_session_url(self, id_token: str) -> str:
        """Return the URL that ends the session at the provider; empty if it has none. Raises: ProviderError."""
        metadata = await self._find_metadata()
        if not metadata.end_session_endpoint:
            return ""
        query = {
            "client_id": self._settings.client_id,
            "id_token_hint": id_token,
            "post_logout_redirect_uri": f"{self._settings.url}/sign-in",
        }
        return _with_query(metadata.end_session_endpoint, query)

    async def exchange(self, code: str, verifier: str, nonce: str) -> tuple[Mapping[str, Any], str]:
        """Exchange a code; return the verified claims and the ID token. Raises: ProviderError, TokenError."""
        metadata = await self._find_metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        credentials: tuple[str, str] | None = None
        if self._secret and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            credentials = (self._settings.client_id, self._secret)
        else:
            form["client_id"] = self._settings.client_id
            if self._secret:
                form["client_secret"] = self._secret
        try:
            body = await self._request("POST", metadata.token_endpoint, form, credentials)
        except ProviderError as error:
            if error.status in (400, 401, 403):  # RFC 6749, 5.2
                raise TokenError(f"the provider refuses the code or this client: {error}") from None
            raise
        tokens = _decode(body, _Tokens, "the response to the code")
        return await self.verify(tokens.id_token, tokens.access_token, nonce), tokens.id_token

    async def verify(self, id_token: str, access_token: str, nonce: str) -> Mapping[str, Any]:
        """Return the claims of an ID token. Raises: ProviderError, TokenError."""
        try:
            keys = await self._find_keys()
            try:
                token = jwt.decode(id_token, keys, algorithms=ALGORITHMS)
            except (InvalidKeyIdError, BadSignatureError):
                if (newer := await self._find_keys(newer=True)) is keys:
                    raise
                token = jwt.decode(id_token, newer, algorithms=ALGORITHMS)
            options = {
                "iss": {"essential": True, "value": self._settings.issuer},
                "aud": {"essential": True, "value": self._settings.client_id},
                "sub": {"essential": True},
            }
            expected = {"nonce": nonce, "client_id": self._settings.client_id, "access_token": access_token}
            claims = CodeIDToken(token.claims, token.header, options, expected)
            claims.validate(int(self._now_s()), SKEW_SECONDS)
        except JoseError as error:
            raise TokenError(_reason(error)) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise TokenError(f"the ID token is malformed ({type(error).__name__})") from None
        return dict(claims)

    async def _find_metadata(self) -> Metadata:
        now = self._now_s()
        if self._metadata is not None and 0 <= now - self._metadata[1] < METADATA_SECONDS:
            return self._metadata[0]
        url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        metadata = _decode(await self._request("GET", url), Metadata, "the metadata")
        if metadata.issuer != self._settings.issuer:
            raise ProviderError("the issuer in the metadata is not access.oidc.issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "end_session_endpoint"):
            if (address := getattr(metadata, name)) and url_problem(address.partition("?")[0]):
                raise ProviderError(f"the metadata: {name} is not an https URL")
        self._metadata = metadata, now
        return metadata

    async def _find_keys(self, *, newer: bool = False) -> KeySet:
        """Return the provider's keys; with `newer`, fetch them again unless they were just fetched."""
        now = self._now_s()
        if self._keys is not None:
            age = now - self._keys[1]
            if 0 <= age < (KEYS_SECONDS_MIN if newer else METADATA_SECONDS):
                return self._keys[0]
        metadata = await self._find_metadata()
        published = _decode(await self._request("GET", metadata.jwks_uri), _Keys, "the keys").keys
        usable = [key for key in published if key.get("kty") in KEY_TYPES and key.get("use", "sig") == "sig"]
        try:
            keys = KeySet.import_key_set({"keys": usable})
        except (JoseError, ValueError, TypeError) as error:
            raise ProviderError(f"the keys are not usable ({type(error).__name__})") from None
        self._keys = keys, now
        return keys

    async def _request(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> bytes:
        """Return the body of a response with status 200. Raises: ProviderError."""
        body = b""
        try:
            async with (
                httpx.AsyncClient(
                    verify=self._tls, timeout=TIMEOUT_SECONDS, follow_redirects=False
                ) as client,
                client.stream(
                    method, url, data=form, auth=credentials, headers={"accept": "application/json"}
                ) as answer,
            ):
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > BYTES_MAX:
                        raise ProviderError(f"a response has more than {BYTES_MAX} bytes")
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise ProviderError(f"no response ({type(error).__name__})") from None
        if status != httpx.codes.OK:
            raise ProviderError(f"a response has status {status}", status)
        return body


def _tls(authorities: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def _decode(body: bytes, kind: type[S], what: str) -> S:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProviderError(f"{what}: not as OpenID Connect defines it") from None


def _reason(error: JoseError) -> str:
    """Return the reason in this program's words: messages of the library quote values."""
    claim = getattr(error, "claim", None) or getattr(error, "claim_name", None)
    of = f" of {claim}" if isinstance(claim, str) else ""
    return f"the ID token is refused: {error.error or type(error).__name__}{of}".replace("_", " ")
