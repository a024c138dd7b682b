"""The pages, each with its rows of the route table and its handlers."""

from __future__ import annotations

from typing import Final

from datacenter.web.pages import alerts, audit, box, fleet, instrument, site
from datacenter.web.routes import WebRoute

ROUTES: Final[tuple[WebRoute, ...]] = (
    *fleet.ROUTES,
    *site.ROUTES,
    *box.ROUTES,
    *instrument.ROUTES,
    *alerts.ROUTES,
    *audit.ROUTES,
)
"""The route table."""
