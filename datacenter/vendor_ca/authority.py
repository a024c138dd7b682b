"""The vendor's CA as the data center uses it: it signs the certificates of boxes.

Its key is in a PEM file, or in a hardware security module that is used through PKCS #11 and never shows the key.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from wire.pki.hierarchy import PrivateKey, PublicKey, Validity, sign_certificate
from wire.tls.certificates import CERTIFICATE_ERRORS

DAYS: Final = 90
BACKDATED: Final = timedelta(hours=1)
"""Time by which `notBefore` precedes the issue of a certificate, for devices whose clock is slow."""


class AuthorityError(ValueError):
    """The CA cannot be used; the message names the file and says how to correct it."""


@dataclass(frozen=True)
class VendorAuthority:
    """The CA that issues the certificates of boxes, with its key."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()
    """The chain for a device's certificate: the CA's own certificate and its issuers, without the root."""
    trusted: tuple[x509.Certificate, ...] = ()
    """The roots that devices trust; during a roll-over the old and the new one."""
    days: int = DAYS

    def certify(
        self, name: str, public_key: PublicKey, now_s: float, hosts: tuple[str, ...] = ()
    ) -> x509.Certificate:
        """Issue a certificate; `hosts` are the DNS names or addresses that the device serves.

        Raises: exceptions of `pkcs11` if a security module fails.
        """
        now = datetime.fromtimestamp(int(now_s), UTC)
        return sign_certificate(
            name,
            public_key,
            self.certificate,
            self.key,
            # 128 bits of which the first two are 01: always positive and of the same length
            1 << 126 | secrets.randbits(126),
            Validity(now - BACKDATED, now + timedelta(days=self.days)),
            hosts=hosts,
        )


def load_authority(
    certificate: Path, load_key: Callable[[], PrivateKey], trusted: Path, days: int = DAYS
) -> VendorAuthority:
    """Load the CA in `certificate` (PEM; the certificates of its issuers may follow).

    `trusted` has the roots that devices trust.
    Raises: AuthorityError, OSError.
    """
    chain = load_certificates(certificate)
    roots = load_certificates(trusted)
    key = load_key()
    if key.public_key() != chain[0].public_key():
        raise AuthorityError(f"{certificate}: is not for the CA's key; give the certificate of this key")
    between = tuple(certificate for certificate in chain if certificate.subject != certificate.issuer)
    top = between[-1] if between else chain[0]
    if not any(top == root or top.issuer == root.subject for root in roots):
        raise AuthorityError(f"{certificate}: was not issued by a CA in {trusted}; add its root to that file")
    return VendorAuthority(chain[0], key, between, tuple(roots), days)


def load_key_file(file: Path) -> PrivateKey:
    """Load a CA's key from an unencrypted PEM file. Raises: AuthorityError, OSError."""
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (*CERTIFICATE_ERRORS, TypeError) as error:
        raise AuthorityError(f"{file}: is not an unencrypted private key in PEM: {error}") from None
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return key
    raise AuthorityError(f"{file}: must be an ECDSA key, or an RSA key of an earlier version")


def load_certificates(file: Path) -> list[x509.Certificate]:
    """Load the certificates in a PEM file. Raises: AuthorityError, OSError."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except CERTIFICATE_ERRORS as error:
        raise AuthorityError(f"{file}: has no CA certificate in PEM: {error}") from None
