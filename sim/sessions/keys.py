"""Keys of simulated sessions: the same keys and signatures in each run of a lab.

The audit file of a box has keys and signatures, and its lines are compressed on the simulated uplink: random ones
would change the lengths and times in each run. The programs under test sign as usual; the key determines how. Here
ECDSA derives its nonce from the message (RFC 6979), so that equal messages have equal signatures.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
)

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256 (SP 800-186, 3.2.1.3)."""


def drawn_keys(random: Random) -> Callable[[], ec.EllipticCurvePrivateKey]:
    """Return a function that draws keys on P-256 from `random`, which must have no other user."""

    def draw() -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(random.randrange(1, _ORDER), ec.SECP256R1())

    return draw


class RepeatableKey(ec.EllipticCurvePrivateKey):
    """A private key that gives equal messages equal signatures."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """Sign with a deterministic nonce (RFC 6979)."""
        digest: HashAlgorithm | Prehashed = signature_algorithm.algorithm
        return self._key.sign(data, ec.ECDSA(digest, deterministic_signing=True))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """See the base class."""
        return self._key.exchange(algorithm, peer_public_key)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """See the base class."""
        return self._key.public_key()

    @property
    def curve(self) -> ec.EllipticCurve:
        """See the base class."""
        return self._key.curve

    @property
    def key_size(self) -> int:
        """See the base class."""
        return self._key.key_size

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """See the base class."""
        return self._key.private_numbers()

    def private_bytes(
        self, encoding: Encoding, format: PrivateFormat, encryption_algorithm: KeySerializationEncryption
    ) -> bytes:
        """See the base class."""
        return self._key.private_bytes(encoding, format, encryption_algorithm)

    def __copy__(self) -> RepeatableKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> RepeatableKey:
        return self
