"""Signatures of grants: COSE_Sign1 (RFC 9052) with ES256 (RFC 9053), and countersignatures, version 2 (RFC 9338).

A signed message has exactly the headers `alg` and `kid`, both protected, and a countersigned one also the
countersignature; every other header is refused, critical (`crit`) or not. Therefore each bit of a message is
protected by a signature, except that ECDSA has two signatures (r, s) and (r, n - s) for each message: never identify
a message by its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire.session.cbor import Cbor, CborError, decode, encode

BYTES_MAX: Final = 2048
"""Maximum length of a message; longer ones are refused without parsing. A grant has about 550 bytes."""
KEY_ID_BYTES: Final = 16
_SIGN1_TAG: Final = b"\xd2"
"""The head of tag 18, COSE_Sign1."""
_ALG: Final = 1
_CRIT: Final = 2
_KEY_ID: Final = 4
_COUNTERSIGNATURE: Final = 11
_ES256: Final = -7
_INTEGER_BYTES: Final = 32
Headers: TypeAlias = dict[int | str, Cbor]
Keys: TypeAlias = Mapping[bytes, EllipticCurvePublicKey]
"""Public keys by their `key_id`."""


class GrantError(ValueError):
    """An offer or grant is refused; the message says why."""


class Signed(NamedTuple):
    """A verified message."""

    payload: bytes
    message: bytes
    """The message without a countersignature."""
    countersigned: Headers | None = None
    """The protected headers of the verified countersignature other than `alg` and `kid`, if there is one."""


def key_id(key: EllipticCurvePublicKey) -> bytes:
    """Return the identifier of a key: the first 16 bytes of the SHA-256 of its SubjectPublicKeyInfo."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[:KEY_ID_BYTES]


def key_set(*keys: EllipticCurvePublicKey) -> dict[bytes, EllipticCurvePublicKey]:
    """Return keys by their identifiers."""
    return {key_id(key): key for key in keys}


def new_key() -> EllipticCurvePrivateKey:
    """Return a new private key for signatures."""
    return generate_private_key(SECP256R1())


def sign(payload: bytes, key: EllipticCurvePrivateKey) -> bytes:
    """Return the signed message."""
    protected = _protected(key, {})
    signature = _sign(["Signature1", protected, b"", payload], key)
    return _SIGN1_TAG + encode([protected, {}, payload, signature])


def countersign(message: bytes, headers: Headers, key: EllipticCurvePrivateKey) -> bytes:
    """Return a signed message with a countersignature that also signs `headers`. Raises: GrantError."""
    protected, unprotected, payload, signature = _parts(message)
    if unprotected:
        raise GrantError("is already countersigned")
    own = _protected(key, headers)
    counter = _sign(["CounterSignatureV2", protected, own, b"", payload, [signature]], key)
    return _SIGN1_TAG + encode([protected, {_COUNTERSIGNATURE: [own, {}, counter]}, payload, signature])


def verify(message: bytes, signers: Keys, countersigners: Keys | None = None) -> Signed:
    """Verify a message, and with `countersigners` also its countersignature, which it must then have.

    Raises: GrantError.
    """
    protected, unprotected, payload, signature = _parts(message)
    _verify(["Signature1", protected, b"", payload], protected, signature, signers, {})
    plain = _SIGN1_TAG + encode([protected, {}, payload, signature])
    if countersigners is None:
        if unprotected:
            raise GrantError("has unprotected headers; an offer has none")
        return Signed(payload, plain)
    if unprotected.keys() != {_COUNTERSIGNATURE}:
        raise GrantError("must have a countersignature (label 11), and no other unprotected header")
    own, empty, counter = _array(unprotected[_COUNTERSIGNATURE], 3, "the countersignature")
    if not isinstance(own, bytes) or empty != {} or not isinstance(counter, bytes):
        raise GrantError("the countersignature must be [protected headers, {}, signature]")
    structure: list[Cbor] = ["CounterSignatureV2", protected, own, b"", payload, [signature]]
    headers = _verify(structure, own, counter, countersigners, None)
    return Signed(payload, plain, headers)


def _parts(message: bytes) -> tuple[bytes, Headers, bytes, bytes]:
    if len(message) > BYTES_MAX:
        raise GrantError(f"has {len(message)} bytes; at most {BYTES_MAX} are accepted")
    if message[:1] != _SIGN1_TAG:
        raise GrantError("is not a COSE_Sign1 message: it must begin with tag 18")
    protected, unprotected, payload, signature = _array(_decoded(message[1:]), 4, "COSE_Sign1")
    if not (isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise GrantError("protected headers, payload and signature of COSE_Sign1 must be byte strings")
    if not isinstance(unprotected, dict):
        raise GrantError("the unprotected headers must be a map")
    return protected, unprotected, payload, signature


def _verify(
    structure: list[Cbor], protected: bytes, signature: bytes, keys: Keys, exact: Headers | None
) -> Headers:
    """Verify one signature; return the protected headers other than `alg` and `kid`, which `exact` restricts."""
    headers = _decoded(protected)
    if not isinstance(headers, dict):
        raise GrantError("the protected headers must be a map")
    if _CRIT in headers:
        raise GrantError(f"has critical headers, which are not known: {headers[_CRIT]!r}")
    if (alg := headers.pop(_ALG, None)) != _ES256:
        raise GrantError(f"is signed with algorithm {alg!r}; it must be ES256 (-7)")
    if exact is not None and headers.keys() - {_KEY_ID} != exact.keys():
        raise GrantError(f"has unknown protected headers: {sorted(map(str, headers.keys() - {_KEY_ID}))}")
    kid = headers.pop(_KEY_ID, None)
    key = keys.get(kid) if isinstance(kid, bytes) else None
    if key is None:
        raise GrantError(
            f"is signed with the key {kid.hex() if isinstance(kid, bytes) else kid}, which is not trusted"
        )
    if len(signature) != 2 * _INTEGER_BYTES:
        raise GrantError(f"has a signature of {len(signature)} bytes; ES256 has {2 * _INTEGER_BYTES}")
    r, s = (int.from_bytes(half, "big") for half in (signature[:_INTEGER_BYTES], signature[_INTEGER_BYTES:]))
    try:
        key.verify(encode_dss_signature(r, s), encode(structure), ECDSA(SHA256()))
    except InvalidSignature:
        raise GrantError("was changed after it was signed, or signed with another key") from None
    return headers


def _protected(key: EllipticCurvePrivateKey, headers: Headers) -> bytes:
    if not isinstance(key.curve, SECP256R1):
        raise GrantError("the signing key must be of curve P-256")
    return encode({_ALG: _ES256, _KEY_ID: key_id(key.public_key()), **headers})


def _sign(structure: list[Cbor], key: EllipticCurvePrivateKey) -> bytes:
    r, s = decode_dss_signature(key.sign(encode(structure), ECDSA(SHA256())))
    return r.to_bytes(_INTEGER_BYTES, "big") + s.to_bytes(_INTEGER_BYTES, "big")


def _decoded(data: bytes) -> Cbor:
    try:
        return decode(data)
    except CborError as error:
        raise GrantError(f"is not deterministic CBOR: {error}") from None


def _array(value: Cbor, length: int, name: str) -> list[Cbor]:
    if not isinstance(value, list) or len(value) != length:
        raise GrantError(f"{name} must be an array of {length} elements")
    return value
