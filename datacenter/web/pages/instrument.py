"""An instrument: its page with charts of readings, errors and quality control; the data of the charts; exports."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import msgspec
from sqlalchemy import and_, select
from starlette.responses import Response

from datacenter.audit.boxes import is_time_doubtful
from datacenter.base.percentiles import percentiles_of
from datacenter.base.visible import permitted_bases, visible_days
from datacenter.explanation.thresholds import ReadingThreshold, reading_thresholds
from datacenter.fleet.alerts import list_of_instrument
from datacenter.fleet.completeness import coverage_tag, stream_completeness
from datacenter.fleet.instruments import SILENT_MS
from datacenter.fleet.readings import Period, load_period, make_chart, summarize
from datacenter.fleet.reports import latest_inventory, list_calibrations, list_controls, list_errors
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.store.tables.schema import boxes, instruments, sites
from datacenter.visits.parts import totals
from datacenter.visits.read import visit_parts
from datacenter.web.charts.levey_jennings import draw_controls
from datacenter.web.files.exports import StatusExport
from datacenter.web.pages.base import shown_days
from datacenter.web.pages.page import PERIODS, PeriodQuery, ShownPeriod, address, show, times_of
from datacenter.web.rendering import format_reading, profile_of, scale_of
from datacenter.web.responses import json_data, matches, not_modified
from datacenter.web.routes import PageRequest, WebRoute
from settings.profile import Channel, Profile

ERRORS_SHOWN: Final = 100
BASE: Final = (5, 50, 95)
"""The percentiles of the installed base that charts show."""
BASE_DAYS: Final = 90
_ENCODE: Final = msgspec.json.Encoder().encode
_PATH: Final = "/instruments/{box}/{instrument}"


def instrument(page: PageRequest) -> Response:
    """Serve the page of an instrument."""
    box, serial = page.names["box"], page.names["instrument"]
    times = times_of(page.query, page.now_ms)
    row = _row(page)
    profile = profile_of(row.model)
    period = load_period(page.store, box, serial, *times, page.now_ms)
    path = f"/instruments/{box}/{serial}"
    return show(
        page,
        "instrument.html",
        row=row,
        path=path,
        query=page.query,
        times=times,
        periods=PERIODS,
        to=lambda **changes: address(path, page.query, **changes),
        source=_source(path, times),
        exports={name: _source(path, times, f"readings.{name.lower()}") for name in ("CSV", "Parquet")}
        if page.resource and page.permits("export", page.resource)
        else {},
        channels=_channels(
            period,
            profile,
            _base(page, row.model, times),
            _thresholds(page, row.model, bytes(row.evaluation)),
        ),
        base_days=BASE_DAYS,
        spans=period.spans,
        statuses=len(period.statuses),
        is_silent=row.stored_at_ms < page.now_ms - SILENT_MS,
        has_wrong_clock=row.stored_at_ms > 0 and is_time_doubtful(row.at_ms, row.stored_at_ms),
        completeness=stream_completeness(page.store, box, serial),
        errors=_errors(page, times, profile),
        errors_shown=ERRORS_SHOWN,
        charts=draw_controls(list_controls(page.store, box, serial, *times), times, profile),
        calibrations=list_calibrations(page.store, box, serial, *times),
        inventory=latest_inventory(page.store, box, serial, *times),
        assays=profile.assays if profile else {},
        parts=(
            parts := visit_parts(page.store, page.visible, page.services.trigger_knowledge, "", box, serial)
        ),
        part_totals=totals(parts),
        trigger_texts=page.services.trigger_knowledge.trigger_texts,
        alerts=list_of_instrument(page.store, page.visible, box, serial),
    )


def chart_data(page: PageRequest) -> Response:
    """Serve the readings of a period for charts.

    The validator is derived from the numbers of the stored reports, so that unchanged data is not read again.
    """
    box, serial = page.names["box"], page.names["instrument"]
    times = times_of(page.query, page.now_ms)
    state = f"{coverage_tag(page.store, box, serial)} {times}"
    etag = f'"{sha256(state.encode()).hexdigest()[:32]}"'
    if matches(etag, page.headers.get("if-none-match", "")):
        return not_modified(etag)
    period = load_period(page.store, box, serial, *times, page.now_ms)
    return json_data(_ENCODE(make_chart(period)), etag, page.headers.get("accept-encoding", ""))


def export_csv(page: PageRequest) -> Response:
    """Serve the statuses of a period as CSV, with the readings as reported."""
    return _export(page).response("csv")


def export_parquet(page: PageRequest) -> Response:
    """Serve the statuses of a period as Parquet, with the readings as reported and their units."""
    return _export(page).response("parquet")


def _export(page: PageRequest) -> StatusExport:
    return StatusExport.of_page(page, *times_of(page.query, page.now_ms))


def _row(page: PageRequest) -> Any:
    """Return the instrument's latest state and its site."""
    key = and_(instruments.c.box == page.names["box"], instruments.c.serial == page.names["instrument"])
    tables = instruments.join(PLACED_BOXES, instruments.c.box == boxes.c.serial)
    query = select(instruments, sites.c.site, sites.c.name, sites.c.zone).where(key)
    (row,) = page.store.read(query.select_from(tables))
    return row


def _source(path: str, times: ShownPeriod, name: str = "readings.json") -> str:
    return f"{path}/{name}?since_ms={times.since_ms}&until_ms={times.until_ms}"


def _base(page: PageRequest, model: str | None, times: ShownPeriod) -> dict[str, list[int]]:
    """Return the percentiles BASE of each reading in the installed base, for BASE_DAYS up to the period's end."""
    bases = permitted_bases(page.store, page.visible, model) if model else {}
    if model not in bases:
        return {}
    days = shown_days(min(times.until_ms, page.now_ms), BASE_DAYS)
    days_of_readings = visible_days(page.store, bases[model], days)
    percentiles = {reading: percentiles_of(one, BASE) for reading, one in days_of_readings.items()}
    return {reading: one for reading, one in percentiles.items() if one is not None}


def _thresholds(page: PageRequest, model: str | None, evaluation: bytes) -> dict[str, list[ReadingThreshold]]:
    """Return the thresholds of the triggers in force by reading."""
    functions = page.services.trigger_knowledge.triggers.functions(model)
    return reading_thresholds(functions, page.services.comparisons, evaluation) if functions else {}


def _shown(threshold: ReadingThreshold, channel: Channel | None) -> dict[str, Any]:
    """Return a threshold as its text and its line in a chart."""
    return {
        "trigger": threshold.trigger,
        "text": f"{threshold.value} {threshold.sign} {format_reading(threshold.threshold, channel)}",
        "moves": threshold.moves,
        "line": [
            threshold.threshold * scale_of(channel)[0],
            threshold.trigger,
            f"--{threshold.severity}",
            threshold.moves,
        ],
    }


def _channels(
    period: Period,
    profile: Profile | None,
    base: dict[str, list[int]],
    thresholds: dict[str, list[ReadingThreshold]],
) -> list[dict[str, Any]]:
    """Return the chart and the table row of each channel with readings, in the order of the profile."""
    summaries = summarize(period)
    known = list(profile.channels) if profile else []
    order = [name for name in known if name in summaries] + [name for name in summaries if name not in known]
    rows = []
    for name in order:
        channel = profile.channels.get(name) if profile else None
        factor, unit = scale_of(channel)
        normal = channel.normal if channel and channel.normal else None
        summary = summaries[name]
        rows.append(
            {
                "name": name,
                "text": channel.text if channel else name,
                "unit": unit,
                "factor": factor,
                "low": normal[0] * factor if normal else None,
                "high": normal[1] * factor if normal else None,
                "base": [value * factor for value in base.get(name, ())],
                "base_cells": [format_reading(value, channel) for value in base.get(name, ())],
                "normal": " to ".join(format_reading(limit, channel) for limit in normal) if normal else "–",
                "thresholds": [_shown(one, channel) for one in thresholds.get(name, ())],
                "is_outside": normal is not None
                and (summary.lowest < normal[0] or summary.highest > normal[1]),
                "cells": [
                    format_reading(value, channel)
                    for value in (summary.latest, summary.lowest, summary.mean, summary.highest)
                ],
            }
        )
    return rows


def _errors(page: PageRequest, times: ShownPeriod, profile: Profile | None) -> list[dict[str, Any]]:
    rows = []
    for one in list_errors(page.store, page.names["box"], page.names["instrument"], *times, ERRORS_SHOWN):
        known = profile.errors.get(one.code) if profile else None
        component = profile.components.get(one.component) if profile else None
        rows.append(
            {
                "at_ms": one.at_ms,
                "code": one.code,
                "severity": one.severity,
                "text": known.text if known else "not described in the profile",
                "advice": known.advice if known else "",
                "component": component.text if component else one.component,
            }
        )
    return rows


ROUTES: Final = (
    WebRoute("GET", _PATH, "view", "Instrument", instrument, "an instrument", PeriodQuery),
    WebRoute(
        "GET", f"{_PATH}/readings.json", "view", "Instrument", chart_data, "readings", PeriodQuery, "json"
    ),
    WebRoute(
        "GET",
        f"{_PATH}/readings.csv",
        "export",
        "Instrument",
        export_csv,
        "statuses",
        PeriodQuery,
        "file",
    ),
    WebRoute(
        "GET",
        f"{_PATH}/readings.parquet",
        "export",
        "Instrument",
        export_parquet,
        "statuses",
        PeriodQuery,
        "file",
    ),
)
