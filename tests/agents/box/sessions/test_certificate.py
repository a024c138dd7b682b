"""The certificate of a session, as the box receives it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.sessions.certificate import CertificateError, check_certificate
from datacenter.sessions.surroundings import TunnelCredentials
from datacenter.tunnel.keys import issue_certificate
from tests.support.wire.grants import OFFER
from wire.session.messages import CertificateMessage

AUTHORITY, SESSION = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
SESSION_KEY = SESSION.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
UNTIL = datetime.fromtimestamp(OFFER.expires, UTC)
OFFERED = replace(OFFER, endpoint_key=AUTHORITY.public_key())
CERTIFICATE = issue_certificate(
    OFFER.id.hex(), SESSION.public_key(), "authority", AUTHORITY, UNTIL, ExtendedKeyUsageOID.CLIENT_AUTH
)
TLS_CRYPT = (
    "-----BEGIN OpenVPN tls-crypt-v2 client key-----\n"
    + base64.encodebytes(Random(1).randbytes(600)).decode()
    + "-----END OpenVPN tls-crypt-v2 client key-----\n"
)
MESSAGE = TunnelCredentials(CERTIFICATE, "", TLS_CRYPT).message(OFFER.id)
BYTES_MAX = 1100
"""16 bytes take about a millisecond of a slow line, while the person waits."""


def damaged(der: bytes) -> Iterator[bytes]:
    """Yield the certificate with one bit changed, for many of its bits."""
    random = Random(5)
    for _ in range(400):
        data = bytearray(der)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        yield bytes(data)


def signed_parts(der: bytes) -> tuple[bytes, bytes]:
    """Return the signed part and the signature, without the count of unused bits that DER has between them."""
    certificate = x509.load_der_x509_certificate(der)
    return certificate.tbs_certificate_bytes, certificate.signature


def test_the_certificate_of_the_session_is_accepted_and_the_authoritys_is_derived() -> None:
    credentials = check_certificate(MESSAGE, OFFERED, SESSION_KEY)
    authority = x509.load_pem_x509_certificate(credentials.authority.encode())
    assert authority.public_key() == AUTHORITY.public_key()
    assert (credentials.certificate, credentials.tls_crypt) == (CERTIFICATE, TLS_CRYPT)
    assert credentials.session == OFFER.id.hex()
    assert len(MESSAGE.certificate) + len(MESSAGE.tls_crypt) <= BYTES_MAX


def test_a_certificate_by_another_authority_than_that_of_the_offer_is_refused() -> None:
    other = replace(OFFERED, endpoint_key=SESSION.public_key())
    with pytest.raises(CertificateError, match="not issued by the authority in the offer"):
        check_certificate(MESSAGE, other, SESSION_KEY)


def test_a_damaged_certificate_is_refused_with_a_reason() -> None:
    undamaged = signed_parts(MESSAGE.certificate)
    for der in damaged(MESSAGE.certificate):
        try:
            check_certificate(CertificateMessage(OFFER.id, der, b""), OFFERED, SESSION_KEY)
        except CertificateError:
            continue
        assert signed_parts(der) == undamaged
