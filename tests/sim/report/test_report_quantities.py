"""Quantities with units for readers, and histograms of latencies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.verdict import quantities
from sim.verdict.latency import summarize
from sim.verdict.result import Expectation, Quantity, Unit

S = 10**9


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 s"),
        (7, "7 ns"),
        (1500, "1.5 µs"),
        (340_000_000, "340 ms"),
        (1_294_000_000, "1.29 s"),
        (11 * S, "11 s"),
        (107.25 * S, "1 min 47 s"),
        (10_800 * S, "3 h"),
        (86_400 * S, "24 h"),
        (3 * 86_400 * S + 3600 * S, "3 d 1 h"),
        (-2 * S, "−2 s"),
    ],
)
def test_a_duration_is_shown_in_suitable_units(ns: int, text: str) -> None:
    assert quantities.duration(ns) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "00:00:00"),
        (86_399 * S, "23:59:59"),
        (86_400 * S, "day 2 00:00:00"),
        (30 * 3600 * S, "day 2 06:00:00"),
    ],
)
def test_times_of_a_lab_have_a_day_from_the_second_day_on(ns: int, text: str) -> None:
    assert quantities.clock(ns) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "never"),
        (True, "", "yes"),
        ("AES-128", "", "AES-128"),
        (600, "s", "10 min"),
        (1_234_567, "B", "1.23 MB"),
        (999.9, "B", "1 kB"),
        (128_000, "bit/s", "128 kbit/s"),
        (99.5, "%", "99.5 %"),
        (12960, "", "12\u2009960"),
        (2.0 / 3, "", "0.667"),
    ],
)
def test_quantities_are_shown_with_their_units(value: Quantity, unit: Unit, text: str) -> None:
    assert quantities.quantity(value, unit) == text


def test_a_limit_shows_its_direction() -> None:
    expectation = Expectation(
        name="stored", limit=5, measured=4, holds=False, relation="at least", explanation=""
    )
    assert quantities.limit(expectation) == "≥ 5"
    assert quantities.measured(expectation) == "4"


@given(st.lists(st.integers(0, 10**15), min_size=1))
def test_each_latency_is_counted_in_its_bin(samples: list[int]) -> None:
    latency = summarize("routine", samples)
    assert latency.count == sum(latency.counts) == len(samples)
    assert latency.max_ns == max(samples)
    assert {latency.p50_ns, latency.p90_ns, latency.p99_ns} <= set(samples)
    lowest, edges = latency.edges_ns[0], latency.edges_ns
    for (start, end), number in zip(pairwise(edges), latency.counts, strict=True):
        in_bin = [n for n in samples if (start <= n or start == lowest) and n < end]
        assert len(in_bin) == number


def test_quantiles_are_samples_of_the_nearest_rank() -> None:
    latency = summarize("alert", range(100, 0, -1))
    assert (latency.p50_ns, latency.p90_ns, latency.p99_ns, latency.max_ns) == (50, 90, 99, 100)


def test_a_summary_without_samples_is_empty() -> None:
    latency = summarize("audit", [])
    assert (latency.count, latency.counts) == (0, ())
