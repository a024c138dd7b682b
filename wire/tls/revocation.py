"""Certificate revocation lists (RFC 5280, 5) from a file, followed as the file changes.

OpenSSL's own check refuses every peer once a list is past its `nextUpdate`, or if a CA in the chain has none, which
would disconnect a whole site because one file was not renewed. Here a list remains in force until a newer one
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
from wire.tls.identity import file_version

CRL_BYTES_MAX: Final = 4 * 1024 * 1024
"""A list of 50,000 certificates has 2 MB."""

Key: TypeAlias = tuple[bytes, int]
"""Issuer (DER) and serial number of a certificate (RFC 5280, 5.1)."""


class CrlError(ValueError):
    """A file is not a usable certificate revocation list; the message says what would be right."""


def key_of(certificate: x509.Certificate) -> Key:
    """What a revocation list knows a certificate by."""
    return certificate.issuer.public_bytes(), certificate.serial_number


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` is a CA and signed the certificate."""
    if certificate.issuer != issuer.subject or not _is_ca(issuer):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
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
"""By the certificate (DER) of the CA that signed the list."""


class RevocationList:
    """The certificates that a file of CRLs revokes, those of instruments and boxes as well as those of CAs.

    The file has one or more CRLs in PEM, each signed by one of `authorities`, or by a CA beneath them whose
    certificate is in either file. A changed file takes effect at the next `refresh`. One that is unusable, has an
    older list of a CA than the file before, or no list of a CA that had one, leaves the revocations as they were.
    """

    def __init__(self, path: Path, authorities: Path) -> None:
        """Read the file. Raises CrlError, OSError."""
        self._path, self._authorities = path, authorities
        self._seen = self._versions()
        self.authorities, self._lists, self._file_bytes = _read(path, authorities)
        self._revoked = _all_revoked(self._lists)
        self.reading = 1

    authorities: tuple[x509.Certificate, ...]
    """The trusted CAs, and CAs beneath them."""
    reading: int
    """Counts the readings of the files; between two of them neither CAs nor revocations change."""

    @property
    def expires_s(self) -> float:
        """When the first of the lists should have been replaced, in seconds since 1970."""
        return min(each.expires_s for each in self._lists.values())

    def refresh(self) -> bool:
        """Read the files again if they have changed; returns whether the revocations did. Raises CrlError, OSError.

        An error is raised once for each version of the files.
        """
        seen = self._versions()
        if seen == self._seen:
            return False
        self._seen = seen
        authorities, lists, file_bytes = _read(self._path, self._authorities)
        for signer, before in self._lists.items():
            if signer not in lists:
                raise CrlError(
                    f"{self._path}: has no list of {before.issuer}, which one is in force of; add it"
                )
            if lists[signer].issued_s < before.issued_s:
                raise CrlError(
                    f"{self._path}: the list of {before.issuer} is older than the list in force; install the newest"
                )
        self.authorities, self._lists, self._file_bytes = authorities, lists, file_bytes
        self.reading += 1
        revoked = _all_revoked(lists)
        changed, self._revoked = revoked != self._revoked, revoked
        return changed

    def __contains__(self, certificate: Key) -> bool:
        return certificate in self._revoked

    def bounds(self, now_s: Callable[[], float]) -> tuple[Bound, Bound]:
        """The size of the file, and the age of the list that is nearest to its end; `now_s` is the wall clock."""
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
    """The CAs, their lists, and how many bytes these have in the file. Raises CrlError, OSError."""
    with path.open("rb") as file:
        text = file.read(CRL_BYTES_MAX + 1)
    if len(text) > CRL_BYTES_MAX:
        raise CrlError(f"{path}: is longer than {CRL_BYTES_MAX} bytes")
    blocks = _pem_blocks(text, b"X509 CRL")
    if not blocks:
        raise CrlError(f"{path}: has no certificate revocation list in PEM (BEGIN X509 CRL)")
    try:
        trusted = x509.load_pem_x509_certificates(authorities.read_bytes())
    except ValueError:
        raise CrlError(f"{authorities}: has no CA certificate in PEM") from None
    signers = _with_issued(trusted, _certificates_beside(path, text))
    lists: _Lists = {}
    for block in blocks:
        signer, found = _judge(path, _load(path, block), signers)
        if signer not in lists or lists[signer].issued_s < found.issued_s:
            lists[signer] = found
    return tuple(signers), lists, len(text)


def _pem_blocks(text: bytes, label: bytes) -> list[bytes]:
    begin, end = b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"
    return [block[block.index(begin) :] + end for block in text.split(end)[:-1] if begin in block]


def _certificates_beside(path: Path, text: bytes) -> list[x509.Certificate]:
    try:
        return [x509.load_pem_x509_certificate(block) for block in _pem_blocks(text, b"CERTIFICATE")]
    except ValueError as error:
        raise CrlError(f"{path}: has a certificate that cannot be read: {error}") from None


def _with_issued(
    trusted: list[x509.Certificate], candidates: list[x509.Certificate]
) -> list[x509.Certificate]:
    """The trusted CAs, and those of the candidates that are CAs beneath them."""
    found = list(trusted)
    for signer in found:  # which grows meanwhile
        found += [
            each for each in candidates if each not in found and _is_ca(each) and issued_by(each, signer)
        ]
    return found


def _load(path: Path, block: bytes) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(block)
    except ValueError as error:
        raise CrlError(f"{path}: is not a certificate revocation list in PEM: {error}") from None


def _judge(
    path: Path, crl: x509.CertificateRevocationList, signers: Iterable[x509.Certificate]
) -> tuple[bytes, _List]:
    """The CA's certificate and its list. Raises CrlError for one that must not be used."""
    issuer = crl.issuer.rfc4514_string()
    if special := [each.oid._name for each in crl.extensions if each.critical]:
        message = (
            f"the list of {issuer} is not a complete one ({', '.join(special)}); install the CA's full list"
        )
        raise CrlError(f"{path}: {message}")
    name = crl.issuer.public_bytes()
    revoked = frozenset((name, entry.serial_number) for entry in crl)
    expires_s = crl.next_update_utc.timestamp() if crl.next_update_utc else float("inf")
    signer = _signer(path, crl, signers).public_bytes(Encoding.DER)
    return signer, _List(issuer, crl.last_update_utc.timestamp(), expires_s, revoked)


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
    raise CrlError(f"{path}: {message}; put the certificates of CAs beneath it into the same file")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False
