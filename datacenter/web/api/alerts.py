"""Alerts and audit records for programs, and the acknowledgement of alerts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import and_, or_, select
from starlette.responses import Response

from datacenter.audit.chain import AuditRow
from datacenter.audit.reading import AuditFilter, list_audit
from datacenter.fleet.alerts import acknowledge, read_alert
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.store.tables.schema import alerts, boxes
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.routes import NoParameters, PageRequest, WebRoute
from settings.profile import Severity

_A: Final = alerts.c
_ORDER: Final = (_A.began_at_ms, _A.id)


class ApiAlertsQuery(Struct, frozen=True):
    """Selects a part of the list of alerts; alerts in the state `open` have not ended."""

    state: Literal["open", "ended", "all"] = "open"
    severity: Severity | Literal[""] = ""
    site: str = ""
    trigger: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


class ApiAuditQuery(AuditFilter, frozen=True):
    """Selects a part of the audit log."""

    limit: Limit = 100
    cursor: Cursor = ""

    def filters(self) -> AuditFilter:
        """Return only the filters."""
        return msgspec.convert(self, AuditFilter, from_attributes=True)


class ApiAlert(Struct, frozen=True):
    """An alert; `instrument` is empty if the alert is about the box.

    `run` and `number` identify the report that began it.
    """

    id: str
    box: str
    instrument: str
    model: str
    site: str | None
    trigger: str
    severity: str
    component: str
    run: int
    number: int
    began_at_ms: int
    raised_at_ms: int
    ended_at_ms: int | None
    acknowledged_at_ms: int | None
    acknowledged_by: str | None


class AlertList(Struct, frozen=True):
    """A part of the list of alerts, the latest first."""

    items: list[ApiAlert]
    next: str | None


class ApiAuditRecord(Struct, frozen=True):
    """A record of the audit log; `hash` covers it and the previous record."""

    number: int
    at_ms: int
    actor: str
    token: str
    action: str
    kind: str
    resource: str
    place: str
    purpose: str
    outcome: str
    policy: str
    reason: str
    previous: str
    hash: str


class AuditList(Struct, frozen=True):
    """A part of the audit log, the latest record first."""

    items: list[ApiAuditRecord]
    next: str | None


_NAMES: Final = ApiAlert.__struct_fields__
_COLUMNS: Final = [boxes.c.site if name == "site" else _A[name] for name in _NAMES]


def list_alerts(page: PageRequest) -> Response:
    """Return a part of the list of alerts, the latest first."""
    query: ApiAlertsQuery = page.query
    after = decode_cursor(query.cursor, tuple[int, str])
    tables = alerts.join(PLACED_BOXES, _A.box == boxes.c.serial)
    wanted = select(*_COLUMNS).select_from(tables).where(page.visible.where("Alert"))
    if query.state != "all":
        wanted = wanted.where(_A.ended_at_ms.is_(None) == (query.state == "open"))
    if query.severity:
        wanted = wanted.where(_A.severity == query.severity)
    if query.site:
        wanted = wanted.where(boxes.c.site == query.site)
    if query.trigger:
        wanted = wanted.where(_A.trigger == query.trigger)
    if after:
        began, identity = after
        wanted = wanted.where(or_(_A.began_at_ms < began, and_(_A.began_at_ms == began, _A.id > identity)))
    rows = page.store.read(wanted.order_by(_A.began_at_ms.desc(), _A.id).limit(query.limit + 1))
    items = [ApiAlert(*row) for row in rows]
    following = next_cursor(items, query.limit, lambda one: (one.began_at_ms, one.id))
    return json_response(page, AlertList(items[: query.limit], following))


def show_alert(page: PageRequest) -> Response:
    """Return an alert."""
    row, _ = read_alert(page.store, page.names["alert"])
    values: dict[str, Any] = row._asdict()
    return json_response(page, ApiAlert(**{name: values[name] for name in _NAMES}))


def acknowledge_alert(page: PageRequest) -> Response:
    """Acknowledge an alert, and return it. An acknowledged alert is returned unchanged."""
    acknowledge(page.store, page.names["alert"], page.staff, page.now_ms)
    return show_alert(page)


def _record(row: AuditRow) -> ApiAuditRecord:
    return ApiAuditRecord(number=row.number, previous=row.previous, hash=row.hash, **asdict(row.entry))


def list_records(page: PageRequest) -> Response:
    """Return a part of the audit log, the latest record first."""
    query: ApiAuditQuery = page.query
    after = decode_cursor(query.cursor, tuple[int])
    rows = list_audit(page.store, query.filters(), query.limit + 1, before=after[0] if after else None)
    items = [_record(row) for row in rows]
    following = next_cursor(items, query.limit, lambda one: (one.number,))
    return json_response(page, AuditList(items[: query.limit], following))


ROUTES: Final = (
    WebRoute(
        "GET", f"{PREFIX}/alerts", "view", "", list_alerts, "alerts", ApiAlertsQuery, "api", result=AlertList
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/alerts/{{alert}}",
        "view",
        "Alert",
        show_alert,
        "an alert",
        response_kind="api",
        result=ApiAlert,
    ),
    WebRoute(
        "POST",
        f"{PREFIX}/alerts/{{alert}}/acknowledge",
        "acknowledge-alert",
        "Alert",
        acknowledge_alert,
        "acknowledge an alert",
        NoParameters,
        "api",
        result=ApiAlert,
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/audit",
        "read-audit",
        "Audit",
        list_records,
        "audit records",
        ApiAuditQuery,
        "api",
        "audit",
        AuditList,
    ),
)
