"""The registration authority: decides which box gets a certificate at once, which after approval, and which none.

A box that is authorized and has a valid certificate gets a new one. A box whose certificate has expired, and one that
is not authorized, needs the approval of a person, once: it is for the box and for the key of this request. So does a
box that was registered with its flash record, and whose certificate is neither for the key in that record nor one of
those that it has got here. A box on the deny-list gets none. The same request, repeated because an answer was lost,
gets the same certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from datacenter.store.schema import boxes, certificates, denied_boxes, enrolments
from datacenter.store.store import Store
from datacenter.vendor_ca.authority import VendorAuthority
from wire.pki.hierarchy import PublicKey
from wire.pki.request import key_hash, requested_key
from wire.tls.certificates import EXTENSION_ERRORS

Cause: TypeAlias = Literal["first", "renewal", "approved"]
"""Why a certificate was issued: to a box that had none of this CA's service, to renew one, or after an approval."""
Reason: TypeAlias = Literal["expired", "unknown", "other-key", "flashed"]
"""Why a request needs an approval. "other-key": the box was registered with another key than that of its certificate.
"flashed" is no request, but the entry of a box that staff have registered, with the key of its flash record."""

RENEWALS_PER_DAY: Final = 4
"""The most certificates that a box gets in 24 hours without approvals: one that asks more often is defective."""
WAITING_OF_BOX_MAX: Final = 4
WAITING_MAX: Final = 1_000
"""The most requests that wait for approval, of a box and in all; further ones have to be repeated later."""
WAITING_SECONDS_MIN: Final = 20
WAITING_SECONDS_MAX: Final = 300
"""A box repeats a request that waits for approval after as long as it has waited, within these limits."""
BUSY_SECONDS: Final = 3600
DAY_MS: Final = 86_400_000
_C: Final = certificates.c
_E: Final = enrolments.c


@dataclass(frozen=True, slots=True)
class Granted:
    """The certificate for a request."""

    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Pending:
    """A person has to approve the request, which has waited for `waited_s` seconds."""

    waited_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request gets no certificate, or none before `retry_after_s` seconds have passed."""

    reason: str
    retry_after_s: int = 0


Outcome: TypeAlias = Granted | Pending | Rejected


class RegistrationAuthority:
    """Decides requests, and has certificates issued by the CA. Calls block."""

    def __init__(self, store: Store, authority: VendorAuthority, now_ms: Callable[[], int]) -> None:
        self._store, self.authority, self._now_ms = store, authority, now_ms

    def enrol(self, box: str, current: x509.Certificate, request: x509.CertificateSigningRequest) -> Outcome:
        """Decide the request of a box that is connected with the certificate `current`; committed on return.

        Raises: RequestError; StoreError; exceptions of the security module.
        """
        public_key, now_ms = requested_key(request, box), self._now_ms()
        key = key_hash(public_key)
        with self._store.transaction() as connection:
            if _is_denied(connection, box):
                return Rejected(f"{box} is on the deny-list")
            if (issued := _issued_before(connection, box, key, now_ms)) is not None:
                return Granted(issued)
            reason = _reason_for_approval(connection, box, current, now_ms)
            if reason is not None:
                undecided = _ask(connection, box, key, reason, now_ms)
                if undecided is not None:
                    return undecided
            elif _is_too_often(connection, box, now_ms):
                return Rejected(
                    f"{box} has had {RENEWALS_PER_DAY} certificates in a day; repeat this later", BUSY_SECONDS
                )
            hosts = _hosts(current)
            return Granted(self._issue(connection, box, public_key, reason, now_ms, hosts))

    def _issue(
        self,
        connection: Connection,
        box: str,
        public_key: PublicKey,
        reason: Reason | None,
        now_ms: int,
        hosts: tuple[str, ...],
    ) -> x509.Certificate:
        is_first = connection.scalar(select(_C.box).where(_C.box == box).limit(1)) is None
        cause: Cause = "approved" if reason else "first" if is_first else "renewal"
        certificate = self.authority.certify(box, public_key, now_ms / 1000, hosts)
        row = {
            "serial_number": f"{certificate.serial_number:x}",
            "box": box,
            "key": key_hash(public_key),
            "cause": cause,
            "issued_at_ms": now_ms,
            "expires_at_ms": int(certificate.not_valid_after_utc.timestamp() * 1000),
            "certificate": certificate.public_bytes(Encoding.DER),
        }
        connection.execute(insert(certificates).values(row))
        this = and_(_E.box == box, or_(_E.key == row["key"], _E.reason == "flashed"))
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


def _is_denied(connection: Connection, box: str) -> bool:
    return connection.scalar(select(denied_boxes.c.box).where(denied_boxes.c.box == box)) is not None


def _issued_before(connection: Connection, box: str, key: str, now_ms: int) -> x509.Certificate | None:
    """Return the certificate that the box got for this key, if two thirds of its life are not over."""
    query = select(_C.certificate, _C.issued_at_ms, _C.expires_at_ms).where(_C.box == box, _C.key == key)
    row = connection.execute(query.order_by(_C.issued_at_ms.desc()).limit(1)).one_or_none()
    if row is None or 3 * (now_ms - row.issued_at_ms) > 2 * (row.expires_at_ms - row.issued_at_ms):
        return None
    return x509.load_der_x509_certificate(row.certificate)


def _reason_for_approval(
    connection: Connection, box: str, current: x509.Certificate, now_ms: int
) -> Reason | None:
    known = select(boxes.c.serial).where(boxes.c.serial == box, boxes.c.dismissed_at_ms.is_(None))
    if connection.scalar(known) is None:
        return "unknown"
    begins, ends = current.not_valid_before_utc, current.not_valid_after_utc
    if not begins.timestamp() <= now_ms / 1000 <= ends.timestamp():
        return "expired"
    return None if _is_own_key(connection, box, current) else "other-key"


def _is_own_key(connection: Connection, box: str, current: x509.Certificate) -> bool:
    """Return whether a certificate is for a key that the box was registered with, or that it has got one for here."""
    query = select(_E.key).where(_E.box == box, _E.reason == "flashed", _E.key != "")
    flashed = [row.key for row in connection.execute(query)]
    if not flashed:
        return True
    key = key_hash(current.public_key())
    if key in flashed:
        return True
    return connection.scalar(select(_C.box).where(_C.box == box, _C.key == key).limit(1)) is not None


def _ask(connection: Connection, box: str, key: str, reason: Reason, now_ms: int) -> Outcome | None:
    """Return the outcome for a request that needs approval; None if it was approved."""
    this = and_(_E.box == box, _E.key == key)
    found = connection.execute(select(_E.state, _E.asked_at_ms).where(this)).one_or_none()
    state = found.state if found else None
    if state == "approved":
        return None
    if state == "rejected":
        return Rejected("a person has rejected this request")
    if state == "waiting":
        assert found is not None, "it waits"
        connection.execute(update(enrolments).where(this).values(seen_at_ms=now_ms))
        return Pending((now_ms - found.asked_at_ms) / 1000)
    _make_room(connection, box)
    if (connection.scalar(select(func.count()).where(_E.state == "waiting")) or 0) >= WAITING_MAX:
        return Rejected("too many requests wait for approval; repeat this later", BUSY_SECONDS)
    connection.execute(delete(enrolments).where(this))  # issued once, for a certificate that is old by now
    row = {"box": box, "key": key, "reason": reason, "state": "waiting"}
    connection.execute(insert(enrolments).values(row | {"asked_at_ms": now_ms, "seen_at_ms": now_ms}))
    return Pending()


def _make_room(connection: Connection, box: str) -> None:
    """Remove the oldest requests of a box that wait, as far as a further one needs."""
    waiting = and_(_E.box == box, _E.state == "waiting")
    found = connection.execute(select(_E.key).where(waiting).order_by(_E.seen_at_ms.desc(), _E.key))
    superfluous = [row.key for row in found][WAITING_OF_BOX_MAX - 1 :]
    connection.execute(delete(enrolments).where(waiting, _E.key.in_(superfluous)))


def _is_too_often(connection: Connection, box: str, now_ms: int) -> bool:
    recent = select(func.count()).where(
        _C.box == box, _C.cause != "approved", _C.issued_at_ms > now_ms - DAY_MS
    )
    return (connection.scalar(recent) or 0) >= RENEWALS_PER_DAY
