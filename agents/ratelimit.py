"""A token bucket: a sustained rate with room for bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REPORTS_PER_SECOND: Final = 20.0
"""What one instrument may report in the long run; a busy analyzer makes one a second."""
REPORTS_BURST: Final = 2000
"""What it may report at once, having been cut off for a while."""
_ROUNDING: Final = 1e-6
"""So much of a token may be missing after a wait of exactly the time that `take` returned."""


@dataclass(slots=True)
class TokenBucket:
    """Holds up to `burst` tokens and gains `per_second`; begins full."""

    per_second: float = REPORTS_PER_SECOND
    burst: int = REPORTS_BURST
    _tokens: float = 0.0
    _at: float = -1e18

    def take(self, tokens: int, now: float) -> float:
        """Take tokens and return 0, or take none and return the seconds until there will be enough."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.per_second)
        self._at = now
        if self._tokens >= tokens - _ROUNDING:
            self._tokens -= tokens
            return 0.0
        return (tokens - self._tokens) / self.per_second
