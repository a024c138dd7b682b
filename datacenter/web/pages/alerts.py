"""Alerts: the list, and the page of an alert with evidence, advice, parts, history, acknowledgement and silence."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.explanation.evidence import UnexplainedError
from datacenter.explanation.replay import MOMENTS
from datacenter.fleet.alerts import (
    PAGE_SIZE,
    REASON_CHARACTERS_MAX,
    SEVERITIES,
    SILENCE_HOURS_MAX,
    AlertFilter,
    AlertRow,
    SilenceError,
    acknowledge,
    count_alerts,
    evidence_items,
    list_alerts,
    list_deliveries,
    list_of_instrument,
    read_alert,
    silence,
)
from datacenter.fleet.completeness import coverage_tag
from datacenter.fleet.instruments import list_choices
from datacenter.fleet.reports import list_errors
from datacenter.fleet.visible import find_instrument
from datacenter.web.evidence import NO_DATA, POINTS, EvidenceTable, load_evidence, make_data, make_table
from datacenter.web.pages.page import PageNumber, Paging, address, show, show_fragment
from datacenter.web.parameters import ParameterError
from datacenter.web.rendering import profile_of
from datacenter.web.responses import json_data, matches, not_modified, redirect
from datacenter.web.routes import NoParameters, NotFoundError, PageRequest, WebRoute
from settings.profile import Profile

PATH: Final = "/alerts"
AROUND_MS: Final = 3 * 86_400_000
"""The page links to the readings from this time before the beginning of an alert until this time after it."""
ERRORS_SHOWN: Final = 20
SHOWN_ELSEWHERE: Final = ("run", "number", "at_ms", "fingerprint", "holds_since_ms", "starts")
"""The items of the evidence that the page does not list, because it shows them in another form."""
_ENCODE: Final = msgspec.json.Encoder().encode


class AlertsQuery(AlertFilter, frozen=True):
    """The filters and the page number."""

    page: PageNumber = 1

    def filters(self) -> AlertFilter:
        """Return only the filters."""
        return msgspec.convert(self, AlertFilter, from_attributes=True)


class SilenceForm(Struct, frozen=True):
    """The duration and the reason of a silence."""

    hours: Annotated[int, Meta(ge=0, le=SILENCE_HOURS_MAX)] = 8
    reason: Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)] = ""


def alerts(page: PageRequest) -> Response:
    """Serve the list of alerts."""
    query: AlertsQuery = page.query
    wanted = query.filters()
    values: dict[str, Any] = {
        "query": query,
        "rows": list_alerts(page.store, page.visible, wanted, query.page),
        "paging": Paging(query.page, PAGE_SIZE, count_alerts(page.store, page.visible, wanted)),
        "to": lambda **changes: address(PATH, query, **{"page": 1, **changes}),
    }
    if page.is_fragment:
        return show_fragment(page, "_alert_results.html", **values)
    return show(
        page,
        "alerts.html",
        severity_choices=[(name, name) for name in SEVERITIES],
        clear=address(PATH, AlertsQuery(query.state)),
        choices=list_choices(page.store, page.visible),
        **values,
    )


def alert(page: PageRequest) -> Response:
    """Serve the page of an alert."""
    row, evidence = read_alert(page.store, page.names["alert"])
    profile = profile_of(row.model)
    instrument = find_instrument(page.store, row.box, row.instrument)
    sees_instrument = instrument is not None and page.permits("view", instrument)
    assert page.resource is not None, "the route is about one alert"
    since_ms, until_ms = row.began_at_ms - AROUND_MS, min(row.began_at_ms + AROUND_MS, page.now_ms + 1)
    history = list_of_instrument(page.store, page.visible, row.box, row.instrument, row.component)
    return show(
        page,
        "alert.html",
        alert=row,
        about=row.about,
        component=_component(row, profile),
        has_trigger=any(one.name == row.trigger for one in page.services.trigger_knowledge.triggers.all()),
        evidence=[
            item for item in evidence_items(evidence) if item[0].partition(" ")[0] not in SHOWN_ELSEWHERE
        ],
        explained=_explained(page) if sees_instrument else None,
        may_silence=row.ended_at_ms is None and page.permits("silence-alert", page.resource),
        silenced_by=_name(page, row.silenced_by),
        may_acknowledge=row.state == "open" and page.permits("acknowledge-alert", page.resource),
        sees_instrument=sees_instrument,
        readings=f"/instruments/{row.box}/{row.instrument}?since_ms={max(since_ms, 0)}&until_ms={until_ms}",
        history=[one for one in history if one.id != row.id],
        errors=_errors(page, row, profile) if sees_instrument else [],
        colleague=_name(page, row.acknowledged_by),
        deliveries=list_deliveries(page.store, row.id),
    )


def evidence_data(page: PageRequest) -> Response:
    """Serve the columns of the charts of an alert's evidence to persons who may see the instrument."""
    row, _ = read_alert(page.store, page.names["alert"])
    instrument = find_instrument(page.store, row.box, row.instrument)
    if instrument is None or not page.permits("view", instrument):
        raise NotFoundError
    state = f"{coverage_tag(page.store, row.box, row.instrument)} {row.ended_at_ms}"
    etag = f'"{sha256(state.encode()).hexdigest()[:32]}"'
    if matches(etag, page.headers.get("if-none-match", "")):
        return not_modified(etag)
    try:
        recomputed = load_evidence(page.store, row.id, POINTS)
    except UnexplainedError:
        recomputed = None
    data = NO_DATA if recomputed is None or recomputed.began is None else make_data(recomputed, page.now_ms)
    return json_data(_ENCODE(data), etag, page.headers.get("accept-encoding", ""))


def _explained(page: PageRequest) -> EvidenceTable | str | None:
    """Return the table of the evidence, or why there is none; None for an alert of silence."""
    try:
        recomputed = load_evidence(page.store, page.names["alert"], MOMENTS)
    except UnexplainedError as error:
        return str(error)
    return None if recomputed is None else make_table(recomputed)


def acknowledge_alert(page: PageRequest) -> Response:
    """Acknowledge an alert. If another person has already acknowledged it, this has no effect."""
    acknowledge(page.store, page.names["alert"], page.staff, page.now_ms)
    return redirect(f"{PATH}/{page.names['alert']}")


def silence_alert(page: PageRequest) -> Response:
    """Silence an alert: no notices of it are sent for some hours; 0 hours end the silence."""
    form: SilenceForm = page.query
    try:
        silence(page.store, page.names["alert"], page.staff, form.hours, form.reason, page.now_ms)
    except SilenceError as error:
        raise ParameterError(str(error)) from error
    return redirect(f"{PATH}/{page.names['alert']}")


def _component(row: AlertRow, profile: Profile | None) -> str:
    component = profile.components.get(row.component) if profile else None
    return component.text if component else row.component


def _errors(page: PageRequest, row: AlertRow, profile: Profile | None) -> list[dict[str, Any]]:
    """Return the error reports of the same component, from 90 days before the alert to AROUND_MS after it began."""
    rows: list[dict[str, Any]] = []
    since_ms = max(0, row.began_at_ms - 90 * 86_400_000)
    for one in list_errors(page.store, row.box, row.instrument, since_ms, row.began_at_ms + AROUND_MS):
        if one.component == row.component and len(rows) < ERRORS_SHOWN:
            known = profile.errors.get(one.code) if profile else None
            text = known.text if known else "not described in the profile"
            rows.append({"at_ms": one.at_ms, "code": one.code, "severity": one.severity, "text": text})
    return rows


def _name(page: PageRequest, staff: str | None) -> str:
    entry = page.services.directory.people.get(staff or "")
    return entry.name if entry else staff or ""


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", alerts, "alerts", AlertsQuery),
    WebRoute("GET", f"{PATH}/{{alert}}", "view", "Alert", alert, "an alert"),
    WebRoute(
        "GET",
        f"{PATH}/{{alert}}/evidence.json",
        "view",
        "Alert",
        evidence_data,
        "the evidence of an alert",
        NoParameters,
        "json",
    ),
    WebRoute(
        "POST",
        f"{PATH}/{{alert}}/acknowledge",
        "acknowledge-alert",
        "Alert",
        acknowledge_alert,
        "acknowledge an alert",
        NoParameters,
        "form",
    ),
    WebRoute(
        "POST",
        f"{PATH}/{{alert}}/silence",
        "silence-alert",
        "Alert",
        silence_alert,
        "silence an alert",
        SilenceForm,
        "form",
    ),
)
