"""The receiving half of a connection: reassembly, the timing of acknowledgements, and the announced window.

As in net/ipv4/tcp_input.c and tcp_output.c: the first segments, those that make the window grow, and those with PSH
are acknowledged at once, others every second one. Once this end sends responses (`_interactive`), acknowledgements
are delayed to be sent with them. Out-of-order data is reported by selective acknowledgements (RFC 2018), and so are
duplicates (RFC 2883). The window grows with the data that the program reads in a round trip, which is measured as the
time that a window of data takes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sim.net.segment import FIN, MSS, SACK_BLOCKS_MAX, Range, TcpSegment
from sim.net.tcp.rtt import RttEstimator
from sim.net.timers import LazyTimer, LazyTimers

if TYPE_CHECKING:
    from sim.engine.clock import Environment

WINDOW_FIRST_BYTES: Final = 44 * MSS
"""The window that Linux announces in a SYN: 64 KiB in whole segments."""
_SEGMENT_MEMORY_BYTES: Final = 2304
"""The memory that the kernel uses for a full segment."""
_SCALING_RATIO: Final = (MSS << 8) // _SEGMENT_MEMORY_BYTES
_SEGMENT_WINDOW_BYTES: Final = _SEGMENT_MEMORY_BYTES * _SCALING_RATIO >> 8
WINDOW_UNGROWN_BYTES: Final = 131072 * _SCALING_RATIO >> 8
"""The window for tcp_rmem's default of 128 KiB (tcp_win_from_space)."""
WINDOW_MAX_BYTES: Final = 6291456 * _SCALING_RATIO >> 8
_WINDOW_UNIT_BYTES: Final = 128
"""The unit of announced windows: a window scale of 7."""
QUICK_ACKS_MAX: Final = 16
DELAYED_ACK_MIN_NS: Final = 40_000_000
DELAYED_ACK_MAX_NS: Final = 200_000_000
_DELAYED_FIRST_NS: Final = 1_000_000
"""The delay before any data has arrived: the kernel's timer tick."""
_SEGMENT_FIRST_BYTES: Final = 536
_COUNTED_BYTES_MIN: Final = 128
"""Minimum length of a segment that widens the window."""


class TcpReceiver:
    """The receiving half of one end. `acknowledge` sends an acknowledgement, with the window of `announce()`."""

    __slots__ = (
        "_acknowledge", "_clamp", "_delay_ns", "_edge", "_env", "_held", "_interactive", "_last_ns", "_last_size",
        "_limit", "_order", "_out_of_order", "_out_of_order_bytes", "_pushed", "_quick", "_reading", "_round_at",
        "_round_edge", "_round_ns", "_rtt", "_segment", "_space", "_space_at", "_space_next", "_timer",
        "acknowledged", "blocks", "closed_first", "closing", "duplicate", "fin_at", "next_seq",
    )  # fmt: skip

    def __init__(
        self, env: Environment, timers: LazyTimers, rtt: RttEstimator, acknowledge: Callable[[], object]
    ) -> None:
        self._env, self._rtt, self._acknowledge = env, rtt, acknowledge
        self.next_seq = 0
        """The next expected sequence number (RCV.NXT); 0 before the peer's SYN."""
        self.acknowledged = 0
        """The last number acknowledged to the peer."""
        self.fin_at = -1
        self.closing = False
        """Whether the program has closed this end, so that no later segment carries an acknowledgement."""
        self.closed_first = False
        """Whether the program had closed this end before the peer's FIN arrived."""
        self.blocks: list[Range] = []
        """The ranges received beyond `next_seq`, the most recent first."""
        self._out_of_order: dict[int, bytes] = {}
        self._out_of_order_bytes = 0
        self._order: list[int] = []
        self.duplicate: Range | None = None
        """The range that was received twice, until it is reported (D-SACK)."""
        # for the program
        self._reading = True
        self._held = bytearray()
        # delayed acknowledgements
        self._interactive = False
        self._quick = 0
        self._delay_ns = 0
        self._last_ns = 0
        self._segment = _SEGMENT_FIRST_BYTES
        self._last_size = 0
        self._pushed = 0
        self._timer = LazyTimer(timers, self._on_timer)
        # the window
        self._limit = WINDOW_FIRST_BYTES
        self._clamp = WINDOW_UNGROWN_BYTES
        self._edge = 0
        self._round_edge = self._round_at = self._round_ns = 0
        self._space, self._space_next, self._space_at = 10 * MSS, 1, 0

    # -- fields of segments to be sent

    def announce(self) -> int:
        """Return the window for a segment that is sent now, which also carries the acknowledgement of `next_seq`."""
        next_seq = self.next_seq
        self.acknowledged = next_seq
        self._timer.deadline = self._pushed = 0
        if self._quick:
            self._quick -= 1
            if not self._quick:
                self._delay_ns = DELAYED_ACK_MIN_NS
        window = min(self._limit, self._clamp - len(self._held) - self._out_of_order_bytes)
        if next_seq + window < self._edge:
            window = self._edge - next_seq  # an announced window must not shrink (RFC 9293, 3.8.6)
        window = -(-window // _WINDOW_UNIT_BYTES) * _WINDOW_UNIT_BYTES
        self._edge = next_seq + window
        return window

    def selected(self) -> tuple[Range, ...]:
        """Return the blocks of a selective acknowledgement, with a duplicate first."""
        if self.duplicate is None:
            return tuple(self.blocks[:SACK_BLOCKS_MAX])
        duplicate, self.duplicate = self.duplicate, None
        return (duplicate, *self.blocks[: SACK_BLOCKS_MAX - 1])

    def note_answer(self, now: int) -> None:
        """Record that data is sent. Soon after received data, it is taken for a response."""
        if now - self._last_ns < self._delay_ns:
            self._interactive = True

    # -- segments

    def receive(self, segment: TcpSegment) -> bytes:
        """Process a segment with data or FIN; returns the bytes that are now in order for the program."""
        data, seq = segment.data, segment.seq
        end_seq = seq + len(data)
        if segment.flags & FIN:
            self.fin_at = end_seq
            end_seq += 1
        next_seq = self.next_seq
        if end_seq <= next_seq:
            self._receive_duplicate((seq, end_seq))
            return b""
        if seq >= self._edge and data:
            self._acknowledge()  # beyond the window
            return b""
        if data:
            self._time(len(data), push=segment.push)
        if seq > next_seq:
            self._keep_out_of_order(seq, data)
            return b""
        return self._receive_in_order(data[next_seq - seq :] if seq < next_seq else data)

    def _receive_duplicate(self, block: Range) -> None:
        """Report a duplicate: our acknowledgement was lost, or the segment was retransmitted too early."""
        self.duplicate = block
        self._enter_quick_ack()
        self._acknowledge()

    def _keep_out_of_order(self, seq: int, data: bytes) -> None:
        """Keep a segment that arrived out of order."""
        end_seq = seq + len(data)
        if any(first <= seq and end_seq <= end for first, end in self.blocks):
            self._receive_duplicate((seq, end_seq))
            return
        if data:
            if seq not in self._out_of_order:
                insort(self._order, seq)
            if (more := len(data) - len(self._out_of_order.get(seq, b""))) > 0:
                self._out_of_order[seq] = data
                self._out_of_order_bytes += more
            touching = [block for block in self.blocks if block[0] <= end_seq and seq <= block[1]]
            first = min(seq, *(block[0] for block in touching)) if touching else seq
            end = max(end_seq, *(block[1] for block in touching)) if touching else end_seq
            self.blocks = [(first, end), *(block for block in self.blocks if block not in touching)]
            self._widen(len(data))
        self._acknowledge()

    def _receive_in_order(self, data: bytes) -> bytes:
        """Accept data in order, and the out-of-order data that follows it."""
        filled = bool(self.blocks)
        size = len(data)
        next_seq = self.next_seq + size
        if filled:
            next_seq, data = self._join(next_seq, data)
        if next_seq == self.fin_at:
            next_seq += 1
            self._interactive = not self.closing  # the program's FIN soon acknowledges this one (tcp_fin)
            self.closed_first = self.closing
        self.next_seq = next_seq
        now = self._env._now
        if next_seq >= self._round_edge:
            self._measure_round(now)
        self._widen(size)
        if not self._reading:
            self._held += data
            data = b""
        elif self._round_ns and now - self._space_at >= self._round_ns:
            self._adjust(now)
        unacknowledged = next_seq - self.acknowledged
        if (
            filled
            or self.closed_first
            or unacknowledged > self._segment
            or (self._quick and not self._interactive)
        ):
            self._acknowledge()
        elif self._pushed and (self._pushed > 1 or not self._interactive) and data:
            self._acknowledge()  # the program has read a short segment
        else:
            self._acknowledge_later(now)
        return data

    def _join(self, next_seq: int, data: bytes) -> tuple[int, bytes]:
        chunks = [data]
        order = self._order
        while order and order[0] <= next_seq:
            seq = order.pop(0)
            kept = self._out_of_order.pop(seq)
            self._out_of_order_bytes -= len(kept)
            more = kept[next_seq - seq :]
            chunks.append(more)
            next_seq += len(more)
        self.blocks = [block for block in self.blocks if block[1] > next_seq]
        return next_seq, b"".join(chunks)

    # -- when to acknowledge

    def _time(self, size: int, *, push: bool) -> None:
        """Adapt the delay of acknowledgements to a segment's size, PSH flag and time."""
        now = self._env._now
        if size >= self._segment:
            self._segment = size
            if push and not self._pushed:
                self._pushed = 1
        else:
            if size == self._last_size >= _SEGMENT_FIRST_BYTES:
                self._segment = size
            else:
                self._pushed += 1
            self._last_size = size
        delay, gap = self._delay_ns, now - self._last_ns
        self._last_ns = now
        if not delay:
            self._delay_ns = DELAYED_ACK_MIN_NS
            self._quick = self._quick_acks()
        elif gap <= DELAYED_ACK_MIN_NS // 2:
            self._delay_ns = delay // 2 + DELAYED_ACK_MIN_NS // 2
        elif gap < delay:
            self._delay_ns = min(delay // 2 + gap, self._rtt.rto)
        elif gap > self._rtt.rto and self._quick < QUICK_ACKS_MAX:
            self._quick = max(self._quick, self._quick_acks())

    def _quick_acks(self) -> int:
        return min(max((self._edge - self.next_seq) // (2 * self._segment), 2), QUICK_ACKS_MAX)

    def _enter_quick_ack(self) -> None:
        """Acknowledge the next segments at once, because the peer is in loss recovery."""
        self._quick = max(self._quick, self._quick_acks())
        self._interactive = False
        self._delay_ns = DELAYED_ACK_MIN_NS

    def _acknowledge_later(self, now: int) -> None:
        if self._timer.deadline:
            return
        longest = DELAYED_ACK_MAX_NS if self._interactive or self._pushed else 500_000_000
        if self._rtt.smoothed:
            longest = min(longest, max(self._rtt.smoothed, DELAYED_ACK_MIN_NS))
        self._timer.set(now + min(self._delay_ns or _DELAYED_FIRST_NS, longest))

    def _on_timer(self) -> None:
        if self._interactive:
            self._interactive, self._delay_ns = False, DELAYED_ACK_MIN_NS
        else:
            self._delay_ns = min(2 * self._delay_ns, self._rtt.rto)
        self._acknowledge()

    # -- the window

    def _measure_round(self, now: int) -> None:
        """Measure the round trip without timestamps, as the time in which a window of data arrives."""
        if self._round_edge:
            duration = now - self._round_at
            if not self._round_ns or duration < self._round_ns:
                self._round_ns = max(duration, 1)
        self._round_edge, self._round_at = self._edge, now

    def _adjust(self, now: int) -> None:
        """Set the window to twice the data that the program read in a round trip, or more while that grows."""
        copied = self.next_seq - len(self._held) - self._space_next
        if copied > self._space:
            window = 2 * copied
            window += 2 * (window * (copied - self._space) // self._space)
            if self._order:
                window += self._order[-1] - self.next_seq
            self._space = copied
            self._clamp = max(self._clamp, min(window, WINDOW_MAX_BYTES))
        self._space_next, self._space_at = self.next_seq - len(self._held), now

    def _widen(self, size: int) -> None:
        """Grow the window, and acknowledge at once the segment that made it grow (tcp_grow_window)."""
        room = self._clamp - self._queued() - self._limit
        if room > 0 and size >= _COUNTED_BYTES_MIN:
            self._limit += min(2 * MSS, room)
            self._quick |= 1

    def _queued(self) -> int:
        """Return the part of the window taken by data that the program has not read, and by the current segment."""
        return len(self._held) + self._out_of_order_bytes + _SEGMENT_WINDOW_BYTES

    # -- the program

    @property
    def at_end(self) -> bool:
        """Whether the program has received everything up to the peer's FIN."""
        return 0 <= self.fin_at < self.next_seq and not self._held

    def pause(self) -> None:
        """Keep received data, so that the window shrinks."""
        self._reading = False

    def resume(self) -> bytes:
        """Stop keeping data; returns the kept data."""
        self._reading = True
        data, self._held = bytes(self._held), bytearray()
        return data

    def stop(self) -> None:
        """Send no more delayed acknowledgements."""
        self._timer.deadline = 0
