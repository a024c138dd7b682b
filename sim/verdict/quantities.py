"""Formatting of durations, lab times, sizes, rates and the quantities of an expectation for reports.

Numbers have three significant digits; the JSON document has all digits.
"""

from __future__ import annotations

import math

from sim.verdict.result import Expectation, FaultOccurrence, Quantity, Unit

_SECOND = 10**9
_DAY_S = 86_400
_LARGE_UNITS = (("d", _DAY_S), ("h", 3600), ("min", 60), ("s", 1))
_SMALL_UNITS = (("ms", 10**6), ("µs", 10**3), ("ns", 1))
_SIGNS = {"at most": "≤", "at least": "≥", "exactly": "="}


def duration(ns: int | float) -> str:
    """Format a duration in its largest two units: "3 h", "10 min 20 s", "340 ms"."""
    if ns < 0:
        return "−" + duration(-ns)
    if ns < 10 * _SECOND:
        return _short_duration(ns)
    seconds = round(ns / _SECOND)
    for i, (name, size) in enumerate(_LARGE_UNITS):
        if seconds < (2 * _DAY_S if name == "d" else size):  # less than two days are written in hours
            continue
        whole, rest = divmod(seconds, size)
        if rest == 0 or i + 1 == len(_LARGE_UNITS):
            return f"{whole} {name}"
        next_name, next_size = _LARGE_UNITS[i + 1]
        part = rest // next_size
        return f"{whole} {name} {part} {next_name}" if part else f"{whole} {name}"
    raise AssertionError(f"{seconds} s is ten seconds or more")


def _short_duration(ns: int | float) -> str:
    if ns >= _SECOND:
        return f"{_significant(ns / _SECOND)} s"
    for name, size in _SMALL_UNITS:
        if ns >= size:
            return f"{_significant(ns / size)} {name}"
    return "0 s"


def clock(ns: int) -> str:
    """Format a lab time, counted from the lab's start: "02:00:00", from the second day on "day 2 02:00:00"."""
    days, seconds = divmod(ns // _SECOND, _DAY_S)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"day {days + 1} {text}" if days else text


def moment(ns: int) -> str:
    """Format a lab time with milliseconds: "02:00:00.125"."""
    return f"{clock(ns)}.{ns // 10**6 % 1000:03}"


def size(count: int | float) -> str:
    """Format bytes with decimal prefixes: "512 B", "1.23 MB"."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def rate(bits_per_second: int | float) -> str:
    """Format a rate with decimal prefixes: "128 kbit/s"."""
    return _scaled(bits_per_second, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"))


def count(number: int) -> str:
    """Format an integer with thin spaces between thousands: "12 960"."""
    return f"{number:,}".replace(",", "\u2009")


def quantity(value: Quantity, unit: Unit = "") -> str:
    """Format a limit or a measurement with its unit; None is "never"."""
    if value is None:
        return "never"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if unit == "s":
        return duration(value * _SECOND)
    if unit == "B":
        return size(value)
    if unit == "bit/s":
        return rate(value)
    number = count(value) if isinstance(value, int) else _significant(value)
    return f"{number} {unit}".rstrip()


def limit(expectation: Expectation) -> str:
    """Format an expectation's limit with the sign of its relation: "≤ 10 min", "= 0"."""
    return f"{_SIGNS[expectation.relation]} {quantity(expectation.limit, expectation.unit)}"


def measured(expectation: Expectation) -> str:
    """Format an expectation's measurement; "nothing" if there was nothing to count."""
    if expectation.measured is None and not expectation.unit:
        return "nothing"
    return quantity(expectation.measured, expectation.unit)


def describe_fault(fault: FaultOccurrence) -> str:
    """Describe a fault in one phrase: "link-down of uplink at 02:00:00, for 3 h"."""
    lasts = "" if fault.lasts_ns is None else f", for {duration(fault.lasts_ns)}"
    return f"{fault.kind} of {fault.target} at {clock(fault.at_ns)}{lasts}"


def _scaled(number: int | float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if abs(number) < 999.5:
            return f"{_significant(number)} {unit}"
        number /= 1000
    return f"{_significant(number)} {units[-1]}"


def _significant(number: int | float) -> str:
    """Format with three significant digits, without an exponent or trailing zeros; integer digits are all kept."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
