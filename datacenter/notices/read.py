"""Reads the content of notices from the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from datacenter.fleet.description import describe
from datacenter.notices.notice import Kind, Notice
from datacenter.store.tables.schema import alerts, boxes, sites

ALERT_PATH = "/alerts/"


def read_notices(connection: Connection, keys: Sequence[tuple[str, Kind]], link: str) -> list[Notice]:
    """Return the notices with these keys, alert and kind, in their order; `link` is the address of the pages."""
    a = alerts.c
    query = (
        select(alerts, boxes.c.site, sites.c.name, sites.c.region)
        .select_from(alerts)
        .outerjoin(boxes, a.box == boxes.c.serial)
        .outerjoin(sites, boxes.c.site == sites.c.site)
        .where(a.id.in_({alert for alert, _ in keys}))
    )
    rows = {row["id"]: row for row in connection.execute(query).mappings()}
    return [_notice(rows[alert], kind, link) for alert, kind in keys]


def terms_of(evidence: bytes) -> dict[str, float | None]:
    """Return the values of the terms in an alert's evidence, by their text."""
    decoded = msgspec.msgpack.decode(evidence)
    terms = decoded.get("terms", {}) if isinstance(decoded, Mapping) else {}
    return dict(terms)


def _notice(row: Mapping[Any, Any], kind: Kind, link: str) -> Notice:
    about = describe(row["model"], row["trigger"], row["component"], row["text"], row["parts"])
    terms = terms_of(bytes(row["evidence"]))
    return Notice(
        alert=row["id"],
        kind=kind,
        trigger=row["trigger"],
        severity=row["severity"],
        box=row["box"],
        instrument=row["instrument"],
        model=row["model"],
        component=row["component"],
        site=row["site"] or "",
        site_name=row["name"] or "",
        region=row["region"] or "",
        text=about.text,
        advice=about.advice,
        parts=about.parts,
        terms=tuple(f"{name} = {value:g}" for name, value in terms.items() if value is not None),
        began_at_ms=row["began_at_ms"],
        ended_at_ms=row["ended_at_ms"] if kind == "resolved" else None,
        link=f"{link.rstrip('/')}{ALERT_PATH}{row['id']}" if link else "",
    )
