"""Whether the data center's certificate is that of the session which the person has permitted."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire.session.grant import Offer
from wire.session.messages import CertificateMessage
from wire.tls.certificates import CERTIFICATE_ERRORS
from wire.tls.x509 import check_issuer, not_after


class CertificateError(ValueError):
    """The certificate is not that of the session; the text says why."""


def check_certificate(message: CertificateMessage, offer: Offer, session_key: bytes) -> None:
    """Check a certificate for `session_key` (SubjectPublicKeyInfo, DER) and its authority. Raises: CertificateError.

    The authority's key is the one that the offer names, so that whoever has only taken over the connection cannot
    present another tunnel.
    """
    try:
        authority = x509.load_pem_x509_certificate(message.authority.encode())
        certificate = x509.load_pem_x509_certificate(message.certificate.encode())
        authority_key, key = _der(authority), _der(certificate)
    except CERTIFICATE_ERRORS as error:
        raise CertificateError(f"not a certificate in PEM: {error}") from None
    if authority_key != offer.endpoint_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise CertificateError("the authority has another key than the one in the offer")
    if key != session_key:
        raise CertificateError("the certificate is for another key than the session's")
    try:
        check_issuer(certificate, authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise CertificateError("the certificate is not by the session's authority") from None
    if not_after(certificate).timestamp() > offer.expires:
        raise CertificateError("the certificate is valid longer than the grant")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
