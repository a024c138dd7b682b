"""A token bucket: a sustained rate that permits bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ROUNDING: Final = 1e-6
"""Tolerance in tokens, for rounding errors after a wait of exactly the time returned by `take`."""


@dataclass(slots=True)
class TokenBucket:
    """Holds up to `burst` tokens and gains `per_second`; initially full."""

    per_second: float
    burst: int
    _tokens: float = 0.0
    _at: float = -1e18

    def take(self, tokens: int, now: float) -> float:
        """Take tokens and return 0, or take none and return the seconds until enough are available."""
        self._tokens = self._available(now)
        self._at = now
        if self._tokens >= tokens - _ROUNDING:
            self._tokens -= tokens
            return 0.0
        return (tokens - self._tokens) / self.per_second

    def used(self, now: float) -> float:
        """Return the number of missing tokens, at most `burst`."""
        return self.burst - self._available(now)

    def _available(self, now: float) -> float:
        return min(self.burst, self._tokens + (now - self._at) * self.per_second)

    def return_tokens(self, tokens: int) -> None:
        """Return tokens that were taken, up to `burst` in total."""
        self._tokens = min(self.burst, self._tokens + tokens)
