"""Computes the next restart times of a rollout's boxes, by the time zones of their sites."""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import func, select

from datacenter.fleet.visible import PLACED_BOXES
from datacenter.releases.listing import RolloutRow
from datacenter.releases.runner import find_group
from datacenter.store.store import Store
from datacenter.store.tables.schema import sites


class RestartWindow(NamedTuple):
    """The next time at which boxes of a time zone may restart, or the present one, in ms since 1970."""

    zone: str
    boxes: int
    begins_ms: int
    ends_ms: int


def next_windows(store: Store, row: RolloutRow, now_ms: int) -> list[RestartWindow]:
    """Return the next restart window of each time zone, the earliest first; none if boxes may always restart.

    A data release needs no restart. Raises: StoreError.
    """
    restart = row.plan.restart
    if restart is None or row.kind == "data" or row.is_over:
        return []
    zone = func.coalesce(sites.c.zone, "UTC")
    query = select(zone, func.count()).select_from(PLACED_BOXES).where(find_group(row.plan)).group_by(zone)
    from_s = max(now_ms, row.plan.not_before_ms) // 1000
    windows = []
    for name, count in store.read(query):
        begins_s, ends_s = restart.times(ZoneInfo(name), from_s)[0]
        windows.append(RestartWindow(name, count, begins_s * 1000, ends_s * 1000))
    return sorted(windows, key=lambda window: (window.begins_ms, window.zone))
