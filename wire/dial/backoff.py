"""Delays between retries: exponential back-off with full jitter.

After a district's power cut all its boxes lose and regain their uplink in the same second. Delays drawn uniformly
from the whole interval spread out their reconnections with the least total work (AWS Architecture Blog, "Exponential
Backoff And Jitter", 2015).
"""

from __future__ import annotations

from random import Random
from typing import Final

from wire.http.fields import date_s

DELAY_SECONDS_MIN: Final = 0.25
DELAY_SECONDS_FIRST: Final = 1.0
DELAY_SECONDS_MAX: Final = 60.0
RETRY_AFTER_SECONDS_MAX: Final = 15 * 60.0
"""Upper bound on a delay that the other end requests."""


class Backoff:
    """The retry delays of one operation."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0

    def succeeded(self) -> None:
        """Reset to short delays."""
        self._failures = 0

    def failed(self, retry_after_s: float = 0.0) -> float:
        """Return the seconds until the next try, at least `retry_after_s` (at most RETRY_AFTER_SECONDS_MAX)."""
        ceiling = min(DELAY_SECONDS_MAX, DELAY_SECONDS_FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        delay = self._random.uniform(DELAY_SECONDS_MIN, ceiling)
        return delay + min(retry_after_s, RETRY_AFTER_SECONDS_MAX)


def retry_after(headers: dict[str, str], now_s: float) -> float:
    """Return the seconds of a response's `Retry-After` (RFC 9110, 10.2.3); 0 if it is absent or past.

    A date is compared with the response's own `Date`, because the local clock may be wrong; without `Date`, with
    `now_s`, the local time in seconds since 1970.
    """
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    at_s, date_header_s = date_s(value), date_s(headers.get("date", ""))
    return 0.0 if at_s is None else max(0.0, at_s - (now_s if date_header_s is None else date_header_s))
