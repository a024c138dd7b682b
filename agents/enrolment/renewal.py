"""Renews the certificate of a box or an instrument: requests a new one, tries it, and then uses it.

    due      the certificate is the flashed one, or two thirds of its validity period have passed
    asked    the box has generated a key and requests a certificate for it, until the data center issues one
    issued   the box connects with the new certificate; once a batch was acknowledged, the old one is removed

To save bytes, requests share the connection of the reports, and the connection on which the data center has
accepted the new certificate becomes that of the reports. A separate one is opened for the requests only if the
reports have no connection, or the certificate has expired; after an expiry it is opened before that of the reports.

Every state is on the disk (`agents.enrolment.records`), and a restart continues from it. If the new certificate has
not worked within PROOF_SECONDS_MAX, the box returns to the old one, so that it always has one that works.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agents.enrolment.certificate_files import BoxCertificates
from agents.enrolment.identity_files import IdentityFiles
from agents.enrolment.records import NEXT, USED, IdentityRecord, IdentityRecords
from hal.clock import WallClock
from hal.disk import DiskError, DiskErrorKind
from wire import est
from wire.audit_events import AuditEvent
from wire.dial.proxy import ProxyError
from wire.http.connection import ClientConnection, HttpError, Response
from wire.messages import TIME_PATH
from wire.pki.hierarchy import PrivateKey
from wire.pki.request import make_request
from wire.tls.certificates import CERTIFICATE_ERRORS
from wire.tls.context import ClientContext, client_context
from wire.tls.identity import Severity
from wire.tls.tpm import TpmError
from wire.tls.x509 import is_same_key, load_certificates, not_after, not_before

RENEW_AFTER: Final = 2 / 3
"""Share of its validity period after which a certificate is renewed."""
CHECK_SECONDS: Final = 3600.0
"""Maximum interval of checks of the certificate's age, because the clock may be set."""
RETRY_SECONDS_MIN: Final = 10.0
RETRY_SECONDS_MAX: Final = 3600.0
REFUSED_SECONDS: Final = 6 * 3600.0
"""Time after which a request that the data center has refused is repeated."""
APPROVAL_SECONDS: Final = 300.0
"""Interval at which a pending request is repeated, unless the data center's response gives another."""
RESPONSE_SECONDS_MAX: Final = 60.0
"""Time limit of the requests of a renewal, except those on the reports' connection."""
PROOF_SECONDS_MAX: Final = 900.0
"""Time within which the data center must acknowledge a batch under the new certificate."""
UPLINK_SECONDS_MAX: Final = 20.0
"""Time for the reports' connection to send a request; after it, a separate connection is opened."""
REFUSALS_MAX: Final = 12
"""Number of refusals, without a response between them, after which a new certificate is dropped.

A TLS alert counts as ALERT_REFUSALS; a connection that ends without a response counts as one, since a reset may
overtake the alert."""
ALERT_REFUSALS: Final = 4
PAUSE_SECONDS: Final = 24 * 3600.0
"""Minimum time between two renewals, regardless of the clock."""
_NETWORK_ERRORS: Final = (OSError, ProxyError, HttpError, est.EstError)
T = TypeVar("T")


class ProvenConnection(NamedTuple):
    """A connection on which the data center has accepted the certificate, and its context."""

    tls: ClientContext
    connection: ClientConnection


class NamedAuthorities(NamedTuple):
    """CAs that the data center has named (DER): the vendor's, and the roots of its own certificate."""

    vendor: tuple[bytes, ...] = ()
    datacenter: tuple[bytes, ...] = ()


class EstRequest(NamedTuple):
    """An EST request; `headers` are complete header lines."""

    method: str
    target: str
    body: bytes
    headers: str


class Notes(Protocol):
    """Receives the audit events of a renewal."""

    def note(self, event: AuditEvent, value: int = 0) -> None:
        """Record an event without waiting until it is durable."""


Ask: TypeAlias = Callable[[EstRequest], Awaitable[Response]]
"""Sends a request and returns the response."""
Dial: TypeAlias = Callable[[ClientContext | None], Awaitable[ClientConnection]]
"""Connects to the data center, with the context of the reports if none is given."""
Use: TypeAlias = Callable[[BoxCertificates, ProvenConnection | None], ClientContext]
"""Switches to these files, and to the proven connection if there is one; returns the context for connections."""


class NotUsableError(est.EstError):
    """The data center has issued a certificate that the box cannot use."""


class Renewal:
    """The renewal of a device's certificate. Call `load` once, then `run`."""

    def __init__(
        self,
        serial: str,
        configured: BoxCertificates,
        records: IdentityRecords,
        executor: Executor | None,
        clock: WallClock,
        random: Random,
        make_key: Callable[[], PrivateKey],
        ask_on_uplink: Ask | None = None,
    ) -> None:
        """`configured` are the files of the flashed identity; `records` are used on `executor`.

        `ask_on_uplink` makes requests on the connection of the reports; None: they need a separate one.
        """
        self._serial, self._configured, self._records = serial, configured, records
        self._executor, self._clock, self._random, self._make_key = executor, clock, random, make_key
        self._files = IdentityFiles(configured)
        self._used: IdentityRecord | None = None
        self._next: IdentityRecord | None = None
        self._in_use = configured
        self._failures = self._refusals = 0
        self._is_awaiting_approval = False
        self._ask_on_uplink = ask_on_uplink
        self._answered = asyncio.Event()
        self._answering: ClientContext | None = None
        self._attempted = asyncio.Event()

    async def load(self) -> BoxCertificates:
        """Read the records, and return the files of the identity to begin with. Raises: DiskError UNAVAILABLE."""
        self._used = await self._on_disk(self._records.load, USED)
        self._next = await self._on_disk(self._records.load, NEXT)
        if self._used is not None and (not self._used.chain or self._is_older_than_configured(self._used)):
            self._used = None
        if self._used is not None:
            try:
                self._in_use = self._files.write(self._used)
            except OSError:
                self._used = None
        return self._in_use

    def close(self) -> None:
        """Remove the files with the key."""
        self._files.remove()

    def answered(self, tls: ClientContext) -> None:
        """Record that the data center acknowledged a batch on a connection with this context."""
        if tls is self._answering:
            self._answered.set()

    async def precede(self, forward: Callable[[], Awaitable[None]]) -> None:
        """Call `forward`, but attempt first to renew a certificate that has expired.

        The data center accepts no batch with it, and each attempt to send one would cost a TLS handshake.
        """
        if self._is_outdated():
            with suppress(TimeoutError):
                async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                    await self._attempted.wait()
        await forward()

    async def run(self, dial: Dial, use: Use, audit: Notes) -> None:
        """Renew until cancelled.

        `dial` connects to the data center; `use` switches to the files and returns the context for connections.
        Raises: DiskError UNAVAILABLE.
        """
        while True:
            delay = CHECK_SECONDS
            try:
                if self._next is not None and self._next.chain:
                    await self._try_next(dial, use, audit)
                    delay = PAUSE_SECONDS
                elif (due_s := self._due_in_s()) <= 0:
                    delay = await self._request(dial, audit)
                else:
                    delay = min(due_s, CHECK_SECONDS)
            except TpmError:
                audit.note(AuditEvent.TPM_NOT_USABLE)
                delay = RETRY_SECONDS_MAX
            except _NETWORK_ERRORS as error:
                if isinstance(error, NotUsableError):
                    audit.note(AuditEvent.CERTIFICATE_NOT_RENEWED)
                delay = self._retry_delay()
            except DiskError as error:
                if error.kind is DiskErrorKind.UNAVAILABLE:
                    raise
                delay = RETRY_SECONDS_MAX
            if delay:
                self._attempted.set()
            await asyncio.sleep(delay)

    def _due_in_s(self) -> float:
        """Return the seconds until the certificate should be renewed; negative if it is overdue."""
        if self._used is None:
            return -1.0
        certificate = self._used.certificate()
        begins, ends = not_before(certificate), not_after(certificate)
        due_s = (begins + (ends - begins) * RENEW_AFTER).timestamp()
        return due_s - self._clock.now_ns() / 1e9

    def _is_outdated(self) -> bool:
        """Return whether the certificate in use is outside its validity period, by the box's own clock."""
        try:
            certificate = load_certificates(self._in_use.certificate.read_bytes())[0]
        except (OSError, IndexError, *CERTIFICATE_ERRORS):
            return False
        now_s = self._clock.now_ns() / 1e9
        return not not_before(certificate).timestamp() <= now_s <= not_after(certificate).timestamp()

    async def _request(self, dial: Dial, audit: Notes) -> float:
        """Request a certificate; return the seconds until the next step."""
        if self._next is None:
            used = self._used
            known = (used.authorities, used.roots) if used is not None else ()
            fresh = IdentityRecord.of_key(await self._on_disk(self._make_key), *known)
            await self._on_disk(self._records.save_next, fresh)
            self._next = fresh
        answer, named = await self._ask(dial, self._next.private_key())
        if isinstance(answer, est.Issued):
            await self._store_issued(answer.certificates, named)
            self._failures, self._is_awaiting_approval = 0, False
            return 0.0
        if isinstance(answer, est.Waiting):
            if not self._is_awaiting_approval:
                audit.note(AuditEvent.CERTIFICATE_AWAITS_APPROVAL)
                self._is_awaiting_approval = True
            return answer.retry_after_s or APPROVAL_SECONDS
        audit.note(AuditEvent.CERTIFICATE_REQUEST_REFUSED, answer.status)
        is_temporary = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.retry_after_s
        return max(answer.retry_after_s, self._retry_delay()) if is_temporary else REFUSED_SECONDS

    async def _ask(self, dial: Dial, key: PrivateKey) -> tuple[est.EnrolmentAnswer, NamedAuthorities]:
        """Request a certificate; return the answer, and with a certificate the CAs to trust.

        Raises: _NETWORK_ERRORS.
        """
        if self._ask_on_uplink is not None and not self._is_outdated():
            with suppress(TimeoutError):
                async with asyncio.timeout(UPLINK_SECONDS_MAX):
                    return await self._enrol(self._ask_on_uplink, key)
        connection = await dial(None)

        async def ask_separately(request: EstRequest) -> Response:
            return await connection.request(*request)

        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                return await self._enrol(ask_separately, key)
        finally:
            connection.abort()

    async def _enrol(self, ask: Ask, key: PrivateKey) -> tuple[est.EnrolmentAnswer, NamedAuthorities]:
        path = est.ENROL if self._used is None else est.REENROL
        body = est.encode_request(make_request(self._serial, key))
        response = await ask(EstRequest("POST", path, body, est.REQUEST_HEADERS))
        answer, before = est.read_answer(response), self._next
        if before is None or not isinstance(answer, est.Issued):
            return answer, NamedAuthorities()
        vendor, roots = self._configured.vendor_authority, self._configured.datacenter_authority
        tag, roots_tag = (response.headers.get(name, "") for name in (est.CA_TAG, est.ROOTS_TAG))
        authorities = await _named_authorities(ask, est.CA_CERTIFICATES, before.authorities, vendor, tag)
        if not roots_tag:  # the data center names none
            return answer, NamedAuthorities(authorities, before.roots)
        named = await _named_authorities(ask, est.DATACENTER_ROOTS, before.roots, roots, roots_tag)
        return answer, NamedAuthorities(authorities, named)

    async def _store_issued(self, issued: tuple[x509.Certificate, ...], named: NamedAuthorities) -> None:
        """Store an issued certificate, if it can be used. Raises: NotUsableError, OSError, DiskError."""
        assert self._next is not None, "a key was generated"
        key = self._next.private_key().public_key()
        leaf = next(
            (certificate for certificate in issued if is_same_key(certificate.public_key(), key)), None
        )
        if leaf is None:
            raise NotUsableError("the issued certificate is for another key")
        attributes = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(attribute.value) for attribute in attributes]
        if names != [self._serial]:
            raise NotUsableError(f"the issued certificate is for {names}")
        chain = (leaf, *(certificate for certificate in issued if certificate is not leaf))
        ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        record = IdentityRecord(self._next.key, ders, *named)
        # the box's clock may be wrong: only the certificate itself is checked
        valid_s = (not_before(leaf) + timedelta(minutes=1)).timestamp()
        if self._files.write(record).inspect(valid_s).worst not in (None, Severity.SOON):
            raise NotUsableError("the issued certificate would be refused")
        await self._on_disk(self._records.save_next, record)
        self._next = record

    async def _try_next(self, dial: Dial, use: Use, audit: Notes) -> None:
        """Connect with the new certificate until it has worked or was refused. Raises: _NETWORK_ERRORS, DiskError."""
        assert self._next is not None, "it was issued"
        files = self._files.write(self._next)
        tls = client_context(files.client_identity())
        connection = await self._accepted(dial, tls)
        if connection is None:
            await self._drop(audit)
            return
        self._answered.clear()
        try:
            self._answering = use(files, ProvenConnection(tls, connection))
        except BaseException:
            connection.abort()
            raise
        self._attempted.set()
        # the acknowledgement of this record is the proof
        audit.note(AuditEvent.CERTIFICATE_ISSUED, self._days_left())
        try:
            async with asyncio.timeout(PROOF_SECONDS_MAX):
                await self._answered.wait()
        except TimeoutError:
            use(self._in_use, None)
            raise
        finally:
            self._answering = None
        await self._on_disk(self._records.use_next)
        self._used, self._next, self._in_use, self._failures = self._next, None, files, 0
        audit.note(AuditEvent.CERTIFICATE_RENEWED, self._days_left())

    async def _accepted(self, dial: Dial, tls: ClientContext) -> ClientConnection | None:
        """Return a connection on which the data center accepted the new certificate; None if it refuses it.

        Raises: _NETWORK_ERRORS, if neither is known.
        """
        connection = None
        try:
            connection = await dial(tls)
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                response = await connection.request("GET", TIME_PATH)
            if response.status == HTTPStatus.FORBIDDEN:
                raise est.EstError("the data center refuses all requests of this box")
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise  # the box refused the data center's certificate
            if not isinstance(error, ssl.SSLError | ConnectionResetError | HttpError):
                raise
            self._refusals += ALERT_REFUSALS if _is_alert(error) else 1
            if self._refusals < REFUSALS_MAX:
                raise
            return None
        self._refusals = 0
        return connection

    async def _drop(self, audit: Notes) -> None:
        """Discard the new certificate, and request another with another key later. Raises: EstError, DiskError."""
        await self._on_disk(self._records.drop_next)
        self._next, self._refusals = None, 0
        audit.note(AuditEvent.CERTIFICATE_NOT_RENEWED)
        raise est.EstError("the data center refuses the certificate that it has issued")

    def _days_left(self) -> int:
        record = self._next if self._next is not None else self._used
        assert record is not None, "there is a new certificate"
        left_s = not_after(record.certificate()).timestamp() - self._clock.now_ns() / 1e9
        return int(left_s // 86_400)

    def _is_older_than_configured(self, record: IdentityRecord) -> bool:
        """Return whether the configured certificate was issued later: a person has installed it meanwhile."""
        try:
            pem = self._configured.certificate.read_bytes()
            configured = load_certificates(pem)[0]
        except (OSError, IndexError, *CERTIFICATE_ERRORS):
            return False
        return not_before(configured) > not_before(record.certificate())

    def _retry_delay(self) -> float:
        ceiling = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return self._random.uniform(RETRY_SECONDS_MIN / 2, ceiling)

    async def _on_disk(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


async def _named_authorities(
    ask: Ask, path: str, named: tuple[bytes, ...], configured: Path, tag: str
) -> tuple[bytes, ...]:
    """Return the CAs that the data center names at `path`; empty if they equal the configured ones.

    `named` are those that it has named before; `tag` is the entity tag of the current ones, or "".
    """
    known = [x509.load_der_x509_certificate(der) for der in named] or _configured(configured)
    if known and tag == est.etag_of(known):
        return named
    headers = f"If-None-Match: {est.etag_of(known)}\r\n" if known else ""
    response = await ask(EstRequest("GET", path, b"", headers))
    if response.status != HTTPStatus.OK:
        return named
    certificates = est.decode_certificates(response.body)
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def _configured(file: Path) -> list[x509.Certificate]:
    """Return the CAs in a file of the configuration; none if it cannot be read."""
    try:
        return load_certificates(file.read_bytes())
    except (OSError, *CERTIFICATE_ERRORS):
        return []


def _is_alert(error: Exception) -> bool:
    """Return whether the peer has refused the certificate by a TLS alert.

    In TLS 1.3 the alert arrives after the handshake has ended for the client, whose next request then fails with it.
    """
    return "_ALERT_" in str(error)
