"""Wall clock: what time people say it is. It may jump; durations are the event loop's business."""

from __future__ import annotations

from typing import Protocol


class WallClock(Protocol):
    """Civil time of day."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z, by this machine's belief. Never fails.

        Two calls may go backwards, or forwards by years: use it to stamp, never to measure.
        """
        ...
