"""What the server keeps of sign-ons: those that browsers have begun, and the people of open sessions.

Both are in memory, as the key of the session cookies: a restart of the program ends them. A state is used once,
within PENDING_MS, and by the browser that began. A session that was signed out is not valid again.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from datacenter.access.directory import StaffPerson

PENDING_MS: Final = 10 * 60_000
PENDING_MAX: Final = 10_000
SESSIONS_MAX: Final = 10_000
"""Beyond it, the oldest is ended."""


@dataclass(frozen=True)
class Pending:
    """A sign-on that a browser has begun. `browser` is the secret in its cookie."""

    browser: str
    nonce: str
    verifier: str
    target: str
    begun_ms: int


@dataclass(frozen=True)
class SignedOn:
    """A session of a person that the provider has authenticated."""

    person: StaffPerson
    id_token: str


class SignOns:
    """Pending sign-ons and sessions."""

    def __init__(self) -> None:
        self._pending: OrderedDict[str, Pending] = OrderedDict()
        self._sessions: OrderedDict[bytes, SignedOn] = OrderedDict()

    def begin(self, target: str, now_ms: int) -> tuple[str, Pending]:
        """Return the state of a new sign-on, and what belongs to it."""
        state = secrets.token_urlsafe(32)
        browser, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        pending = Pending(browser, nonce, verifier, target, now_ms)
        self._pending[state] = pending
        while len(self._pending) > PENDING_MAX:
            self._pending.popitem(last=False)
        return state, pending

    def take(self, state: str, browser: str, now_ms: int) -> Pending | None:
        """Return a pending sign-on and forget it; None if it is unknown, used, too old, or of another browser."""
        pending = self._pending.get(state)
        if pending is None or not hmac.compare_digest(
            pending.browser.encode(), browser.encode("utf-8", "replace")
        ):
            return None
        del self._pending[state]
        return pending if 0 <= now_ms - pending.begun_ms < PENDING_MS else None

    def open(self, session: bytes, signed_on: SignedOn) -> None:
        """Keep the person of a session."""
        self._sessions[session] = signed_on
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)

    def find(self, session: bytes) -> SignedOn | None:
        """Return the person of a session; None if it was ended."""
        return self._sessions.get(session)

    def end(self, session: bytes) -> SignedOn | None:
        """End a session; return what it was."""
        return self._sessions.pop(session, None)
