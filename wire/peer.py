"""What a peer's certificate must satisfy beyond OpenSSL's verification: its purpose is stated, and it is not revoked.

OpenSSL accepts a certificate without the extended key usage extension for any purpose. Its own CRL check refuses
every peer once the list is past its `nextUpdate`, which would disconnect a whole site because one file was not
renewed; here such a list remains in force, and its age is reported.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from wire.identity import file_version

DATE_ERRORS: Final = frozenset((9, 10))
"""OpenSSL's codes of a certificate that is not valid yet, and of one that has expired (`verify_code`)."""
CRL_BYTES_MAX: Final = 4 * 1024 * 1024
"""A list of 50,000 certificates has 2 MB."""

Revoked: TypeAlias = frozenset[tuple[bytes, int]]
"""Issuer (DER) and serial number of each revoked certificate (RFC 5280, 5.1)."""


class PeerProblem(Enum):
    """Why a peer with a valid certificate is refused."""

    PURPOSE = "its extended key usage does not include this purpose"
    REVOKED = "it is revoked"


class CrlError(ValueError):
    """A file is not a usable certificate revocation list; the message says what would be right."""


class RevocationList:
    """The certificates that a file of CRLs revokes, followed as the file changes.

    The file has one or more CRLs in PEM, each signed by one of `authorities`. What a changed file says takes effect
    at the next `refresh`; a file that is unusable or older than the one before leaves the revocations as they were.
    """

    def __init__(self, path: Path, authorities: Path) -> None:
        """Read the file. Raises CrlError, OSError."""
        self._path, self._authorities = path, authorities
        self._seen = file_version(path)
        self._issued_s, self.expires_s, self._revoked = _read(path, authorities)

    expires_s: float
    """When the first of the lists should have been replaced, in seconds since 1970."""

    def refresh(self) -> bool:
        """Read the file again if it has changed; returns whether the revocations did. Raises CrlError, OSError.

        An error is raised once for each version of the file.
        """
        seen = file_version(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        issued_s, expires_s, revoked = _read(self._path, self._authorities)
        if issued_s < self._issued_s:
            raise CrlError(f"{self._path}: is older than the list in force; install the newest")
        changed = revoked != self._revoked
        self._issued_s, self.expires_s, self._revoked = issued_s, expires_s, revoked
        return changed

    def __contains__(self, certificate: tuple[bytes, int]) -> bool:
        return certificate in self._revoked


async def follow(
    revocations: RevocationList, every_s: float, report: Callable[[Exception | None], object]
) -> None:
    """Refresh the list every `every_s` seconds until cancelled.

    `report` is called after each change: with None, or with the CrlError or OSError that kept the old list in force.
    """
    while True:
        await asyncio.sleep(every_s)
        try:
            if revocations.refresh():
                report(None)
        except (CrlError, OSError) as error:
            report(error)


class PeerCertificate:
    """The verified certificate at the other end of a connection."""

    def __init__(self, der: bytes) -> None:
        certificate = x509.load_der_x509_certificate(der)
        self._key = certificate.issuer.public_bytes(), certificate.serial_number
        self._purposes = frozenset(_purposes(certificate))

    def problem(
        self, purpose: x509.ObjectIdentifier, revocations: RevocationList | None
    ) -> PeerProblem | None:
        """Why the certificate must not be accepted for `purpose`; None if it may be."""
        if purpose not in self._purposes:
            return PeerProblem.PURPOSE
        if revocations is not None and self._key in revocations:
            return PeerProblem.REVOKED
        return None


class ClientCheck:
    """Refuses clients of a server: at once when they connect, or at their next request after a revocation."""

    def __init__(
        self, revocations: RevocationList | None, refused: Callable[[PeerProblem, str], object]
    ) -> None:
        """`refused` is called with the problem and the common name in the certificate."""
        self._revocations, self._refused = revocations, refused

    def begin(self, connection: ssl.SSLObject, name: str) -> Callable[[], bool]:
        """A function that returns whether the client of this connection is to be refused now."""
        der = connection.getpeercert(binary_form=True)
        assert der is not None, "the server's context demands a certificate"
        certificate = PeerCertificate(der)

        def is_refused() -> bool:
            problem = certificate.problem(ExtendedKeyUsageOID.CLIENT_AUTH, self._revocations)
            if problem is not None:
                self._refused(problem, name)
            return problem is not None

        return is_refused


def check_server(connection: ssl.SSLObject) -> None:
    """Raise ssl.SSLCertVerificationError if the server's certificate is not for servers."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None, "a client's context demands a certificate"
    if problem := PeerCertificate(der).problem(ExtendedKeyUsageOID.SERVER_AUTH, None):
        raise ssl.SSLCertVerificationError(f"the server's certificate is refused: {problem.value}")


def validity(connection: ssl.SSLObject) -> tuple[float, float]:
    """When the peer's certificate begins and ends, in seconds since 1970."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None, "a client's context demands a certificate"
    return _validity(x509.load_der_x509_certificate(der))


def valid_from(certificate: Path) -> float:
    """When the certificate in a PEM file begins, in seconds since 1970. Raises OSError, ValueError."""
    return _validity(x509.load_pem_x509_certificate(certificate.read_bytes()))[0]


def _validity(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _purposes(certificate: x509.Certificate) -> Iterable[x509.ObjectIdentifier]:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return ()


def _read(path: Path, authorities: Path) -> tuple[float, float, Revoked]:
    """When the oldest of the lists was issued, when the first expires, and what they revoke.

    Raises CrlError, OSError.
    """
    with path.open("rb") as file:
        text = file.read(CRL_BYTES_MAX + 1)
    if len(text) > CRL_BYTES_MAX:
        raise CrlError(f"{path}: is longer than {CRL_BYTES_MAX} bytes")
    lists = [_load(path, block) for block in _pem_blocks(text)]
    if not lists:
        raise CrlError(f"{path}: has no certificate revocation list in PEM (BEGIN X509 CRL)")
    try:
        signers = x509.load_pem_x509_certificates(authorities.read_bytes())
    except ValueError:
        raise CrlError(f"{authorities}: has no CA certificate in PEM") from None
    for crl in lists:
        _verify(path, crl, signers)
    revoked = frozenset((crl.issuer.public_bytes(), entry.serial_number) for crl in lists for entry in crl)
    issued_s = min(crl.last_update_utc.timestamp() for crl in lists)
    expires_s = min((at.timestamp() for crl in lists if (at := crl.next_update_utc)), default=float("inf"))
    return issued_s, expires_s, revoked


def _pem_blocks(text: bytes) -> list[bytes]:
    end = b"-----END X509 CRL-----"
    return [
        block[block.index(b"-----BEGIN X509 CRL-----") :] + end
        for block in text.split(end)[:-1]
        if b"-----BEGIN X509 CRL-----" in block
    ]


def _load(path: Path, block: bytes) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(block)
    except ValueError as error:
        raise CrlError(f"{path}: is not a certificate revocation list in PEM: {error}") from None


def _verify(path: Path, crl: x509.CertificateRevocationList, signers: list[x509.Certificate]) -> None:
    issuer = crl.issuer.rfc4514_string()
    for signer in signers:
        if signer.subject == crl.issuer:
            try:
                if crl.is_signature_valid(signer.public_key()):  # type: ignore[arg-type]
                    return
            except (InvalidSignature, UnsupportedAlgorithm, TypeError):
                pass
    names = ", ".join(signer.subject.rfc4514_string() for signer in signers)
    raise CrlError(f"{path}: the list of {issuer} is not signed by a trusted CA ({names})")
