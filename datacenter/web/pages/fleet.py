"""The fleet: instruments by health, sites by region or on a map, with search and filters in the URL; CSV export."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final, Literal

import msgspec
from starlette.responses import Response

from datacenter.fleet.instruments import (
    HEALTHS,
    PAGE_SIZE,
    SILENT_MS,
    FleetFilter,
    InstrumentRow,
    all_instruments,
    count_health,
    list_choices,
    list_instruments,
    list_sites,
)
from datacenter.web.charts.site_map import HEIGHT, SHAPES, WIDTH, draw_map
from datacenter.web.pages.page import PageNumber, Paging, address, show, show_fragment
from datacenter.web.responses import csv_file
from datacenter.web.routes import PageRequest, WebRoute

PATH: Final = "/"


class FleetQuery(FleetFilter, frozen=True):
    """The filters, the view, and the page number."""

    view: Literal["instruments", "sites", "map"] = "instruments"
    page: PageNumber = 1

    def filters(self) -> FleetFilter:
        """Return only the filters."""
        return msgspec.convert(self, FleetFilter, from_attributes=True)


def fleet(page: PageRequest) -> Response:
    """Serve the fleet overview."""
    query: FleetQuery = page.query
    wanted = query.filters()
    counts = count_health(page.store, page.visible, wanted)
    total = counts[wanted.health] if wanted.health else sum(counts.values())
    values: dict[str, Any] = {
        "query": query,
        "counts": counts,
        "healths": HEALTHS,
        "health_choices": [(name, name) for name in HEALTHS],
        "clear": address(PATH, FleetQuery(view=query.view)),
        "total": sum(counts.values()),
        "silent_ms": SILENT_MS,
        "to": lambda **changes: address(PATH, query, **{"page": 1, **changes}),
        "regions": [],
        "rows": [],
        "paging": Paging(query.page, PAGE_SIZE, total),
        "export": address("/instruments.csv", wanted),
    }
    if query.view != "instruments":
        sites = list_sites(page.store, page.visible, wanted)
        values |= {"sites": sites, "shapes": SHAPES, "map_width": WIDTH, "map_height": HEIGHT}
        values["site_map"] = draw_map(sites) if query.view == "map" else None
        values["regions"] = [
            (region, list(of)) for region, of in groupby(sites, key=lambda site: site.region)
        ]
    else:
        values["rows"] = list_instruments(page.store, page.visible, wanted, query.page)
    if page.is_fragment:
        return show_fragment(page, "_fleet_results.html", **values)
    return show(page, "fleet.html", choices=list_choices(page.store, page.visible), **values)


def export_instruments(page: PageRequest) -> Response:
    """Serve the list of instruments as CSV."""
    columns = list(InstrumentRow._fields)
    rows = all_instruments(page.store, page.visible, page.query)
    return csv_file("instruments.csv", columns, rows)


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", fleet, "the fleet", FleetQuery),
    WebRoute(
        "GET", "/instruments.csv", "view", "", export_instruments, "all instruments", FleetFilter, "file"
    ),
)
