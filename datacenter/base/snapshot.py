"""Snapshots of the installed base, with which triggers compare the reports of a day.

A snapshot is made when the first report of its day is evaluated, and never changed, so that every evaluation of these
reports has the same verdict. It covers the 90 days that end two days before, which are counted by then.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec
from sqlalchemy import Connection, select, text

from datacenter.access.vocabulary import EVERYWHERE
from datacenter.base.histogram import decode_histogram
from datacenter.base.percentiles import BaseDay, percentiles_of
from datacenter.store.store import Store
from datacenter.store.tables.schema import base_days, base_snapshots
from datacenter.triggers.terms.base import PERCENTILES
from datacenter.triggers.terms.term import ABSENT

DAYS: Final = 90
LAG_DAYS: Final = 1
_INSERT: Final = text(
    "INSERT INTO base_snapshots (model, day, body) VALUES (:model, :day, :body) ON CONFLICT DO NOTHING"
)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, list[int]]).decode


def window(day: int) -> range:
    """Return the days whose readings are in the snapshot for a day."""
    return range(day - LAG_DAYS - DAYS, day - LAG_DAYS)


def take_snapshot(connection: Connection, model: str, day: int) -> dict[str, list[int]]:
    """Return the percentiles of each reading of a model for a day, from the stored snapshot or a new one.

    A reading without a day with enough instruments is left out. Raises: SQLAlchemyError.
    """
    c = base_snapshots.c
    stored = select(c.body).where(c.model == model, c.day == day)
    if (body := connection.scalar(stored)) is not None:
        return _decode(body)
    encoded = _encode(_percentiles(connection, model, day))
    connection.execute(_INSERT, {"model": model, "day": day, "body": encoded})
    return _decode(connection.execute(stored).scalar_one())  # perhaps the snapshot of another process


def _percentiles(connection: Connection, model: str, day: int) -> dict[str, list[int]]:
    c, days = base_days.c, window(day)
    rows = connection.execute(
        select(c.reading, c.day, c.instruments, c.body)
        .where(c.model == model, c.place == EVERYWHERE, c.day >= days.start, c.day < days.stop)
        .order_by(c.reading)
    )
    days_of_readings: defaultdict[str, dict[int, BaseDay]] = defaultdict(dict)
    for reading, of_day, count, body in rows:
        days_of_readings[reading][of_day] = BaseDay(count, decode_histogram(body))
    values = {reading: percentiles_of(of_days, PERCENTILES) for reading, of_days in days_of_readings.items()}
    return {reading: percentiles for reading, percentiles in values.items() if percentiles is not None}


class StoredBases:
    """The `Bases` of a model in a transaction."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection, self._model = connection, model
        self._day: int | None = None
        self._snapshot: dict[str, list[int]] = {}

    def __call__(self, day: int, reading: str, percentile: int) -> int:
        """Return the value of a percentile; ABSENT if it is unknown. Raises: SQLAlchemyError."""
        if day != self._day:
            self._day, self._snapshot = day, take_snapshot(self._connection, self._model, day)
        values = self._snapshot.get(reading)
        return ABSENT if values is None else values[percentile - PERCENTILES.start]


class RecordedBases:
    """The `Bases` of a model for evaluating reports again; it contains only existing snapshots."""

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model = store, model
        self._snapshots: dict[int, dict[str, list[int]]] = {}

    def __call__(self, day: int, reading: str, percentile: int) -> int:
        """Return the value of a percentile; ABSENT if it is unknown. Raises: StoreError."""
        if day not in self._snapshots:
            c = base_snapshots.c
            row = next(self._store.read(select(c.body).where(c.model == self._model, c.day == day)), None)
            self._snapshots[day] = {} if row is None else _decode(row.body)
        values = self._snapshots[day].get(reading)
        return ABSENT if values is None else values[percentile - PERCENTILES.start]
