"""A CA's key in a hardware security module, through PKCS #11 (OASIS, 2.40).

The module signs hashes (CKM_ECDSA), which every module supports; some, such as SoftHSM 2.6, do not hash themselves.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pkcs11
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11.util.ec import encode_ec_public_key, encode_ecdsa_signature

from datacenter.vendor_ca.authority import AuthorityError
from wire.tls.external_key import ExternalKey


def load_module_key(module: Path, token: str, label: str, pin: Path) -> ModuleKey:
    """Open a token of a security module, and return the key pair with this label; `pin` is a file with the PIN.

    Raises: AuthorityError, OSError.
    """
    try:
        library = pkcs11.lib(str(module))
        session = _open(library.get_token(token_label=token), pin.read_text().strip())
        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=label)
        public: Any = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=label)
        parsed = serialization.load_der_public_key(encode_ec_public_key(public))
    except pkcs11.exceptions.PKCS11Error as error:
        text = f"{type(error).__name__} {error}".strip()
        raise AuthorityError(f"{module}: token {token}, key {label}: cannot be used: {text}") from None
    except (RuntimeError, ValueError, KeyError) as error:
        raise AuthorityError(f"{module}: cannot be used as a PKCS #11 module: {error}") from None
    if not isinstance(parsed, ec.EllipticCurvePublicKey) or not isinstance(parsed.curve, ec.SECP256R1):
        raise AuthorityError(f"{module}: token {token}, key {label}: must be an ECDSA key of curve P-256")
    return ModuleKey(private, parsed)


def _open(token: Any, pin: str) -> Any:
    """Open a session; a login applies to all sessions of a process (PKCS #11, 5.6)."""
    try:
        return token.open(user_pin=pin)
    except pkcs11.exceptions.UserAlreadyLoggedIn:
        return token.open()


class ModuleKey(ExternalKey):
    """A P-256 key that never leaves the security module; it can only sign."""

    location = "the security module"

    def __init__(self, private: Any, public: ec.EllipticCurvePublicKey) -> None:
        super().__init__(public)
        self._private = private
        self._lock = threading.Lock()
        """A session of PKCS #11 has one operation at a time."""

    def sign_hash(self, digest: bytes) -> bytes:
        """Return the signature (DER) of a hash."""
        with self._lock:
            signature = self._private.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)
        return bytes(encode_ecdsa_signature(signature))
