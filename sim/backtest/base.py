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
    conditions = (condition for one in triggers for condition in (one.fires, one.clears))
    return {term for condition in conditions for term in terms(condition) if isinstance(term, Base)}


def simulated_base(
    wanted: set[Base], model: str, seeds: Sequence[int], days: int, folder: Path, executor: Executor
) -> Percentiles:
    """Return the percentiles for each day of the histories with these seeds. Raises: OSError."""
    readings = sorted({term.input.word for term in wanted})
    calls = (
        [executor.submit(count_days, model, seed, days, folder, readings) for seed in seeds] if wanted else []
    )
    counted = [call.result() for call in calls]
    found: Percentiles = {}
    for reading in readings:
        percentiles = sorted({term.percentile for term in wanted if term.input.word == reading})
        for day, values in _snapshots([one[reading] for one in counted], days, percentiles):
            found |= {(day, reading, p): value for p, value in zip(percentiles, values, strict=True)}
    return found


def bases_of(found: Percentiles) -> Bases:
    """Return the percentiles for an evaluator."""
    return lambda day, reading, percentile: found.get((day, reading, percentile), ABSENT)


def count_days(model: str, seed: int, days: int, folder: Path, readings: Sequence[str]) -> _Days:
    """Return the histograms of an instrument's readings by day. Raises: OSError."""
    found: _Days = {reading: {} for reading in readings}
    for statuses in simulated_history(model, seed, days, folder).statuses():
        of_day = statuses.at_ms // _DAY_MS
        for reading in readings:
            if (one := statuses.readings.get(reading)) is None:
                continue
            for day in np.unique(of_day[one.present]).tolist():
                part = Histogram.of_instrument(one.values[one.present & (of_day == day)])
                before = found[reading].get(day)
                found[reading][day] = part if before is None else _joined(before, part)
    return found


def _joined(one: Histogram, other: Histogram) -> Histogram:
    """Return the histogram of two parts of one instrument's day."""
    whole = added([one, other])
    return Histogram(whole.values, whole.readings, np.minimum(whole.instruments, 1))


def _snapshots(
    instruments: Sequence[dict[int, Histogram]], days: int, percentiles: Sequence[int]
) -> Iterable[tuple[int, list[int]]]:
    sums: dict[int, Histogram] = {}
    parts: defaultdict[int, list[Histogram]] = defaultdict(list)
    for one in instruments:
        for day, histogram in one.items():
            parts[day].append(histogram)
    for day, found in parts.items():
        if len(found) >= INSTRUMENTS_MIN:
            sums[day] = added(found)
    whole = EMPTY
    for day in range(days + 1):
        until = window(day).stop
        entering, leaving = sums.get(until - 1, EMPTY), sums.get(window(day).start - 1, EMPTY)
        whole = added([whole, entering, leaving.negative()])
        if whole.count:
            yield day, whole.percentiles(percentiles)
