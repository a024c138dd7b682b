"""Histograms are exact: they add and subtract without loss, and percentiles are those of the readings themselves."""

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


def same(one: Histogram, other: Histogram) -> bool:
    names = ("values", "readings", "instruments")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def random_readings(seed: int, count: int = 500) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(-40, 40, count).astype(np.int64)


def test_a_sum_has_the_percentiles_of_all_readings_together() -> None:
    parts = [random_readings(seed) for seed in range(7)]
    whole = added([Histogram.of_instrument(part) for part in parts])
    everything = np.sort(np.concatenate(parts))
    wanted = range(101)
    expected = [int(everything[max(1, -(-p * len(everything) // 100)) - 1]) for p in wanted]
    assert whole.percentiles(wanted) == expected
    assert whole.count == len(everything)
    assert max(whole.instruments) == 7


def test_sums_of_values_far_apart_are_exact() -> None:
    near = [Histogram.of_instrument(random_readings(seed)) for seed in (1, 2)]
    far = Histogram.of_instrument(np.array([VALUE_MAX], np.int64))
    whole = added([far, *near])
    assert same(added([whole, far.negative()]), added(near))
    assert whole.values[-1] == rounded(np.array([VALUE_MAX], np.int64))[0]


def test_what_is_subtracted_leaves_no_trace() -> None:
    one, other = (Histogram.of_instrument(random_readings(seed)) for seed in (1, 2))
    assert same(added([one, other, other.negative()]), one)
    assert same(added([one, one.negative()]), EMPTY)


def test_encoding_loses_nothing() -> None:
    one = Histogram.of_instrument(np.array([-VALUE_MAX, -5, 7, 7, VALUE_MAX], np.int64))
    assert same(decode_histogram(encode_histogram(one)), one)
    extremes = Histogram.of_instrument(np.array([-VALUE_MAX, VALUE_MAX], np.int64))
    assert same(decode_histogram(encode_histogram(extremes)), extremes)
    assert same(decode_histogram(encode_histogram(EMPTY)), EMPTY)
    decoded = decode_readings(encode_readings({"vacuum-pa": one, "lamp-h": EMPTY}))
    assert list(decoded) == ["vacuum-pa", "lamp-h"] and same(decoded["vacuum-pa"], one)


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
