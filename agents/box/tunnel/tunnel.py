"""The interface of a tunnel for a remote session, independent of its implementation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from settings.types import Endpoint


class TunnelError(Exception):
    """The tunnel cannot be opened; the message gives the reason."""


class SessionKey:
    """The private key of one session. It exists in memory only, and signs once: for the one TLS handshake.

    OpenVPN requests the signature of a bare digest, and could have the key sign anything. Therefore the key is never
    the box's own.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        """`key` is a new key on P-256; without it, one is generated."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        self._key: ec.EllipticCurvePrivateKey | None = key
        self.public_key: bytes = key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        """SubjectPublicKeyInfo in DER, for the certificate and the grant."""

    def sign(self, digest: bytes) -> bytes:
        """Return the ECDSA signature of a SHA-256 digest, and forget the key.

        Raises: TunnelError if it has signed, or for a digest of another length.
        """
        if len(digest) != hashes.SHA256.digest_size:
            raise TunnelError(f"asked to sign {len(digest)} bytes; a SHA-256 digest has 32")
        key, self._key = self._key, None
        if key is None:
            raise TunnelError("the key of the session has already signed, and is forgotten")
        return key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))

    def forget(self) -> None:
        """Discard the key, which can no longer sign."""
        self._key = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that the data center has issued for a grant, only for this session."""

    session: str
    """The name in both certificates."""
    certificate: str
    """The certificate of the session's key, in PEM. It expires with the grant."""
    authority: str
    """The certificate of the authority for the data center's tunnels, in PEM."""
    tls_crypt: str
    """The tls-crypt-v2 key of the client, whose metadata is the session."""


class Tunnel(Protocol):
    """A tunnel that is opened once."""

    ended: asyncio.Future[str]
    """Set with the reason when an open tunnel has ended, regardless of which end closed it."""

    def prepare(self, endpoint: Endpoint) -> None:
        """Begin to connect to the data center, without sending anything; `open` reports failures."""
        ...

    async def open(self, endpoint: Endpoint, credentials: Credentials, key: SessionKey) -> None:
        """Open the tunnel; packets pass on return. Raises: TunnelError, with nothing left open."""
        ...

    async def close(self) -> None:
        """Close the tunnel. On return, no packets pass."""
        ...
