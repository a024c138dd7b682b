"""Indicators: the chassis LEDs, and the switches that detect an open chassis.

Names are those of the board file (`[leds]`, `[switches]`), such as "status" and "chassis": the box program does not
depend on the hardware's names.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol


class Light(StrEnum):
    """The state of an LED. `BLINK_MS` defines the blink rates."""

    OFF = "off"
    ON = "on"
    SLOW = "slow"
    FAST = "fast"


BLINK_MS = {Light.SLOW: (500, 500), Light.FAST: (100, 100)}
"""On and off times of a blinking LED in milliseconds: SLOW blinks once a second, FAST five times."""


class IndicatorErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    UNKNOWN = "unknown"  # the board file has no LED or switch with this name
    MISSING = "missing"  # the board file has it, but the device is not present
    DENIED = "denied"  # this process lacks permission
    UNSUPPORTED = "unsupported"  # this installation lacks a component; the message says what to install
    IO = "io"  # the driver failed


class IndicatorError(Exception):
    """An operating error of an indicator; callers branch on `kind` alone."""

    def __init__(self, kind: IndicatorErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Indicators(Protocol):
    """The board's LEDs and switches. No call blocks. Each may raise IndicatorError of any kind."""

    def show(self, led: str, light: Light) -> None:
        """Set the LED; on return it shows `light`, and continues to do so without this program."""
        ...

    def closed(self, switch: str) -> bool:
        """Return whether the cover of this switch is closed."""
        ...

    def watch(self, switch: str, changed: Callable[[bool], None]) -> Callable[[], None]:
        """Call `changed(closed)` on the event loop's thread at each change; the returned function stops that.

        A change that reverts before it was noticed may be omitted; the last call always has the current state. If the
        device is removed there are no further calls, and `closed` raises MISSING.
        """
        ...
