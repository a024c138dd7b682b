"""Triggers with their scores for programs."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from msgspec import Struct
from starlette.responses import Response

from datacenter.explanation.sides import ComparedSides
from datacenter.explanation.triggers import TriggerRow, TriggerState, list_triggers, read_trigger_rows
from datacenter.scoring.scorefile import RecordedScore
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.rendering import profile_of
from datacenter.web.routes import PageRequest, WebRoute
from settings.profile import Severity

_State: TypeAlias = Literal["live", "without score", "scored", "not valid", ""]


class ApiTriggersQuery(Struct, frozen=True):
    """Selects a part of the list of triggers."""

    model: str = ""
    severity: Severity | Literal[""] = ""
    state: _State = ""
    limit: Limit = 100
    cursor: Cursor = ""


class ApiTrigger(Struct, frozen=True):
    """A trigger. `model` is empty for silence triggers; `score` is null if this text of the trigger has no score.

    `state` is "live" if it is evaluated, "without score", "scored" (live after a restart) or "not valid". A name has
    two items while the text of its file differs from the text in force.
    """

    trigger: str
    state: TriggerState
    model: str
    severity: Severity | None
    component: str
    text: str
    condition: str
    """When an alert begins, if it holds for `lasts`."""
    lasts: str
    until: str
    """When an alert ends; empty if it ends when `condition` no longer holds."""
    parts: list[str]
    fingerprint: str
    open_alerts: int
    score: RecordedScore | None


class TriggerList(Struct, frozen=True):
    """A part of the list of triggers, by model and name."""

    items: list[ApiTrigger]
    next: str | None


class TriggerComparison(Struct, frozen=True):
    """A comparison in a condition: `value` `sign` `threshold`, as written in its text.

    `reading` and `unit` apply to both sides; they are empty if the sides are not of one reading.
    """

    value: str
    sign: str
    threshold: str
    reading: str
    unit: str


class TriggerFile(Struct, frozen=True):
    """A newer text of a trigger that is not live; `problem` says why it is not valid."""

    state: TriggerState
    fingerprint: str
    problem: str


class ApiTriggerPage(ApiTrigger, frozen=True):
    """A trigger with the comparisons of its condition, its text, and the addresses of its alerts."""

    comparisons: list[TriggerComparison]
    source: str
    """The text of its file."""
    problem: str
    newer: TriggerFile | None
    alerts: str
    """The address of the list of its alerts that the caller may see."""


def show_triggers(page: PageRequest) -> Response:
    """Return the triggers, by model and name."""
    query: ApiTriggersQuery = page.query
    after = decode_cursor(query.cursor, tuple[str, str, bool])
    items = [
        _item(row)
        for row in list_triggers(page.store, page.visible, page.services.trigger_knowledge)
        if (not query.model or row.model == query.model)
        and (not query.severity or row.severity == query.severity)
        and (not query.state or row.state == query.state)
    ]
    if after:
        items = [one for one in items if _sort_key(one) > after]
    return json_response(page, TriggerList(items[: query.limit], next_cursor(items, query.limit, _sort_key)))


def show_trigger(page: PageRequest) -> Response:
    """Return a trigger with the comparisons of its condition and the text of its file."""
    name = page.names["trigger"]
    row, *others = read_trigger_rows(page.store, page.visible, page.services.trigger_knowledge, name)
    compared = page.services.comparisons.get(name, ()) if row.state == "live" else ()
    result = ApiTriggerPage(
        **{field: getattr(_item(row), field) for field in ApiTrigger.__struct_fields__},
        comparisons=[_comparison(one, row.model) for one in compared],
        source=row.source,
        problem=row.problem,
        newer=next((TriggerFile(one.state, one.fingerprint, one.problem) for one in others), None),
        alerts=f"{PREFIX}/alerts?state=all&trigger={quote(name, safe='')}",
    )
    return json_response(page, result)


def _item(row: TriggerRow) -> ApiTrigger:
    return ApiTrigger(
        row.name,
        row.state,
        row.model,
        row.severity,
        row.component,
        row.text,
        row.condition,
        row.lasts,
        row.until,
        list(row.parts),
        row.fingerprint,
        row.open_alerts,
        row.score,
    )


def _sort_key(trigger: ApiTrigger) -> tuple[str, str, bool]:
    return trigger.model, trigger.trigger, trigger.state != "live"


def _comparison(sides: ComparedSides, model: str) -> TriggerComparison:
    profile = profile_of(model)
    channel = profile.channels.get(sides.channel) if profile else None
    unit = channel.unit if channel else ""
    return TriggerComparison(sides.value.text, sides.sign, sides.threshold.text, sides.channel, unit)


ROUTES: Final = (
    WebRoute(
        "GET",
        f"{PREFIX}/triggers",
        "view",
        "",
        show_triggers,
        "triggers with their scores",
        ApiTriggersQuery,
        "api",
        result=TriggerList,
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/triggers/{{trigger}}",
        "view",
        "Trigger",
        show_trigger,
        "a trigger",
        response_kind="api",
        result=ApiTriggerPage,
    ),
)
