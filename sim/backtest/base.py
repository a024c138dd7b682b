"""The installed base of back-tests on simulated histories: all tested instruments of a model together.

The snapshot for a day covers the same preceding days, and counts the same readings, as in the data center.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from datacenter.base.histogram import EMPTY, Histogram, added
from datacenter.base.percentiles import INSTRUMENTS_MIN
from datacenter.base.snapshot import window
from datacenter.triggers.terms.base import Base, Bases
from datacenter.triggers.terms.term import ABSENT
from datacenter.triggers.tree import terms
from datacenter.triggers.triggerfile import Trigger
from sim.backtest.histories import simulated_history

Percentiles: TypeAlias = dict[tuple[int, str, int], int]
"""Percentiles, indexed by day, reading and percentile."""
_DAY_MS: Final = 86_400_000
_Days: TypeAlias = dict[str, dict[int, Histogram]]


def base_terms(triggers: Iterable[Trigger]) -> set[Base]:
    """Return the terms of the triggers that compare with the installed base."""
    conditions = (condition for trigger in triggers for condition in (trigger.fires, trigger.clears))
    return {term for condition in conditions for term in terms(condition) if isinstance(term, Base)}


def simulated_base(
    wanted: set[Base], model: str, seeds: Sequence[int], days: int, folder: Path, executor: Executor
) -> Percentiles:
    """Return the percentiles for each day of the histories with these seeds. Raises: OSError."""
    readings = sorted({term.input.word for term in wanted})
    futures = (
        [executor.submit(count_days, model, seed, days, folder, readings) for seed in seeds] if wanted else []
    )
    histograms = [future.result() for future in futures]
    base: Percentiles = {}
    for reading in readings:
        percentiles = sorted({term.percentile for term in wanted if term.input.word == reading})
        for day, values in _snapshots([by_reading[reading] for by_reading in histograms], days, percentiles):
            base |= {(day, reading, p): value for p, value in zip(percentiles, values, strict=True)}
    return base


def bases_of(percentiles: Percentiles) -> Bases:
    """Return the function by which an evaluator looks up the percentiles."""
    return lambda day, reading, percentile: percentiles.get((day, reading, percentile), ABSENT)


def count_days(model: str, seed: int, days: int, folder: Path, readings: Sequence[str]) -> _Days:
    """Return the histograms of an instrument's readings by day. Raises: OSError."""
    histograms: _Days = {reading: {} for reading in readings}
    for statuses in simulated_history(model, seed, days, folder).statuses():
        report_days = statuses.at_ms // _DAY_MS
        for reading in readings:
            if (channel := statuses.readings.get(reading)) is None:
                continue
            for day in np.unique(report_days[channel.present]).tolist():
                part = Histogram.of_instrument(channel.values[channel.present & (report_days == day)])
                previous = histograms[reading].get(day)
                histograms[reading][day] = part if previous is None else _merge(previous, part)
    return histograms


def _merge(first: Histogram, second: Histogram) -> Histogram:
    """Merge the histograms of two parts of one instrument's day; the instrument counts once for each value."""
    total = added([first, second])
    return Histogram(total.values, total.readings, np.minimum(total.instruments, 1))


def _snapshots(
    instruments: Sequence[dict[int, Histogram]], days: int, percentiles: Sequence[int]
) -> Iterable[tuple[int, list[int]]]:
    """Yield each day that has values in its window, with the percentiles of the window."""
    sums: dict[int, Histogram] = {}
    parts: defaultdict[int, list[Histogram]] = defaultdict(list)
    for by_day in instruments:
        for day, histogram in by_day.items():
            parts[day].append(histogram)
    for day, histograms in parts.items():
        if len(histograms) >= INSTRUMENTS_MIN:
            sums[day] = added(histograms)
    total = EMPTY
    for day in range(days + 1):
        until = window(day).stop
        entering, leaving = sums.get(until - 1, EMPTY), sums.get(window(day).start - 1, EMPTY)
        total = added([total, entering, leaving.negative()])
        if total.count:
            yield day, total.percentiles(percentiles)
