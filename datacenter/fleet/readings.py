"""The readings of an instrument for charts: columns, with the spans without reports.

No line may be drawn across a span without reports. There are two kinds:

* `missing`: the instrument made reports whose numbers are not stored. They are lost, or still on the box.
* `silent`: no number is missing; the instrument made no report, for example because it was switched off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np
from msgspec import Struct

from datacenter.fleet.completeness import stream_completeness
from datacenter.history.archive import history
from datacenter.history.statuses import Booleans, Integers, Readings, Statuses
from datacenter.store.store import Store
from settings.ranges import RangeSet

POINTS_MAX: Final = 3_000
"""Maximum number of points of a chart; more are reduced to the minimum and maximum of each interval. Few charts have
more pixels."""
MARGIN_MS: Final = 86_400_000
"""Statuses are read this long before and after the period, to classify spans without reports at its edges."""
SILENCE_MS_MIN: Final = 5 * 60_000
SILENCE_INTERVALS: Final = 3
"""A gap between statuses counts as silence if it exceeds this multiple of the usual interval."""
SpanKind: TypeAlias = Literal["missing", "silent"]
_Item = TypeVar("_Item")


class SilentSpan(Struct, frozen=True, array_like=True):
    """A span without reports, in milliseconds since 1970."""

    since_ms: int
    until_ms: int
    kind: SpanKind


class ChartData(Struct, frozen=True):
    """Columns for charts. Between two segments, all channels have one None, which ends the line.

    With `reduced`, each interval has two points, its lowest and its highest reading.
    """

    since_ms: int
    until_ms: int
    times: list[int]
    channels: dict[str, list[int | None]]
    spans: list[SilentSpan]
    reduced: bool


class ChannelSummary(Struct, frozen=True):
    """The readings of a channel in a period, in its unit; the mean is over all statuses."""

    count: int
    lowest: int
    mean: float
    highest: int
    latest: int


@dataclass(frozen=True)
class Period:
    """The statuses of a period, in the order of time, and its spans without reports."""

    since_ms: int
    until_ms: int
    statuses: Statuses
    spans: list[SilentSpan]


def load_period(store: Store, box: str, instrument: str, since_ms: int, until_ms: int, now_ms: int) -> Period:
    """Return the statuses of an instrument from `since_ms` to `until_ms`, exclusive, by its clock.

    Raises: StoreError.
    """
    missing = {life.life: life.missing for life in stream_completeness(store, box, instrument)}
    around = history(store, box, instrument, since_ms - MARGIN_MS, until_ms + MARGIN_MS)
    spans = find_spans(around, missing, min(until_ms, now_ms))
    order = np.argsort(around.at_ms, kind="stable")
    inside = (around.at_ms[order] >= since_ms) & (around.at_ms[order] < until_ms)
    clipped = (SilentSpan(max(s.since_ms, since_ms), min(s.until_ms, until_ms), s.kind) for s in spans)
    return Period(
        since_ms, until_ms, around.chosen(order[inside]), [s for s in clipped if s.since_ms < s.until_ms]
    )


def find_spans(statuses: Statuses, missing: Mapping[int, RangeSet], end_ms: int) -> list[SilentSpan]:
    """Return the spans without reports until `end_ms`; `statuses` are in the order of (run, number)."""
    times = np.sort(statuses.at_ms)
    if not len(times):
        return []
    spans = list(_missing_spans(statuses, missing))
    if len(times) > 1:
        threshold = _silence_ms(times)
        after = times[1:]
        for index in np.flatnonzero(np.diff(times) > threshold).tolist():
            silence = SilentSpan(int(times[index]), int(after[index]), "silent")
            if not any(_overlap(silence, span) for span in spans):
                spans.append(silence)
        if end_ms - int(times[-1]) > threshold:
            spans.append(SilentSpan(int(times[-1]), end_ms, "silent"))
    return sorted(spans, key=lambda span: span.since_ms)


def _missing_spans(statuses: Statuses, missing: Mapping[int, RangeSet]) -> Iterable[SilentSpan]:
    """Yield the spans between the statuses before and after missing numbers, in each run."""
    for run in np.unique(statuses.run).tolist():
        indexes = np.flatnonzero(statuses.run == run)
        numbers, times = statuses.number[indexes], statuses.at_ms[indexes]
        spans: dict[int, tuple[int, int]] = {}
        for first, _ in missing.get(run, ()):
            after = int(np.searchsorted(numbers, first))
            if 0 < after < len(numbers):
                spans[after] = int(times[after - 1]), int(times[after])
        for since_ms, until_ms in spans.values():
            if since_ms < until_ms:
                yield SilentSpan(since_ms, until_ms, "missing")


def _overlap(span: SilentSpan, other: SilentSpan) -> bool:
    return span.since_ms < other.until_ms and other.since_ms < span.until_ms


def _silence_ms(times: Integers) -> float:
    return max(SILENCE_MS_MIN, SILENCE_INTERVALS * float(np.median(np.diff(times))))


def make_chart(period: Period, points_max: int = POINTS_MAX) -> ChartData:
    """Return the columns of a period."""
    statuses = period.statuses
    starts = _segment_starts(statuses.at_ms, period.spans)
    reduced = len(statuses) > points_max
    columns = {name: statuses.readings[name] for name in sorted(statuses.readings)}
    times = statuses.at_ms
    if reduced:
        width = -(-2 * len(statuses) // points_max)
        times, columns, starts = _reduce(times, columns, starts, width)
    breaks = starts[1:].tolist()
    return ChartData(
        period.since_ms,
        period.until_ms,
        _broken(times.tolist(), breaks, times[starts[1:] - 1].tolist()),
        {name: _broken(_values(column), breaks, [None] * len(breaks)) for name, column in columns.items()},
        period.spans,
        reduced,
    )


def summarize(period: Period) -> dict[str, ChannelSummary]:
    """Return a summary of each channel with readings."""
    summaries = {}
    for name, readings in sorted(period.statuses.readings.items()):
        values = readings.values[readings.present]
        if len(values):
            lowest, highest, latest = int(values.min()), int(values.max()), int(values[-1])
            summaries[name] = ChannelSummary(len(values), lowest, float(values.mean()), highest, latest)
    return summaries


def _segment_starts(times: Integers, spans: Iterable[SilentSpan]) -> Integers:
    """Return the indexes of the first status and of the first status after each span."""
    after = [int(np.searchsorted(times, span.until_ms)) for span in spans]
    inner = {index for index in after if 0 < index < len(times)}
    return np.array(sorted({0, *inner}) if len(times) else [], np.int64)


def _broken(values: list[_Item], breaks: list[int], between: list[_Item]) -> list[_Item]:
    """Return the values with one of `between` inserted before each of the indexes `breaks`."""
    broken: list[_Item] = []
    begin = 0
    for index, value in zip(breaks, between, strict=True):
        broken += values[begin:index]
        broken.append(value)
        begin = index
    return broken + values[begin:]


def _values(readings: Readings) -> list[int | None]:
    values: list[int | None] = readings.values.tolist()
    for index in np.flatnonzero(~readings.present).tolist():
        values[index] = None
    return values


def _reduce(
    times: Integers, columns: Mapping[str, Readings], starts: Integers, width: int
) -> tuple[Integers, dict[str, Readings], Integers]:
    """Reduce each `width` statuses of a segment to two points: lowest and highest reading."""
    ends = [*starts[1:].tolist(), len(times)]
    firsts = [np.arange(start, end, width) for start, end in zip(starts.tolist(), ends, strict=True)]
    indexes = np.concatenate(firsts)
    lasts = np.append(indexes[1:], len(times)) - 1
    reduced = {name: _extremes(readings, indexes) for name, readings in columns.items()}
    sizes = [2 * len(indexes_of_segment) for indexes_of_segment in firsts]
    new_starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    return np.stack([times[indexes], times[lasts]], axis=1).ravel(), reduced, new_starts


def _extremes(readings: Readings, indexes: Integers) -> Readings:
    limit = np.iinfo(np.int64)
    present: Booleans = np.logical_or.reduceat(readings.present, indexes)
    lowest = np.minimum.reduceat(np.where(readings.present, readings.values, limit.max), indexes)
    highest = np.maximum.reduceat(np.where(readings.present, readings.values, limit.min), indexes)
    return Readings(np.stack([lowest, highest], axis=1).ravel(), np.repeat(present, 2))
