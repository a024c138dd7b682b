"""Signed text files: the last line is a comment with an ECDSA P-256 signature of everything before it.

    # signature: ecdsa-p256-sha256 MEUCIQ…

The signed file is still TOML, and its text and signature can only be replaced together. The signature has the form
of FIPS 186-5 and X9.62 (DER) in base64.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from wire.tls.tpm import load_key

_END_OF_KEY: Final = b"-----END PUBLIC KEY-----"
_MARK: Final = b"# signature: ecdsa-p256-sha256 "


class SignatureError(ValueError):
    """The file is not signed by the key, or the key cannot be used; the message says which."""


def new_key_pair() -> tuple[bytes, bytes]:
    """Generate a private and a public key for signatures, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(text: bytes, key: Path) -> bytes:
    """Append the signature by the private key in the PEM file `key`, in place of an earlier one.

    Raises: SignatureError, OSError.
    """
    private = load_private_key(key)
    body = _split(text)[0]
    if not body.endswith(b"\n"):
        body += b"\n"
    return body + _MARK + b64encode(private.sign(body, ec.ECDSA(SHA256()))) + b"\n"


def load_private_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Load the private key in the PEM file. Raises: SignatureError, OSError."""
    try:
        private = load_key(file.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise SignatureError(f"{file}: is not an unencrypted private key of curve P-256 in PEM")
    return private


def load_public_key(file: Path) -> ec.EllipticCurvePublicKey:
    """Load the public key in the PEM file. Raises: SignatureError, OSError."""
    try:
        public = load_pem_public_key(file.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise SignatureError(f"{file}: is not a public key of curve P-256 in PEM")
    return public


def load_public_keys(file: Path) -> list[ec.EllipticCurvePublicKey]:
    """Load the public keys in the PEM file, at least one. Raises: SignatureError, OSError."""
    keys = []
    for number, block in enumerate(file.read_bytes().split(_END_OF_KEY)[:-1], 1):
        try:
            public = load_pem_public_key(block + _END_OF_KEY)
        except (ValueError, UnsupportedAlgorithm):
            public = None
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise SignatureError(f"{file}: key {number} is not a public key of curve P-256 in PEM")
        keys.append(public)
    if not keys:
        raise SignatureError(f"{file}: has no public key in PEM")
    return keys


def verify(text: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the text without its signature, which must be by this key. Raises: SignatureError."""
    body, signature = _split(text)
    if signature is None:
        raise SignatureError("has no signature; its last line must begin with `# signature:`")
    try:
        decoded = b64decode(signature, validate=True)
        if b64encode(decoded) != signature:  # the last base64 digit may have unused bits
            raise ValueError
        key.verify(decoded, body, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        raise SignatureError("was changed after it was signed, or was signed with another key") from None
    return body


def _split(text: bytes) -> tuple[bytes, bytes | None]:
    start = text.rfind(b"\n" + _MARK) + 1
    last = text[start:]
    if not start or last.count(b"\n") > 1 or (last.count(b"\n") == 1 and not last.endswith(b"\n")):
        return text, None
    return text[:start], last[len(_MARK) :].rstrip(b"\n")
