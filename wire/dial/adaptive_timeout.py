"""Adaptive timeouts: they grow when they expire or responses are slow, and shrink again when responses are quick.

With a fixed timeout, a machine that always needs longer would never succeed, and each retry would repeat the same
work. Therefore a timeout grows each time it expires (like TCP's, RFC 6298, 5.5, but faster, because a retry here
costs more than a packet), is at least a multiple of the last response time, and returns to its usual length
gradually when responses are quick.
"""

from __future__ import annotations

from typing import Final

GROWTH: Final = 4.0
"""Factor of growth when the timeout expires."""
MARGIN: Final = 3.0
"""Ratio of the timeout to the last response time: response times vary."""
SHRINKAGE: Final = 0.8
"""Factor of reduction after a quick response."""


class AdaptiveTimeout:
    """The factor by which timeouts for one peer are longer than usual: from 1 to `factor_max`."""

    def __init__(self, factor_max: float) -> None:
        self.factor = 1.0
        self._factor_max = factor_max

    def expired(self) -> None:
        """Record that the timeout expired without a response."""
        self.factor = min(self._factor_max, self.factor * GROWTH)

    def answered(self, share: float) -> None:
        """Record a response after `share` of the usual timeout; `share` may exceed 1."""
        wanted = max(1.0, share * MARGIN, self.factor * SHRINKAGE)
        self.factor = min(self._factor_max, wanted)
