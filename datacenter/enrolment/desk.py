"""Actions of staff on certificates, within their rights: register boxes, approve and reject requests, deny and allow.

Each decision is recorded. A decision about a known box requires the right to configure it. For an unknown box, the
person names its site, and needs the right to enrol boxes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Delete, and_, delete, func, insert, or_, select, update

from datacenter.access.control import AccessDecider
from datacenter.access.request import RequestContext, Resource
from datacenter.access.vocabulary import Purpose
from datacenter.enrolment.registration import Cause, Reason
from datacenter.fleet.visible import COLUMNS, find_box, find_site, placed
from datacenter.store.store import Store
from datacenter.store.tables.schema import certificates, denied_boxes, denied_instruments, enrolments

LISTED_MAX: Final = 200
REASON_CHARACTERS_MAX: Final = 200
KEY_CHARACTERS_MIN: Final = 8
PURPOSE: Final[Purpose] = "service"
UNKNOWN_PURPOSE: Final[Purpose] = "installation"
_C, _D, _E, _I = certificates.c, denied_boxes.c, enrolments.c, denied_instruments.c


class EnrolmentRefusedError(Exception):
    """The decision was not taken; the message says why."""


class WrongEnrolmentError(EnrolmentRefusedError):
    """The input is invalid; the message says how to correct it."""


class EnrolmentConflictError(EnrolmentRefusedError):
    """The request is no longer waiting, or the box is not denied."""


class UnknownInstrumentError(EnrolmentRefusedError):
    """The instrument has received no certificate through this box."""


class EnrolmentRequest(NamedTuple):
    """A request that a person has to decide on, or has decided on."""

    box: str
    key: str
    reason: Reason
    state: str
    asked_at_ms: int
    seen_at_ms: int
    decided_by: str | None
    decided_at_ms: int | None
    instrument: str
    """The instrument behind the box; "" for the box itself."""


class FlashedBox(NamedTuple):
    """A box to register, with the hash of the key that it was flashed with; "" if that is unknown."""

    box: str
    key: str


class IssuedCertificate(NamedTuple):
    """The latest certificate of a box, or of an instrument behind it."""

    box: str
    serial_number: str
    cause: Cause
    issued_at_ms: int
    expires_at_ms: int
    instrument: str


class Denial(NamedTuple):
    """A box on the deny-list, or an instrument behind it."""

    box: str
    denied_at_ms: int
    denied_by: str
    reason: str
    instrument: str = ""

    @property
    def name(self) -> str:
        """The denied device."""
        return f"{self.instrument} behind {self.box}" if self.instrument else self.box


@dataclass(frozen=True)
class EnrolmentDesk:
    """Actions of staff on certificates. All methods raise StoreError."""

    store: Store
    access: AccessDecider
    purpose: Purpose | None = None
    """The purpose of each decision; None selects the purpose that the decision requires."""

    def requests(self, staff: str, now_ms: int) -> list[EnrolmentRequest]:
        """Return the requests for boxes that a person may see: pending requests first, then the latest."""
        order = (_E.state != "waiting", _E.asked_at_ms.desc(), _E.box, _E.key)
        columns = [_E[name] for name in EnrolmentRequest._fields]
        query = select(*columns).select_from(placed(enrolments)).where(self._visible(staff, now_ms))
        return [EnrolmentRequest(*row) for row in self.store.read(query.order_by(*order).limit(LISTED_MAX))]

    def certificates(self, staff: str, now_ms: int) -> list[IssuedCertificate]:
        """Return the latest certificates of the boxes that a person may see, and of the instruments behind them.

        They are in the order of expiry.
        """
        device = _C.box, _C.instrument
        latest = select(*device, func.max(_C.issued_at_ms).label("at_ms")).group_by(*device).subquery()
        is_latest = and_(
            _C.box == latest.c.box,
            _C.instrument == latest.c.instrument,
            _C.issued_at_ms == latest.c.at_ms,
        )
        columns = [_C[name] for name in IssuedCertificate._fields]
        query = select(*columns).select_from(placed(certificates).join(latest, is_latest))
        query = query.where(self._visible(staff, now_ms)).order_by(_C.expires_at_ms, _C.box)
        return [IssuedCertificate(*row) for row in self.store.read(query.limit(LISTED_MAX))]

    def denied(self, staff: str, now_ms: int) -> list[Denial]:
        """Return the boxes on the deny-list that a person may see, and the instruments."""
        boxes_shown = [_D[name] for name in Denial._fields[:-1]]
        instruments_shown = [_I[name] for name in Denial._fields]
        queries = (
            select(*boxes_shown).select_from(placed(denied_boxes)).order_by(_D.denied_at_ms.desc(), _D.box),
            select(*instruments_shown)
            .select_from(placed(denied_instruments))
            .order_by(_I.denied_at_ms.desc(), _I.instrument),
        )
        is_seen = self._visible(staff, now_ms)
        return [
            Denial(*row)
            for query in queries
            for row in self.store.read(query.where(is_seen).limit(LISTED_MAX))
        ]

    def _visible(self, staff: str, now_ms: int) -> ColumnElement[bool]:
        """Return the condition for `placed` rows whose box a person may see; an unknown box has no location."""
        context = RequestContext(now_ms, self.purpose or PURPOSE)
        return self.access.where(staff, "view", "Box", context, COLUMNS["Box"])

    def register(self, staff: str, flashed: Sequence[FlashedBox], site: str, now_ms: int) -> None:
        """Authorize boxes at a site before they connect, so that their first requests need no approval.

        A box that is flashed again can be registered again; its earlier key then needs an approval.
        Raises: EnrolmentRefusedError, with nothing changed.
        """
        resource = find_site(self.store, site)
        if resource is None:
            raise EnrolmentRefusedError(
                f"there is no site {site!r}; give one of the data center's file of sites"
            )
        self._require(staff, "enrol-box", resource, now_ms, UNKNOWN_PURPOSE)
        for known in filter(None, (find_box(self.store, box) for box, _ in flashed)):
            if known.site and known.site != site:
                self._require(staff, "configure-box", known, now_ms, UNKNOWN_PURPOSE)
        decision = {"reason": "flashed", "state": "approved", "decided_by": staff, "decided_at_ms": now_ms}
        for box, key in flashed:
            row = {"box": box, "key": key, "asked_at_ms": now_ms, "seen_at_ms": now_ms, **decision}
            with self.store.transaction() as connection:
                same = or_(_E.reason == "flashed", _E.key == key)
                connection.execute(delete(enrolments).where(_E.box == box, same))
                connection.execute(insert(enrolments).values(row))
            self.store.authorize_also(box, site, now_ms)

    def approve(self, staff: str, box: str, key: str, now_ms: int, site: str = "") -> EnrolmentRequest:
        """Approve a waiting request; an unknown box is authorized, at `site`.

        `key` is the hash of the key or its beginning. Raises: EnrolmentRefusedError.
        """
        request = self._find(staff, box, key, now_ms)
        if request.reason == "unknown":
            resource = find_site(self.store, site) if site else None
            if resource is None:
                raise WrongEnrolmentError(f"{box} is unknown: name an existing site for it, not {site!r}")
            self._require(staff, "enrol-box", resource, now_ms, UNKNOWN_PURPOSE)
        else:
            if site:
                raise WrongEnrolmentError(f"{box} is already known: leave out the site, which is not changed")
            self._require_box(staff, box, now_ms)
        decided = self._decide(request, "approved", staff, now_ms)
        if request.reason == "unknown":
            self.store.authorize_also(box, site, now_ms)
        return decided

    def reject(self, staff: str, box: str, key: str, now_ms: int) -> EnrolmentRequest:
        """Reject a waiting request. Raises: EnrolmentRefusedError."""
        request = self._find(staff, box, key, now_ms)
        self._require_box(staff, box, now_ms, is_unknown=request.reason == "unknown")
        return self._decide(request, "rejected", staff, now_ms)

    def deny(self, staff: str, box: str, reason: str, now_ms: int, instrument: str = "") -> Denial:
        """Put a box, or an instrument behind it, on the deny-list: it may neither connect nor get certificates.

        Raises: EnrolmentRefusedError.
        """
        reason = reason.strip()
        if not reason or not reason.isprintable() or len(reason) > REASON_CHARACTERS_MAX:
            text = f"give a reason in one line of at most {REASON_CHARACTERS_MAX} characters"
            raise WrongEnrolmentError(text)
        self._require_box(staff, box, now_ms)
        entry = Denial(box, now_ms, staff, reason, instrument)
        if instrument:
            # a box that has never forwarded a request might not support a deny-list of instruments
            self._require_enrolled(box, instrument)
        with self.store.transaction() as connection:
            connection.execute(_denial(box, instrument))
            if instrument:
                connection.execute(insert(denied_instruments).values(entry._asdict()))
            else:
                row = {name: value for name, value in entry._asdict().items() if name != "instrument"}
                connection.execute(insert(denied_boxes).values(row))
        return entry

    def allow(self, staff: str, box: str, now_ms: int, instrument: str = "") -> None:
        """Take a box, or an instrument behind it, off the deny-list. Raises: EnrolmentRefusedError."""
        self._require_box(staff, box, now_ms)
        if instrument:
            self._require_enrolled(box, instrument)
        with self.store.transaction() as connection:
            if connection.execute(_denial(box, instrument)).rowcount != 1:
                raise EnrolmentConflictError(f"{instrument or box} is not on the deny-list")

    def _require_enrolled(self, box: str, instrument: str) -> None:
        enrolled = select(_C.box).where(_C.box == box, _C.instrument == instrument).limit(1)
        if next(self.store.read(enrolled), None) is None:
            text = f"{instrument} has received no certificate through {box}; remove it from the site file"
            raise UnknownInstrumentError(text)

    def _find(self, staff: str, box: str, key: str, now_ms: int) -> EnrolmentRequest:
        if len(key) < KEY_CHARACTERS_MIN:
            raise EnrolmentRefusedError(f"give at least {KEY_CHARACTERS_MIN} digits of the key's hash")
        columns = [_E[name] for name in EnrolmentRequest._fields]
        waiting = and_(_E.box == box, _E.state == "waiting", _E.key.startswith(key, autoescape=True))
        rows = list(self.store.read(select(*columns).where(waiting)))
        if len(rows) != 1 or not self._may_view(staff, box, now_ms):
            raise EnrolmentConflictError(f"no request of {box} with the key {key} is pending")
        return EnrolmentRequest(*rows[0])

    def _decide(self, request: EnrolmentRequest, state: str, staff: str, now_ms: int) -> EnrolmentRequest:
        this = and_(_E.box == request.box, _E.key == request.key, _E.state == "waiting")
        decision = {"state": state, "decided_by": staff, "decided_at_ms": now_ms}
        with self.store.transaction() as connection:
            if connection.execute(update(enrolments).where(this).values(decision)).rowcount != 1:
                raise EnrolmentConflictError(f"the request of {request.box} is no longer pending")
        return request._replace(state=state, decided_by=staff, decided_at_ms=now_ms)

    def _may_view(self, staff: str, box: str, now_ms: int) -> bool:
        resource = find_box(self.store, box) or Resource("Box", box)
        return self.access.peek(
            staff, "view", resource, RequestContext(now_ms, self.purpose or PURPOSE)
        ).permitted

    def may_decide(self, staff: str, box: Resource, now_ms: int) -> bool:
        """Return whether a person may decide about the certificates of a box, to offer it on a page."""
        return self._permitted_purpose(staff, box, now_ms) is not None

    def _require_box(self, staff: str, box: str, now_ms: int, *, is_unknown: bool = False) -> None:
        resource = find_box(self.store, box) or (Resource("Box", box) if is_unknown else None)
        if resource is None or not self._may_view(staff, box, now_ms):
            raise EnrolmentRefusedError(f"there is no box {box}")
        purpose = self._permitted_purpose(staff, resource, now_ms) or PURPOSE
        self._require(staff, "configure-box", resource, now_ms, purpose)

    def _permitted_purpose(self, staff: str, box: Resource, now_ms: int) -> Purpose | None:
        """Return the purpose for which a person may configure a box; None if there is none."""
        for purpose in (self.purpose,) if self.purpose else (PURPOSE, UNKNOWN_PURPOSE):
            context = RequestContext(now_ms, purpose)
            if self.access.peek(staff, "configure-box", box, context).permitted:
                return purpose
        return None

    def _require(self, staff: str, action: str, resource: Resource, now_ms: int, purpose: Purpose) -> None:
        context = RequestContext(now_ms, self.purpose or purpose)
        decision = self.access.decide(staff, action, resource, context)
        if not decision.permitted:
            raise EnrolmentRefusedError(decision.reason)


def _denial(box: str, instrument: str) -> Delete:
    """Return the statement that takes a box, or an instrument behind it, off the deny-list."""
    if instrument:
        return delete(denied_instruments).where(_I.box == box, _I.instrument == instrument)
    return delete(denied_boxes).where(_D.box == box)
