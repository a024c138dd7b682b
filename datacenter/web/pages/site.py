"""A site: its open alerts, parts for a visit, instruments and boxes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from starlette.responses import Response

from datacenter.fleet.alerts import AlertFilter, list_alerts
from datacenter.fleet.boxes import list_boxes
from datacenter.fleet.instruments import (
    HEALTHS,
    PAGE_SIZE,
    SILENT_MS,
    FleetFilter,
    count_health,
    list_instruments,
)
from datacenter.store.tables.schema import sites
from datacenter.visits.parts import totals
from datacenter.visits.read import visit_parts
from datacenter.web.pages.page import Paging, address, show
from datacenter.web.routes import PageRequest, WebRoute


def site(page: PageRequest) -> Response:
    """Serve the page of a site."""
    name = page.names["site"]
    (row,) = page.store.read(select(sites).where(sites.c.site == name))
    wanted = FleetFilter(site=name)
    counts = count_health(page.store, page.visible, wanted)
    total = sum(counts.values())
    return show(
        page,
        "site.html",
        site=row,
        counts=counts,
        healths=HEALTHS,
        total=total,
        rows=list_instruments(page.store, page.visible, wanted, 1),
        paging=Paging(1, PAGE_SIZE, total),
        fleet=address("/", wanted),
        boxes=list_boxes(page.store, page.visible, name),
        alerts=list_alerts(page.store, page.visible, AlertFilter("open", site=name), 1),
        silent_ms=SILENT_MS,
        parts=(parts := visit_parts(page.store, page.visible, page.services.trigger_knowledge, name)),
        part_totals=totals(parts),
        trigger_texts=page.services.trigger_knowledge.trigger_texts,
    )


ROUTES: Final = (WebRoute("GET", "/sites/{site}", "view", "Site", site, "a site"),)
