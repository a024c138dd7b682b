"""The installed base: models, their readings, and the distribution of a reading day by day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct
from starlette.responses import Response

from datacenter.base.counting import waiting_days
from datacenter.base.percentiles import INSTRUMENTS_MIN, BaseDay, percentiles_of
from datacenter.base.visible import PermittedBase, permitted_bases, visible_days
from datacenter.store.tables.partitions import DAY_MS
from datacenter.web.charts.band import draw_band
from datacenter.web.pages.page import address, show
from datacenter.web.rendering import format_reading, profile_of, scale_of
from datacenter.web.routes import NotFoundError, PageRequest, WebRoute
from settings.profile import Profile

PERCENTILES: Final = (5, 25, 50, 75, 95)
DAYS: Final = {"30": "30 days", "90": "90 days", "365": "a year"}


class BaseQuery(Struct, frozen=True):
    """The model, the reading, and the number of days up to yesterday; an empty model or reading selects all."""

    model: str = ""
    reading: str = ""
    days: Literal["30", "90", "365"] = "90"


def base(page: PageRequest) -> Response:
    """Serve the page of the installed base: of all models, of a model, or of a reading of a model."""
    query: BaseQuery = page.query
    bases = permitted_bases(page.store, page.visible, query.model)
    values: dict[str, Any] = {
        "query": query,
        "to": lambda **changes: address("/base", query, **changes),
        "choices": DAYS,
        "instruments_min": INSTRUMENTS_MIN,
        "waiting": waiting_days(page.store),
    }
    if not query.model:
        rows = [(one, profile_of(name)) for name, one in bases.items()]
        return show(page, "base_models.html", rows=rows, **values)
    if query.model not in bases:
        raise NotFoundError
    permitted, profile = bases[query.model], profile_of(query.model)
    days = shown_days(page.now_ms, int(query.days))
    if not query.reading:
        days_of_readings = visible_days(page.store, permitted, days)
        return show(
            page, "base_model.html", base=permitted, readings=_readings(days_of_readings, profile), **values
        )
    if profile is None or query.reading not in profile.channels:
        raise NotFoundError
    return _show_reading(page, permitted, profile, days, values)


def shown_days(now_ms: int, count: int) -> range:
    """Return the last `count` days up to yesterday, as numbers of days since 1970; today is not complete."""
    today = now_ms // DAY_MS
    return range(today - count, today)


def _show_reading(
    page: PageRequest, permitted: PermittedBase, profile: Profile, days: range, values: dict[str, Any]
) -> Response:
    reading = page.query.reading
    channel = profile.channels[reading]
    of_days = visible_days(page.store, permitted, days, reading).get(reading, {})
    percentiles = {day: of_day.histogram.percentiles(PERCENTILES) for day, of_day in sorted(of_days.items())}
    factor, unit = scale_of(channel)
    rows = [
        (day * DAY_MS, of_days[day].instruments, [format_reading(value, channel) for value in of_day])
        for day, of_day in percentiles.items()
    ]
    return show(
        page,
        "base_reading.html",
        base=permitted,
        channel=channel,
        unit=unit,
        chart=draw_band(percentiles, days) if percentiles else None,
        label=lambda value: f"{value * factor:,.{2 if factor < 1 else 0}f}".replace(",", "\u202f"),
        all_days=_row(of_days, profile, reading),
        rows=rows[::-1],
        **values,
    )


def _readings(
    days_of_readings: Mapping[str, dict[int, BaseDay]], profile: Profile | None
) -> list[dict[str, Any]]:
    """Return the rows of the readings, in the order of the profile."""
    known = list(profile.channels) if profile else []
    order = [name for name in known if name in days_of_readings] + sorted(
        name for name in days_of_readings if name not in known
    )
    return [_row(days_of_readings[name], profile, name) for name in order]


def _row(days: dict[int, BaseDay], profile: Profile | None, reading: str) -> dict[str, Any]:
    channel = profile.channels.get(reading) if profile else None
    percentiles = percentiles_of(days, PERCENTILES)
    normal = channel.normal if channel else None
    return {
        "name": reading,
        "text": channel.text if channel else reading,
        "cells": [format_reading(value, channel) for value in percentiles] if percentiles else None,
        "instruments": max((one.instruments for one in days.values()), default=0),
        "days": len(days),
        "normal": " to ".join(format_reading(limit, channel) for limit in normal) if normal else "–",
    }


ROUTES: Final = (WebRoute("GET", "/base", "view", "", base, "the installed base", BaseQuery),)
