"""A test certificate hierarchy: the vendor's authority for boxes and instruments, and a chain like a public CA's
(root, intermediate) for the data center.

Keys are ECDSA P-256 unless another is given; RSA keys remain supported. Simulations give RSA keys (`make_rsa_key`):
their signatures have a fixed length, while the length of ECDSA signatures varies, and with it the time at which a
simulated handshake ends. Serial numbers count upwards for the same reason.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wire.tls.context import Identity

RSA_BITS: Final = 2048
LEAF_DAYS: Final = 825
AUTHORITY_DAYS: Final = 3650
CRL_DAYS: Final = 30
USAGES: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
_SERIAL_BASE: Final = 1 << 64
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def make_key() -> ec.EllipticCurvePrivateKey:
    """Generate a private key of curve P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def make_rsa_key() -> rsa.RSAPrivateKey:
    """Generate an RSA key, whose signatures all have the same length."""
    return rsa.generate_private_key(65537, RSA_BITS)


@dataclass(frozen=True)
class Validity:
    """The validity period of a certificate, in UTC."""

    start: datetime.datetime
    end: datetime.datetime

    @classmethod
    def days(cls, days: int, now: datetime.datetime | None = None) -> Validity:
        """Return the period from one day before `now` to `days` after it; a past period for negative `days`."""
        now = now or _now()
        start = now - datetime.timedelta(days=1 if days > 0 else 1 - 2 * days)
        return cls(start, now + datetime.timedelta(days=days))


@dataclass
class Authority:
    """A certificate authority with its key; `chain` has its and its issuers' certificates without the root."""

    name: str
    key: PrivateKey
    certificate: x509.Certificate
    root: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()
    now: datetime.datetime | None = None
    """Issue time of its certificates; None: the current time of this machine."""
    _serial: int = field(default=_SERIAL_BASE, repr=False)

    @classmethod
    def make(
        cls, name: str, key: PrivateKey | None = None, now: datetime.datetime | None = None
    ) -> Authority:
        """Create a self-signed root."""
        key = key or make_key()
        validity = Validity.days(AUTHORITY_DAYS, now)
        certificate = sign_certificate(name, key.public_key(), None, key, 1, validity, authority=True)
        return cls(name, key, certificate, certificate, now=now)

    def subordinate(self, name: str, key: PrivateKey | None = None) -> Authority:
        """Create an intermediate authority under this one."""
        key = key or make_key()
        validity = Validity.days(AUTHORITY_DAYS, self.now)
        certificate = sign_certificate(
            name, key.public_key(), self.certificate, self.key, self._next(), validity, authority=True
        )
        return Authority(name, key, certificate, self.root, (certificate, *self.chain), self.now)

    def issue(
        self,
        folder: Path,
        name: str,
        *,
        hosts: tuple[str, ...] = (),
        trusts: Authority,
        key: PrivateKey | None = None,
        validity: Validity | None = None,
        usages: tuple[x509.ObjectIdentifier, ...] = USAGES,
    ) -> Identity:
        """Write `name`'s certificate chain, key and trusted authorities to `folder`; return the paths.

        `hosts` are the DNS names or addresses it may serve; `trusts` is the authority that it trusts.
        """
        key = key or make_key()
        folder.mkdir(parents=True, exist_ok=True)
        stem = name.lower()
        identity = Identity(folder / f"{stem}.crt", folder / f"{stem}.key", folder / f"{stem}.ca.crt")
        chain = self.certify(name, key.public_key(), hosts=hosts, validity=validity, usages=usages)
        identity.certificate.write_bytes(chain)
        identity.authorities.write_bytes(_pem(trusts.root))
        identity.key.touch(mode=0o600)
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return identity

    def certify(
        self,
        name: str,
        public_key: PublicKey,
        *,
        hosts: tuple[str, ...] = (),
        validity: Validity | None = None,
        usages: tuple[x509.ObjectIdentifier, ...] = USAGES,
    ) -> bytes:
        """Issue `name`'s certificate chain (PEM) for a public key."""
        validity = validity or Validity.days(LEAF_DAYS, self.now)
        certificate = sign_certificate(
            name, public_key, self.certificate, self.key, self._next(), validity, hosts=hosts, usages=usages
        )
        return b"".join(map(_pem, (certificate, *self.chain)))

    def revoke(self, serials: Iterable[int], days: int = CRL_DAYS) -> bytes:
        """Return a revocation list (PEM) with these serial numbers, whose `nextUpdate` is in `days` days."""
        now = self.now or _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + datetime.timedelta(days=days))
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _next(self) -> int:
        self._serial += 1
        return self._serial


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def sign_certificate(
    name: str,
    public_key: PublicKey,
    issuer: x509.Certificate | None,
    issuer_key: PrivateKey,
    serial: int,
    validity: Validity,
    *,
    authority: bool = False,
    hosts: tuple[str, ...] = (),
    usages: tuple[x509.ObjectIdentifier, ...] = USAGES,
) -> x509.Certificate:
    """Sign a certificate with the key of `issuer`; None: make a self-signed certificate.

    `hosts` are the DNS names or addresses it may serve; empty: the name in lower case.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(_key_usage(public_key, authority), critical=True)
    )
    if not authority:
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        names = [_alternative(host) for host in hosts or (name.lower(),)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(public_key: PublicKey, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority and isinstance(public_key, rsa.RSAPublicKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
