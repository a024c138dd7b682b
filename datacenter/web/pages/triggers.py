"""Triggers: the list with their scores, and the page of a trigger with its text, parts, advice, score and alerts."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct
from starlette.responses import Response

from datacenter.explanation.triggers import STATE_TEXTS, TriggerRow, list_triggers, read_trigger_rows
from datacenter.fleet.alerts import SEVERITIES, list_of_trigger
from datacenter.fleet.description import describe
from datacenter.web.pages.page import address, show
from datacenter.web.rendering import profile_of
from datacenter.web.routes import PageRequest, WebRoute
from settings.profile import Severity

PATH: Final = "/triggers"


class TriggersQuery(Struct, frozen=True):
    """The filters."""

    model: str = ""
    severity: Severity | Literal[""] = ""
    q: str = ""


def triggers(page: PageRequest) -> Response:
    """Serve the list of triggers."""
    query: TriggersQuery = page.query
    rows = list_triggers(page.store, page.visible, page.services.trigger_knowledge)
    known = page.services.trigger_knowledge
    return show(
        page,
        "triggers.html",
        query=query,
        rows=[row for row in rows if _matches(row, query)],
        total=len(rows),
        not_live=sum(row.state != "live" for row in rows),
        states=STATE_TEXTS,
        of_set=known.scores.set,
        scored_at_ms=known.scored_at_ms,
        models=[(name, name.replace("-", " ")) for name in sorted({row.model for row in rows if row.model})],
        severity_choices=[(name, name) for name in SEVERITIES],
        to=lambda **changes: address(PATH, query, **changes),
    )


def trigger(page: PageRequest) -> Response:
    """Serve the page of a trigger."""
    name, known = page.names["trigger"], page.services.trigger_knowledge
    row, *others = read_trigger_rows(page.store, page.visible, known, name)
    profile = profile_of(row.model)
    component = profile.components.get(row.component) if profile else None
    values: dict[str, Any] = {
        "row": row,
        "others": others,
        "states": STATE_TEXTS,
        "component": component.text if component else row.component,
        "advice": describe(row.model, row.name, row.component, row.text, "\n".join(row.parts)).advice,
        "scored_at_ms": known.scored_at_ms,
        "alerts": list_of_trigger(page.store, page.visible, name),
    }
    return show(page, "trigger.html", **values)


def _matches(row: TriggerRow, query: TriggersQuery) -> bool:
    text = f"{row.name} {row.text} {row.component} {row.condition}".lower()
    return (
        (not query.model or row.model == query.model)
        and (not query.severity or row.severity == query.severity)
        and all(word in text for word in query.q.lower().split())
    )


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", triggers, "triggers", TriggersQuery),
    WebRoute("GET", f"{PATH}/{{trigger}}", "view", "Trigger", trigger, "a trigger"),
)
