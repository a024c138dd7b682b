"""Sessions of signed-in staff: a signed cookie, and the token that forms carry against cross-site request forgery.

The cookie has the person's id, the time and way of the sign-in and a random number, signed with HMAC-SHA-256. Rights
are looked up at every request (`WebServices.person`), so that the cookie has none. The form token is derived from the
cookie by the same key, so that another site, which cannot read the cookie, cannot know it.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

COOKIE: Final = "rap-session"
Way: TypeAlias = Literal["development", "oidc"]
SESSION_MS: Final = 10 * 3_600_000
"""A session ends after a working day; then the person signs in again."""
KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 32


class StaffSession(Struct, frozen=True, array_like=True):
    """Who has signed in, and when."""

    staff: str
    signed_in_ms: int
    nonce: bytes
    way: Way = "development"
    """How the person has signed in."""


class SessionSigner:
    """Makes and verifies session cookies and form tokens with a secret key."""

    def __init__(self, key: bytes, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        assert len(key) >= KEY_BYTES, "the key must have at least 256 bits"
        self._key, self._random_bytes = key, random_bytes
        self._decode = msgspec.msgpack.Decoder(StaffSession).decode

    def begin(self, staff: str, now_ms: int, way: Way = "development") -> str:
        """Return the cookie of a new session."""
        body = msgspec.msgpack.encode(StaffSession(staff, now_ms, self._random_bytes(16), way))
        return urlsafe_b64encode(self._sign(b"session", body) + body).decode().rstrip("=")

    def verify(self, cookie: str, now_ms: int) -> StaffSession | None:
        """Return the session of a cookie; None if it is forged, damaged or expired."""
        try:
            data = urlsafe_b64decode(cookie.encode("ascii") + b"=" * (-len(cookie) % 4))
        except ValueError:
            return None
        signature, body = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(b"session", body)):
            return None
        session = self._decode(body)
        return session if 0 <= now_ms - session.signed_in_ms < SESSION_MS else None

    def form_token(self, session: StaffSession | None) -> str:
        """Return the token for forms of this session; without one, that of the sign-in page."""
        subject = session.nonce if session else b""
        return self._sign(b"form", subject).hex()

    def is_form_token(self, session: StaffSession | None, token: str) -> bool:
        """Return whether a form carries the token of its session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode("utf-8", "replace"))

    def _sign(self, use: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, use + b"\0" + body, "sha256")
