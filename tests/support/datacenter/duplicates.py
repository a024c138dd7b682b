"""Duplicate reports in a store."""

from __future__ import annotations

from sqlalchemy import func, select

from datacenter.store import schema
from datacenter.store.store import Store

_RECORDS = schema.records.c


def duplicates(store: Store) -> list[tuple[str, str, str, int, int]]:
    """Instruments' reports of equal content, which includes number and time: none, unless the identities failed.

    Of each its box, instrument, kind and time, and how many copies there are.
    """
    key = (_RECORDS.box, _RECORDS.instrument, _RECORDS.kind, _RECORDS.at_ms)
    reports = select(*key, func.count()).where(_RECORDS.instrument != "")
    same = reports.group_by(*key, _RECORDS.body).having(func.count() > 1)
    return [tuple(row) for row in store.read(same.order_by(*key))]
