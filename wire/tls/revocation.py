"""Certificate revocation lists (RFC 5280, 5) from a file, reloaded when the file changes.

OpenSSL's own check refuses every peer once a list is past its `nextUpdate`, or if a CA in the chain has no list, so
that one file that was not renewed would disconnect a whole site. Here a list remains in force until a newer one
replaces it, and its age is reported; a CA without a list revokes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from wire.process.bounds import Bound, Measured
from wire.tls.certificates import CERTIFICATE_ERRORS, EXTENSION_ERRORS
from wire.tls.identity import file_version
from wire.tls.x509 import check_issuer, last_update, load_certificates, next_update

CRL_BYTES_MAX: Final = 4 * 1024 * 1024
"""A list of 50,000 certificates has 2 MB."""

Key: TypeAlias = tuple[bytes, int]
"""Issuer (DER) and serial number, which identify a certificate in a list (RFC 5280, 5.1)."""


class CrlError(ValueError):
    """A file is not a usable certificate revocation list; the message says how to correct it."""


def key_of(certificate: x509.Certificate) -> Key:
    """Return the key of a certificate in revocation lists."""
    return certificate.issuer.public_bytes(), certificate.serial_number


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer` is a CA and signed the certificate."""
    if certificate.issuer != issuer.subject or not _is_ca(issuer):
        return False
    try:
        check_issuer(certificate, issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _List:
    """One CA's list."""

    issuer: str
    issued_s: float
    expires_s: float
    revoked: frozenset[Key]


_Lists: TypeAlias = dict[bytes, _List]
"""Lists by the certificate (DER) of the CA that signed each."""


class RevocationList:
    """The certificates of instruments, boxes and CAs that are revoked by the CRLs in a file.

    The file has one or more CRLs in PEM, each signed by one of `authorities`, or by a subordinate CA whose
    certificate is in either file. A changed file takes effect at the next `refresh`. If it is unusable, has an older
    list of a CA than before, or lacks the list of a CA that had one, the previous revocations remain in force.
    """

    def __init__(self, path: Path, authorities: Path) -> None:
        """Read the file. Raises: CrlError, OSError."""
        self._path, self._authorities = path, authorities
        self._seen = self._versions()
        self.authorities, self._lists, self._file_bytes = _read(path, authorities)
        self._revoked = _all_revoked(self._lists)
        self.reading = 1

    authorities: tuple[x509.Certificate, ...]
    """The trusted CAs, and their subordinate CAs."""
    reading: int
    """Number of times the files were read; CAs and revocations change only when it does."""

    @property
    def expires_s(self) -> float:
        """The earliest `nextUpdate` of the lists, in seconds since 1970."""
        return min(each.expires_s for each in self._lists.values())

    def refresh(self) -> bool:
        """Reread the files if they changed; return whether the revocations changed. Raises: CrlError, OSError.

        An error is raised once for each version of the files.
        """
        seen = self._versions()
        if seen == self._seen:
            return False
        self._seen = seen
        authorities, lists, file_bytes = _read(self._path, self._authorities)
        for signer, current in self._lists.items():
            if signer not in lists:
                raise CrlError(f"{self._path}: lacks the list of {current.issuer}, which is in force; add it")
            if lists[signer].issued_s < current.issued_s:
                raise CrlError(
                    f"{self._path}: the list of {current.issuer} is older than the list in force; install the newest"
                )
        self.authorities, self._lists, self._file_bytes = authorities, lists, file_bytes
        self.reading += 1
        revoked = _all_revoked(lists)
        changed, self._revoked = revoked != self._revoked, revoked
        return changed

    def __contains__(self, certificate: Key) -> bool:
        return certificate in self._revoked

    def bounds(self, now_s: Callable[[], float]) -> tuple[Bound, Bound]:
        """Return bounds for the file's size, and for the age of the list that has used the most of its validity.

        `now_s` is the wall clock.
        """
        return (
            Bound("crl-size", lambda: (self._file_bytes, CRL_BYTES_MAX)),
            Bound("crl-age", lambda: self._oldest(now_s())),
        )

    def _oldest(self, now_s: float) -> Measured | None:
        ages = [
            (now_s - each.issued_s, each.expires_s - each.issued_s)
            for each in self._lists.values()
            if each.expires_s != float("inf")
        ]
        return max(ages, key=lambda age: age[0] / max(age[1], 1.0), default=None)

    def _versions(self) -> tuple[object, object]:
        return file_version(self._path), file_version(self._authorities)


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


def _all_revoked(lists: _Lists) -> frozenset[Key]:
    return frozenset[Key]().union(*(each.revoked for each in lists.values()))


def _read(path: Path, authorities: Path) -> tuple[tuple[x509.Certificate, ...], _Lists, int]:
    """Return the CAs, their lists, and the size of the file in bytes. Raises: CrlError, OSError."""
    with path.open("rb") as file:
        text = file.read(CRL_BYTES_MAX + 1)
    if len(text) > CRL_BYTES_MAX:
        raise CrlError(f"{path}: is longer than the limit of {CRL_BYTES_MAX} bytes")
    blocks = _pem_blocks(text, b"X509 CRL")
    if not blocks:
        raise CrlError(f"{path}: has no certificate revocation list in PEM (BEGIN X509 CRL)")
    try:
        trusted = load_certificates(authorities.read_bytes())
    except CERTIFICATE_ERRORS:
        raise CrlError(f"{authorities}: has no CA certificate in PEM") from None
    signers = _with_issued(trusted, _certificates_beside(path, text))
    lists: _Lists = {}
    for block in blocks:
        signer, crl = _verify(path, _load(path, block), signers)
        if signer not in lists or lists[signer].issued_s < crl.issued_s:
            lists[signer] = crl
    return tuple(signers), lists, len(text)


def _pem_blocks(text: bytes, label: bytes) -> list[bytes]:
    begin, end = b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"
    return [block[block.index(begin) :] + end for block in text.split(end)[:-1] if begin in block]


def _certificates_beside(path: Path, text: bytes) -> list[x509.Certificate]:
    try:
        return [x509.load_pem_x509_certificate(block) for block in _pem_blocks(text, b"CERTIFICATE")]
    except CERTIFICATE_ERRORS as error:
        raise CrlError(f"{path}: has an invalid certificate: {error}") from None


def _with_issued(
    trusted: list[x509.Certificate], candidates: list[x509.Certificate]
) -> list[x509.Certificate]:
    """Return the trusted CAs, and those candidates that are CAs subordinate to them."""
    signers = list(trusted)
    for signer in signers:  # the list grows during the loop
        signers += [
            each for each in candidates if each not in signers and _is_ca(each) and issued_by(each, signer)
        ]
    return signers


def _load(path: Path, block: bytes) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(block)
    except CERTIFICATE_ERRORS as error:
        raise CrlError(f"{path}: is not a certificate revocation list in PEM: {error}") from None


def _verify(
    path: Path, crl: x509.CertificateRevocationList, signers: Iterable[x509.Certificate]
) -> tuple[bytes, _List]:
    """Return the signing CA's certificate and its list. Raises: CrlError for a list that must not be used."""
    issuer = crl.issuer.rfc4514_string()
    if special := [each.oid._name for each in crl.extensions if each.critical]:
        message = (
            f"the list of {issuer} is not a complete one ({', '.join(special)}); install the CA's full list"
        )
        raise CrlError(f"{path}: {message}")
    name = crl.issuer.public_bytes()
    revoked = frozenset((name, entry.serial_number) for entry in crl)
    until = next_update(crl)
    expires_s = until.timestamp() if until else float("inf")
    signer = _signer(path, crl, signers).public_bytes(Encoding.DER)
    return signer, _List(issuer, last_update(crl).timestamp(), expires_s, revoked)


def _signer(
    path: Path, crl: x509.CertificateRevocationList, signers: Iterable[x509.Certificate]
) -> x509.Certificate:
    for signer in signers:
        if signer.subject == crl.issuer and _is_ca(signer):
            try:
                if crl.is_signature_valid(signer.public_key()):  # type: ignore[arg-type]
                    return signer
            except (InvalidSignature, UnsupportedAlgorithm, TypeError):
                continue
    names = ", ".join(signer.subject.rfc4514_string() for signer in signers)
    message = f"the list of {crl.issuer.rfc4514_string()} is not signed by a trusted CA ({names})"
    raise CrlError(f"{path}: {message}; put the certificates of subordinate CAs into the same file")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except EXTENSION_ERRORS:
        return False
