"""Checks that the data center's certificate belongs to the session that the person has permitted."""

from __future__ import annotations

import base64
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from agents.box.tunnel.tunnel import Credentials
from wire.openvpn.options import SERVER_AUTHORITY
from wire.session.grant import Offer
from wire.session.messages import CertificateMessage
from wire.tls.certificates import CERTIFICATE_ERRORS
from wire.tls.x509 import check_issuer, not_after, not_before

_SERVER: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_AUTHORITY)])
_TLS_CRYPT: Final = "-----{} OpenVPN tls-crypt-v2 client key-----\n"


class CertificateError(ValueError):
    """The certificate does not belong to the session; the message gives the reason."""


def check_certificate(message: CertificateMessage, offer: Offer, session_key: bytes) -> Credentials:
    """Check a certificate for `session_key` (SubjectPublicKeyInfo, DER); return the credentials for the tunnel.

    The authority's key must be the one in the offer, so that an attacker who has only taken over the connection
    cannot present the certificate of another tunnel. Raises: CertificateError.
    """
    try:
        certificate = x509.load_der_x509_certificate(message.certificate)
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        end_s = not_after(certificate).timestamp()
    except CERTIFICATE_ERRORS as error:
        raise CertificateError(f"not a certificate in DER: {error}") from None
    if key != session_key:
        raise CertificateError("the certificate is not for the session's key")
    if end_s > offer.expires:
        raise CertificateError("the certificate is valid longer than the grant")
    try:
        check_issuer(certificate, _authority(certificate.issuer, offer.endpoint_key, certificate))
    except (*CERTIFICATE_ERRORS, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise CertificateError("the certificate was not issued by the authority in the offer") from None
    tls_crypt = base64.encodebytes(message.tls_crypt).decode()
    return Credentials(
        message.session.hex(),
        certificate.public_bytes(Encoding.PEM).decode(),
        _authority(_SERVER, offer.endpoint_key, certificate).public_bytes(Encoding.PEM).decode(),
        _TLS_CRYPT.format("BEGIN") + tls_crypt + _TLS_CRYPT.format("END"),
    )


def _authority(
    name: x509.Name, key: ec.EllipticCurvePublicKey, certificate: x509.Certificate
) -> x509.Certificate:
    """Return a certificate of the authority with this key, which the data center need not send.

    It is valid as long as `certificate`. It is signed with a key that is discarded, because the signature of a trust
    anchor is not verified.
    """
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(not_before(certificate))
        .not_valid_after(not_after(certificate))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
