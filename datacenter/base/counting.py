"""Counts the statuses of changed days in the histograms of the installed base.

The counts of each day of an instrument are kept. If the day changes later, its earlier counts are subtracted and the
day is counted again, without reading other days and instruments. There are sums for each model, reading and day: of
all locations, and of each country and region.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, delete, func, select, text

from datacenter.access.vocabulary import EVERYWHERE, location
from datacenter.base.histogram import (
    EMPTY,
    Histogram,
    added,
    decode_histogram,
    decode_readings,
    encode_histogram,
    encode_readings,
)
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.history.archive import read_history
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import (
    base_days,
    base_instruments,
    boxes,
    changed_days,
    instruments,
    sites,
)

BATCH: Final = 20
"""Maximum number of instrument-days that are counted in one transaction, which takes about 0.1 s."""
_ADVISORY_LOCK: Final = 0x5241_5044_4202
"""Key of the PostgreSQL advisory lock that lets only one process count."""
_TAKE_MARK: Final = text(
    "DELETE FROM changed_days WHERE day = :day AND box = :box AND instrument = :instrument"
)
_SAVE_INSTRUMENT: Final = text(
    "INSERT INTO base_instruments (box, instrument, day, model, country, region, body)"
    " VALUES (:box, :instrument, :day, :model, :country, :region, :body)"
    " ON CONFLICT (box, instrument, day) DO UPDATE"
    " SET model = excluded.model, country = excluded.country, region = excluded.region, body = excluded.body"
)
_REMOVE_DAY: Final = text(
    "DELETE FROM base_days WHERE model = :model AND reading = :reading AND place = :place AND day = :day"
)
_SAVE_DAY: Final = text(
    "INSERT INTO base_days (model, reading, place, day, instruments, body)"
    " VALUES (:model, :reading, :place, :day, :instruments, :body)"
    " ON CONFLICT (model, reading, place, day) DO UPDATE"
    " SET instruments = excluded.instruments, body = excluded.body"
)


class _Key(NamedTuple):
    """The key of a row of `base_days`."""

    model: str
    reading: str
    place: str
    day: int


class _Change(NamedTuple):
    """A change of a row: a histogram to add, and 1 or -1 instruments."""

    histogram: Histogram
    instruments: int


def waiting_days(store: Store) -> int:
    """Return the number of instrument-days that are to be counted. Raises: StoreError."""
    (row,) = store.read(select(func.count()).select_from(changed_days))
    return int(row[0])


def count_all(store: Store, now_ms: int) -> int:
    """Count all changed days; return their number. Raises: StoreError."""
    total = 0
    while counted := count_changed(store, now_ms):
        total += counted
    return total


def count_changed(store: Store, now_ms: int, limit: int = BATCH) -> int:
    """Count up to `limit` changed days, the latest first, in one transaction; return their number.

    A day in the future, which comes from a wrong clock, is not counted. Raises: StoreError.
    """
    with store.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        c = changed_days.c
        connection.execute(delete(changed_days).where(c.day > now_ms // DAY_MS))
        chosen = select(c.day, c.box, c.instrument).order_by(c.day.desc(), c.box, c.instrument).limit(limit)
        rows = connection.execute(chosen).all()
        changes: defaultdict[_Key, list[_Change]] = defaultdict(list)
        if rows:
            connection.execute(_TAKE_MARK, [row._asdict() for row in rows])
        for day, box, instrument in rows:
            _recount(store, connection, box, instrument, day, changes)
        _apply(connection, changes)
        return len(rows)


def _recount(
    store: Store,
    connection: Connection,
    box: str,
    instrument: str,
    day: int,
    changes: defaultdict[_Key, list[_Change]],
) -> None:
    """Count an instrument's day, and subtract its earlier counts."""
    c = base_instruments.c
    key = and_(c.box == box, c.instrument == instrument, c.day == day)
    before = (
        connection.execute(select(c.model, c.country, c.region, c.body).where(key)).mappings().one_or_none()
    )
    if before is not None:
        for reading, histogram in decode_readings(before["body"]).items():
            for place in _places(before):
                changes[_Key(before["model"], reading, place, day)].append(_Change(histogram.negative(), -1))
    now = _placed(connection, box, instrument)
    if now is None:
        connection.execute(delete(base_instruments).where(key))
        return
    with store.of(box).within(store, connection) as reports:
        statuses = read_history(reports, box, instrument, day * DAY_MS, (day + 1) * DAY_MS)
    counted = {
        reading: Histogram.of_instrument(column.values[column.present])
        for reading, column in statuses.readings.items()
        if column.present.any()
    }
    for reading, histogram in counted.items():
        for place in _places(now):
            changes[_Key(now["model"], reading, place, day)].append(_Change(histogram, 1))
    values = {"box": box, "instrument": instrument, "day": day, "body": encode_readings(counted)}
    connection.execute(_SAVE_INSTRUMENT, {**now, **values})


def _placed(connection: Connection, box: str, instrument: str) -> RowMapping | None:
    """Return model, country and region of an instrument; None if its model is unknown."""
    c = instruments.c
    tables = instruments.join(PLACED_BOXES, c.box == boxes.c.serial)
    query = select(c.model, sites.c.country, sites.c.region).select_from(tables)
    known = and_(c.box == box, c.serial == instrument, c.model.is_not(None))
    return connection.execute(query.where(known)).mappings().one_or_none()


def _places(row: RowMapping) -> list[str]:
    """Return the locations whose sums include an instrument."""
    places = [EVERYWHERE]
    places += [location("country", row["country"])] if row["country"] else []
    return places + ([location("region", row["region"])] if row["region"] else [])


def _apply(connection: Connection, changes: defaultdict[_Key, list[_Change]]) -> None:
    c = base_days.c
    before: dict[_Key, tuple[int, Histogram]] = {}
    for model, place, day in sorted({(key.model, key.place, key.day) for key in changes}):
        of_day = select(c.reading, c.instruments, c.body)
        for reading, count, body in connection.execute(
            of_day.where(c.model == model, c.place == place, c.day == day)
        ):
            before[_Key(model, reading, place, day)] = count, decode_histogram(body)
    saved, emptied = [], []
    for key, parts in sorted(changes.items()):
        count, histogram = before.get(key, (0, EMPTY))
        if count := count + sum(part.instruments for part in parts):
            body = encode_histogram(added([histogram, *(part.histogram for part in parts)]))
            saved.append({**key._asdict(), "instruments": count, "body": body})
        elif key in before:
            emptied.append(key._asdict())
    if saved:
        connection.execute(_SAVE_DAY, saved)
    if emptied:
        connection.execute(_REMOVE_DAY, emptied)
