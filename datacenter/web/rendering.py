"""Renders templates, and formats times, numbers and readings for them.

Times are shown in the time zone of the staff member; a page about an instrument also shows the local time of its
site.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datacenter.access.directory import is_zone
from datacenter.web.assets import asset_path
from settings.profile import Channel, Profile, load_profile, profile_problem

TEMPLATES: Final = Path(__file__).parent / "templates"
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000


@cache
def _environment() -> Environment:
    """Return the template environment: every value is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset_path
    environment.filters.update(
        number=format_number, duration=format_duration, percent=format_percent, words=in_words, day=format_day
    )
    return environment


def render(template: str, *, zone: str = "UTC", now_ms: int = 0, **values: Any) -> str:
    """Render a template; `zone` is the time zone of the staff member."""
    show = partial(format_time, zone=zone)
    ago = partial(format_ago, zone=zone, now_ms=now_ms)
    return (
        _environment()
        .get_template(template)
        .render(values, time=show, ago=ago, staff_zone=zone, now_ms=now_ms)
    )


def format_time(ms: int | None, zone: str = "UTC", *, named: bool = True) -> Markup:
    """Format a time as `<time>` in a zone; a dash if the time is None."""
    if ms is None:
        return Markup('<span class="none">–</span>')
    moment = _moment(ms, zone)
    if moment is None:
        return Markup('<span class="none">{} ms</span>').format(ms)
    shown = f"{moment:%d %b %Y, %H:%M}" + (f" {moment:%Z}" if named else "")
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), shown)


def format_day(ms: int) -> Markup:
    """Format a day by its beginning (UTC) as `<time>`."""
    day = datetime.fromtimestamp(ms / 1000, UTC)
    return Markup('<time datetime="{}">{}</time>').format(f"{day:%Y-%m-%d}", f"{day:%d %b %Y}")


def format_ago(ms: int | None, zone: str, now_ms: int) -> Markup:
    """Format a time as its distance from now; the tooltip has the time itself."""
    if ms is None:
        return Markup('<span class="none">never</span>')
    moment = _moment(ms, zone)
    if moment is None:
        return Markup('<span class="none">{} ms</span>').format(ms)
    distance = now_ms - ms
    if -_MINUTE < distance < _MINUTE:
        text = "just now"
    elif distance > 0:
        text = f"{format_duration(distance)} ago"
    else:
        text = f"in {format_duration(-distance)}"
    title = f"{moment:%d %b %Y, %H:%M:%S %Z}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), title, text)


def format_duration(ms: int | None) -> str:
    """Format a duration in its largest unit; hours below 6 h also have minutes, days below 3 d also hours."""
    if ms is None:
        return "–"
    ms = max(ms, 0)
    if ms < _MINUTE:
        return f"{ms // 1000} s"
    if ms < _HOUR:
        return f"{ms // _MINUTE} min"
    if ms < _DAY:
        minutes = ms % _HOUR // _MINUTE
        return f"{ms // _HOUR} h" + (f" {minutes} min" if minutes and ms < 6 * _HOUR else "")
    hours = ms % _DAY // _HOUR
    return f"{ms // _DAY} d" + (f" {hours} h" if hours and ms < 3 * _DAY else "")


def format_number(value: float | None) -> str:
    """Format a number with narrow spaces between thousands."""
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def format_percent(share: float) -> str:
    """Format a share as a percentage; a share below 1 is never shown as 100 %."""
    if share >= 1:
        return "100 %"
    return f"{min(share * 100, 99.99):.2f} %"


def in_words(word: str | None) -> str:
    """Return a word of a profile or of the store with spaces instead of hyphens; "unknown" if it is empty."""
    return (word or "unknown").replace("-", " ")


def scale_of(channel: Channel | None) -> tuple[float, str]:
    """Return the factor and unit in which readings are shown: "0.001 °C" is shown in °C."""
    unit = channel.unit if channel else ""
    factor, _, name = unit.partition(" ")
    try:
        return float(factor), name
    except ValueError:
        return 1.0, unit


def format_reading(value: float | None, channel: Channel | None) -> str:
    """Format a reading with its unit."""
    if value is None:
        return "–"
    factor, unit = scale_of(channel)
    digits = 2 if factor < 1 else (0 if float(value).is_integer() else 1)
    return f"{value * factor:,.{digits}f} {unit}".replace(",", "\u202f").strip()


def profile_of(model: str | None) -> Profile | None:
    """Return the shipped profile of a model; None if the model is unknown: then its words are shown unchanged."""
    return load_profile(model) if model and not profile_problem(model) else None


def _moment(ms: int, zone: str) -> datetime | None:
    """Return a time in a zone; None if it is outside the calendar, for example because a clock is wrong."""
    try:
        return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone) if is_zone(zone) else UTC)
    except (ValueError, OverflowError, OSError):
        return None
