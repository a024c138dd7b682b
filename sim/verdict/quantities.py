"""Numbers as people read them: durations, times of the lab, sizes, and the quantities of an expectation.

Three significant digits are enough to judge by; the JSON document has them all.
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
    """A length of time in its largest two units: "3 h", "10 min 20 s", "340 ms"."""
    if ns < 0:
        return "−" + duration(-ns)
    if ns < 10 * _SECOND:
        return _short_duration(ns)
    seconds = round(ns / _SECOND)
    for i, (name, size) in enumerate(_LARGE_UNITS):
        if seconds < (2 * _DAY_S if name == "d" else size):  # a lab of a day is one of "24 h"
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
    """A time of the lab, counted from its start: "02:00:00", and from the second day on "day 2 02:00:00"."""
    days, seconds = divmod(ns // _SECOND, _DAY_S)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"day {days + 1} {text}" if days else text


def size(count: int | float) -> str:
    """Bytes in decimal multiples: "512 B", "1.23 MB"."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def rate(bits_per_second: int | float) -> str:
    """A rate in decimal multiples, as links are sold: "128 kbit/s"."""
    return _scaled(bits_per_second, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"))


def count(number: int) -> str:
    """A whole number with its thousands apart: "12 960" (a thin space)."""
    return f"{number:,}".replace(",", "\u2009")


def quantity(value: Quantity, unit: Unit = "") -> str:
    """A limit or a measurement with its unit; "never" where there was nothing to measure."""
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
    """The limit with the sign of its relation: "≤ 10 min", "= 0"."""
    return f"{_SIGNS[expectation.relation]} {quantity(expectation.limit, expectation.unit)}"


def measured(expectation: Expectation) -> str:
    """What was measured, as `limit` shows what was asked for; "nothing" where there was nothing to count."""
    if expectation.measured is None and not expectation.unit:
        return "nothing"
    return quantity(expectation.measured, expectation.unit)


def fault_in_words(fault: FaultOccurrence) -> str:
    """A fault as one phrase: "link-down of uplink at 02:00:00, for 3 h"."""
    lasts = "" if fault.lasts_ns is None else f", for {duration(fault.lasts_ns)}"
    return f"{fault.kind} of {fault.target} at {clock(fault.at_ns)}{lasts}"


def _scaled(number: int | float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if abs(number) < 999.5:
            return f"{_significant(number)} {unit}"
        number /= 1000
    return f"{_significant(number)} {units[-1]}"


def _significant(number: int | float) -> str:
    """`number` with three significant digits, and no exponent, trailing zeros or lost whole digits."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
