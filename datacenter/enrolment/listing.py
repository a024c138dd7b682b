"""Lists of the staff's pages and the API: boxes with their certificates, and requests that need a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, and_, case, func, or_, select

from datacenter.access.request import Resource
from datacenter.enrolment.desk import EnrolmentRequest
from datacenter.fleet.visible import PLACED_BOXES, find_box, placed
from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    boxes,
    certificates,
    denied_boxes,
    denied_instruments,
    enrolments,
)

CertificateState: TypeAlias = Literal["none", "valid", "expired", "denied"]
InstrumentState: TypeAlias = Literal["valid", "expired", "denied"]
STATES: Final[tuple[CertificateState, ...]] = ("denied", "expired", "none", "valid")
_B, _C, _D, _E, _I = boxes.c, certificates.c, denied_boxes.c, enrolments.c, denied_instruments.c


class CertifiedInstrument(NamedTuple):
    """An instrument that has received certificates through its box."""

    box: str
    instrument: str
    state: InstrumentState
    issued_at_ms: int
    expires_at_ms: int
    denied_at_ms: int | None
    denied_by: str | None
    denial: str | None


class EnrolledBox(NamedTuple):
    """An authorized or denied box, with its latest certificate from the data center if there is one."""

    box: str
    site: str | None
    state: CertificateState
    issued_at_ms: int | None
    expires_at_ms: int | None
    denied_at_ms: int | None
    denied_by: str | None
    denial: str | None


_LATEST: Final = (
    select(
        _C.box,
        func.max(_C.issued_at_ms).label("issued_at_ms"),
        func.max(_C.expires_at_ms).label("expires_at_ms"),
    )
    .where(_C.instrument == "")
    .group_by(_C.box)
    .subquery()
)
_SHOWN: Final = and_(_E.reason != "flashed", _E.state == "waiting")


def list_boxes(
    store: Store, which: Sequence[ColumnElement[bool]], now_ms: int, limit: int, after: str = ""
) -> list[EnrolledBox]:
    """Return the boxes after `after` in the order of serial numbers.

    `which` are conditions on the columns of `boxes` and `sites`, and of `is_in_state`.
    """
    tables = PLACED_BOXES.outerjoin(_LATEST, _LATEST.c.box == _B.serial).outerjoin(
        denied_boxes, _D.box == _B.serial
    )
    columns = (
        _B.serial,
        _B.site,
        _state(now_ms),
        _LATEST.c.issued_at_ms,
        _LATEST.c.expires_at_ms,
        _D.denied_at_ms,
        _D.denied_by,
        _D.reason,
    )
    is_known = or_(_B.dismissed_at_ms.is_(None), _D.box.is_not(None))
    query = select(*columns).select_from(tables).where(is_known, _B.serial > after, *which)
    return [EnrolledBox(*row) for row in store.read(query.order_by(_B.serial).limit(limit))]


def list_instruments(
    store: Store,
    which: Sequence[ColumnElement[bool]],
    now_ms: int,
    limit: int,
    state: InstrumentState | Literal[""] = "",
    after: tuple[str, str] | None = None,
) -> list[CertifiedInstrument]:
    """Return the instruments with certificates after `after`, in the order of box and serial number.

    `which` are conditions on the columns of `boxes`, `sites` and `certificates`; "" is any state.
    """
    expires_at_ms = func.max(_C.expires_at_ms)
    tables = PLACED_BOXES.join(certificates, _C.box == _B.serial).outerjoin(
        denied_instruments, and_(_I.box == _C.box, _I.instrument == _C.instrument)
    )
    denial = _I.denied_at_ms, _I.denied_by, _I.reason
    shown = case((_I.box.is_not(None), "denied"), (expires_at_ms <= now_ms, "expired"), else_="valid")
    device = _C.box, _C.instrument
    query = select(*device, shown, func.max(_C.issued_at_ms), expires_at_ms, *denial).select_from(tables)
    query = query.where(_C.instrument != "", *which).group_by(*device, _I.box, *denial)
    if after is not None:
        query = query.where(or_(_C.box > after[0], and_(_C.box == after[0], _C.instrument > after[1])))
    query = (query.having(shown == state) if state else query).order_by(*device)
    return [CertifiedInstrument(*row) for row in store.read(query.limit(limit))]


def is_in_state(state: CertificateState, now_ms: int) -> ColumnElement[bool]:
    """Return the condition of `list_boxes` for one state."""
    return _state(now_ms) == state


def _state(now_ms: int) -> ColumnElement[str]:
    return case(
        (_D.box.is_not(None), "denied"),
        (_LATEST.c.expires_at_ms.is_(None), "none"),
        (_LATEST.c.expires_at_ms <= now_ms, "expired"),
        else_="valid",
    )


def list_requests(
    store: Store,
    is_seen: ColumnElement[bool],
    limit: int,
    after: tuple[int, str] | None = None,
) -> list[EnrolmentRequest]:
    """Return the pending requests after a time and a key, the oldest first.

    `is_seen` is the condition for visible boxes; an unknown box has no location.
    """
    columns = [_E[name] for name in EnrolmentRequest._fields]
    query = select(*columns).select_from(placed(enrolments)).where(_SHOWN, is_seen)
    if after is not None:
        query = query.where(
            or_(_E.asked_at_ms > after[0], and_(_E.asked_at_ms == after[0], _E.key > after[1]))
        )
    return [EnrolmentRequest(*row) for row in store.read(query.order_by(_E.asked_at_ms, _E.key).limit(limit))]


def find_request(store: Store, key: str) -> EnrolmentRequest | None:
    """Return the request for the key with this hash; None if there is none, or only a registration."""
    columns = [_E[name] for name in EnrolmentRequest._fields]
    row = next(iter(store.read(select(*columns).where(_E.key == key, _E.reason != "flashed").limit(1))), None)
    return None if row is None else EnrolmentRequest(*row)


def find_requester(store: Store, key: str) -> Resource | None:
    """Return the box that a request is for, without a location if it is unknown; None if there is no such request."""
    request = find_request(store, key)
    return None if request is None else find_box(store, request.box) or Resource("Box", request.box)
