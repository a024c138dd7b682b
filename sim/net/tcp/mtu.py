"""Packetization-layer path MTU discovery (RFC 4821), as Linux's tcp_mtu_probing = 1, for path MTU black holes.

If nothing is acknowledged until three retransmissions have timed out, segments are shortened to a size that nearly
any path takes. From then on the size is searched by bisection: longer segments are sent now and then as probes, whose
data is retransmitted if they are lost.
"""

from __future__ import annotations

from typing import Final

from sim.net.segment import MSS

BASE_MSS: Final = 1024
FLOOR_MSS: Final = 48
BLACK_HOLE_NS: Final = 3_000_000_000
"""The time until three retransmissions have timed out, at the shortest timeout: Linux's tcp_retries1 of 3."""
_THRESHOLD_BYTES: Final = 8
_INTERVAL_NS: Final = 600_000_000_000


class PathMtu:
    """The search for the longest segment that the path of one connection takes; sizes in bytes of payload."""

    __slots__ = ("_high", "_searched_ns", "end", "low", "size", "start")

    def __init__(self) -> None:
        self.low, self._high = BASE_MSS, MSS
        self._searched_ns = -1
        self.start = self.end = 0
        """The sequence numbers of the probe in flight; `end` is 0 if there is none."""
        self.size = 0

    @property
    def is_suspect(self) -> bool:
        """Whether segments have been shortened, so that longer ones are to be probed."""
        return self._searched_ns >= 0

    def shorten(self, now: int) -> None:
        """Shorten the segments, further at each call, because nothing is acknowledged."""
        if self.is_suspect:
            self.low = max(min(self.low // 2, BASE_MSS), FLOOR_MSS)
        self._searched_ns = now
        self.end = 0

    def next_size(self, now: int) -> int:
        """Return the size of the next probe; 0 if none is due."""
        if self._high - self.low < _THRESHOLD_BYTES:
            if now - self._searched_ns < _INTERVAL_NS:
                return 0
            self._high, self._searched_ns = MSS, now
            if self._high - self.low < _THRESHOLD_BYTES:
                return 0
        return (self.low + self._high) // 2

    def sent(self, start: int, size: int) -> None:
        """Record that a probe was sent, of `size` bytes from the number `start`."""
        self.start, self.end, self.size = start, start + size, size

    def succeeded(self) -> None:
        """Use the probe's size from now on: the probe was acknowledged."""
        self.low = self.size
        self.end = 0

    def failed(self) -> None:
        """Limit the search to smaller sizes: the probe was lost, and segments after it were not."""
        self._high = self.size - 1
        self.end = 0
