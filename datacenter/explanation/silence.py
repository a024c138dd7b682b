"""Recomputes alerts of silence: whether anything was received in the time of the silence."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import and_, func, select

from datacenter.evaluation.alerts import SilenceEvidence
from datacenter.explanation.evidence import AlertRecord
from datacenter.history.archive import history
from datacenter.store.batches.rows import STATUS
from datacenter.store.store import Store
from datacenter.store.tables.schema import records

_R: Final = records.c


class SilenceCheck(NamedTuple):
    """The number of reports between the latest one before an alert of silence, and its beginning."""

    last_seen_ms: int
    reports: int

    @property
    def is_confirmed(self) -> bool:
        """Whether nothing was received."""
        return self.reports == 0


def check_silence(store: Store, record: AlertRecord, evidence: SilenceEvidence) -> SilenceCheck:
    """Count the reports in the time of a silence: of an instrument by its clock, of a box or site by their storage.

    Statuses that have been archived have no time of storage, and count only for instruments. Raises: StoreError.
    """
    after, before = evidence.last_seen_ms, evidence.at_ms
    if record.instrument:
        statuses = len(history(store, record.box, record.instrument, after + 1, before))
        others = and_(
            _R.box == record.box,
            _R.instrument == record.instrument,
            _R.kind != STATUS,
            _R.at_ms > after,
            _R.at_ms < before,
        )
        return SilenceCheck(after, statuses + _count(store, others))
    received = and_(
        _R.box.in_([record.box, *evidence.members]), _R.stored_at_ms > after, _R.stored_at_ms < before
    )
    return SilenceCheck(after, _count(store, received))


def _count(store: Store, condition: object) -> int:
    query = select(func.sum(_R.record_count)).where(condition)  # type: ignore[arg-type]
    return sum(int(next(part.read(query))[0] or 0) for part in store.parts)
