"""The alarm LED, shared by several parts of the box: it shows the most urgent requested pattern."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from hal.indicators import IndicatorError, Indicators, Light

LED: Final = "alarm"
_URGENCY: Final = (Light.OFF, Light.ON, Light.SLOW, Light.FAST)


class AlarmLed:
    """An LED with several users. Without indicators, or on a board without this LED, nothing is shown."""

    def __init__(self, indicators: Indicators | None) -> None:
        self._indicators = indicators
        self._wanted: dict[str, Light] = {}

    def show(self, user: str, light: Light) -> None:
        """Request `light` for one user; the most urgent request of all users is shown."""
        self._wanted[user] = light
        if self._indicators is not None:
            with contextlib.suppress(IndicatorError):
                self._indicators.show(LED, max(self._wanted.values(), key=_URGENCY.index))

    def used_by(self, user: str) -> Callable[[Light], None]:
        """Return `show` for one user."""
        return lambda light: self.show(user, light)
