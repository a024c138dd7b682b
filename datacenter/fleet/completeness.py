"""Completeness: which numbers of a stream are stored, lost and missing, from `datacenter.store.batches.coverage`."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import and_, select

from datacenter.store.batches.coverage import BOX_STREAM, decode_ranges
from datacenter.store.store import Store
from datacenter.store.tables.schema import coverage
from settings.ranges import RangeSet

_C = coverage.c


class LifeCompleteness(NamedTuple):
    """The numbers of one life of a stream. Each number from 1 to `last` is stored, lost or missing.

    `lost` numbers will not arrive, as the box has reported; `missing` ones may still be on the box.
    """

    stream: str
    life: int
    last: int
    stored: int
    lost: int
    missing: RangeSet

    @property
    def share(self) -> float:
        """The share of the numbers that are stored."""
        return self.stored / self.last if self.last > 0 else 1.0


def stream_completeness(store: Store, box: str, stream: str | None = None) -> list[LifeCompleteness]:
    """Return the completeness of a box's streams, or of one, by stream and life; the latest life is last."""
    key = _C.box == box if stream is None else and_(_C.box == box, _C.stream == stream)
    query = select(_C.stream, _C.life, _C.stored, _C.lost).where(key).order_by(_C.stream, _C.life)
    return [_of_life(*row) for row in store.of(box).read(query)]


def coverage_tag(store: Store, box: str, stream: str) -> str:
    """Return a text that changes whenever a report of the stream is stored, without reading the reports."""
    key = and_(_C.box == box, _C.stream == stream)
    state = sha256()
    lives = select(_C.life, _C.stored, _C.lost).where(key).order_by(_C.life)
    for life, stored, lost in store.of(box).read(lives):
        state.update(f"{life} {len(stored)} {len(lost or b'')}:".encode() + stored + (lost or b""))
    return state.hexdigest()[:24]


def _of_life(stream: str, life: int, stored_data: bytes, lost_data: bytes | None) -> LifeCompleteness:
    stored = decode_ranges(stored_data)
    lost = (decode_ranges(lost_data) if lost_data else RangeSet()).difference(stored)
    last = max(stored.last(), lost.last(), 0)
    missing = RangeSet([(1, last)]).difference(stored).difference(lost)
    numbers = stored if 0 not in stored else stored.difference([(0, 0)])
    return LifeCompleteness(stream, life, last, numbers.count(), lost.count(), missing)


def is_of_box(life: LifeCompleteness) -> bool:
    """Return whether the numbers belong to the box itself."""
    return life.stream == BOX_STREAM
