"""Times as the command line prints them, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_day(ms: int) -> str:
    """Return the date of a time in ms since the epoch, such as "2026-03-01"."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"


def utc_minute(ms: int) -> str:
    """Return the date and minute of a time in ms since the epoch, such as "2026-03-01 08:00"."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
