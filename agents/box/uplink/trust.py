"""Diagnoses why the data center's certificate is not trusted, for the site's IT department.

The most frequent reason in hospitals is a proxy that inspects TLS: it presents a certificate from another CA for the
data center's name. The error of a failed handshake does not contain the certificate, so it is fetched again
(`wire.dial.probe`). The problem is shown in the status, in the audit log, by the alarm LED and on standard error,
until a verification succeeds.

The audit log holds only fixed words and numbers, and therefore not the issuer's name.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from agents.box.health.audit import AuditLog
from hal.indicators import Light
from wire.audit_events import AuditEvent
from wire.dial.probe import ProbeResult
from wire.dial.proxy import ProxyError
from wire.process.ratelimit import TokenBucket
from wire.tls.certificates import CERTIFICATE_ERRORS, EXTENSION_ERRORS
from wire.tls.x509 import not_after, not_before

PROBES_PER_SECOND: Final = 1 / 600
PROBES_BURST: Final = 2
NAME_CHARACTERS_MAX: Final = 100
"""Limit of a name shown from a certificate, which is untrusted input."""
NAMES_MAX: Final = 3


class DistrustReason(StrEnum):
    """Why the certificate is not trusted; the audit event is `far-end-` followed by the value."""

    OTHER_ISSUER = "inspected"
    SELF_SIGNED = "self-signed"
    WRONG_NAME = "wrong-name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    PLAIN_HTTP = "plain-http"
    OTHER = "not-usable"


class TrustProblem(msgspec.Struct, frozen=True):
    """Why the data center's certificate is not trusted. `issuer` is the issuer's name, without control characters."""

    kind: DistrustReason
    message: str
    issuer: str = ""


_KINDS: Final = {
    9: DistrustReason.NOT_YET_VALID,
    10: DistrustReason.EXPIRED,
    18: DistrustReason.SELF_SIGNED,
    2: DistrustReason.OTHER_ISSUER,
    7: DistrustReason.OTHER_ISSUER,
    19: DistrustReason.OTHER_ISSUER,
    20: DistrustReason.OTHER_ISSUER,
    21: DistrustReason.OTHER_ISSUER,
    62: DistrustReason.WRONG_NAME,
    64: DistrustReason.WRONG_NAME,
}
"""By OpenSSL's X509_V_ERR codes: 2 and 20 no issuer, 7 wrong signature, 19 unknown root, 21 only a leaf."""


class TrustDiagnosis:
    """Tracks the current problem. Call `examine` after each connection failure, `trusted` after each success."""

    def __init__(
        self,
        host: str,
        probe: Callable[[], Awaitable[ProbeResult]],
        audit: AuditLog,
        show: Callable[[Light], object],
        log_message: Callable[[str], object],
    ) -> None:
        """`host` is the name that the certificate must be valid for; `show` sets the alarm LED."""
        self._host, self._probe, self._audit, self._show, self._log_message = (
            host,
            probe,
            audit,
            show,
            log_message,
        )
        self._loop = asyncio.get_running_loop()
        self._probe_limit = TokenBucket(PROBES_PER_SECOND, PROBES_BURST)
        self.problem: TrustProblem | None = None

    async def examine(self, error: Exception) -> None:
        """Diagnose a TLS error; other errors do not change the current problem."""
        if not isinstance(error, ssl.SSLError):
            return
        kind, known = _kind(error), self.problem
        if (
            known is not None
            and known.kind is (kind or DistrustReason.PLAIN_HTTP)
            and (known.issuer or not kind)
        ):
            return
        presented = await self._probe_certificate()
        if kind is None:
            if presented is None or not presented.beginning.startswith(b"HTTP/"):
                return
            kind = DistrustReason.PLAIN_HTTP
        self._set_problem(describe(kind, error, presented, self._host), getattr(error, "verify_code", 0))

    def trusted(self) -> None:
        """Clear the problem after a successful verification."""
        if self.problem is not None:
            self.problem = None
            self._show(Light.OFF)
            self._audit.note(AuditEvent.FAR_END_TRUSTED)
            self._log_message(f"the certificate of {self._host} is trusted again")

    async def _probe_certificate(self) -> ProbeResult | None:
        if self._probe_limit.take(1, self._loop.time()):
            return None
        try:
            return await self._probe()
        except (OSError, ProxyError):
            return None

    def _set_problem(self, problem: TrustProblem, code: int) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        self._show(Light.FAST)
        self._audit.note(AuditEvent(f"far-end-{problem.kind.value}"), code)
        self._log_message(f"no connection to {self._host}: {problem.message}")


def _kind(error: ssl.SSLError) -> DistrustReason | None:
    """Return the reason of a failed verification; None for any other TLS error."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    return _KINDS.get(error.verify_code, DistrustReason.OTHER)


def describe(
    kind: DistrustReason, error: ssl.SSLError, presented: ProbeResult | None, host: str
) -> TrustProblem:
    """Describe the problem, with details of the certificate if it could be read."""
    if kind is DistrustReason.PLAIN_HTTP:
        message = (
            "the response on port 443 is plain HTTP instead of TLS, as from a captive portal; let the box's network"
            f" connect to {host} directly"
        )
        return TrustProblem(kind, message)
    certificate = _read(presented)
    if certificate is None:
        return TrustProblem(kind, f"its certificate is not trusted: {printable(_reason(error))}")
    issuer = name_of(certificate, of_issuer=True)
    if kind is DistrustReason.OTHER_ISSUER:
        message = (
            f"the certificate was issued by {issuer} and not by the vendor's CA; if a proxy inspects TLS, have it"
            f" exempt {host}"
        )
    elif kind is DistrustReason.SELF_SIGNED:
        message = f"the certificate is self-signed, by {issuer}, and was not issued by the vendor's CA"
    elif kind is DistrustReason.WRONG_NAME:
        message = f"the certificate, issued by {issuer}, is for {_names(certificate)} and not for {host}"
    elif kind is DistrustReason.EXPIRED:
        message = f"the certificate, issued by {issuer}, expired on {not_after(certificate):%Y-%m-%d}"
    elif kind is DistrustReason.NOT_YET_VALID:
        begins = f"{not_before(certificate):%Y-%m-%d}"
        message = f"the certificate, issued by {issuer}, is not valid before {begins} by the box's clock"
    else:
        message = f"the certificate, issued by {issuer}, is refused: {printable(_reason(error))}"
    return TrustProblem(kind, message, issuer)


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error)


def _read(presented: ProbeResult | None) -> x509.Certificate | None:
    if presented is None or not presented.certificate:
        return None
    try:
        return x509.load_der_x509_certificate(presented.certificate)
    except CERTIFICATE_ERRORS:
        return None


def name_of(certificate: x509.Certificate, *, of_issuer: bool) -> str:
    """Return the common name and organization of the issuer or the subject."""
    try:
        name = certificate.issuer if of_issuer else certificate.subject
        names = [
            str(attribute.value)
            for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
            for attribute in name.get_attributes_for_oid(oid)[:1]
        ]
        return printable(" of ".join(names) or name.rfc4514_string())
    except ValueError:
        return "an unreadable name"


def _names(certificate: x509.Certificate) -> str:
    """Return the names for which the certificate is valid."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(name.value) for name in extension.value]
    except EXTENSION_ERRORS:
        names = [name_of(certificate, of_issuer=False)]
    shown = ", ".join(map(printable, names[:NAMES_MAX])) or "no name"
    return f"{shown} and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else shown


def printable(text: str) -> str:
    """Return `text` in quotes, without control and formatting characters, truncated to NAME_CHARACTERS_MAX."""
    plain = "".join(c if c.isprintable() and c != '"' else "?" for c in text[:NAME_CHARACTERS_MAX])
    return f'"{plain}{"…" if len(text) > NAME_CHARACTERS_MAX else ""}"'
