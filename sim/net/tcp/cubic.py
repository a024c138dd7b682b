"""CUBIC congestion control (RFC 9438) with HyStart (Ha and Rhee, 2011), as Linux computes it in tcp_cubic.c.

The window is counted in segments. All arithmetic uses the kernel's integer formulas and a clock of 1 ms, so that
results are the same on every machine.
"""

from __future__ import annotations

from typing import Final

INITIAL_WINDOW: Final = 10
UNLIMITED: Final = 0x7FFFFFFF
_MS: Final = 1_000_000
_SECOND_MS: Final = 1000
_BETA: Final = 717  # of 1024
_SCALE: Final = 410  # C of 0.4, times 1024
_CUBE_FACTOR: Final = (1 << 40) // _SCALE
_FRIENDLY: Final = 8 * (1024 + _BETA) // 3 // (1024 - _BETA)
_UPDATE_EVERY_MS: Final = _SECOND_MS // 32
_HYSTART_WINDOW_MIN: Final = 16
_HYSTART_SAMPLES: Final = 8
_HYSTART_TRAIN_NS: Final = 2 * _MS
_HYSTART_DELAY_MIN_NS: Final = 4 * _MS
_HYSTART_DELAY_MAX_NS: Final = 16 * _MS


class Cubic:
    """The congestion window and slow start threshold of one connection, in segments."""

    __slots__ = (
        "_ack_count", "_count", "_curve_ms", "_delay_min_ns", "_epoch_ms", "_found", "_friendly_window", "_growth",
        "_last_ack_ns", "_last_max", "_last_ms", "_last_window", "_origin", "_round_end", "_round_rtt_ns",
        "_round_start_ns", "_samples", "ssthresh", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.window = INITIAL_WINDOW
        self.ssthresh = UNLIMITED
        self._growth = 0
        self._round_end = 0
        self._round_start_ns = self._last_ack_ns = 0
        self.reset()

    def reset(self) -> None:
        """Discard the curve, as after a retransmission timeout."""
        self._count = self._ack_count = self._friendly_window = 0
        self._last_max = self._last_window = self._last_ms = self._epoch_ms = 0
        self._origin = self._curve_ms = self._delay_min_ns = 0
        self._found = False

    @property
    def in_slow_start(self) -> bool:
        """Whether the window grows by one segment for each segment acknowledged."""
        return self.window < self.ssthresh

    def reduced(self) -> int:
        """Start a new curve after a loss; returns the new slow start threshold."""
        self._epoch_ms = 0
        window = self.window
        if window < self._last_max:  # fast convergence: another flow may have started
            self._last_max = window * (1024 + _BETA) // 2048
        else:
            self._last_max = window
        return max(window * _BETA // 1024, 2)

    def idle(self, idle_ns: int) -> None:
        """Shift the curve by `idle_ns`, so that time in which nothing was sent does not count."""
        if self._epoch_ms:
            self._epoch_ms += idle_ns // _MS

    def grow(self, acked: int, now_ns: int) -> None:
        """Grow the window after `acked` segments were delivered while the window limited the sender."""
        if self.window < self.ssthresh:
            window = min(self.window + acked, self.ssthresh)
            acked -= window - self.window
            self.window = window
            if not acked:
                return
        self._update(acked, now_ns // _MS)
        if self._growth >= self._count:
            self._growth = 0
            self.window += 1
        self._growth += acked
        if self._growth >= self._count:
            more = self._growth // self._count
            self._growth -= more * self._count
            self.window += more

    def _update(self, acked: int, now_ms: int) -> None:
        """Set `_count`, the number of segments to be delivered before the window grows by one."""
        window = self.window
        self._ack_count += acked
        if self._last_window == window and now_ms - self._last_ms <= _UPDATE_EVERY_MS:
            return
        if not (self._epoch_ms and now_ms == self._last_ms):
            self._last_window, self._last_ms = window, now_ms
            if not self._epoch_ms:
                self._begin_epoch(acked, now_ms)
            self._follow_curve(window, now_ms)
        self._be_friendly(window)
        self._count = max(self._count, 2)

    def _begin_epoch(self, acked: int, now_ms: int) -> None:
        self._epoch_ms = now_ms
        self._ack_count, self._friendly_window = acked, self.window
        if self._last_max <= self.window:
            self._curve_ms, self._origin = 0, self.window
        else:
            self._curve_ms = cube_root(_CUBE_FACTOR * (self._last_max - self.window))
            self._origin = self._last_max

    def _follow_curve(self, window: int, now_ms: int) -> None:
        elapsed = ((now_ms - self._epoch_ms + self._delay_min_ns // _MS) << 10) // _SECOND_MS
        offset = abs(elapsed - self._curve_ms)
        delta = (_SCALE * offset**3) >> 40
        target = self._origin - delta if elapsed < self._curve_ms else self._origin + delta
        self._count = window // (target - window) if target > window else 100 * window
        if not self._last_max and self._count > 20:
            self._count = 20

    def _be_friendly(self, window: int) -> None:
        """Grow at least as fast as Reno (RFC 9438, 4.3)."""
        delta = (window * _FRIENDLY) >> 3
        if self._ack_count > delta:
            more = (self._ack_count - 1) // delta
            self._ack_count -= more * delta
            self._friendly_window += more
        if self._friendly_window > window:
            self._count = min(self._count, window // (self._friendly_window - window))

    def begin_round(self, now_ns: int, next_seq: int) -> None:
        """Start a round trip of HyStart, which ends when `next_seq` is acknowledged."""
        self._round_start_ns = self._last_ack_ns = now_ns
        self._round_end = next_seq
        self._round_rtt_ns = UNLIMITED * _MS
        self._samples = 0

    def measure(self, rtt_ns: int, now_ns: int, una: int, next_seq: int) -> None:
        """Add a sample of the round-trip time, of the segment that was acknowledged last."""
        if self._epoch_ms and now_ns // _MS - self._epoch_ms < _SECOND_MS:
            return  # Linux discards samples shortly after fast recovery
        if not self._delay_min_ns or rtt_ns < self._delay_min_ns:
            self._delay_min_ns = max(rtt_ns, 1)
        if self.window < self.ssthresh and not self._found:
            self._hystart(rtt_ns, now_ns, una, next_seq)

    def _hystart(self, rtt_ns: int, now_ns: int, una: int, next_seq: int) -> None:
        """End slow start when an ACK train is as long as half the round trip, or round trips get longer."""
        if una > self._round_end:
            self.begin_round(now_ns, next_seq)
        if self.window < _HYSTART_WINDOW_MIN:
            return
        if now_ns - self._last_ack_ns <= _HYSTART_TRAIN_NS:
            self._last_ack_ns = now_ns
            if now_ns - self._round_start_ns > self._delay_min_ns // 2:
                self._found = True
        self._round_rtt_ns = min(self._round_rtt_ns, rtt_ns)
        if self._samples < _HYSTART_SAMPLES:
            self._samples += 1
        else:
            slack = min(max(self._delay_min_ns // 8, _HYSTART_DELAY_MIN_NS), _HYSTART_DELAY_MAX_NS)
            if self._round_rtt_ns > self._delay_min_ns + slack:
                self._found = True
        if self._found:
            self.ssthresh = self.window


def cube_root(value: int) -> int:
    """Return the integer cube root, by Newton's method."""
    if not value:
        return 0
    root = 1 << -(-value.bit_length() // 3)
    while True:
        better = (2 * root + value // (root * root)) // 3
        if better >= root:
            return root
        root = better
