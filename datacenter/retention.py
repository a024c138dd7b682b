"""Deletes data after the retention time of its kind, in bounded pieces.

`[store.retention]` of the configuration says how many days each kind is kept; kinds that it does not name are kept
forever. The data center's own audit log is never deleted, and neither are unfinished items: reports that
are not evaluated, alerts that are not resolved, deliveries and commands that are not settled, audit records that are
not verified.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Table, and_, delete, func, null, select, tuple_

from datacenter.audit.retention import remove_old_records
from datacenter.config import RetentionConfig
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import (
    alerts,
    base_days,
    base_instruments,
    box_audit,
    box_chains,
    chunks,
    commands,
    deliveries,
    evaluated,
    file_parts,
    files,
    notices,
    records,
)

PIECE: Final = 1000
"""Maximum number of rows that are deleted in one transaction."""
_UNSETTLED: Final = ("waiting", "sending")
"""States of deliveries (`datacenter.notices.outbox`)."""


class _Part(NamedTuple):
    """Rows of a table that are deleted."""

    table: Table
    expired: Callable[[int], ColumnElement[bool]]
    """Returns the condition for rows older than a time in ms."""
    time: Column[int] | None
    """The time of a row in ms or as a day, only for display."""


class Expired(NamedTuple):
    """Rows of a kind after its retention time."""

    kind: str
    days: int
    rows: int
    oldest_ms: int | None


def _reports(kind: str) -> _Part:
    r = records.c
    is_evaluated = and_(
        evaluated.c.box == r.box, evaluated.c.epoch == r.epoch, evaluated.c.sequence >= r.sequence
    )
    known = select(evaluated.c.box).where(is_evaluated).exists()
    return _Part(records, lambda before: and_(r.kind == kind, r.stored_at_ms < before, known), r.stored_at_ms)


def _resolved(before: int) -> ColumnElement[bool]:
    return func.coalesce(alerts.c.resolved_at_ms, alerts.c.ended_at_ms) < before


def _of_resolved(alert: Column[str], before: int) -> ColumnElement[bool]:
    return select(alerts.c.id).where(alerts.c.id == alert, _resolved(before)).exists()


def _deliveries(before: int) -> ColumnElement[bool]:
    c = deliveries.c
    return and_(c.state.not_in(_UNSETTLED), _of_resolved(c.alert, before))


def _notices(before: int) -> ColumnElement[bool]:
    c, d = notices.c, deliveries.c
    remaining = select(d.alert).where(d.alert == c.alert, d.kind == c.kind).exists()
    return and_(c.routed_at_ms.is_not(None), ~remaining, _of_resolved(c.alert, before))


def _alerts(before: int) -> ColumnElement[bool]:
    remaining = select(notices.c.alert).where(notices.c.alert == alerts.c.id).exists()
    return and_(_resolved(before), ~remaining)


def _unused_files(before: int) -> ColumnElement[bool]:
    used = select(commands.c.id).where(commands.c.file == files.c.sha256).exists()
    return and_(files.c.stored_at_ms < before, ~used)


def _parts_of_unused_files(before: int) -> ColumnElement[bool]:
    return file_parts.c.file.in_(select(files.c.sha256).where(_unused_files(before)))


def _empty_files(before: int) -> ColumnElement[bool]:
    remaining = select(file_parts.c.file).where(file_parts.c.file == files.c.sha256).exists()
    return and_(_unused_files(before), ~remaining)


def _of_verified_chain(before: int) -> ColumnElement[bool]:
    a, c = box_audit.c, box_chains.c
    is_behind = and_(c.box == a.box, c.epoch == a.epoch, c.number > a.number)
    return and_(a.stored_at_ms < before, select(c.box).where(is_behind).exists())


_DELIVERIES: Final = _Part(deliveries, _deliveries, deliveries.c.changed_at_ms)
_NOTICES: Final = _Part(notices, _notices, notices.c.created_at_ms)
KINDS: Final[dict[str, tuple[_Part, ...]]] = {
    "readings": (_Part(chunks, lambda before: chunks.c.day < before // DAY_MS, chunks.c.day),),
    "errors": (_reports("alert"),),
    "controls": (_reports("quality"),),
    "calibrations": (_reports("calibration"),),
    "inventories": (_reports("inventory"),),
    "notices": (_DELIVERIES, _NOTICES),
    "alerts": (_DELIVERIES, _NOTICES, _Part(alerts, _alerts, alerts.c.began_at_ms)),
    "commands": (_Part(commands, lambda before: commands.c.closed_at_ms < before, commands.c.closed_at_ms),),
    "files": (
        _Part(file_parts, _parts_of_unused_files, None),
        _Part(files, _empty_files, files.c.stored_at_ms),
    ),
    "box_audit": (_Part(box_audit, _of_verified_chain, box_audit.c.stored_at_ms),),
    "base": (
        _Part(
            base_instruments, lambda before: base_instruments.c.day < before // DAY_MS, base_instruments.c.day
        ),
        _Part(base_days, lambda before: base_days.c.day < before // DAY_MS, base_days.c.day),
    ),
}
"""The kinds that can be deleted, each with its rows in the order of deletion."""


def kept_days(retention: RetentionConfig) -> dict[str, int]:
    """Return the number of days for which each kind is kept, without the kinds that are kept forever."""
    given = msgspec.structs.asdict(retention)
    return {kind: days for kind in KINDS if (days := given[f"{kind}_days"]) is not None}


def find_expired(store: Store, retention: RetentionConfig, now_ms: int) -> list[Expired]:
    """Return the rows of each kind with a limit that would be deleted; nothing is changed. Raises: StoreError."""
    expired = []
    for kind, days in kept_days(retention).items():
        rows, times = 0, []
        for database, part in product(store.parts, KINDS[kind]):
            oldest = null() if part.time is None else func.min(part.time)
            query = select(func.count(), oldest).select_from(part.table)
            ((count, time),) = database.read(query.where(part.expired(now_ms - days * DAY_MS)))
            rows += count
            if time is not None:
                times.append(time * (DAY_MS if part.time is not None and part.time.name == "day" else 1))
        expired.append(Expired(kind, days, rows, min(times, default=None)))
    return expired


def delete_piece(store: Store, kind: str, days: int, now_ms: int, limit: int = PIECE) -> int:
    """Delete up to `limit` rows of a kind in one transaction; return their number.

    Raises: StoreError.
    """
    before = now_ms - days * DAY_MS
    if kind == "box_audit":  # a chain is shortened only from its beginning
        return next(filter(None, (remove_old_records(part, before, limit) for part in store.parts)), 0)
    for database, part in product(store.parts, KINDS[kind]):
        key = list(part.table.primary_key.columns)
        chosen = select(*key).where(part.expired(before)).limit(limit)
        with database.transaction() as connection:
            deleted = connection.execute(delete(part.table).where(tuple_(*key).in_(chosen))).rowcount
        if deleted:
            return int(deleted)
    return 0
