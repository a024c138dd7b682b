"""The reports of an instrument in the order of (run, number): from rows, and statuses also from chunks.

A chunk keeps neither when a status was stored nor its sequence. Therefore the limit for wrong clocks of an archived
status is that of the alert, which was raised after all of its reports were stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
from sqlalchemy import and_, or_, select

from datacenter.evaluation.evaluator import CLOCK_ERROR_MS_MAX
from datacenter.explanation.evidence import UnexplainedError
from datacenter.history.chunk import decode_chunk
from datacenter.history.statuses import Statuses, joined
from datacenter.store.batches.coverage import decode_ranges
from datacenter.store.batches.rows import STATUS, stored_records
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import chunks, coverage, records
from settings.ranges import RangeSet
from wire.messages import INT_MAX, InstrumentReport

ReportId: TypeAlias = tuple[int, int]
"""Run and number of a report."""
BLOCK: Final = 10_000
RANGES_SHOWN: Final = 3
_R: Final = records.c
_C: Final = chunks.c
_decode_report: Final = msgspec.msgpack.Decoder(InstrumentReport).decode


class TimedReport(NamedTuple):
    """A report, and the latest time for which its evaluation did not assume a wrong clock."""

    id: ReportId
    latest_ms: int
    report: InstrumentReport


@dataclass(frozen=True)
class ReportRange:
    """Selects reports: all from `first` to `last` that were stored until `stored_until_ms`.

    `since_ms` leaves out statuses before that time by the instrument's clock.
    """

    box: str
    instrument: str
    first: ReportId
    last: ReportId
    stored_until_ms: int
    since_ms: int = 0


@dataclass(frozen=True)
class StoredReports:
    """The reports of a range that are stored."""

    wanted: ReportRange
    rows: list[TimedReport]
    archived: Statuses

    def __len__(self) -> int:
        return len(self.rows) + len(self.archived)

    def in_order(self) -> Iterator[TimedReport]:
        """Return the reports in the order of (run, number).

        Archived reports are held in memory one block at a time.
        """
        return merge(self.rows, self._archived(), key=lambda timed: timed.id)

    def _archived(self) -> Iterator[TimedReport]:
        latest_ms = self.wanted.stored_until_ms + CLOCK_ERROR_MS_MAX
        for first in range(0, len(self.archived), BLOCK):
            block = self.archived.chosen(np.arange(first, min(first + BLOCK, len(self.archived))))
            for run, status in block.reports():
                yield TimedReport((run, status.number), latest_ms, status)


def load_reports(store: Store, wanted: ReportRange) -> StoredReports:
    """Load the reports of a range.

    Raises: StoreError; UnexplainedError if reports were stored, and are no longer.
    """
    rows = sorted(_rows(store, wanted), key=lambda pair: pair[1].id)
    archived = _archived(store, wanted)
    _require_complete(store, wanted, [timed.id for _, timed in rows], archived)
    # the process that stored the last report may have another clock than the one that evaluated it
    of_last_ms = max((stored_at_ms for stored_at_ms, timed in rows if timed.id == wanted.last), default=0)
    until_ms = max(wanted.stored_until_ms, of_last_ms)
    in_time = [timed for stored_at_ms, timed in rows if stored_at_ms <= until_ms]
    return StoredReports(wanted, in_time, archived)


def _rows(store: Store, wanted: ReportRange) -> Iterator[tuple[int, TimedReport]]:
    """Yield the reports in rows, with the time at which each was stored."""
    of_range = and_(
        _R.box == wanted.box,
        _R.instrument == wanted.instrument,
        _R.run >= wanted.first[0],
        _R.run <= wanted.last[0],
        or_(_R.kind != STATUS, _R.at_ms >= wanted.since_ms),
    )
    columns = (_R.run, _R.stored_at_ms, _R.sequence, _R.record_count, _R.body)
    rows = store.of(wanted.box).read(select(*columns).where(of_range))
    for run, stored_at_ms, sequence, record_count, body in rows:
        for record in stored_records(sequence, record_count, body):
            report = _decode_report(record.body)
            report_id = run, report.number
            if wanted.first <= report_id <= wanted.last:
                yield stored_at_ms, TimedReport(report_id, stored_at_ms + CLOCK_ERROR_MS_MAX, report)


def _archived(store: Store, wanted: ReportRange) -> Statuses:
    of_days = and_(
        _C.box == wanted.box, _C.instrument == wanted.instrument, _C.day >= wanted.since_ms // DAY_MS
    )
    bodies = store.of(wanted.box).read(select(_C.body).where(of_days).order_by(_C.day))
    return joined([_within(decode_chunk(body), wanted) for (body,) in bodies])


def _within(statuses: Statuses, wanted: ReportRange) -> Statuses:
    run, number = statuses.run, statuses.number
    after = (run > wanted.first[0]) | ((run == wanted.first[0]) & (number >= wanted.first[1]))
    before = (run < wanted.last[0]) | ((run == wanted.last[0]) & (number <= wanted.last[1]))
    return statuses.chosen(after & before & (statuses.at_ms >= wanted.since_ms))


def _require_complete(store: Store, wanted: ReportRange, rows: list[ReportId], archived: Statuses) -> None:
    """Raise UnexplainedError if numbers that are marked as stored are in neither rows nor chunks."""
    present = _numbers(archived)
    for run, number in rows:
        present.setdefault(run, RangeSet()).add(number, number)
    if wanted.last[1] not in present.get(wanted.last[0], RangeSet()):
        raise UnexplainedError(
            f"the report with which the alert began or ended was deleted: run {wanted.last[0]}, number "
            f"{wanted.last[1]}; restore a backup of the database to recompute the alert"
        )
    c = coverage.c
    first_run = wanted.last[0] if wanted.since_ms else wanted.first[0]
    of_runs = and_(
        c.box == wanted.box, c.stream == wanted.instrument, c.life >= first_run, c.life <= wanted.last[0]
    )
    lives = select(c.life, c.stored).where(of_runs).order_by(c.life)
    for run, stored in store.of(wanted.box).read(lives):
        first = wanted.first[1] if run == wanted.first[0] else 1
        if wanted.since_ms:
            first = max(first, wanted.last[1])
        last = wanted.last[1] if run == wanted.last[0] else INT_MAX
        absent = decode_ranges(stored).difference([(0, first - 1), (last + 1, INT_MAX + 1)])
        absent = absent.difference(present.get(run, RangeSet()))
        if len(absent):
            raise UnexplainedError(_deleted(run, absent))


def _numbers(statuses: Statuses) -> dict[int, RangeSet]:
    """Return the numbers of statuses, in the order of (run, number), by run."""
    numbers_by_run = {}
    for run in np.unique(statuses.run).tolist():
        numbers = statuses.number[statuses.run == run]
        ends = np.flatnonzero(np.diff(numbers) != 1)
        firsts, lasts = numbers[np.append(0, ends + 1)], numbers[np.append(ends, -1)]
        numbers_by_run[run] = RangeSet(zip(firsts.tolist(), lasts.tolist(), strict=True))
    return numbers_by_run


def _deleted(run: int, absent: RangeSet) -> str:
    ranges = [f"{first} to {last}" for first, last in absent]
    shown = ", ".join(ranges[:RANGES_SHOWN]) + (" …" if len(ranges) > RANGES_SHOWN else "")
    return (
        f"{absent.count()} reports on which the alert can rest were deleted: run {run}, numbers {shown}; restore a "
        "backup of the database to recompute the alert"
    )
