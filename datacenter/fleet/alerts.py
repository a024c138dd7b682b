"""Alerts: the list, an alert with its evidence and history, and acknowledgement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Select, and_, case, func, select, update

from datacenter.fleet.description import AlertDescription, describe
from datacenter.fleet.visible import PLACED_BOXES, Visibility, matching
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, deliveries, sites
from settings.profile import Severity

PAGE_SIZE: Final = 50
HISTORY_MAX: Final = 20
SILENCE_HOURS_MAX: Final = 30 * 24
REASON_CHARACTERS_MAX: Final = 200
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "error", "warning", "info")
"""Severities, the worst first."""
_A: Final = alerts.c
_TABLES: Final = alerts.join(PLACED_BOXES, _A.box == boxes.c.serial)
_COLUMNS: Final = (
    _A.id,
    _A.box,
    _A.instrument,
    _A.model,
    _A.trigger,
    _A.trigger_hash,
    _A.severity,
    _A.component,
    _A.run,
    _A.number,
    _A.began_at_ms,
    _A.raised_at_ms,
    _A.ended_at_ms,
    _A.acknowledged_at_ms,
    _A.acknowledged_by,
    _A.text,
    _A.parts,
    _A.silenced_until_ms,
    _A.silenced_by,
    _A.silence_reason,
    boxes.c.site,
    sites.c.name,
    sites.c.zone,
)


class SilenceError(ValueError):
    """An alert cannot be silenced; nothing was changed. The message says why."""


class AlertFilter(Struct, frozen=True):
    """Selects alerts: `open` alerts have not ended, `unacknowledged` alerts are open and not acknowledged."""

    state: Literal["open", "unacknowledged", "ended", "all"] = "open"
    severity: Severity | Literal[""] = ""
    region: str = ""
    site: str = ""
    q: str = ""


class AlertRow(NamedTuple):
    """An alert; `instrument` is empty if the alert is about the box."""

    id: str
    box: str
    instrument: str
    model: str
    trigger: str
    trigger_hash: str
    severity: Severity
    component: str
    run: int
    number: int
    began_at_ms: int
    raised_at_ms: int
    ended_at_ms: int | None
    acknowledged_at_ms: int | None
    acknowledged_by: str | None
    text: str | None
    parts: str | None
    silenced_until_ms: int | None
    silenced_by: str | None
    silence_reason: str | None
    site: str | None
    site_name: str | None
    zone: str | None

    @property
    def about(self) -> AlertDescription:
        """The description of the alert."""
        return describe(self.model, self.trigger, self.component, self.text, self.parts)

    @property
    def state(self) -> str:
        """ "open", "acknowledged" or "ended"."""
        if self.ended_at_ms is not None:
            return "ended"
        return "open" if self.acknowledged_at_ms is None else "acknowledged"

    def is_silenced(self, now_ms: int) -> bool:
        """Return whether the alert is open and its notices are suppressed at present."""
        return self.ended_at_ms is None and (self.silenced_until_ms or 0) > now_ms


def list_alerts(store: Store, visible: Visibility, wanted: AlertFilter, page: int) -> list[AlertRow]:
    """Return a page of alerts (the first is 1): the worst severity first, of equal severity the latest first."""
    order = case(*((_A.severity == name, rank) for rank, name in enumerate(SEVERITIES)), else_=9)
    query = _select(visible, wanted, *_COLUMNS).order_by(order, _A.began_at_ms.desc(), _A.id)
    return [AlertRow(*row) for row in store.read(query.limit(PAGE_SIZE).offset((page - 1) * PAGE_SIZE))]


def count_alerts(store: Store, visible: Visibility, wanted: AlertFilter) -> int:
    """Return the number of alerts."""
    return int(next(store.read(_select(visible, wanted, func.count())))[0])


def read_alert(store: Store, alert: str) -> tuple[AlertRow, bytes]:
    """Return an alert that exists, and its evidence in MessagePack."""
    query = select(*_COLUMNS, _A.evidence).select_from(_TABLES).where(_A.id == alert)
    *row, evidence = next(store.read(query))
    return AlertRow(*row), bytes(evidence)


def list_of_instrument(
    store: Store, visible: Visibility, box: str, instrument: str, component: str = ""
) -> list[AlertRow]:
    """Return the latest alerts of an instrument, or of one component of it; the latest first."""
    key = and_(_A.box == box, _A.instrument == instrument)
    query = _select(visible, AlertFilter("all"), *_COLUMNS).where(key)
    if component:
        query = query.where(_A.component == component)
    return [AlertRow(*row) for row in store.read(query.order_by(_A.began_at_ms.desc()).limit(HISTORY_MAX))]


def list_of_trigger(store: Store, visible: Visibility, trigger: str) -> list[AlertRow]:
    """Return the latest alerts of a trigger; the latest first."""
    query = _select(visible, AlertFilter("all"), *_COLUMNS).where(_A.trigger == trigger)
    return [AlertRow(*row) for row in store.read(query.order_by(_A.began_at_ms.desc()).limit(HISTORY_MAX))]


def acknowledge(store: Store, alert: str, staff: str, now_ms: int) -> bool:
    """Acknowledge an open alert; return False if it has ended or was acknowledged before."""
    waiting = and_(_A.id == alert, _A.acknowledged_at_ms.is_(None), _A.ended_at_ms.is_(None))
    with store.transaction() as connection:
        done = connection.execute(
            update(alerts).where(waiting).values(acknowledged_at_ms=now_ms, acknowledged_by=staff)
        )
        return bool(done.rowcount)


def silence(store: Store, alert: str, staff: str, hours: int, reason: str, now_ms: int) -> None:
    """Suppress the notices of an open alert for `hours`; 0 ends the silence. Raises: SilenceError."""
    if not 0 <= hours <= SILENCE_HOURS_MAX:
        raise SilenceError(f"give a number of hours from 0 to {SILENCE_HOURS_MAX}; 0 ends the silence")
    if not reason.strip() or not reason.isprintable() or len(reason) > REASON_CHARACTERS_MAX:
        raise SilenceError(f"give a reason in one line of at most {REASON_CHARACTERS_MAX} characters")
    values = {
        "silenced_at_ms": now_ms,
        "silenced_until_ms": now_ms + hours * 3_600_000,
        "silenced_by": staff,
        "silence_reason": reason.strip(),
        "maintenance": None,
    }
    is_open = and_(_A.id == alert, _A.ended_at_ms.is_(None))
    with store.transaction() as connection:
        if not connection.execute(update(alerts).where(is_open).values(values)).rowcount:
            raise SilenceError("the alert has ended; only an open one can be silenced")


class DeliveryRow(NamedTuple):
    """The delivery of a notice to a target; `datacenter.notices.outbox` describes its states."""

    kind: Literal["raised", "resolved"]
    target: str
    state: str
    attempts: int
    changed_at_ms: int


def list_deliveries(store: Store, alert: str) -> list[DeliveryRow]:
    """Return the deliveries of an alert's notices, the earliest first."""
    c = deliveries.c
    query = select(c.kind, c.target, c.state, c.attempts, c.changed_at_ms).where(c.alert == alert)
    return [DeliveryRow(*row) for row in store.read(query.order_by(c.created_at_ms, c.kind, c.target))]


def evidence_items(evidence: bytes) -> list[tuple[str, str]]:
    """Return the evidence as (name, value). Nested names are joined by " / "; terms have no prefix."""
    try:
        items = _flat("", msgspec.msgpack.decode(evidence))
        return [(name.removeprefix("terms / "), value) for name, value in items]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [("evidence", f"{len(evidence)} bytes that this program cannot decode")]


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name} / {key}" if name else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, (list, Mapping)) for inner in value):
        for number, inner in enumerate(value, 1):
            yield from _flat(f"{name} {number}".strip(), inner)
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    elif value is not None:
        yield name, value.hex() if isinstance(value, bytes) else _written(value)


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _select(visible: Visibility, wanted: AlertFilter, *columns: Any) -> Select[Any]:
    query = select(*columns).select_from(_TABLES).where(visible.where("Alert"))
    if wanted.state in ("open", "unacknowledged"):
        query = query.where(_A.ended_at_ms.is_(None))
    if wanted.state == "unacknowledged":
        query = query.where(_A.acknowledged_at_ms.is_(None))
    if wanted.state == "ended":
        query = query.where(_A.ended_at_ms.is_not(None))
    if wanted.severity:
        query = query.where(_A.severity == wanted.severity)
    if wanted.region:
        query = query.where(sites.c.region == wanted.region)
    if wanted.site:
        query = query.where(boxes.c.site == wanted.site)
    named = (_A.instrument, _A.model, _A.box, _A.trigger, _A.text, _A.component, sites.c.name)
    return query.where(matching(wanted.q, *named))
