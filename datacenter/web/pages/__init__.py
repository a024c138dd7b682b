"""The pages, each with its rows of the route table and its handlers."""

from __future__ import annotations

from typing import Final

from datacenter.web.api import alerts as api_alerts
from datacenter.web.api import commands as api_commands
from datacenter.web.api import enrolments as api_enrolments
from datacenter.web.api import fleet as api_fleet
from datacenter.web.api import maintenance as api_maintenance
from datacenter.web.api import papers as api_papers
from datacenter.web.api import rollouts as api_rollouts
from datacenter.web.api import sessions as api_sessions
from datacenter.web.api import triggers as api_triggers
from datacenter.web.pages import (
    alerts,
    audit,
    base,
    box,
    box_audit,
    commands,
    enrolments,
    files,
    fleet,
    instrument,
    maintenance,
    papers,
    rollouts,
    sessions,
    site,
    triggers,
)
from datacenter.web.routes import WebRoute

ROUTES: Final[tuple[WebRoute, ...]] = (
    *fleet.ROUTES,
    *site.ROUTES,
    *box.ROUTES,
    *papers.ROUTES,
    *instrument.ROUTES,
    *alerts.ROUTES,
    *triggers.ROUTES,
    *commands.ROUTES,
    *files.ROUTES,
    *maintenance.ROUTES,
    *sessions.ROUTES,
    *rollouts.ROUTES,
    *enrolments.ROUTES,
    *base.ROUTES,
    *audit.ROUTES,
    *box_audit.ROUTES,
    *api_fleet.ROUTES,
    *api_commands.ROUTES,
    *api_alerts.ROUTES,
    *api_triggers.ROUTES,
    *api_maintenance.ROUTES,
    *api_papers.ROUTES,
    *api_sessions.ROUTES,
    *api_rollouts.ROUTES,
    *api_enrolments.ROUTES,
)
"""The route table."""
