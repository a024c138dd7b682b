"""How long to wait before the next try: exponential, with full jitter.

After a power cut in a district every box in it loses its uplink and gets it back in the same second. With a delay
drawn from the whole interval they come back spread out, and with the least work in total (AWS Architecture Blog,
"Exponential Backoff And Jitter", 2015).
"""

from __future__ import annotations

from random import Random
from typing import Final

from wire.http.fields import date_s

DELAY_SECONDS_MIN: Final = 0.25
DELAY_SECONDS_FIRST: Final = 1.0
DELAY_SECONDS_MAX: Final = 60.0
RETRY_AFTER_SECONDS_MAX: Final = 15 * 60.0
"""However long the other end asks to be left alone."""


class Backoff:
    """The delays of one thing that is tried again and again."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0

    def succeeded(self) -> None:
        """Begin with short delays again."""
        self._failures = 0

    def failed(self, retry_after_s: float = 0.0) -> float:
        """Seconds to wait now, and at least as long as the other end asked for, within reason."""
        ceiling = min(DELAY_SECONDS_MAX, DELAY_SECONDS_FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        delay = self._random.uniform(DELAY_SECONDS_MIN, ceiling)
        return delay + min(retry_after_s, RETRY_AFTER_SECONDS_MAX)


def retry_after(headers: dict[str, str], now_s: float) -> float:
    """The seconds of a response's `Retry-After` (RFC 9110, 10.2.3); 0 without one, or if it has passed.

    A date is compared with the response's own `Date`, since the clock here may be wrong; without one with `now_s`,
    the time here in seconds since 1970.
    """
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    at_s, told_s = date_s(value), date_s(headers.get("date", ""))
    return 0.0 if at_s is None else max(0.0, at_s - (now_s if told_s is None else told_s))
