"""The part of the installed base that may leave a region, and the sum of several regions.

A bin leaves its region only if at least `instruments_min` instruments had readings in it on one day. The number of
other readings is stated; percentiles of the sum are therefore known exactly, or within bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from datacenter.base.histogram import Histogram, added
from datacenter.base.percentiles import INSTRUMENTS_MIN, BaseDay


class RegionalBase(Struct, frozen=True):
    """A reading of a model in one region; `withheld` readings were in bins with too few instruments."""

    model: str
    reading: str
    values: list[int]
    readings: list[int]
    withheld: int


class PercentileBounds(NamedTuple):
    """The lowest and the highest possible value of a percentile; None if withheld readings leave it unbounded."""

    low: int | None
    high: int | None


def exportable(
    model: str, reading: str, days: Mapping[int, BaseDay], instruments_min: int = INSTRUMENTS_MIN
) -> RegionalBase:
    """Return the part of days' readings that may leave the region."""
    total = added([base_day.histogram for base_day in days.values()])
    instruments = np.zeros(len(total.values), np.int64)
    for base_day in days.values():
        bins = np.searchsorted(total.values, base_day.histogram.values)
        np.maximum.at(instruments, bins, base_day.histogram.instruments)
    kept = instruments >= instruments_min
    withheld = int(total.readings[~kept].sum())
    return RegionalBase(model, reading, total.values[kept].tolist(), total.readings[kept].tolist(), withheld)


def percentiles_of_regions(regions: Sequence[RegionalBase], wanted: Sequence[int]) -> list[PercentileBounds]:
    """Return percentiles of all regions together. Raises: ValueError for different readings."""
    if len({(region.model, region.reading) for region in regions}) != 1:
        raise ValueError("the regions have different models or readings; give those of one")
    total = added([_histogram(region) for region in regions])
    withheld = sum(region.withheld for region in regions)
    below = np.cumsum(total.readings)
    rows = []
    for percentile in wanted:
        rank = max(1, -(-percentile * (total.count + withheld) // 100))
        low = int(total.values[np.searchsorted(below, rank - withheld)]) if rank > withheld else None
        high = int(total.values[np.searchsorted(below, rank)]) if rank <= total.count else None
        rows.append(PercentileBounds(low, high))
    return rows


def _histogram(region: RegionalBase) -> Histogram:
    values, readings = np.array(region.values, np.int64), np.array(region.readings, np.int64)
    return Histogram(values, readings, np.zeros(len(values), np.int64))
