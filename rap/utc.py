"""Times as the command line prints them, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_day(ms: int) -> str:
    """Return the day of a time in ms since the epoch, such as "2026-03-01"."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}"


def utc_minute(ms: int) -> str:
    """Return the day and minute of a time in ms since the epoch, such as "2026-03-01 08:00"."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
