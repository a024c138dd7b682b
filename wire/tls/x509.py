"""Certificates and revocation lists, read with any version of cryptography from 37 on.

A box uses the package of its distribution, because that one uses the system's OpenSSL, which is in FIPS mode; the
wheels of PyPI contain an OpenSSL of their own. The distributions have 37.0 (RHEL 9, Python 3.11), 38.0 (Debian 12),
41.0 (RHEL 9, Python 3.12) and 43.0 (RHEL 10). This module replaces what later versions have added.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """Load the certificates in PEM, at least one. Raises: ValueError."""
    certificates = [x509.load_pem_x509_certificate(block + b"\n") for block in _BLOCK.findall(pem)]
    if not certificates or len(certificates) != pem.count(b"-----BEGIN CERTIFICATE"):
        raise ValueError("is cut off" if certificates else "has no certificate in PEM")
    return certificates


def not_before(certificate: x509.Certificate) -> datetime:
    """Return the beginning of its validity."""
    return _utc(certificate, "not_valid_before")


def not_after(certificate: x509.Certificate) -> datetime:
    """Return the end of its validity."""
    return _utc(certificate, "not_valid_after")


def last_update(crl: x509.CertificateRevocationList) -> datetime:
    """Return the time at which the list was issued."""
    return _utc(crl, "last_update")


def next_update(crl: x509.CertificateRevocationList) -> datetime | None:
    """Return the time until which the list is valid; None if it does not say."""
    return _utc_or_none(crl, "next_update")


def check_issuer(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """Check that the certificate names `issuer` and is signed by its key, RSA or ECDSA.

    Raises: InvalidSignature; ValueError for another name; UnsupportedAlgorithm; TypeError for another kind of key.
    """
    check = getattr(certificate, "verify_directly_issued_by", None)  # since version 40
    if check is not None:
        check(issuer)
        return
    if certificate.issuer != issuer.subject:
        raise ValueError("the certificate names another issuer")
    algorithm, key = certificate.signature_hash_algorithm, issuer.public_key()
    if algorithm is None:
        raise UnsupportedAlgorithm("the signature has no hash")
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
    else:
        raise TypeError("the issuer's key is neither RSA nor ECDSA")


def is_same_key(key: object, other: object) -> bool:
    """Return whether two public keys, RSA or EC, are equal; before version 40 they have no `==`."""
    kinds = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)
    return (
        isinstance(key, kinds)
        and isinstance(other, kinds)
        and key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        == other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def _utc(value: x509.Certificate | x509.CertificateRevocationList, name: str) -> datetime:
    time = _utc_or_none(value, name)
    assert time is not None, "only the next update of a list may be missing"
    return time


def _utc_or_none(value: x509.Certificate | x509.CertificateRevocationList, name: str) -> datetime | None:
    """Return a time: since version 42 as NAME_utc, before that as NAME without a time zone."""
    if hasattr(value, f"{name}_utc"):
        return cast("datetime | None", getattr(value, f"{name}_utc"))
    naive = cast("datetime | None", getattr(value, name))
    return naive and naive.replace(tzinfo=UTC)
