"""Quantities with units in lab files ("1h30m", "128kbit", "64MiB"), parsed to integers and formatted.

Durations are nanoseconds, rates bits per second (decimal prefixes, as in tc(8)), sizes bytes, percentages fractions
of 1. A text is parsed exactly or rejected: "0.3ns" is an error, and so is a number without a unit.
"""

from __future__ import annotations

import re
from decimal import Decimal
from difflib import SequenceMatcher
from typing import Final

SECOND_NS: Final = 1_000_000_000
MILLISECOND_NS: Final = SECOND_NS // 1000
MICROSECOND_NS: Final = SECOND_NS // 1_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

# largest first, the order in which durations are formatted
_DURATIONS: Final = {
    "d": DAY_NS,
    "h": HOUR_NS,
    "min": MINUTE_NS,
    "m": MINUTE_NS,
    "s": SECOND_NS,
    "ms": MILLISECOND_NS,
    "us": MICROSECOND_NS,
    "ns": 1,
}
_RATES: Final = {"Gbit": 10**9, "gbit": 10**9, "Mbit": 10**6, "mbit": 10**6, "kbit": 10**3, "bit": 1}
_SIZES: Final = {
    "GiB": 2**30,
    "GB": 10**9,
    "MiB": 2**20,
    "MB": 10**6,
    "KiB": 2**10,
    "kB": 10**3,
    "B": 1,
}
_WRITTEN_RATES: Final = {unit: _RATES[unit] for unit in ("gbit", "mbit", "kbit", "bit")}
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]+)")
_DURATION: Final = re.compile(rf"(?:{_QUANTITY.pattern})+")
_PERCENTAGE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")


class UnitError(ValueError):
    """A text is not a valid quantity; the message names the text and gives valid examples."""

    def __init__(self, given: object, kind: str, example: str) -> None:
        super().__init__(f"{given!r} is not {kind}: write it like {example}")


def duration_ns(given: object) -> int:
    """Parse a duration such as "24h", "90s", "40ms" or "1h30m"; in nanoseconds. Raises: UnitError."""
    if not isinstance(given, str) or not _DURATION.fullmatch(given):
        raise UnitError(given, "a duration", '"90s", "40ms" or "1h30m"')
    parts = _QUANTITY.findall(given)
    return sum(_amount(given, "a duration", number, unit, _DURATIONS) for number, unit in parts)


def rate_bits(given: object) -> int:
    """Parse a rate such as "128kbit" or "100mbit"; in bits per second. Raises: UnitError."""
    return _single(given, "a rate", '"128kbit" or "100mbit"', _RATES)


def size_bytes(given: object) -> int:
    """Parse a size such as "64MiB" or "4GB"; in bytes. Raises: UnitError."""
    return _single(given, "a size", '"64MiB" or "4GB"', _SIZES)


def fraction(given: object) -> float:
    """Parse a percentage such as "0.5%"; as a fraction from 0.0 to 1.0. Raises: UnitError."""
    match = _PERCENTAGE.fullmatch(given) if isinstance(given, str) else None
    if match is None or Decimal(match[1]) > 100:
        raise UnitError(given, "a percentage", '"0.5%", from "0%" to "100%"')
    return float(Decimal(match[1]) / 100)


def format_duration(ns: int) -> str:
    """Format nanoseconds (at least 0) so that `duration_ns` parses them to the same value: "1h30min"."""
    text = ""
    for unit, size in _DURATIONS.items():
        count, ns = divmod(ns, size)
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def format_rate(bits: int) -> str:
    """Format bits per second (at least 0) in the shortest form that `rate_bits` parses: "128kbit"."""
    return _shortest(bits, _WRITTEN_RATES)


def format_size(size: int) -> str:
    """Format bytes (at least 0) in the shortest form that `size_bytes` parses: "64MiB"."""
    return _shortest(size, _SIZES)


def format_fraction(share: float) -> str:
    """Format a fraction so that `fraction` parses it to the same value: "0.5%"."""
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"


def _single(given: object, kind: str, example: str, units: dict[str, int]) -> int:
    match = _QUANTITY.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise UnitError(given, kind, example)
    return _amount(given, kind, match[1], match[2], units)


def _amount(given: object, kind: str, number: str, unit: str, units: dict[str, int]) -> int:
    if unit not in units:
        closest = max(units, key=lambda known: SequenceMatcher(None, known, unit).ratio())
        raise UnitError(given, kind, f'"{number}{closest}"; the units are {", ".join(units)}')
    amount = Decimal(number) * units[unit]
    if amount != int(amount):
        raise UnitError(given, kind, f"a whole number of {list(units)[-1]}")
    return int(amount)


def _shortest(amount: int, units: dict[str, int]) -> str:
    return min((f"{amount // size}{unit}" for unit, size in units.items() if amount % size == 0), key=len)
