"""Checks of a peer's certificate beyond OpenSSL's verification: its stated purpose, and revocation.

OpenSSL accepts a certificate without the extended key usage extension for any purpose. `wire.tls.revocation`
explains why OpenSSL's own check of revocation lists is not used.
"""

from __future__ import annotations

import _ssl
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from wire.tls.certificates import CERTIFICATE_ERRORS, EXTENSION_ERRORS
from wire.tls.identity import CHAIN_MAX
from wire.tls.revocation import RevocationList, issued_by, key_of
from wire.tls.x509 import not_after, not_before

DATE_ERRORS: Final = frozenset((9, 10))
"""OpenSSL's `verify_code` for a certificate that is not valid yet, and for an expired one."""
INVALID_PURPOSE: Final = 26
"""OpenSSL's `verify_code` for a certificate with another purpose."""


class PeerProblem(Enum):
    """The reason why a peer with a valid certificate is refused."""

    PURPOSE = "its extended key usage does not include this purpose"
    REVOKED = "it is revoked"
    ISSUER_REVOKED = "a CA between it and the trusted root is revoked"
    CHAIN = "the CAs between it and a trusted root are unknown"


class PeerCertificate:
    """The verified certificate of a connection's peer, with the CAs that issued it."""

    def __init__(self, der: bytes, chain: Iterable[bytes] = ()) -> None:
        """`chain` has the certificates that the peer sent with it, which are not trusted by themselves."""
        self._certificate = x509.load_der_x509_certificate(der)
        self._chain = list(_readable(islice(chain, CHAIN_MAX)))
        self._purposes = frozenset(_purposes(self._certificate))
        self._authorities: tuple[x509.Certificate, ...] = ()
        self._issuers: dict[x509.Certificate, list[x509.Certificate]] = {}
        self._checked_reading = 0
        self._known_problem: PeerProblem | None = None

    def problem(
        self, purpose: x509.ObjectIdentifier, revocations: RevocationList | None
    ) -> PeerProblem | None:
        """Return why the certificate must not be accepted for `purpose`; None if it may be.

        `revocations` must be the same at each call; it is evaluated again only after it has reread its files.
        """
        if purpose not in self._purposes:
            return PeerProblem.PURPOSE
        if revocations is not None and self._checked_reading != revocations.reading:
            self._known_problem, self._checked_reading = self._find_problem(revocations), revocations.reading
        return self._known_problem

    def _find_problem(self, revocations: RevocationList) -> PeerProblem | None:
        if self._authorities is not revocations.authorities:
            self._authorities = revocations.authorities
            self._issuers = _issuers([self._certificate, *self._chain, *self._authorities])
        if key_of(self._certificate) in revocations:
            return PeerProblem.REVOKED
        if self._is_trusted(revocations):
            return None
        return PeerProblem.ISSUER_REVOKED if self._is_trusted() else PeerProblem.CHAIN

    def _is_trusted(self, revocations: RevocationList | None = None) -> bool:
        """Return whether a chain without a revoked certificate leads to a trusted root."""
        unvisited, visited = [self._certificate], set[x509.Certificate]()
        while unvisited:
            certificate = unvisited.pop()
            if certificate in visited or (revocations is not None and key_of(certificate) in revocations):
                continue
            visited.add(certificate)
            if certificate.subject == certificate.issuer and certificate in self._authorities:
                return True
            unvisited += self._issuers[certificate]
        return False


def _issuers(certificates: list[x509.Certificate]) -> dict[x509.Certificate, list[x509.Certificate]]:
    """Return the issuers of each certificate among the others; several if a CA is certified by several roots."""
    return {
        each: [issuer for issuer in certificates if issuer != each and issued_by(each, issuer)]
        for each in certificates
    }


def _sent_chain(connection: ssl.SSLObject) -> list[bytes]:
    """Return the certificates that the peer sent (DER); on a resumed connection, those of the full handshake."""
    if public := getattr(connection, "get_unverified_chain", None):  # public since Python 3.13
        return list(public())
    chain = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return [each.public_bytes(_ssl.ENCODING_DER) for each in chain or ()]


class ClientCheck:
    """Refuses clients of a server: when they connect, or at the first request after a revocation."""

    def __init__(
        self, revocations: RevocationList | None, refused: Callable[[PeerProblem, str], object]
    ) -> None:
        """`refused` is called with the problem and the common name in the certificate."""
        self._revocations, self._refused = revocations, refused

    def begin(self, connection: ssl.SSLObject, name: str) -> Callable[[], bool]:
        """Return a function that returns whether the client of this connection must be refused now."""
        der = connection.getpeercert(binary_form=True)
        assert der is not None, "the server's context requires a certificate"
        certificate = PeerCertificate(der, _sent_chain(connection) if self._revocations else ())

        def is_refused() -> bool:
            problem = certificate.problem(ExtendedKeyUsageOID.CLIENT_AUTH, self._revocations)
            if problem is not None:
                self._refused(problem, name)
            return problem is not None

        return is_refused


def check_server(connection: ssl.SSLObject) -> None:
    """Raise ssl.SSLCertVerificationError if the server's certificate is not valid for servers."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None, "a client's context requires a certificate"
    if problem := PeerCertificate(der).problem(ExtendedKeyUsageOID.SERVER_AUTH, None):
        error = ssl.SSLCertVerificationError(f"the server's certificate is refused: {problem.value}")
        # the ssl module sets these attributes only on its own errors
        error.verify_code, error.verify_message = INVALID_PURPOSE, problem.value
        raise error


def _readable(chain: Iterable[bytes]) -> Iterator[x509.Certificate]:
    """Yield the certificates that can be parsed; they are not verified."""
    for each in chain:
        with suppress(*CERTIFICATE_ERRORS):
            yield x509.load_der_x509_certificate(each)


def validity(connection: ssl.SSLObject) -> tuple[float, float]:
    """Return start and end of the peer certificate's validity, in seconds since 1970."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None, "a client's context requires a certificate"
    return _validity(x509.load_der_x509_certificate(der))


def valid_from(certificate: Path) -> float:
    """Return the start of validity of the certificate in a PEM file, in seconds since 1970.

    Raises: OSError, ValueError.
    """
    return _validity(x509.load_pem_x509_certificate(certificate.read_bytes()))[0]


def _validity(certificate: x509.Certificate) -> tuple[float, float]:
    return not_before(certificate).timestamp(), not_after(certificate).timestamp()


def _purposes(certificate: x509.Certificate) -> Iterable[x509.ObjectIdentifier]:
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except EXTENSION_ERRORS:
        return ()
