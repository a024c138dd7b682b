"""How long to wait for another machine before giving up: a time-out that grows, is remembered, and shrinks again.

A machine that always needs longer than a fixed time-out would never be heard, and each repetition gives it the same
work again. So a time-out grows each time it expires (as TCP's does, RFC 6298, 5.5, and faster, since what is repeated
here is more than a packet), is at least a multiple of what the last answer took, and returns to its usual length step
by step with answers that are quick again.
"""

from __future__ import annotations

from typing import Final

GROWTH: Final = 4.0
"""What an expired time-out is multiplied by."""
MARGIN: Final = 3.0
"""So many times the last answer's time is not unusual: response times vary."""
SHRINKAGE: Final = 0.8
"""What is left of a long time-out after an answer that was quick."""


class Patience:
    """The factor by which time-outs towards one machine are longer than usual; from 1 to `factor_max`."""

    def __init__(self, factor_max: float) -> None:
        self.factor = 1.0
        self._factor_max = factor_max

    def expired(self) -> None:
        """No answer came in time."""
        self.factor = min(self._factor_max, self.factor * GROWTH)

    def answered(self, share: float) -> None:
        """An answer came after this share of the usual time-out, which may be more than 1."""
        wanted = max(1.0, share * MARGIN, self.factor * SHRINKAGE)
        self.factor = min(self._factor_max, wanted)
