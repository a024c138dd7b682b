"""Histograms are exact: they add and subtract without loss, and have the percentiles of their readings."""

from __future__ import annotations

import numpy as np
import pytest

from datacenter.base.histogram import (
    EMPTY,
    VALUE_MAX,
    Histogram,
    added,
    decode_histogram,
    decode_readings,
    encode_histogram,
    encode_readings,
    rounded,
)


def same(left: Histogram, right: Histogram) -> bool:
    names = ("values", "readings", "instruments")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


def random_readings(seed: int, count: int = 500) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(-40, 40, count).astype(np.int64)


def test_a_sum_has_the_percentiles_of_all_readings_together() -> None:
    parts = [random_readings(seed) for seed in range(7)]
    total = added([Histogram.of_instrument(part) for part in parts])
    readings = np.sort(np.concatenate(parts))
    wanted = range(101)
    expected = [int(readings[max(1, -(-p * len(readings) // 100)) - 1]) for p in wanted]
    assert total.percentiles(wanted) == expected
    assert total.count == len(readings)
    assert max(total.instruments) == 7


def test_sums_of_values_far_apart_are_exact() -> None:
    near = [Histogram.of_instrument(random_readings(seed)) for seed in (1, 2)]
    far = Histogram.of_instrument(np.array([VALUE_MAX], np.int64))
    total = added([far, *near])
    assert same(added([total, far.negative()]), added(near))
    assert total.values[-1] == rounded(np.array([VALUE_MAX], np.int64))[0]


def test_subtraction_reverses_addition_exactly() -> None:
    first, second = (Histogram.of_instrument(random_readings(seed)) for seed in (1, 2))
    assert same(added([first, second, second.negative()]), first)
    assert same(added([first, first.negative()]), EMPTY)


def test_encoding_loses_nothing() -> None:
    histogram = Histogram.of_instrument(np.array([-VALUE_MAX, -5, 7, 7, VALUE_MAX], np.int64))
    assert same(decode_histogram(encode_histogram(histogram)), histogram)
    extremes = Histogram.of_instrument(np.array([-VALUE_MAX, VALUE_MAX], np.int64))
    assert same(decode_histogram(encode_histogram(extremes)), extremes)
    assert same(decode_histogram(encode_histogram(EMPTY)), EMPTY)
    decoded = decode_readings(encode_readings({"vacuum-pa": histogram, "lamp-h": EMPTY}))
    assert list(decoded) == ["vacuum-pa", "lamp-h"] and same(decoded["vacuum-pa"], histogram)


@pytest.mark.parametrize(
    ("reading", "bin_value"),
    [
        (2**17 - 1, 2**17 - 1),
        (2**17 + 1, 2**17),
        (2**18 + 7, 2**18 + 4),
        (-(2**17) - 1, -(2**17) - 2),
        (2**40, 2**31 - 2**14),
        (0, 0),
    ],
)
def test_values_beyond_17_bits_are_rounded_down(reading: int, bin_value: int) -> None:
    assert rounded(np.array([reading], np.int64)).tolist() == [bin_value]
