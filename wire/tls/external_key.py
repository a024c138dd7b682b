"""Private keys outside this process, in a security module or in a TPM: they sign hashes, and are never read."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed


class ExternalKey(ec.EllipticCurvePrivateKey):
    """A private key that cannot be exported; it can only sign."""

    location: ClassVar[str]
    """The storage of the key, for messages."""

    def __init__(self, public: ec.EllipticCurvePublicKey) -> None:
        self._public = public

    @abstractmethod
    def sign_hash(self, digest: bytes) -> bytes:
        """Return the signature (DER) of a hash."""

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Return the signature (DER) of bytes, or of their hash if the algorithm is `Prehashed`.

        Raises: the exceptions of `sign_hash`.
        """
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, Prehashed):
            digest = hashes.Hash(algorithm)
            digest.update(data)
            data = digest.finalize()
        return self.sign_hash(bytes(data))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """The size in bits."""
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Refuse, because the operation is not supported. Raises: NotImplementedError."""
        raise NotImplementedError(f"the key in {self.location} only signs")

    def private_numbers(self) -> NoReturn:
        """Refuse, because the operation is not supported. Raises: NotImplementedError."""
        raise NotImplementedError(f"the key cannot be exported from {self.location}")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:
        """Refuse, because the operation is not supported. Raises: NotImplementedError."""
        raise NotImplementedError(f"the key cannot be exported from {self.location}")

    def __copy__(self) -> ExternalKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ExternalKey:
        return self
