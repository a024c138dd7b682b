"""What a value in a lab file may be: its unit, its bounds, and how to say what would be right.

A key's type carries this with it, so that reading, checking and the reference page all have one source:

    delay: Nanoseconds = 0                                    # "40ms"; up to 30 days
    linger: Annotated[int, duration("1ms", "1min")] = ...     # tighter bounds

Every `read` takes what the TOML file gave and returns the value in the unit of its type, or raises ValueError
with what would be right.
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
    """A number with its unit, in a string. `least` and `most` are allowed."""

    noun: str
    parse: Callable[[object], float]
    format: Callable[[Any], str]
    """The inverse of `parse`."""
    least: str
    most: str

    def __post_init__(self) -> None:
        assert self.parse(self.least) <= self.parse(self.most), f"{self.noun}: bounds the wrong way round"

    @property
    def rule(self) -> str:
        """Bounds as they would be written."""
        return f"{self.noun}, {self.least} to {self.most}"

    def read(self, given: object) -> float:
        """In the base unit of the quantity."""
        try:
            value = self.parse(given)
        except units.UnitError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        if not self.parse(self.least) <= value <= self.parse(self.most):
            raise ValueError(f"must be from {self.least} to {self.most}")
        return value

    def write(self, value: Any) -> object:
        """With its unit."""
        return self.format(value)


@dataclass(frozen=True, slots=True)
class CountForm(Form):
    """A whole number."""

    least: int
    most: int

    @property
    def rule(self) -> str:
        """Bounds."""
        return f"whole number, {self.least} to {self.most}"

    def read(self, given: object) -> int:
        """As given; TOML's true is not a number."""
        if not isinstance(given, int) or isinstance(given, bool):
            raise ValueError(f"give a whole number from {self.least} to {self.most}, without quotation marks")
        if not self.least <= given <= self.most:
            raise ValueError(f"must be from {self.least} to {self.most}")
        return given


@dataclass(frozen=True, slots=True)
class TextForm(Form):
    """A string that matches `pattern` whole; `noun` describes it."""

    noun: str
    pattern: str

    @property
    def rule(self) -> str:
        """In words."""
        return self.noun

    def read(self, given: object) -> str:
        """As given."""
        if not isinstance(given, str) or not re.fullmatch(self.pattern, given):
            raise ValueError(f"give {self.noun}")
        return given


@dataclass(frozen=True, slots=True)
class TimeOfDay(Form):
    """A time such as "06:00"; as nanoseconds since midnight."""

    @property
    def rule(self) -> str:
        """Bounds."""
        return 'time of day, "00:00" to "23:59"'

    def read(self, given: object) -> int:
        """Hours and minutes."""
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", given) if isinstance(given, str) else None
        if match is None:
            raise ValueError('give a time of day from "00:00" to "23:59", such as "06:00"')
        return (int(match[1]) * 60 + int(match[2])) * MINUTE_NS

    def write(self, value: Any) -> object:
        """Hours and minutes."""
        hours, minutes = divmod(value // MINUTE_NS, 60)
        return f"{hours:02}:{minutes:02}"


def duration(least: str = "0s", most: str = "30d") -> Quantity:
    """A duration, in nanoseconds."""
    return Quantity("a duration", units.duration_ns, units.format_duration, least, most)


def rate(least: str = "1kbit", most: str = "10gbit") -> Quantity:
    """A rate, in bits a second."""
    return Quantity("a rate", units.rate_bits, units.format_rate, least, most)


def size(least: str, most: str) -> Quantity:
    """An amount of data, in bytes."""
    return Quantity("a size", units.size_bytes, units.format_size, least, most)


def percentage(least: str = "0%", most: str = "100%") -> Quantity:
    """A share, as a fraction of 1."""
    return Quantity("a percentage", units.fraction, units.format_fraction, least, most)


Nanoseconds: TypeAlias = Annotated[int, duration()]
BitsPerSecond: TypeAlias = Annotated[int, rate()]
Fraction: TypeAlias = Annotated[float, percentage()]
