"""Path MTU by TCP's own probes, for paths where long packets vanish silently: Linux's tcp_mtu_probing = 1 (RFC 4821).

After three timeouts' time without an answer the segments become short enough for nearly any path. From then on longer
ones are tried now and then, by bisection, with data that is sent again if they are lost.
"""

from __future__ import annotations

from typing import Final

from sim.net.segment import MSS

BASE_MSS: Final = 1024
FLOOR_MSS: Final = 48
BLACK_HOLE_NS: Final = 3_000_000_000
"""Three timeouts' time, from the shortest timeout on: Linux's tcp_retries1."""
_THRESHOLD_BYTES: Final = 8
_INTERVAL_NS: Final = 600_000_000_000


class PathMtu:
    """What one connection knows of the segments that its path takes."""

    __slots__ = ("_high", "_searched_ns", "end", "low", "size", "start")

    def __init__(self) -> None:
        self.low, self._high = BASE_MSS, MSS
        self._searched_ns = -1
        self.start = self.end = 0
        """The probe under way; `end` is 0 if there is none."""
        self.size = 0

    @property
    def is_suspect(self) -> bool:
        """Whether segments have been shortened, and longer ones are to be tried."""
        return self._searched_ns >= 0

    def shorten(self, now: int) -> None:
        """Nothing gets through: shorten segments, more each time."""
        if self.is_suspect:
            self.low = max(min(self.low // 2, BASE_MSS), FLOOR_MSS)
        self._searched_ns = now
        self.end = 0

    def next_size(self, now: int) -> int:
        """The length to be tried next; 0 for none."""
        if self._high - self.low < _THRESHOLD_BYTES:
            if now - self._searched_ns < _INTERVAL_NS:
                return 0
            self._high, self._searched_ns = MSS, now
            if self._high - self.low < _THRESHOLD_BYTES:
                return 0
        return (self.low + self._high) // 2

    def sent(self, start: int, size: int) -> None:
        """A probe was sent."""
        self.start, self.end, self.size = start, start + size, size

    def succeeded(self) -> None:
        """The probe has arrived."""
        self.low = self.size
        self.end = 0

    def failed(self) -> None:
        """The probe was lost, and what came after it was not."""
        self._high = self.size - 1
        self.end = 0
