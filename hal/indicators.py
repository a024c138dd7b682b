"""Indicators: the lights on the chassis, and the switches in it that tell when it is opened.

Their names are the board file's (`[leds]`, `[switches]`): what the box program asks for is "status" or "chassis",
whatever the machine's maker called it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol


class Light(StrEnum):
    """What an LED shows. `BLINK_MS` has the rhythms."""

    OFF = "off"
    ON = "on"
    SLOW = "slow"
    FAST = "fast"


BLINK_MS = {Light.SLOW: (500, 500), Light.FAST: (100, 100)}
"""How long a blinking LED is on and off in turn, in milliseconds: once, or five times a second."""


class IndicatorErrorKind(StrEnum):
    """What the caller can do about it."""

    UNKNOWN = "unknown"  # the board file names no such LED or switch
    MISSING = "missing"  # the board file names it, and this machine does not have it (now)
    DENIED = "denied"  # this process may not
    UNSUPPORTED = "unsupported"  # this installation lacks a part; the message says what to install
    IO = "io"  # the driver failed


class IndicatorError(Exception):
    """An operating error of an indicator; callers branch on `kind` alone."""

    def __init__(self, kind: IndicatorErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Indicators(Protocol):
    """The board's LEDs and switches; every call is quick. Errors of all of them: all kinds."""

    def show(self, led: str, light: Light) -> None:
        """On return the LED shows `light`, and goes on doing so without this program."""
        ...

    def closed(self, switch: str) -> bool:
        """Whether the cover that the switch watches is closed now."""
        ...

    def watch(self, switch: str, changed: Callable[[bool], None]) -> Callable[[], None]:
        """Call `changed(closed)` on the event loop's thread at each change, until the result is called.

        A change that reverts before it was noticed may be left out; the last call is always the present state. When
        the device itself vanishes nothing more is told, and `closed` says so.
        """
        ...
