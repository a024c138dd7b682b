"""Marks the days of instruments whose statuses have changed, for computations per day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, text

_MARK: Final = text(
    "INSERT INTO changed_days (day, box, instrument) VALUES (:day, :box, :instrument)"
    " ON CONFLICT (day, box, instrument) DO UPDATE SET box = excluded.box"
)
"""The update locks an existing mark, so that it is not removed before the change is committed."""


def mark_changed(connection: Connection, box: str, instrument: str, days: Iterable[int]) -> None:
    """Mark days (since 1970, by the instrument's clock) in the transaction that changes or completes them."""
    rows = [{"day": day, "box": box, "instrument": instrument} for day in sorted(set(days))]
    if rows:
        connection.execute(_MARK, rows)
