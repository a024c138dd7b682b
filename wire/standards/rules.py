"""Conversions common to all standards: measured values to deviations, and times to milliseconds since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from settings.adapted import ControlTarget, zone_of
from wire.messages import INT_MAX

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}([.,][0-9]{1,12})?\Z", re.ASCII)
_PLACEHOLDER: Final = re.compile(r"[-*. ]*\Z")
_TIME: Final = re.compile(
    r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})?(?:\.([0-9]{1,4}))?(?:([+-])([0-9]{2})([0-9]{2}))?\Z",
    re.ASCII,
)


def parse_decimal(text: str) -> Decimal | None:
    """Parse a measured value, with a decimal point or comma; None if it is anything but a number."""
    text = text.strip(" ")
    return Decimal(text.replace(",", ".")) if _NUMBER.match(text) else None


def is_placeholder(text: str) -> bool:
    """Return whether a text stands for a value that was not measured: empty, or like `-----` and `**.**`."""
    return _PLACEHOLDER.match(text) is not None


def deviation_msd(value: Decimal, target: ControlTarget) -> int | None:
    """Return the deviation from the mean in thousandths of a standard deviation; None if a report cannot hold it."""
    deviation = int(((value - target.mean) * 1000 / target.sd).to_integral_value(ROUND_HALF_EVEN))
    return deviation if abs(deviation) <= INT_MAX else None


def parse_time_ms(text: str, zone: str) -> int | None:
    """Convert a time YYYYMMDDHHMM[SS[.S…]][±HHMM] to milliseconds since 1970; return None if it is invalid.

    `zone` applies to times without an offset. A date without a time is invalid.
    """
    match = _TIME.match(text.strip(" "))
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    zone_info = zone_of(zone)
    try:
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            zone_info = timezone(-offset if sign == "-" else offset)
        time = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=zone_info
        )
        since_1970 = time - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    ms = (since_1970 // timedelta(seconds=1)) * 1000 + int((fraction or "0").ljust(3, "0")[:3])
    return ms if 0 <= ms <= INT_MAX else None
