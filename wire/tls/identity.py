"""Checks a certificate, its key and CA files: whether TLS can use them, now and in the near future."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from wire.tls.certificates import CERTIFICATE_ERRORS, EXTENSION_ERRORS
from wire.tls.tpm import TpmError, load_key
from wire.tls.x509 import check_issuer, load_certificates, not_after, not_before

SOON_DAYS: Final = 30
"""Days before its expiry from which a certificate should be renewed."""
CHAIN_MAX: Final = 8
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
_PURPOSE_NAMES: Final = {SERVER: "serverAuth", CLIENT: "clientAuth"}

_PUBLIC_FORM: Final = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_PUBLIC_KEYS_MAX: Final = 64
_public_keys: Final[dict[int, bytes]] = {}

_E = TypeVar("_E", bound=x509.ExtensionType)


class Severity(Enum):
    """The effect of a problem."""

    UNUSABLE = "unusable"  # TLS cannot be set up with these files
    REFUSED = "refused"  # the other end refuses the certificate now
    SOON = "soon"  # the other end will refuse it soon


@dataclass(frozen=True, slots=True)
class IdentityProblem:
    """A problem with a file, and its correction."""

    severity: Severity
    file: Path
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of an inspection. `expires_s` is the end of the certificate's validity; None if unreadable."""

    problems: tuple[IdentityProblem, ...]
    expires_s: float | None

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst problem; None without problems."""
        return self.problems[0].severity if self.problems else None


class FileVersions:
    """Detects when files have been replaced and are no longer being written."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._settled = self._seen = self._versions()

    def have_settled(self, *, at_once: bool = False) -> bool:
        """Return whether the files have changed since this last returned True, but not since the last call.

        With `at_once`, they may have changed since the last call.
        """
        previous, self._seen = self._seen, self._versions()
        if self._seen == self._settled or (previous != self._seen and not at_once):
            return False
        self._settled = self._seen
        return True

    def _versions(self) -> list[tuple[int, int, int] | None]:
        return list(map(file_version, self._files))


def file_version(file: Path) -> tuple[int, int, int] | None:
    """Return a value that changes when a file is replaced or written to; None if it is missing."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def inspect_identity(
    certificate: Path,
    key: Path,
    issuers: Path | None,
    trusted: Sequence[Path],
    purposes: Iterable[x509.ObjectIdentifier],
    now_s: float,
) -> Inspection:
    """Return all problems of these files at `now_s` (seconds since 1970), worst first; unreadable files are UNUSABLE.

    `issuers` has the CA of `certificate`; without it the chain is not verified. `trusted` has the CAs of peers.
    """
    now = datetime.fromtimestamp(now_s, UTC)
    problems: list[IdentityProblem] = []
    chain = _certificates(certificate, problems)
    files = dict.fromkeys([issuers, *trusted] if issuers else trusted)
    authorities = {file: _certificates(file, problems) for file in files}
    if chain:
        leaf = chain[0]
        _check_key(key, leaf, certificate, problems)
        _check_leaf(leaf, certificate, purposes, problems)
        _check_dates(leaf, certificate, now, problems)
        if issuers and authorities[issuers] and not _leads_to(leaf, chain[1:], authorities[issuers]):
            message = f"was not issued by a CA in {issuers}; append all intermediate CA certificates to it"
            problems.append(IdentityProblem(Severity.REFUSED, certificate, message))
    for file, certificates in authorities.items():
        _check_authorities(certificates, file, now, problems)
    order = list(Severity)
    problems.sort(key=lambda problem: order.index(problem.severity))
    return Inspection(tuple(problems), not_after(chain[0]).timestamp() if chain else None)


def _certificates(file: Path, problems: list[IdentityProblem]) -> list[x509.Certificate]:
    try:
        return load_certificates(file.read_bytes())
    except OSError as error:
        message = f"{error.strerror}; give a PEM file that can be read"
    except CERTIFICATE_ERRORS:
        message = "has no valid certificate in PEM (BEGIN CERTIFICATE); install one"
    problems.append(IdentityProblem(Severity.UNUSABLE, file, message))
    return []


def _check_key(
    file: Path, leaf: x509.Certificate, certificate: Path, problems: list[IdentityProblem]
) -> None:
    try:
        public = _public_key(file.read_bytes())
    except TpmError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.strerror}; give a PEM file that can be read"
    except TypeError:
        message = "is encrypted; give a key without a password, because the program starts unattended"
    except (ValueError, UnsupportedAlgorithm):
        message = "has no valid private key in PEM (BEGIN PRIVATE KEY); install one"
    else:
        if public == leaf.public_key().public_bytes(*_PUBLIC_FORM):
            return
        message = f"is not the key of {certificate}; give the key for which the certificate was requested"
    problems.append(IdentityProblem(Severity.UNUSABLE, file, message))


def _public_key(private: bytes) -> bytes:
    """Return the public key of a private key in PEM. Raises: as `wire.tls.tpm.load_key`.

    OpenSSL tests whether the factors of an RSA key are prime, which takes up to 0.1 s, and certificates are inspected
    regularly. The result is kept by a hash of the file's content, so that no copy of the key remains in memory.
    """
    content = hash(private)
    if content not in _public_keys:
        key = load_key(private).public_key()
        while len(_public_keys) >= _PUBLIC_KEYS_MAX:
            del _public_keys[next(iter(_public_keys))]
        _public_keys[content] = key.public_bytes(*_PUBLIC_FORM)
    return _public_keys[content]


def _check_leaf(
    leaf: x509.Certificate,
    file: Path,
    purposes: Iterable[x509.ObjectIdentifier],
    problems: list[IdentityProblem],
) -> None:
    included = _extension(leaf, x509.ExtendedKeyUsage) or ()
    for purpose in purposes:
        if purpose not in included:
            name = _PURPOSE_NAMES[purpose]
            message = f"lacks the extended key usage {name}; have it issued with that"
            problems.append(IdentityProblem(Severity.REFUSED, file, message))
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        message = "lacks the key usage digitalSignature; have it issued with that"
        problems.append(IdentityProblem(Severity.REFUSED, file, message))
    if _is_authority(leaf):
        message = "begins with a CA's certificate; put this device's own first, its issuers after it"
        problems.append(IdentityProblem(Severity.REFUSED, file, message))


def _check_dates(
    certificate: x509.Certificate, file: Path, now: datetime, problems: list[IdentityProblem]
) -> None:
    begins, ends = not_before(certificate), not_after(certificate)
    if now < begins:
        message = (
            f"is not valid before {begins:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}; set the clock"
        )
        problems.append(IdentityProblem(Severity.REFUSED, file, message))
    elif now > ends:
        message = f"expired on {ends:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}; renew it"
        problems.append(IdentityProblem(Severity.REFUSED, file, message))
    elif (days := (ends - now).days) < SOON_DAYS:
        message = f"expires on {ends:%Y-%m-%d}, in {days} days; renew it"
        problems.append(IdentityProblem(Severity.SOON, file, message))


def _check_authorities(
    certificates: list[x509.Certificate], file: Path, now: datetime, problems: list[IdentityProblem]
) -> None:
    if not certificates:
        return
    for certificate in certificates:
        if not _is_authority(certificate):
            name = certificate.subject.rfc4514_string()
            message = f"has a certificate that is not a CA's, of {name}; give the CA's own certificate"
            problems.append(IdentityProblem(Severity.REFUSED, file, message))
    # during a CA's rollover the file has its old and new certificate: the one that is valid longest is checked
    _check_dates(max(certificates, key=not_after), file, now, problems)


def _leads_to(
    leaf: x509.Certificate, intermediates: list[x509.Certificate], authorities: list[x509.Certificate]
) -> bool:
    """Return whether signatures lead from the leaf to one of the authorities."""
    current = leaf
    for _ in range(CHAIN_MAX):
        if any(_issued(current, authority) for authority in authorities):
            return True
        issuer = next((each for each in intermediates if _issued(current, each)), None)
        if issuer is None or issuer is current:
            return False
        current = issuer
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        check_issuer(certificate, issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except EXTENSION_ERRORS:
        return None
