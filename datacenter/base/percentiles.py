"""Percentiles of a model over days, from the histograms of the installed base.

A day with fewer than INSTRUMENTS_MIN instruments is not used: its distribution would reveal the activity of single
instruments, and so of their laboratories.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from datacenter.base.histogram import Histogram, added, decode_histogram
from datacenter.store.tables.schema import base_days

INSTRUMENTS_MIN: Final = 5


class BaseDay(NamedTuple):
    """A reading of a model's instruments on one day."""

    instruments: int
    histogram: Histogram


def read_days(
    connection: Connection, model: str, reading: str, places: Sequence[str], since_day: int, until_day: int
) -> dict[int, BaseDay]:
    """Return the days from `since_day` to `until_day`, exclusive: the sums of locations that have no box in common.

    A location is one of `datacenter.access.vocabulary`: everywhere, a region or a country.
    Raises: SQLAlchemyError.
    """
    c = base_days.c
    rows = connection.execute(
        select(c.day, c.instruments, c.body)
        .where(c.model == model, c.reading == reading, c.place.in_(places))
        .where(c.day >= since_day, c.day < until_day)
        .order_by(c.day)
    )
    days: defaultdict[int, list[BaseDay]] = defaultdict(list)
    for day, count, body in rows:
        days[day].append(BaseDay(count, decode_histogram(body)))
    return {day: parts[0] if len(parts) == 1 else added_days(parts) for day, parts in days.items()}


def added_days(parts: Sequence[BaseDay]) -> BaseDay:
    """Return the sum of different instruments' readings on one day."""
    return BaseDay(sum(part.instruments for part in parts), added([part.histogram for part in parts]))


def shown(days: dict[int, BaseDay]) -> dict[int, BaseDay]:
    """Return the days with enough instruments."""
    return {day: base_day for day, base_day in days.items() if base_day.instruments >= INSTRUMENTS_MIN}


def percentiles_of(days: dict[int, BaseDay], wanted: Sequence[int]) -> list[int] | None:
    """Return percentiles of all readings of the days with enough instruments; None if there is no such day."""
    total = added([base_day.histogram for base_day in shown(days).values()], with_instruments=False)
    return total.percentiles(wanted) if total.count else None
