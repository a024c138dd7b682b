"""Client authentication by an HTTP proxy: none, Basic (RFC 7617), Digest (RFC 7616), NTLM, Negotiate (RFC 4559)."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

from sim.proxies.spnego import SpnegoExchange, SpnegoScheme
from wire.dial.proxy_auth import parse_challenges

REALM: Final = "clinic"
NONCE: Final = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
"""A constant, so that runs are reproducible; a lab has no eavesdropper who could replay it."""

Credentials = tuple[str, str]
"""User and password."""


class AcceptAllVerifier:
    """Accepts every client, with or without credentials. The base of all schemes; one instance per connection."""

    challenge = f'Basic realm="{REALM}"'
    """The value of `Proxy-Authenticate` with which the proxy refuses a request."""
    keep_alive = False
    """Whether the connection stays open after a refusal, because the client is expected to answer on it."""

    def accepts(self, authorization: str, target: str) -> bool:  # noqa: ARG002 - used by subclasses
        """Return whether the `Proxy-Authorization` field of a CONNECT to `target` (host:port) is valid."""
        return True


class BasicVerifier(AcceptAllVerifier):
    """Verifies the Basic scheme."""

    def __init__(self, credentials: Credentials) -> None:
        self._expected = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()

    def accepts(self, authorization: str, target: str) -> bool:
        """Return whether the field has the user and the password."""
        return authorization == self._expected


class DigestVerifier(AcceptAllVerifier):
    """Verifies the Digest scheme with SHA-256 and qop=auth (RFC 7616, 3.4)."""

    challenge = f'Digest realm="{REALM}", nonce="{NONCE}", algorithm=SHA-256, qop="auth"'

    def __init__(self, credentials: Credentials) -> None:
        self._user, self._password = credentials

    def accepts(self, authorization: str, target: str) -> bool:
        """Return whether the field's response is the hash of the password, the nonce and the request."""
        given = next((c.parameters for c in parse_challenges([authorization]) if c.scheme == "digest"), {})
        secret = _hashed(self._user, REALM, self._password)
        counted = [given.get(name, "") for name in ("nc", "cnonce", "qop")]
        response = _hashed(secret, NONCE, *counted, _hashed("CONNECT", target))
        is_ours = (given.get("username"), given.get("nonce"), given.get("uri")) == (self._user, NONCE, target)
        return is_ours and given.get("response") == response


class SpnegoVerifier(AcceptAllVerifier):
    """Verifies NTLM or Negotiate, which authenticate a connection: it stays open between the messages."""

    _NAMES: Final = {"ntlm": "NTLM", "negotiate": "Negotiate"}

    def __init__(self, scheme: SpnegoScheme, passwords: Path) -> None:
        """`passwords` is a file of `sim.proxies.spnego.write_passwords`."""
        self._scheme, self._passwords = scheme, passwords
        self._exchange: SpnegoExchange | None = None
        self.challenge = self._NAMES[scheme]
        self.keep_alive = True

    def accepts(self, authorization: str, target: str) -> bool:
        """See AcceptAllVerifier; a valid first message is refused too, with a challenge that has a token."""
        name, _, token = authorization.partition(" ")
        if name.lower() != self._scheme or not token:
            return False
        if self._exchange is None:
            self._exchange = SpnegoExchange(self._scheme, self._passwords)
        try:
            answer = self._exchange.step(token.strip())
        except PermissionError:
            self.challenge, self._exchange, self.keep_alive = self._NAMES[self._scheme], None, False
            return False
        self.challenge = f"{self._NAMES[self._scheme]} {answer}"
        return self._exchange.complete


def _hashed(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()
