"""Client authentication by an HTTP proxy: none, Basic (RFC 7617) or Digest (RFC 7616)."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from wire.dial.proxy_auth import parse_challenges

REALM: Final = "clinic"
NONCE: Final = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
"""A constant, so that runs are reproducible; a lab has no eavesdropper who could replay it."""

Credentials = tuple[str, str]
"""(user, password)"""


class AcceptAllVerifier:
    """Accept every client, with or without credentials."""

    challenge = f'Basic realm="{REALM}"'

    def accepts(self, authorization: str, target: str) -> bool:  # noqa: ARG002 - used by subclasses
        """Whether the `Proxy-Authorization` field of a CONNECT to `target` (host:port) is valid."""
        return True


class BasicVerifier(AcceptAllVerifier):
    """Verify the Basic scheme."""

    def __init__(self, credentials: Credentials) -> None:
        self._expected = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()

    def accepts(self, authorization: str, target: str) -> bool:
        """Whether the field has the user and the password."""
        return authorization == self._expected


class DigestVerifier(AcceptAllVerifier):
    """Verify the Digest scheme with SHA-256 and qop=auth (RFC 7616, 3.4)."""

    challenge = f'Digest realm="{REALM}", nonce="{NONCE}", algorithm=SHA-256, qop="auth"'

    def __init__(self, credentials: Credentials) -> None:
        self._user, self._password = credentials

    def accepts(self, authorization: str, target: str) -> bool:
        """Whether the field's response is the hash of the password, the nonce and the request."""
        given = next((c.parameters for c in parse_challenges([authorization]) if c.scheme == "digest"), {})
        secret = _hashed(self._user, REALM, self._password)
        counted = [given.get(name, "") for name in ("nc", "cnonce", "qop")]
        response = _hashed(secret, NONCE, *counted, _hashed("CONNECT", target))
        is_ours = (given.get("username"), given.get("nonce"), given.get("uri")) == (self._user, NONCE, target)
        return is_ours and given.get("response") == response


def _hashed(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()
