"""The registration authority: decides which box gets a certificate immediately, which after approval, and which none.

An authorized box with a valid certificate gets a new certificate. A box that is not authorized, or whose certificate
has expired, needs one approval by a person, which is for the box and for the key of this request. An approval is also
needed for a box that was registered with its flash record, if its certificate is neither for the key in that record
nor issued here. A box on the deny-list gets no certificate. The same request, repeated because a response was lost,
gets the same certificate.

An instrument requests its certificate through its box, which vouches for the certificate that the instrument has
connected with, and for its entry in the site file. An approval is needed if that certificate has expired, or if the
instrument is known behind another box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, union_all, update

from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    boxes,
    certificates,
    denied_boxes,
    denied_instruments,
    enrolments,
    instruments,
)
from datacenter.vendor_ca.authority import VendorAuthority
from wire.pki.hierarchy import PublicKey
from wire.pki.request import key_hash, requested_key
from wire.tls.certificates import CERTIFICATE_ERRORS, EXTENSION_ERRORS

Cause: TypeAlias = Literal["first", "renewal", "approved"]
"""Why a certificate was issued: as the first one by this service, to renew one, or after an approval."""
Reason: TypeAlias = Literal["expired", "unknown", "other-key", "other-box", "flashed"]
"""Why a request needs an approval. "other-key": the box was registered with a key other than its certificate's.
"other-box": the instrument is known behind another box. "flashed" is not a request, but the entry of a box that staff
have registered, with the key of its flash record."""

RENEWALS_PER_DAY: Final = 4
"""Maximum number of certificates for a box in 24 hours without approvals; more indicate a defect."""
WAITING_OF_BOX_MAX: Final = 4
WAITING_OF_INSTRUMENTS_MAX: Final = 32
WAITING_MAX: Final = 1_000
"""Maximum numbers of pending requests: of a box, of the instruments behind it, and in total. Further requests
must be repeated later."""
WAITING_SECONDS_MIN: Final = 20
WAITING_SECONDS_MAX: Final = 300
"""Limits of the interval at which a box repeats a pending request. The interval is as long as
the request has waited."""
BUSY_SECONDS: Final = 3600
DAY_MS: Final = 86_400_000
_C: Final = certificates.c
_E: Final = enrolments.c


@dataclass(frozen=True, slots=True)
class Granted:
    """The certificate for a request."""

    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A person has to approve the request, which has waited for `waited_s` seconds."""

    waited_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request gets no certificate, or none before `retry_after_s` seconds have passed."""

    reason: str
    retry_after_s: int = 0


Outcome: TypeAlias = Granted | PendingApproval | Rejected


class RegisteredDevice(NamedTuple):
    """A box, or an instrument behind it."""

    box: str
    instrument: str = ""

    @property
    def name(self) -> str:
        """The common name of its certificate."""
        return self.instrument or self.box

    def of_certificates(self) -> ColumnElement[bool]:
        """Return the condition for its certificates."""
        return and_(_C.box == self.box, _C.instrument == self.instrument)

    def of_requests(self) -> ColumnElement[bool]:
        """Return the condition for its requests."""
        return and_(_E.box == self.box, _E.instrument == self.instrument)


class RegistrationAuthority:
    """Decides requests, and has certificates issued by the CA. Calls block."""

    def __init__(self, store: Store, authority: VendorAuthority, now_ms: Callable[[], int]) -> None:
        self._store, self.authority, self._now_ms = store, authority, now_ms

    def enrol(self, box: str, current: x509.Certificate, request: x509.CertificateSigningRequest) -> Outcome:
        """Decide the request of a box that is connected with the certificate `current`; committed on return.

        Raises: RequestError; StoreError; exceptions of the security module.
        """
        return self._enrol(RegisteredDevice(box), current, request)

    def enrol_instrument(
        self, box: str, current: x509.Certificate, request: x509.CertificateSigningRequest
    ) -> Outcome:
        """Decide the request of an instrument, which is connected to its box with the certificate `current`.

        Raises: as `enrol`.
        """
        names = current.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not self._has_issued(current):
            return Rejected("the instrument's certificate is not of the vendor's CA")
        return self._enrol(RegisteredDevice(box, str(names[0].value)), current, request)

    def _has_issued(self, certificate: x509.Certificate) -> bool:
        for authority in (self.authority.certificate, *self.authority.chain, *self.authority.trusted):
            try:
                certificate.verify_directly_issued_by(authority)
            except (*CERTIFICATE_ERRORS, TypeError, InvalidSignature):
                continue
            return True
        return False

    def _enrol(
        self, device: RegisteredDevice, current: x509.Certificate, request: x509.CertificateSigningRequest
    ) -> Outcome:
        public_key, now_ms = requested_key(request, device.name), self._now_ms()
        key = key_hash(public_key)
        with self._store.transaction() as connection:
            if (refusal := _refusal(connection, device)) is not None:
                return Rejected(refusal)
            if (issued := _issued_before(connection, device, key, now_ms)) is not None:
                return Granted(issued)
            reason = _reason_for_approval(connection, device, current, now_ms)
            if reason is not None:
                undecided = _request_approval(connection, device, key, reason, now_ms)
                if undecided is not None:
                    return undecided
            elif _is_too_often(connection, device, now_ms):
                name, most = device.name, RENEWALS_PER_DAY
                return Rejected(
                    f"{name} has had {most} certificates in a day; repeat this later", BUSY_SECONDS
                )
            # an instrument is only a client, and has only its serial number as a name
            hosts = () if device.instrument else _hosts(current)
            return Granted(self._issue(connection, device, public_key, reason, now_ms, hosts))

    def _issue(
        self,
        connection: Connection,
        device: RegisteredDevice,
        public_key: PublicKey,
        reason: Reason | None,
        now_ms: int,
        hosts: tuple[str, ...],
    ) -> x509.Certificate:
        is_own = device.of_certificates()
        is_first = connection.scalar(select(_C.box).where(is_own).limit(1)) is None
        cause: Cause = "approved" if reason else "first" if is_first else "renewal"
        certificate = self.authority.certify(device.name, public_key, now_ms / 1000, hosts)
        row = {
            "serial_number": f"{certificate.serial_number:x}",
            "box": device.box,
            "instrument": device.instrument,
            "key": key_hash(public_key),
            "cause": cause,
            "issued_at_ms": now_ms,
            "expires_at_ms": int(certificate.not_valid_after_utc.timestamp() * 1000),
            "certificate": certificate.public_bytes(Encoding.DER),
        }
        connection.execute(insert(certificates).values(row))
        this = and_(device.of_requests(), or_(_E.key == row["key"], _E.reason == "flashed"))
        connection.execute(update(enrolments).where(this).values(state="issued"))
        return certificate


def approved_boxes(store: Store) -> list[str]:
    """Return the boxes that staff have approved or registered. Raises: StoreError."""
    is_approved = and_(_E.reason.in_(("unknown", "flashed")), _E.state.in_(("approved", "issued")))
    return [row.box for row in store.read(select(_E.box).where(is_approved).distinct())]


def _hosts(current: x509.Certificate) -> tuple[str, ...]:
    """Return the names and addresses of a certificate, which the next one keeps (RFC 7030, 4.2.2).

    Instruments connect to the box by them.
    """
    try:
        names = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = names.get_values_for_type(x509.IPAddress)
        return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))
    except EXTENSION_ERRORS:
        return ()


def _refusal(connection: Connection, device: RegisteredDevice) -> str | None:
    """Return why a device gets no certificate in any case; None if it may get one."""
    box, instrument = device
    if connection.scalar(select(denied_boxes.c.box).where(denied_boxes.c.box == box)) is not None:
        return f"{box} is on the deny-list"
    if not instrument:
        return None
    denied = denied_instruments.c
    this = and_(denied.box == box, denied.instrument == instrument)
    if connection.scalar(select(denied.instrument).where(this)) is not None:
        return f"{instrument} is on the deny-list"
    if not _is_authorized(connection, box):
        return f"{box} is not authorized"
    # otherwise a box could get a certificate in the name of another one
    named = (
        select(boxes.c.serial).where(boxes.c.serial == instrument),
        select(_C.box).where(_C.box == instrument),
        select(_E.box).where(_E.box == instrument),
        select(denied_boxes.c.box).where(denied_boxes.c.box == instrument),
    )
    is_box = connection.execute(union_all(*named).limit(1)).first() is not None
    return f"{instrument} is a box, not an instrument" if is_box else None


def _issued_before(
    connection: Connection, device: RegisteredDevice, key: str, now_ms: int
) -> x509.Certificate | None:
    """Return the device's certificate for this key, if at most two thirds of its lifetime have passed."""
    this = and_(device.of_certificates(), _C.key == key)
    query = select(_C.certificate, _C.issued_at_ms, _C.expires_at_ms).where(this)
    row = connection.execute(query.order_by(_C.issued_at_ms.desc()).limit(1)).one_or_none()
    if row is None or 3 * (now_ms - row.issued_at_ms) > 2 * (row.expires_at_ms - row.issued_at_ms):
        return None
    return x509.load_der_x509_certificate(row.certificate)


def _is_authorized(connection: Connection, box: str) -> bool:
    known = select(boxes.c.serial).where(boxes.c.serial == box, boxes.c.dismissed_at_ms.is_(None))
    return connection.scalar(known) is not None


def _reason_for_approval(
    connection: Connection, device: RegisteredDevice, current: x509.Certificate, now_ms: int
) -> Reason | None:
    if not device.instrument and not _is_authorized(connection, device.box):
        return "unknown"
    begins, ends = current.not_valid_before_utc, current.not_valid_after_utc
    if not begins.timestamp() <= now_ms / 1000 <= ends.timestamp():
        return "expired"
    if device.instrument:
        return "other-box" if _is_elsewhere(connection, device) else None
    return None if _is_own_key(connection, device.box, current) else "other-key"


def _is_elsewhere(connection: Connection, device: RegisteredDevice) -> bool:
    """Return whether an instrument is known behind another box, and has no certificate by this one yet."""
    if connection.scalar(select(_C.box).where(device.of_certificates()).limit(1)) is not None:
        return False
    box, instrument = device
    known = (
        select(_C.box).where(_C.instrument == instrument, _C.box != box),
        select(instruments.c.box).where(instruments.c.serial == instrument, instruments.c.box != box),
    )
    return connection.execute(union_all(*known).limit(1)).first() is not None


def _is_own_key(connection: Connection, box: str, current: x509.Certificate) -> bool:
    """Return whether a certificate is for a key with which the box was registered, or certified here."""
    query = select(_E.key).where(_E.box == box, _E.reason == "flashed", _E.key != "")
    flashed = [row.key for row in connection.execute(query)]
    if not flashed:
        return True
    key = key_hash(current.public_key())
    if key in flashed:
        return True
    return connection.scalar(select(_C.box).where(_C.box == box, _C.key == key).limit(1)) is not None


def _request_approval(
    connection: Connection, device: RegisteredDevice, key: str, reason: Reason, now_ms: int
) -> Outcome | None:
    """Return the outcome for a request that needs approval; None if it was approved."""
    this = and_(device.of_requests(), _E.key == key)
    earlier = connection.execute(select(_E.state, _E.asked_at_ms).where(this)).one_or_none()
    state = earlier.state if earlier else None
    if state == "approved":
        return None
    if state == "rejected":
        return Rejected("a person has rejected this request")
    if state == "waiting":
        assert earlier is not None, "it has a state"
        connection.execute(update(enrolments).where(this).values(seen_at_ms=now_ms))
        return PendingApproval((now_ms - earlier.asked_at_ms) / 1000)
    _make_room(connection, device)
    if (connection.scalar(select(func.count()).where(_E.state == "waiting")) or 0) >= WAITING_MAX:
        return Rejected("too many requests are pending; repeat this one later", BUSY_SECONDS)
    # the approval was used once, for a certificate that is old by now
    connection.execute(delete(enrolments).where(_E.box == device.box, _E.key == key))
    row = {**device._asdict(), "key": key, "reason": reason, "state": "waiting"}
    connection.execute(insert(enrolments).values(row | {"asked_at_ms": now_ms, "seen_at_ms": now_ms}))
    return PendingApproval()


def _make_room(connection: Connection, device: RegisteredDevice) -> None:
    """Remove the oldest pending requests of a box, or of the instruments behind it, to make room for a new one."""
    is_of_kind = _E.instrument != "" if device.instrument else _E.instrument == ""
    most = WAITING_OF_INSTRUMENTS_MAX if device.instrument else WAITING_OF_BOX_MAX
    waiting = and_(_E.box == device.box, is_of_kind, _E.state == "waiting")
    rows = connection.execute(select(_E.key).where(waiting).order_by(_E.seen_at_ms.desc(), _E.key))
    superfluous = [row.key for row in rows][most - 1 :]
    connection.execute(delete(enrolments).where(waiting, _E.key.in_(superfluous)))


def _is_too_often(connection: Connection, device: RegisteredDevice, now_ms: int) -> bool:
    recent = select(func.count()).where(
        device.of_certificates(), _C.cause != "approved", _C.issued_at_ms > now_ms - DAY_MS
    )
    return (connection.scalar(recent) or 0) >= RENEWALS_PER_DAY
