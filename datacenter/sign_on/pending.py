"""Sign-ons that browsers have begun, each stored only in a cookie of its browser.

State, nonce and verifier are derived from a secret in the cookie, together with the time and the target. Therefore
any process of the data center can finish a sign-on, also after a restart, and requests of people who have not signed
in store nothing. Without the cookie, nobody can compute a matching state.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

PENDING_MS: Final = 10 * 60_000
TARGET_CHARACTERS_MAX: Final = 2000
"""A cookie has at most 4096 bytes; a longer target is not kept."""


@dataclass(frozen=True)
class PendingSignOn:
    """A sign-on that a browser has begun."""

    secret: str
    target: str
    begun_ms: int

    @classmethod
    def begin(cls, target: str, now_ms: int) -> PendingSignOn:
        """Return a new sign-on, after which `target` is shown."""
        return cls(secrets.token_urlsafe(32), target if len(target) <= TARGET_CHARACTERS_MAX else "/", now_ms)

    @classmethod
    def of_cookie(cls, cookie: str, state: str, now_ms: int) -> PendingSignOn | None:
        """Return a browser's sign-on; None if the state belongs to another browser, or the sign-on is too old."""
        try:
            secret, begun_ms, target = cookie.split(".")
            pending = cls(secret, urlsafe_b64decode(target.encode()).decode(), int(begun_ms))
        except ValueError:
            return None
        if not hmac.compare_digest(pending.state.encode(), state.encode("utf-8", "replace")):
            return None
        return pending if 0 <= now_ms - pending.begun_ms < PENDING_MS else None

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        return f"{self.secret}.{self.begun_ms}.{urlsafe_b64encode(self.target.encode()).decode()}"

    @property
    def state(self) -> str:
        """The value that the provider returns, by which the callback belongs to this browser."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """The value in the ID token, by which the token belongs to this sign-on."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """The secret of PKCE (RFC 7636), by which the code belongs to this sign-on."""
        return self._derived("verifier")

    def _derived(self, use: str) -> str:
        text = f"{use}\0{self.begun_ms}\0{self.target}"
        return (
            urlsafe_b64encode(hmac.digest(self.secret.encode(), text.encode(), "sha256")).decode().rstrip("=")
        )
