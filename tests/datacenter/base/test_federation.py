"""The percentiles over regions are exact or bounded; bins of few instruments do not leave their region."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from datacenter.base.federation import RegionalBase, exportable, percentiles_of_regions
from datacenter.base.histogram import Histogram, added
from datacenter.base.percentiles import INSTRUMENTS_MIN, BaseDay

WANTED = range(1, 100)
Days = dict[int, BaseDay]


def instruments(seed: int, count: int, spread: float) -> list[Histogram]:
    random = np.random.default_rng(seed)
    return [Histogram.of_instrument(random.normal(80, spread, 400).astype(np.int64)) for _ in range(count)]


def day(parts: list[Histogram]) -> BaseDay:
    return BaseDay(len(parts), added(parts))


def regions(spread: float) -> tuple[list[Days], Histogram]:
    """Return the days of two regions, and the histogram of all instruments."""
    parts = [[instruments(10 * region + n, 6 + region, spread) for n in range(4)] for region in (1, 2)]
    days = [{n: day(of_day) for n, of_day in enumerate(region)} for region in parts]
    return days, added([one for region in parts for of_day in region for one in of_day])


def test_regions_with_enough_instruments_have_the_percentiles_of_all() -> None:
    days, total = regions(spread=1)
    sent = [exportable("m", "r", one, instruments_min=1) for one in days]
    assert [one.withheld for one in sent] == [0, 0]
    received = [msgspec.json.decode(msgspec.json.encode(one), type=RegionalBase) for one in sent]
    expected = total.percentiles(WANTED)
    assert percentiles_of_regions(received, WANTED) == [(value, value) for value in expected]


def test_withheld_readings_give_percentiles_within_bounds() -> None:
    days, total = regions(spread=6)
    sent = [exportable("m", "r", one) for one in days]
    assert all(one.withheld for one in sent)
    bounds = percentiles_of_regions(sent, WANTED)
    for (low, high), value in zip(bounds, total.percentiles(WANTED), strict=True):
        assert (low is None or low <= value) and (high is None or value <= high)
    assert None not in bounds[49]
    assert percentiles_of_regions([RegionalBase("m", "r", [1], [1], 100)], [50]) == [(None, None)]


def test_a_bin_of_few_instruments_does_not_leave_its_region() -> None:
    days, _ = regions(spread=6)
    for region in days:
        sent = exportable("m", "r", region)
        shown = dict(zip(sent.values, sent.readings, strict=True))
        total = added([one.histogram for one in region.values()])
        for value, readings in zip(total.values.tolist(), total.readings.tolist(), strict=True):
            most = max(
                int(one.histogram.instruments[one.histogram.values == value].sum()) for one in region.values()
            )
            assert shown.get(value) == (readings if most >= INSTRUMENTS_MIN else None)
        assert sum(sent.readings) + sent.withheld == total.count


def test_different_readings_are_not_added() -> None:
    base = RegionalBase("m", "r", [1], [1], 0)
    with pytest.raises(ValueError, match="different"):
        percentiles_of_regions([base, msgspec.structs.replace(base, reading="q")], [50])
