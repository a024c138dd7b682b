"""Says why the data center's certificate is not trusted, in words that the site's IT can act on.

The most frequent reason in hospitals is a proxy that inspects TLS: it presents a certificate of its own CA for the
data center's name. OpenSSL says only that verification failed, so the certificate is read once more
(`wire.dial.probe`)
and the problem is named: in the status, in the audit log, by the alarm LED, and beside the box on standard error. All
of this ends with the next connection on which verification succeeds.

The audit log holds words and numbers only, so the issuer's name is in the other places.
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
from wire.dial.probe import Presented
from wire.dial.proxy import ProxyError
from wire.process.ratelimit import TokenBucket

PROBES_PER_SECOND: Final = 1 / 600
PROBES_BURST: Final = 2
NAME_CHARACTERS_MAX: Final = 100
"""Of a name in a certificate: whoever made that may have written anything into it."""
NAMES_MAX: Final = 3


class Distrust(StrEnum):
    """Why the certificate is not trusted; the audit event is `far-end-` and this."""

    OTHER_ISSUER = "inspected"
    SELF_SIGNED = "self-signed"
    WRONG_NAME = "wrong-name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    PLAIN_HTTP = "plain-http"
    OTHER = "not-usable"


class TrustProblem(msgspec.Struct, frozen=True):
    """Why the data center's certificate is not trusted. `issuer` is the name in it, made fit to print."""

    kind: Distrust
    message: str
    issuer: str = ""


_KINDS: Final = {
    9: Distrust.NOT_YET_VALID,
    10: Distrust.EXPIRED,
    18: Distrust.SELF_SIGNED,
    2: Distrust.OTHER_ISSUER,
    7: Distrust.OTHER_ISSUER,
    19: Distrust.OTHER_ISSUER,
    20: Distrust.OTHER_ISSUER,
    21: Distrust.OTHER_ISSUER,
    62: Distrust.WRONG_NAME,
    64: Distrust.WRONG_NAME,
}
"""By X509_verify_cert_error_string(3): 2, 20 no issuer, 7 wrong signature, 19 an unknown root, 21 a leaf alone."""


class TrustDiagnosis:
    """The present problem; `examine` each failure to connect, and call `trusted` after each success."""

    def __init__(
        self,
        host: str,
        probe: Callable[[], Awaitable[Presented]],
        audit: AuditLog,
        show: Callable[[Light], object],
        say: Callable[[str], object],
    ) -> None:
        """`host` is what the certificate should be for; `show` is for the alarm LED."""
        self._host, self._probe, self._audit, self._show, self._say = host, probe, audit, show, say
        self._loop = asyncio.get_running_loop()
        self._may_probe = TokenBucket(PROBES_PER_SECOND, PROBES_BURST)
        self.problem: TrustProblem | None = None

    async def examine(self, error: Exception) -> None:
        """Find out what is behind a failure of TLS; any other error tells nothing new."""
        if not isinstance(error, ssl.SSLError):
            return
        kind, known = _kind(error), self.problem
        if known is not None and known.kind is (kind or Distrust.PLAIN_HTTP) and (known.issuer or not kind):
            return
        presented = await self._look()
        if kind is None:
            if presented is None or not presented.beginning.startswith(b"HTTP/"):
                return
            kind = Distrust.PLAIN_HTTP
        self._found(describe(kind, error, presented, self._host), getattr(error, "verify_code", 0))

    def trusted(self) -> None:
        """A certificate has been verified."""
        if self.problem is not None:
            self.problem = None
            self._show(Light.OFF)
            self._audit.note(AuditEvent.FAR_END_TRUSTED)
            self._say(f"the certificate of {self._host} is trusted again")

    async def _look(self) -> Presented | None:
        if self._may_probe.take(1, self._loop.time()):
            return None
        try:
            return await self._probe()
        except (OSError, ProxyError):
            return None

    def _found(self, problem: TrustProblem, code: int) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        self._show(Light.FAST)
        self._audit.note(AuditEvent(f"far-end-{problem.kind.value}"), code)
        self._say(f"no connection to {self._host}: {problem.message}")


def _kind(error: ssl.SSLError) -> Distrust | None:
    """The kind of a failed verification; None for another failure of TLS."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    return _KINDS.get(error.verify_code, Distrust.OTHER)


def describe(kind: Distrust, error: ssl.SSLError, presented: Presented | None, host: str) -> TrustProblem:
    """The problem in words, as far as the certificate could be read."""
    if kind is Distrust.PLAIN_HTTP:
        message = (
            "port 443 is answered in plain HTTP and not in TLS, as by a captive portal; have the box's network let it"
            f" connect to {host}"
        )
        return TrustProblem(kind, message)
    certificate = _read(presented)
    if certificate is None:
        return TrustProblem(kind, f"its certificate is not trusted: {fit_to_print(_reason(error))}")
    issuer = name_of(certificate, of_issuer=True)
    if kind is Distrust.OTHER_ISSUER:
        message = (
            f"the certificate was issued by {issuer} and not by the vendor's CA; if a proxy inspects TLS, have it"
            f" exempt {host}"
        )
    elif kind is Distrust.SELF_SIGNED:
        message = f"the certificate is self-signed, by {issuer}, and was not issued by the vendor's CA"
    elif kind is Distrust.WRONG_NAME:
        message = f"the certificate, issued by {issuer}, is for {_names(certificate)} and not for {host}"
    elif kind is Distrust.EXPIRED:
        message = (
            f"the certificate, issued by {issuer}, expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    elif kind is Distrust.NOT_YET_VALID:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d}"
        message = f"the certificate, issued by {issuer}, is not valid before {begins} by the box's clock"
    else:
        message = f"the certificate, issued by {issuer}, is refused: {fit_to_print(_reason(error))}"
    return TrustProblem(kind, message, issuer)


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error)


def _read(presented: Presented | None) -> x509.Certificate | None:
    if presented is None or not presented.certificate:
        return None
    try:
        return x509.load_der_x509_certificate(presented.certificate)
    except ValueError:
        return None


def name_of(certificate: x509.Certificate, *, of_issuer: bool) -> str:
    """The issuer's or the subject's common name and organization."""
    try:
        name = certificate.issuer if of_issuer else certificate.subject
        found = [
            str(attribute.value)
            for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
            for attribute in name.get_attributes_for_oid(oid)[:1]
        ]
        return fit_to_print(" of ".join(found) or name.rfc4514_string())
    except ValueError:
        return "a name that cannot be read"


def _names(certificate: x509.Certificate) -> str:
    """For which names it is."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(name.value) for name in extension.value]
    except (x509.ExtensionNotFound, ValueError):
        names = [name_of(certificate, of_issuer=False)]
    shown = ", ".join(map(fit_to_print, names[:NAMES_MAX])) or "no name"
    return f"{shown} and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else shown


def fit_to_print(text: str) -> str:
    """`text` without control and formatting characters, in quotes, bounded in length."""
    plain = "".join(c if c.isprintable() and c != '"' else "?" for c in text[:NAME_CHARACTERS_MAX])
    return f'"{plain}{"…" if len(text) > NAME_CHARACTERS_MAX else ""}"'
