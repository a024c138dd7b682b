"""Mutual verification of the ends of an emulated tunnel, as in OpenVPN's TLS handshake."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID, ObjectIdentifier


class HandshakeError(Exception):
    """The other end has not proved its identity; the message gives the reason."""


def verify_peer(
    certificate: bytes,
    authority: str,
    name: str,
    usage: ObjectIdentifier,
    proof: tuple[bytes, bytes],
    wall_ns: int,
) -> None:
    """Verify a certificate (PEM) and `proof`, a digest and its signature by the certificate's key.

    Raises: HandshakeError.
    """
    try:
        peer = x509.load_pem_x509_certificate(certificate.strip())
        issuer = x509.load_pem_x509_certificate(authority.encode())
        peer.verify_directly_issued_by(issuer)
        usages = peer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        raise HandshakeError("the certificate was not issued by the session's authority") from None
    names = [each.value for each in peer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [name] or usage not in usages:
        raise HandshakeError(f"the certificate is not for {name}")
    now = datetime.fromtimestamp(wall_ns / 1e9, UTC)
    for one in (peer, issuer):
        if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            raise HandshakeError("the certificate is not valid yet, or has expired")
    key, (digest, signature) = peer.public_key(), proof
    try:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        raise HandshakeError("the signature was not made with the key of the certificate") from None
