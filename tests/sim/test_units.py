"""Durations, rates, sizes and percentages are parsed and formatted with their units."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import units
from sim.units import DAY_NS, HOUR_NS, MILLISECOND_NS, MINUTE_NS, SECOND_NS, UnitError


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("24h", DAY_NS),
        ("90s", 90 * SECOND_NS),
        ("40ms", 40 * MILLISECOND_NS),
        ("1h30m", 90 * MINUTE_NS),
        ("10min", 10 * MINUTE_NS),
        ("1.5h", 90 * MINUTE_NS),
        ("0.1s", SECOND_NS // 10),
        ("7us", 7000),
        ("3ns", 3),
        ("0s", 0),
        ("30d", 30 * 24 * HOUR_NS),
    ],
)
def test_a_duration_is_a_number_with_a_unit_in_nanoseconds(text: str, ns: int) -> None:
    assert units.duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "bits"), [("128kbit", 128_000), ("100mbit", 10**8), ("10Gbit", 10**10), ("1.5Mbit", 1_500_000)]
)
def test_a_rate_is_a_number_with_a_unit_in_bits_per_second(text: str, bits: int) -> None:
    assert units.rate_bits(text) == bits


@pytest.mark.parametrize(("text", "size"), [("64MiB", 64 << 20), ("4GB", 4 * 10**9), ("512B", 512)])
def test_a_size_is_a_number_with_a_unit_in_bytes(text: str, size: int) -> None:
    assert units.size_bytes(text) == size


def test_a_percentage_is_a_fraction_of_one() -> None:
    assert units.fraction("0.5%") == 0.005
    assert units.fraction("100%") == 1.0
    assert units.fraction("0%") == 0.0


@pytest.mark.parametrize(
    ("parse", "value", "suggestion"),
    [
        (units.duration_ns, "10", '"90s"'),
        (units.duration_ns, 10, '"90s"'),
        (units.duration_ns, "", '"1h30m"'),
        (units.duration_ns, "-5s", '"90s"'),
        (units.duration_ns, "1h 30m", '"1h30m"'),
        (units.duration_ns, "5 weeks", '"90s"'),
        (units.duration_ns, "5w", "the units are d, h, min"),
        (units.duration_ns, "0.3ns", "whole number of ns"),
        (units.rate_bits, "128", '"128kbit"'),
        (units.rate_bits, "1mbit500kbit", '"128kbit"'),
        (units.rate_bits, "128kbps", '"128kbit"; the units are Gbit'),
        (units.size_bytes, "64Mb", '"64MB"; the units are GiB'),
        (units.fraction, "101%", '"100%"'),
        (units.fraction, 0.5, '"0.5%"'),
        (units.fraction, "half", '"0.5%"'),
    ],
)
def test_an_error_names_the_wrong_value_and_suggests_a_valid_one(
    parse: Callable[[Any], object], value: object, suggestion: str
) -> None:
    with pytest.raises(UnitError) as caught:
        parse(value)
    assert repr(value) in str(caught.value)
    assert suggestion in str(caught.value)


def test_values_are_formatted_with_their_units() -> None:
    assert units.format_duration(90 * MINUTE_NS) == "1h30min"
    assert units.format_duration(0) == "0s"
    assert units.format_rate(128_000) == "128kbit"
    assert units.format_size(64 << 20) == "64MiB"
    assert [units.format_fraction(share) for share in (0, 0.005, 0.5, 1.0)] == ["0%", "0.5%", "50%", "100%"]


@given(st.integers(0, 2**62))
def test_a_formatted_value_is_parsed_as_the_same_value(number: int) -> None:
    assert units.duration_ns(units.format_duration(number)) == number
    assert units.rate_bits(units.format_rate(number)) == number
    assert units.size_bytes(units.format_size(number)) == number


@given(st.decimals(0, 100, places=12))
def test_a_formatted_percentage_is_parsed_as_the_same_value(number: Decimal) -> None:
    share = units.fraction(f"{number:f}%")
    assert units.fraction(units.format_fraction(share)) == share
