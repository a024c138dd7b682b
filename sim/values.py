"""Forms of the values in a lab file: unit, bounds, and the text that describes a valid value.

A form is part of a key's type, so that parsing, validation and the reference page have one source:

    delay: Nanoseconds = 0                                    # "40ms"; up to 30 days
    linger: Annotated[int, duration("1ms", "1min")] = ...     # tighter bounds

Each `read` takes a value of the TOML file and returns it in the unit of its type. Raises: ValueError, whose message
describes a valid value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from settings.form import Form
from sim import units
from sim.units import MINUTE_NS


@dataclass(frozen=True, slots=True)
class Quantity(Form):
    """A number with a unit, in a string. `least` and `most` are inclusive bounds, written with their units."""

    noun: str
    parse: Callable[[object], float]
    format: Callable[[Any], str]
    """The inverse of `parse`."""
    least: str
    most: str

    def __post_init__(self) -> None:
        assert self.parse(self.least) <= self.parse(self.most), (
            f"{self.noun}: the lower bound exceeds the upper bound"
        )

    @property
    def rule(self) -> str:
        """The kind and bounds, for the reference page."""
        return f"{self.noun}, {self.least} to {self.most}"

    def read(self, given: object) -> float:
        """Parse a string; returns the value in the quantity's base unit. Raises: ValueError."""
        try:
            value = self.parse(given)
        except units.UnitError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        if not self.parse(self.least) <= value <= self.parse(self.most):
            raise ValueError(f"must be from {self.least} to {self.most}")
        return value

    def write(self, value: Any) -> object:
        """Format a value with its unit."""
        return self.format(value)


@dataclass(frozen=True, slots=True)
class CountForm(Form):
    """An integer with inclusive bounds."""

    least: int
    most: int

    @property
    def rule(self) -> str:
        """The kind and bounds, for the reference page."""
        return f"whole number, {self.least} to {self.most}"

    def read(self, given: object) -> int:
        """Check an integer; a TOML boolean is rejected. Raises: ValueError."""
        if not isinstance(given, int) or isinstance(given, bool):
            raise ValueError(f"give a whole number from {self.least} to {self.most}, without quotation marks")
        if not self.least <= given <= self.most:
            raise ValueError(f"must be from {self.least} to {self.most}")
        return given


@dataclass(frozen=True, slots=True)
class TextForm(Form):
    """A string that matches all of `pattern`; `noun` describes it in messages."""

    noun: str
    pattern: str

    @property
    def rule(self) -> str:
        """The description, for the reference page."""
        return self.noun

    def read(self, given: object) -> str:
        """Check a string. Raises: ValueError."""
        if not isinstance(given, str) or not re.fullmatch(self.pattern, given):
            raise ValueError(f"give {self.noun}")
        return given


@dataclass(frozen=True, slots=True)
class TimeOfDay(Form):
    """A time of day such as "06:00", in nanoseconds since midnight."""

    @property
    def rule(self) -> str:
        """The kind and bounds, for the reference page."""
        return 'time of day, "00:00" to "23:59"'

    def read(self, given: object) -> int:
        """Parse "HH:MM"; returns nanoseconds since midnight. Raises: ValueError."""
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", given) if isinstance(given, str) else None
        if match is None:
            raise ValueError('give a time of day from "00:00" to "23:59", such as "06:00"')
        return (int(match[1]) * 60 + int(match[2])) * MINUTE_NS

    def write(self, value: Any) -> object:
        """Format nanoseconds since midnight as "HH:MM"."""
        hours, minutes = divmod(value // MINUTE_NS, 60)
        return f"{hours:02}:{minutes:02}"


def duration(least: str = "0s", most: str = "30d") -> Quantity:
    """Return the form of a duration, in nanoseconds."""
    return Quantity("a duration", units.duration_ns, units.format_duration, least, most)


def rate(least: str = "1kbit", most: str = "10gbit") -> Quantity:
    """Return the form of a rate, in bits per second."""
    return Quantity("a rate", units.rate_bits, units.format_rate, least, most)


def size(least: str, most: str) -> Quantity:
    """Return the form of an amount of data, in bytes."""
    return Quantity("a size", units.size_bytes, units.format_size, least, most)


def percentage(least: str = "0%", most: str = "100%") -> Quantity:
    """Return the form of a percentage, as a fraction of 1."""
    return Quantity("a percentage", units.fraction, units.format_fraction, least, most)


Nanoseconds: TypeAlias = Annotated[int, duration()]
BitsPerSecond: TypeAlias = Annotated[int, rate()]
Fraction: TypeAlias = Annotated[float, percentage()]
