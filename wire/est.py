"""Enrolment over Secure Transport (EST, RFC 7030): the paths and messages of clients and servers, sans-I/O.

    GET  /.well-known/est/cacerts           the certificates of the CA; 304 if the client has them (`etag_of`)
    GET  /.well-known/est/datacenter/cacerts    the roots of the data center's own certificate, if it names them
    GET  /.well-known/est/csrattrs          what a request must have: a key of curve P-256, signed with SHA-256
    POST /.well-known/est/simpleenroll      a certificate for a device whose current one was not issued by EST
    POST /.well-known/est/simplereenroll    a new certificate for a device that has one
    POST /.well-known/est/instruments/…     both, sent by a box for an instrument that is connected to it

A request is a certificate request (PKCS #10), a response is a message without signature that contains certificates
(PKCS #7, "certs-only"), both DER in base64. Status 202 means that a person has to approve the request: the client
repeats the same request after the time in `Retry-After` (RFC 7030, 4.2.3).

The client proves possession of the old key by the TLS handshake, and of the new one by the signature of the request.
RFC 7030 binds both by `tls-unique`, which TLS 1.3 does not have. Here the name in the request must be the one in the
client's certificate: a request that an attacker injects could only be for the device that is connected.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from wire.http.connection import Response
from wire.tls.certificates import CERTIFICATE_ERRORS

PREFIX: Final = "/.well-known/est/"
CA_CERTIFICATES: Final = PREFIX + "cacerts"
DATACENTER_ROOTS: Final = PREFIX + "datacenter/cacerts"
ATTRIBUTES: Final = PREFIX + "csrattrs"
ENROL: Final = PREFIX + "simpleenroll"
REENROL: Final = PREFIX + "simplereenroll"
INSTRUMENTS: Final = PREFIX + "instruments/"
INSTRUMENT_ENROL: Final = INSTRUMENTS + "simpleenroll"
INSTRUMENT_REENROL: Final = INSTRUMENTS + "simplereenroll"
"""Paths to which a box forwards the requests of instruments, with the header INSTRUMENT_CERTIFICATE."""
INSTRUMENT_CERTIFICATE: Final = "rap-instrument-certificate"
"""The header that has the instrument's TLS client certificate: DER in base64. It is not `Client-Cert` (RFC 9440),
which front ends remove."""

REQUEST_BYTES_MAX: Final = 4 * 1024
"""Maximum size of a request's body. A request for a P-256 key has about 400 bytes, one for an RSA 4096 key 2,300."""
ANSWER_BYTES_MAX: Final = 32 * 1024
"""Limit of a response's body."""
RETRY_SECONDS_MAX: Final = 24 * 3600.0
"""Upper limit of `Retry-After`; longer times are shortened to it."""
CERTIFICATES_MAX: Final = 16

REQUEST_HEADERS: Final = "Content-Type: application/pkcs10\r\n"
"""The header line of an enrolment request; RFC 8951, 3.1, has withdrawn Content-Transfer-Encoding."""
CA_TAG: Final = "ca-etag"
"""The response header with the entity tag of `cacerts`, sent with an issued certificate: a client that has the tagged
certificates need not request them. It is an addition to EST; other clients ignore it."""
ROOTS_TAG: Final = "datacenter-etag"
"""The same for DATACENTER_ROOTS; omitted if the server does not name the roots."""
P256_ATTRIBUTES: Final = b64encode(
    bytes.fromhex(
        "3021"  # CsrAttrs (RFC 8951, 3.3)
        "3015 0607 2a8648ce3d0201"  # id-ecPublicKey, with
        "310a 0608 2a8648ce3d030107"  # the curve P-256
        "0608 2a8648ce3d040302"  # ecdsa-with-SHA256
    )
)


class EstError(ValueError):
    """A message violates EST; the exception's message says how."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The server has issued a certificate; `certificates` may include intermediate CA certificates."""

    certificates: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A person has to approve the request: repeat the same request after `retry_after_s` seconds."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses the request, or cannot process it now."""

    status: int
    reason: str
    retry_after_s: float


EnrolmentAnswer: TypeAlias = Issued | Waiting | Refused


def encode_request(request: x509.CertificateSigningRequest) -> bytes:
    """Return the body of an enrolment request."""
    return b64encode(request.public_bytes(Encoding.DER))


def decode_request(body: bytes) -> x509.CertificateSigningRequest:
    """Return the certificate request in a body. Raises: EstError."""
    try:
        return x509.load_der_x509_csr(_decoded(body))
    except CERTIFICATE_ERRORS as error:
        raise EstError(f"the body is not a certificate request (PKCS #10, DER in base64): {error}") from None


def certificates_response(certificates: Sequence[x509.Certificate], **tags: str) -> Response:
    """Return the response with these certificates; `tags` are headers with entity tags."""
    body = b64encode(pkcs7.serialize_certificates(list(certificates), Encoding.DER))
    headers = {"content-type": "application/pkcs7-mime; smime-type=certs-only"}
    return Response(HTTPStatus.OK, body, headers | tags)


def attributes_response() -> Response:
    """Return the response that lists the required attributes of a request."""
    headers = {"content-type": "application/csrattrs"}
    return Response(HTTPStatus.OK, P256_ATTRIBUTES, headers)


def waiting_response(retry_after_s: int) -> Response:
    """Return the response to a request that a person has to approve."""
    return Response(
        HTTPStatus.ACCEPTED, b"a person has to approve this request", {"retry-after": str(retry_after_s)}
    )


def decode_certificates(body: bytes) -> tuple[x509.Certificate, ...]:
    """Return the certificates in the body of a response, at least one. Raises: EstError."""
    try:
        certificates = tuple(pkcs7.load_der_pkcs7_certificates(_decoded(body)))
    except CERTIFICATE_ERRORS as error:
        raise EstError(f"the response has no certificates (PKCS #7, DER in base64): {error}") from None
    if not 0 < len(certificates) <= CERTIFICATES_MAX:
        raise EstError(
            f"the response has {len(certificates)} certificates; it may have 1 to {CERTIFICATES_MAX}"
        )
    return certificates


def read_answer(response: Response) -> EnrolmentAnswer:
    """Return the meaning of a response to an enrolment request. Raises: EstError."""
    if response.status == HTTPStatus.OK:
        return Issued(decode_certificates(response.body))
    retry_after_s = _retry_after_s(response.headers.get("retry-after", ""))
    if response.status == HTTPStatus.ACCEPTED:
        return Waiting(retry_after_s)
    body = response.body[:200].decode("ascii", "replace")
    reason = "".join(character if character.isprintable() else " " for character in body)
    return Refused(response.status, reason, retry_after_s)


def etag_of(certificates: Iterable[x509.Certificate]) -> str:
    """Return the entity tag of a set of CA certificates, in any order (RFC 9110, 8.8.3)."""
    digest = hashlib.sha256(b"".join(sorted(each.public_bytes(Encoding.DER) for each in certificates)))
    return f'"{digest.hexdigest()[:16]}"'


def _decoded(body: bytes) -> bytes:
    """Decode base64, which may have line ends (RFC 8951, 3.1)."""
    try:
        return b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise EstError(f"the body is not base64: {error}") from None


def _retry_after_s(value: str) -> float:
    """Return the seconds in `Retry-After`; 0 without it. A date is taken as one hour."""
    if not value:
        return 0.0
    return min(float(value), RETRY_SECONDS_MAX) if value.isascii() and value.isdigit() else 3600.0
