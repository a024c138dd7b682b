"""The certificate of a session, as the box receives it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.sessions.certificate import CertificateError, check_certificate
from datacenter.tunnel.keys import issue_certificate
from tests.support.wire.grants import OFFER
from wire.session.messages import CertificateMessage

AUTHORITY, SESSION = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
SESSION_KEY = SESSION.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
UNTIL = datetime.fromtimestamp(OFFER.expires, UTC)
OFFERED = replace(OFFER, endpoint_key=AUTHORITY.public_key())
MESSAGE = CertificateMessage(
    OFFER.id,
    issue_certificate(
        OFFER.id.hex(), SESSION.public_key(), "authority", AUTHORITY, UNTIL, ExtendedKeyUsageOID.CLIENT_AUTH
    ),
    issue_certificate("authority", AUTHORITY.public_key(), "authority", AUTHORITY, UNTIL, None),
    "tls-crypt",
)


def damaged(pem: str) -> Iterator[str]:
    """The certificate with one bit changed, for many of its bits."""
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    random = Random(5)
    for _ in range(400):
        data = bytearray(der)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        body = base64.encodebytes(bytes(data)).decode()
        yield f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def signed_parts(pem: str) -> tuple[bytes, bytes]:
    """What is signed, and the signature: the count of unused bits before a signature is in neither."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return certificate.tbs_certificate_bytes, certificate.signature


def test_the_certificate_of_the_session_is_accepted() -> None:
    check_certificate(MESSAGE, OFFERED, SESSION_KEY)


def test_a_damaged_certificate_is_refused_with_a_reason() -> None:
    whole = signed_parts(MESSAGE.certificate)
    for pem in damaged(MESSAGE.certificate):
        try:
            check_certificate(CertificateMessage(OFFER.id, pem, MESSAGE.authority, ""), OFFERED, SESSION_KEY)
        except CertificateError:
            continue
        assert signed_parts(pem) == whole


def test_a_damaged_authority_causes_no_other_error() -> None:
    for pem in damaged(MESSAGE.authority):
        with suppress(CertificateError):  # a root's own signature proves nothing, and need not be intact
            check_certificate(
                CertificateMessage(OFFER.id, MESSAGE.certificate, pem, ""), OFFERED, SESSION_KEY
            )
