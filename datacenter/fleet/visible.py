"""The permissions of a staff member: decisions about one resource, and WHERE clauses for lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Join, String, Table, and_, cast, func, or_, select, true

from datacenter.access.compiled import CompiledPolicies
from datacenter.access.decision import Decision
from datacenter.access.language.sql import where_permitted
from datacenter.access.request import AccessRequest, ApiToken, Principal, RequestContext, Resource
from datacenter.access.vocabulary import Purpose
from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    alerts,
    boxes,
    commands,
    instruments,
    remote_sessions,
    rollouts,
    sites,
)

PLACED_BOXES: Final = boxes.outerjoin(sites, boxes.c.site == sites.c.site)
"""The boxes with their sites, where these are known."""
_PLACE: Final[Mapping[str, ColumnElement[Any]]] = {
    "site": boxes.c.site,
    "country": sites.c.country,
    "region": sites.c.region,
}
COMMAND_DIGITS_MAX: Final = 9
"""Maximum digits of the number of a command or a rollout: every database accepts such a number as an integer."""
COLUMNS: Final[Mapping[str, Mapping[str, ColumnElement[Any]]]] = {
    "Site": {"id": sites.c.site, **_PLACE, "site": sites.c.site},
    "Box": {"id": boxes.c.serial, **_PLACE},
    "Instrument": {"id": instruments.c.serial, "model": instruments.c.model, **_PLACE},
    "Alert": {"id": alerts.c.id, "model": alerts.c.model, "severity": alerts.c.severity, **_PLACE},
    "Command": {
        "id": cast(commands.c.id, String),
        "model": instruments.c.model,
        "requester": commands.c.requester,
        **_PLACE,
    },
    "Session": {
        "id": remote_sessions.c.id,
        "model": instruments.c.model,
        "staff": remote_sessions.c.staff,
        **_PLACE,
    },
    "Rollout": {
        "id": cast(rollouts.c.id, String),
        "requester": rollouts.c.requester,
        **{level: rollouts.c[level] for level in _PLACE},
    },
    "File": {"id": commands.c.file, "model": instruments.c.model, **_PLACE},
}
"""The columns with the attributes of each type; queries join `boxes` and `sites`."""


@dataclass(frozen=True)
class Visibility:
    """The rights of one principal at one time, for one purpose."""

    policies: CompiledPolicies
    principal: Principal
    now_ms: int
    purpose: Purpose = "monitoring"
    token: ApiToken | None = None

    @property
    def context(self) -> RequestContext:
        """The circumstances of the request."""
        return RequestContext(self.now_ms, self.purpose, self.token)

    def decide(self, action: str, resource: Resource) -> Decision:
        """Decide whether the principal may do the action with the resource."""
        return self.policies.decide(AccessRequest(self.principal, action, resource, self.context))

    def where(self, kind: str, action: str = "view") -> ColumnElement[bool]:
        """Return the WHERE clause of a list: the resources of this type with which `action` is permitted."""
        columns = COLUMNS[kind]
        return where_permitted(self.policies.policies, self.principal, action, kind, self.context, columns)


def placed(table: Table) -> Join:
    """Return the rows of a table with their boxes and sites, where these are known."""
    return table.outerjoin(boxes, boxes.c.serial == table.c.box).outerjoin(
        sites, sites.c.site == boxes.c.site
    )


def matching(text: str, *columns: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the WHERE clause of a search: each word of the text is part of one of the columns, ignoring case."""
    return and_(
        true(),
        *(
            or_(*(func.lower(column).contains(word, autoescape=True) for column in columns))
            for word in text.lower().split()
        ),
    )


def find_site(store: Store, site: str) -> Resource | None:
    """Return the resource of a site; None if it does not exist."""
    query = select(sites.c.site, sites.c.country, sites.c.region).where(sites.c.site == site)
    row = next(store.read(query), None)
    return None if row is None else Resource("Site", row.site, row.site, row.country, row.region)


def find_box(store: Store, box: str) -> Resource | None:
    """Return the resource of a box; None if it does not exist."""
    query = select(boxes.c.serial, *_PLACE.values()).select_from(PLACED_BOXES)
    row = next(store.read(query.where(boxes.c.serial == box)), None)
    return None if row is None else Resource("Box", box, *_names(row))


def find_instrument(store: Store, box: str, instrument: str) -> Resource | None:
    """Return the resource of an instrument; None if it does not exist."""
    tables = instruments.join(PLACED_BOXES, instruments.c.box == boxes.c.serial)
    key = and_(instruments.c.box == box, instruments.c.serial == instrument)
    query = select(instruments.c.model, *_PLACE.values()).where(key)
    row = next(store.read(query.select_from(tables)), None)
    if row is None:
        return None
    return Resource("Instrument", instrument, *_names(row), model=row.model or "")


def find_alert(store: Store, alert: str) -> Resource | None:
    """Return the resource of an alert; None if it does not exist."""
    tables = alerts.join(PLACED_BOXES, alerts.c.box == boxes.c.serial)
    query = select(alerts.c.model, alerts.c.severity, *_PLACE.values()).where(alerts.c.id == alert)
    row = next(store.read(query.select_from(tables)), None)
    if row is None:
        return None
    return Resource("Alert", alert, *_names(row), model=row.model, severity=row.severity)


def find_command(store: Store, number: str) -> Resource | None:
    """Return the resource of a command; None if it does not exist."""
    if not _is_number(number):
        return None
    key = and_(instruments.c.box == commands.c.box, instruments.c.serial == commands.c.instrument)
    tables = commands.join(PLACED_BOXES, commands.c.box == boxes.c.serial).outerjoin(instruments, key)
    query = select(commands.c.requester, instruments.c.model, *_PLACE.values()).select_from(tables)
    row = next(store.read(query.where(commands.c.id == int(number))), None)
    if row is None:
        return None
    return Resource("Command", number, *_names(row), model=row.model or "", requester=row.requester)


def find_rollout(store: Store, number: str) -> Resource | None:
    """Return the resource of a rollout; None if it does not exist."""
    if not _is_number(number):
        return None
    c = rollouts.c
    query = select(c.requester, c.site, c.country, c.region).where(c.id == int(number))
    row = next(store.read(query), None)
    return None if row is None else Resource("Rollout", number, *_names(row), requester=row.requester)


def _is_number(text: str) -> bool:
    """Return whether a text is a number that every database accepts as an integer."""
    return text.isascii() and text.isdecimal() and len(text) <= COMMAND_DIGITS_MAX


def _names(row: Any) -> tuple[str, str, str]:
    """Return site, country and region of a row, empty where unknown."""
    return row.site or "", row.country or "", row.region or ""
