"""Verification of security keys (FIDO2): assertions of WebAuthn over a challenge that belongs to one offer.

A key signs the challenge together with the name of the requesting page, and a flag that a person touched the key (Web
Authentication, Level 2, 7.2). The signature counter is not compared: it would have to be stored durably, many keys
always report 0, and an assertion is for one offer, which can be permitted once.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

_HEAD_BYTES: Final = 37
"""Length of the fixed part of authenticator data: hash of the relying party's name, flags and counter."""
_USER_PRESENT: Final = 0x01


class SecurityKeyError(ValueError):
    """The assertion does not prove presence; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """The response of a security key and the browser; all values are base64url without padding."""

    id: str
    """The identifier of the key's credential."""
    client_data: str
    authenticator_data: str
    signature: str


class SecurityKeys:
    """The keys that the site has enrolled, for the page of one name."""

    def __init__(self, name: str, keys: dict[str, bytes]) -> None:
        """`keys` has public keys (SubjectPublicKeyInfo, DER) by the identifiers of their credentials.

        Raises: ValueError for a key that is not of curve P-256.
        """
        self.name = name
        self._keys = {id: _public_key(key) for id, key in keys.items()}

    @property
    def ids(self) -> list[str]:
        """The identifiers of all credentials."""
        return list(self._keys)

    def verify(self, assertion: Assertion, challenge: bytes) -> str:
        """Return a short name of the key that a person touched for this challenge. Raises: SecurityKeyError."""
        key = self._keys.get(assertion.id)
        if key is None:
            raise SecurityKeyError("it is not enrolled")
        client_data, data = _decoded(assertion.client_data), _decoded(assertion.authenticator_data)
        self._check_client_data(client_data, challenge)
        if len(data) < _HEAD_BYTES or data[:32] != sha256(self.name.encode()).digest():
            raise SecurityKeyError("it was used for another name")
        if not data[32] & _USER_PRESENT:
            raise SecurityKeyError("nobody has touched it")
        try:
            key.verify(_decoded(assertion.signature), data + sha256(client_data).digest(), ec.ECDSA(SHA256()))
        except InvalidSignature:
            raise SecurityKeyError("its signature is wrong") from None
        return f"key {assertion.id[:16]}"

    def _check_client_data(self, data: bytes, challenge: bytes) -> None:
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or fields.get("type") != "webauthn.get":
            raise SecurityKeyError("the browser did not ask it for an assertion")
        if fields.get("challenge") != encoded(challenge):
            raise SecurityKeyError("it was used for another offer")
        origin = fields.get("origin")
        if not isinstance(origin, str) or origin.partition("://")[0] != "https" or _host(origin) != self.name:
            raise SecurityKeyError("it was used on another page")
        if fields.get("crossOrigin"):
            raise SecurityKeyError("it was used in a page embedded within another site")


def encoded(data: bytes) -> str:
    """Return base64url without padding, as browsers write it."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:  # includes UnicodeEncodeError
        raise SecurityKeyError("the browser's data is not base64url") from None


def _host(origin: str) -> str:
    return origin.partition("://")[2].partition(":")[0]


def _public_key(key: bytes) -> ec.EllipticCurvePublicKey:
    loaded = load_der_public_key(key)
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or not isinstance(loaded.curve, ec.SECP256R1):
        raise ValueError("a security key must have a public key of curve P-256 (ES256)")
    return loaded
