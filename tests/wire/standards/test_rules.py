"""Parsing of values and times, for all standards."""

from decimal import Decimal

import pytest

from settings.adapted import ControlTarget
from wire.standards.rules import deviation_msd, is_placeholder, parse_decimal, parse_time_ms

TARGET = ControlTarget(Decimal("5.00"), Decimal("0.08"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5.10", "5.10"),
        (" 5,10 ", "5.10"),
        ("-0.5", "-0.5"),
        ("4.620000000", "4.62"),
        ("-----", None),
        ("**.**", None),
        ("1e9", None),
        ("NaN", None),
        ("٣", None),
        ("<0.5", None),
        ("5.", None),
        ("", None),
    ],
)
def test_a_value_is_a_decimal_number_or_nothing(text: str, value: str | None) -> None:
    assert parse_decimal(text) == (Decimal(value) if value else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", True), ("   ", True), ("-----", True), ("***.**", True), ("-1", False), ("NEG", False)],
)
def test_a_placeholder_is_no_value(text: str, expected: bool) -> None:
    assert is_placeholder(text) == expected


@pytest.mark.parametrize(
    ("value", "deviation"), [("5.10", 1250), ("4.84", -2000), ("5.00004", 0), ("5.00012", 2)]
)
def test_a_deviation_is_in_thousandths_of_a_standard_deviation(value: str, deviation: int) -> None:
    assert deviation_msd(Decimal(value), TARGET) == deviation


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("19700101010000", 0),
        ("197001010100", 0),
        ("19700101000000+0000", 0),
        ("19700101090000.5+0900", 500),
        ("19700101000000", None),  # before 1970 in UTC
        ("20310304", None),
        ("20310231000000", None),
        ("20310304251500", None),
        ("00010101000000+1400", None),
        ("2031030408150１", None),
        ("", None),
    ],
)
def test_a_time_without_an_offset_is_in_the_zone_of_the_site(text: str, ms: int | None) -> None:
    assert parse_time_ms(text, "+01:00") == ms


def test_the_summer_time_of_a_named_zone_is_applied() -> None:
    winter, summer = (parse_time_ms(text, "Europe/Berlin") for text in ("20310115120000", "20310715120000"))
    assert winter is not None and summer is not None
    assert (summer - winter) % 86_400_000 == 23 * 3_600_000
