"""Round-trip time and retransmission timeout: RFC 6298 as in Linux (net/ipv4/tcp_input.c, tcp_rtt_estimator).

Differences from the RFC: the variance is at least RTO_MIN_NS, follows its maximum of each round trip, and is damped
when the round-trip time falls. The timeout is therefore at least RTO_MIN_NS longer than the smoothed round-trip time.
"""

from __future__ import annotations

from typing import Final

RTO_INITIAL_NS: Final = 1_000_000_000
RTO_UNMEASURED_NS: Final = 3_000_000_000
"""The timeout after a handshake without a sample, because a SYN was retransmitted (RFC 6298, 5.7)."""
RTO_MIN_NS: Final = 200_000_000
RTO_MAX_NS: Final = 120_000_000_000


class RttEstimator:
    """The round-trip time and retransmission timeout of one connection, in nanoseconds."""

    __slots__ = ("_deviation", "_deviation_max", "_round_end", "_variance", "minimum", "rto", "smoothed")

    def __init__(self) -> None:
        self.rto = RTO_INITIAL_NS
        self.smoothed = 0
        """0 before the first sample."""
        self.minimum = 0
        self._deviation = self._deviation_max = self._variance = 0  # stored times four, as in Linux
        self._round_end = 0

    def measure(self, rtt: int, una: int, next_seq: int) -> None:
        """Add a sample. `una` and `next_seq` are the sender's first unacknowledged and next sequence numbers."""
        if not self.minimum or rtt < self.minimum:
            self.minimum = rtt
        if not self.smoothed:
            self.smoothed = rtt
            self._deviation = 2 * rtt
            self._variance = self._deviation_max = max(2 * rtt, RTO_MIN_NS)
            self._round_end = next_seq
        else:
            self._follow(rtt, una, next_seq)
        self.rto = min(self.smoothed + self._variance, RTO_MAX_NS)

    def _follow(self, rtt: int, una: int, next_seq: int) -> None:
        error = rtt - self.smoothed
        self.smoothed += error // 8
        change = abs(error) - self._deviation // 4
        if error < 0 and change > 0:
            change //= 8
        self._deviation += change
        if self._deviation > self._deviation_max:
            self._deviation_max = self._deviation
            if self._deviation_max > self._variance:
                self._variance = self._deviation_max
        if una > self._round_end:
            if self._deviation_max < self._variance:
                self._variance -= (self._variance - self._deviation_max) // 4
            self._round_end = next_seq
            self._deviation_max = RTO_MIN_NS

    def back_off(self) -> None:
        """Double the timeout."""
        self.rto = min(2 * self.rto, RTO_MAX_NS)
