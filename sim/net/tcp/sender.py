"""The sending half of a TCP connection: when data is sent and retransmitted, and the timer.

As in net/ipv4/tcp_output.c and tcp_timer.c. One timer serves as loss probe timer (RFC 8985, section 7), reordering
timer, retransmission timer and window probe timer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from sim.net.segment import ACK, FIN, MSS, TcpSegment
from sim.net.tcp.cubic import INITIAL_WINDOW, UNLIMITED, Cubic
from sim.net.tcp.mtu import BLACK_HOLE_NS, PathMtu
from sim.net.tcp.recovery import AckEvent, LossRecovery, RecoveryState, Resend
from sim.net.tcp.rtt import RTO_INITIAL_NS, RTO_MAX_NS, RTO_MIN_NS, RTO_UNMEASURED_NS, RttEstimator
from sim.net.tcp.scoreboard import Scoreboard, Sent
from sim.net.timers import LazyTimer, LazyTimers

if TYPE_CHECKING:
    from sim.engine.clock import Environment

RETRIES_NS: Final = 924_600_000_000
"""How long data is retransmitted: Linux's tcp_retries2 of 15, from the shortest timeout (retransmits_timed_out)."""
WINDOW_PROBES_MAX: Final = 15
"""Maximum number of unanswered window probes in a row."""
_TIMER_MIN_NS: Final = 2_000_000
_SMALL_QUEUE_SEGMENTS: Final = 2


class Purpose(IntEnum):
    """The current purpose of the timer."""

    NONE = 0
    RETRANSMIT = 1
    PROBE = 2
    REORDER = 3
    WINDOW = 4


# before Python 3.12, reading an enum's member takes as long as ten local operations
_OPEN, _RECOVERY = RecoveryState.OPEN, RecoveryState.RECOVERY
_NONE, _RETRANSMIT, _PROBE, _REORDER, _WINDOW = Purpose


class Output(Protocol):
    """The operations of the connection that a sender uses."""

    def transmit(
        self, seq: int, data: bytes, flags: int = ACK, *, is_resend: bool = False, push: bool = False
    ) -> None:
        """Send a segment; `is_resend` marks a retransmission, `push` sets PSH."""
        ...

    def give_up(self) -> None:
        """End the connection, because the peer does not answer."""
        ...


class TcpSender:
    """The sending half of one end. `una` is the first unacknowledged number (SND.UNA), `next_seq` is SND.NXT."""

    __slots__ = (
        "_board", "_buffer", "_cubic", "_edge", "_env", "_fin_wanted", "_last_sent_ns", "_limited", "_limited_until",
        "_most_out", "_on_acknowledged", "_output", "_path", "_probe_end", "_probe_resent", "_purpose", "_recovery",
        "_retrying_since", "_started", "_timed_out", "_timer", "_window_probes", "fin_sent", "mss", "next_seq",
        "rtt", "una",
    )  # fmt: skip

    def __init__(
        self,
        env: Environment,
        timers: LazyTimers,
        output: Output,
        rtt: RttEstimator,
        on_acknowledged: Callable[[], object],
        *,
        mtu_probing: bool,
    ) -> None:
        self._env, self._output, self.rtt, self._on_acknowledged = env, output, rtt, on_acknowledged
        self._buffer = bytearray()
        """The unacknowledged and unsent data, from `una` on."""
        self.una = self.next_seq = 1
        self.mss = MSS
        self._path = PathMtu() if mtu_probing else None
        self._edge = 0
        """The end of the peer's window, as a sequence number."""
        self._fin_wanted = self.fin_sent = False
        self._started = False
        self._board = Scoreboard()
        self._cubic = Cubic()
        self._recovery = LossRecovery(self._board, self._cubic, rtt)
        self._last_sent_ns = 0
        # whether the congestion window limits the sender (tcp_cwnd_validate)
        self._limited = False
        self._limited_until = self._most_out = 0
        # the timer
        self._timer = LazyTimer(timers, self._on_timer)
        self._purpose = _NONE
        self._timed_out = False
        """Whether the first segment was retransmitted by a timeout."""
        self._retrying_since = -1
        self._window_probes = 0
        # the loss probe in flight: the end of the data then, and whether it was a retransmission
        self._probe_end = 0
        self._probe_resent = False

    @property
    def unacknowledged(self) -> int:
        """Bytes written and not acknowledged."""
        return len(self._buffer)

    @property
    def is_done(self) -> bool:
        """Whether everything is acknowledged, including FIN."""
        return self.fin_sent and self.una == self.next_seq

    def start(self, window: int, rtt: int, *, syns_resent: int) -> None:
        """Start to send after the handshake; `rtt` is its round-trip time in ns, 0 if it is ambiguous."""
        self._started = True
        self._edge = self.una + window
        if rtt:
            self.rtt.measure(rtt, 0, 1)
        else:
            self.rtt.rto = RTO_UNMEASURED_NS
        if syns_resent > 1:
            self._cubic.window = 1

    def stop(self) -> None:
        """Stop sending, and stop the timer."""
        self._started = False
        self._disarm()

    def write(self, data: bytes) -> int:
        """Queue bytes and send as much as the windows allow; returns the number of unacknowledged bytes."""
        self._buffer += data
        self.push()
        return len(self._buffer)

    def finish(self) -> None:
        """Send FIN after the queued data."""
        self._fin_wanted = True
        self.push()

    # -- sending

    def push(self, most: int = UNLIMITED) -> None:
        """Send as much as the windows allow, at most `most` segments."""
        if not self._started:
            return
        board, buffer, una = self._board, self._buffer, self.una
        sent, next_seq, mss = board.sent, self.next_seq, self.mss
        left = una + len(buffer) - next_seq
        if left <= 0 and not (self._fin_wanted and not self.fin_sent):
            return
        now, before = self._env._now, len(sent)
        if not before and self._last_sent_ns:
            self._resume(now)
        if self._path is not None and self._path.is_suspect and self._probe_path(self._path, now, left):
            next_seq = self.next_seq
            left = una + len(buffer) - next_seq
        quota = min(self._cubic.window - (len(sent) - board.sacked - board.lost + board.resent), most)
        second = False
        while left > 0 and quota > 0:
            size = left if left < mss else mss
            room = self._edge - next_seq
            if size > room:
                if room <= 0 or sent:
                    break
                size = room
            offset = next_seq - una
            left -= size
            self._output.transmit(next_seq, bytes(buffer[offset : offset + size]), push=second or not left)
            second = not second
            sent.append(Sent(next_seq, next_seq + size, now))
            next_seq += size
            quota -= 1
        if not left and self._fin_wanted and not self.fin_sent:
            self.fin_sent = True
            self._output.transmit(next_seq, b"", ACK | FIN)
            sent.append(Sent(next_seq, next_seq + 1, now))
            next_seq += 1
        self._pushed(next_seq, now, before, quota)

    def _pushed(self, next_seq: int, now: int, before: int, quota: int) -> None:
        """Update the state after sending, and set the timer."""
        out = len(self._board.sent)
        if next_seq > self.next_seq or quota <= 0:
            limited = quota <= 0
            if self.una >= self._limited_until or limited or (not self._limited and out > self._most_out):
                self._limited, self._most_out, self._limited_until = limited, out, next_seq
        if next_seq > self.next_seq:
            if self._recovery.state is _RECOVERY:
                self._recovery.prr_out += out - before
            self.next_seq = next_seq
            self._last_sent_ns = now
            self._arm_for_sent(now, had_some=before > 0)
        elif not out and self._purpose is not _WINDOW:  # the peer's window is closed
            self._arm(_WINDOW, now + self._window_probe_ns())

    def _probe_path(self, path: PathMtu, now: int, left: int) -> bool:
        """Send a path MTU probe, if there is enough data after it to detect its loss (tcp_mtu_probe)."""
        board, cubic = self._board, self._cubic
        size = path.next_size(now)
        needed = size + (board.reordering + 1) * self.mss
        if (
            not size
            or path.end
            or self._recovery.state
            or left < needed
            or self._edge - self.next_seq < needed
        ):
            return False
        if cubic.window <= INITIAL_WINDOW or board.in_flight + 2 > cubic.window:
            return False
        path.sent(self.next_seq, size)
        self._send_new(size)
        cubic.window -= 1
        return True

    def _learn_path(self, path: PathMtu) -> None:
        """Evaluate the path MTU probe in flight: acknowledged, lost, or still open."""
        cubic = self._cubic
        if self.una >= path.end:
            cubic.window = max(cubic.window * self.mss // path.size, 1)
            path.succeeded()
            self.mss = path.low
        elif self.una == path.start and self._board.sent[0].lost:
            path.failed()
            self._recovery.resend_probe(self.next_seq)

    def _resume(self, now: int) -> None:
        """Reduce the window after an idle time longer than the timeout (RFC 2861)."""
        cubic, idle = self._cubic, now - self._last_sent_ns
        cubic.idle(idle)
        rto = self.rtt.rto
        if idle > rto and cubic.window > INITIAL_WINDOW:
            cubic.ssthresh = self._recovery.prior_ssthresh()
            while idle > rto and cubic.window > INITIAL_WINDOW:
                idle -= rto
                cubic.window //= 2
            cubic.window = max(cubic.window, INITIAL_WINDOW)

    def _resend(self, index: int) -> None:
        """Retransmit the scoreboard's segment at `index`, split if segments have become shorter."""
        board = self._board
        segment = board.sent[index]
        if segment.end - segment.seq > self.mss:
            board.split(index, self.mss)
        data = bytes(self._buffer[segment.seq - self.una : segment.end - self.una])
        has_fin = segment.end - segment.seq > len(data)
        now = self._env._now
        if self._retrying_since < 0:
            self._retrying_since = now
        self._output.transmit(segment.seq, data, ACK | FIN if has_fin else ACK, is_resend=True)
        board.note_resent(segment, now)
        self._recovery.note_resent()
        self._last_sent_ns = now

    def _resend_lost(self) -> None:
        """Retransmit lost segments, as far as the window allows."""
        board, recovery, window = self._board, self._recovery, self._cubic.window
        index = 0
        while index < len(board.sent) and board.resent < board.lost and board.in_flight < window:
            segment = board.sent[index]
            if segment.lost and not segment.resent:
                self._resend(index)
                if recovery.state is _RECOVERY:
                    recovery.prr_out += 1
                if not index and self._purpose is not _REORDER:
                    self._arm(_RETRANSMIT, self._env._now + self.rtt.rto)
            index += 1

    # -- acknowledgements

    def receive_ack(self, segment: TcpSegment) -> None:
        """Process the acknowledgement and window of a segment."""
        ack = segment.ack
        if ack > self.next_seq:
            return
        edge = ack + segment.window
        opened = edge > self._edge
        if opened:
            self._edge = edge
        self._window_probes = 0
        if segment.sack or self._recovery.state or self._probe_end or self._board.resent:
            duplicate = ack == self.una and not segment.data and not opened
            self._process_ack(segment, ack, duplicate=duplicate)
        elif ack > self.una:
            self._advance(ack)
        elif opened:
            self.push()

    def _advance(self, ack: int) -> None:
        """Process an acknowledgement of data in order, without losses, SACK or probes (the fast path)."""
        board, rtt, now = self._board, self.rtt, self._env._now
        sent = board.sent
        done = 0
        for segment in sent:
            if segment.end > ack:
                assert segment.seq >= ack, "without recovery, receivers acknowledge whole segments"
                break
            done += 1
        if done:
            first, last = sent[0], sent[done - 1]
            board.deliver_in_order(done, now)
            self._acknowledged(ack)
            if not last.ever_resent:
                rtt.measure(now - first.sent_ns, ack, self.next_seq)
                self._cubic.measure(now - last.sent_ns, now, ack, self.next_seq)
            if self._is_limited():
                self._cubic.grow(done, now)
            self._arm_for_rest(now)
        else:
            self._acknowledged(ack)
        if self._path is not None and self._path.end:
            self._learn_path(self._path)
        if self._buffer or self._fin_wanted:
            self.push()
        self._on_acknowledged()

    def _acknowledged(self, ack: int) -> None:
        del self._buffer[: ack - self.una]
        self.una = ack
        self._timed_out, self._retrying_since = False, -1

    def _is_limited(self) -> bool:
        """Return whether the congestion window limits the sender (tcp_is_cwnd_limited)."""
        cubic = self._cubic
        return self._limited or (cubic.in_slow_start and cubic.window < 2 * self._most_out)

    def _process_ack(self, segment: TcpSegment, ack: int, *, duplicate: bool) -> None:
        """Process an acknowledgement with SACK, in recovery, or with a probe in flight (tcp_ack)."""
        board, recovery, now = self._board, self._recovery, self._env._now
        board.begin()
        una, delivered, losses, minimum = self.una, board.delivered, board.losses, self.rtt.minimum
        duplicated = recovery.note_duplicate(segment.sack, ack, self._probe_end)
        selected = board.select(segment.sack[duplicated:], now, minimum, recovery.high)
        advanced = ack > una
        done = board.acknowledge(ack, now, minimum, recovery.high) if advanced else 0
        if advanced:
            self._acknowledged(ack)
        rearm = self._measure(now, ack) if done or selected else False
        board.adapt_window(delivered)
        self._end_probe(ack, duplicated=bool(duplicated), plain=duplicate and not selected)
        more = len(self._buffer) > self.next_seq - self.una and self._edge > self.next_seq
        event = AckEvent(now, self.una, self.next_seq, more, advanced, selected > 0, duplicate)
        resend = recovery.on_ack(event)
        if recovery.look_in_ns:
            self._arm(_REORDER, now + recovery.look_in_ns + _TIMER_MIN_NS)
        elif done or rearm:
            self._arm_for_rest(now)
        recovery.control(
            event, board.delivered - delivered, board.losses - losses, limited=self._is_limited()
        )
        if self._path is not None and self._path.end:
            self._learn_path(self._path)
        self._continue(resend)
        if advanced:
            self._on_acknowledged()

    def _continue(self, resend: Resend) -> None:
        """Send new data if F-RTO requires it, then retransmit lost segments (tcp_xmit_recovery).

        Two new segments fill TCP's small queue. After they have left the host, lost segments go first
        (tcp_tsq_write).
        """
        if resend is Resend.NEW:
            self.push(_SMALL_QUEUE_SEGMENTS)
            if self.next_seq <= self._recovery.high:
                self._recovery.give_up_frto()
        if resend is not Resend.NOTHING:
            self._resend_lost()
        self.push()

    def _measure(self, now: int, ack: int) -> bool:
        """Measure the round-trip time; returns whether the sample is of a later segment than the first in flight."""
        board = self._board
        acked, sacked = board.acked_ns, board.sacked_ns
        sample, latest = -1, -1
        if acked is not None and not board.resent_acked:
            sample, latest = acked
        if sacked is not None:
            latest = sacked[1]
            if sample < 0:
                sample = sacked[0]
        if sample < 0:
            return False
        self.rtt.measure(now - sample, ack, self.next_seq)
        self._cubic.measure(now - latest, now, ack, self.next_seq)
        return sacked is not None and bool(board.sent) and board.sent[0].sent_ns < sacked[0]

    def _end_probe(self, ack: int, *, duplicated: bool, plain: bool) -> None:
        """Evaluate the acknowledgement of a loss probe (tcp_process_tlp_ack)."""
        if not self._probe_end or ack < self._probe_end:
            return
        if not self._probe_resent or duplicated or plain:
            self._probe_end = 0
        elif ack > self._probe_end:
            self._probe_end = 0
            self._recovery.tail_was_lost(self.next_seq)

    # -- the timer

    def _arm(self, purpose: Purpose, at: int) -> None:
        self._purpose = purpose
        self._timer.set(at)

    def _disarm(self) -> None:
        self._purpose = _NONE
        self._timer.deadline = 0

    def _arm_for_sent(self, now: int, *, had_some: bool) -> None:
        """Set the timer after new data was sent (tcp_event_new_data_sent, tcp_schedule_loss_probe)."""
        sent, rto = self._board.sent, self.rtt.rto
        left = sent[0].sent_ns + rto - now
        if self._recovery.state is _OPEN:
            wait = self._probe_ns()
            self._arm(_PROBE, now + (min(wait, left) if left > 0 else wait))
        elif not had_some:
            self._arm(_RETRANSMIT, now + rto)
        elif self._purpose is _PROBE:
            self._arm(_RETRANSMIT, now + max(left, 1))

    def _arm_for_rest(self, now: int) -> None:
        """Set the timer after segments were acknowledged (tcp_set_xmit_timer)."""
        sent, rto = self._board.sent, self.rtt.rto
        if not sent:
            self._disarm()
        elif self._recovery.state is _OPEN:
            self._arm(_PROBE, now + min(self._probe_ns(), rto))
        else:
            self._arm_retransmission(now)

    def _arm_retransmission(self, now: int) -> None:
        """Set the retransmission timer (tcp_rearm_rto)."""
        if not self._board.sent:
            self._disarm()
            return
        wait = self.rtt.rto
        if self._purpose in (_PROBE, _REORDER):
            wait = max(self._board.sent[0].sent_ns + wait - now, 1)
        self._arm(_RETRANSMIT, now + wait)

    def _probe_ns(self) -> int:
        smoothed = self.rtt.smoothed
        if not smoothed:
            return RTO_INITIAL_NS
        return 2 * smoothed + (RTO_MIN_NS if len(self._board.sent) == 1 else _TIMER_MIN_NS)

    def _window_probe_ns(self) -> int:
        return min(max(self.rtt.rto, RTO_MIN_NS) << min(self._window_probes, 20), RTO_MAX_NS)

    def _on_timer(self) -> None:
        purpose, self._purpose = self._purpose, _NONE
        _ON_TIMER[purpose](self)

    def _probe(self) -> None:
        """Send a loss probe, to detect the loss of the last segments (tcp_send_loss_probe)."""
        now, board = self._env._now, self._board
        if self._probe_end:  # a probe is in flight: set the timeout of the first segment
            self._arm(_RETRANSMIT, max(board.sent[0].sent_ns + self.rtt.rto, now + 1))
        else:
            next_seq = self.next_seq
            self._probe_resent = not self._send_one_new()
            if self._probe_resent:
                self._resend(len(board.sent) - 1)
            self._probe_end = max(next_seq, self.next_seq)
            self._arm(_RETRANSMIT, now + self.rtt.rto)

    def _send_one_new(self) -> bool:
        """Send one new segment regardless of the congestion window; returns whether there was one."""
        size = min(self.mss, self.una + len(self._buffer) - self.next_seq)
        if size <= 0 or self.next_seq + size > self._edge:
            return False
        self._send_new(size)
        return True

    def _send_new(self, size: int) -> None:
        """Send the next `size` bytes as one segment."""
        offset, now = self.next_seq - self.una, self._env._now
        self._output.transmit(self.next_seq, bytes(self._buffer[offset : offset + size]))
        self._board.sent.append(Sent(self.next_seq, self.next_seq + size, now))
        self.next_seq += size
        self._last_sent_ns = now

    def _look_again(self) -> None:
        """Handle the expiry of RACK's reordering timer."""
        now = self._env._now
        if self._recovery.look_again(now, self.una, self.next_seq):
            self._resend_lost()
        if self._purpose is _NONE and self._recovery.look_in_ns:
            self._arm(_REORDER, now + self._recovery.look_in_ns + _TIMER_MIN_NS)
        elif self._purpose is not _RETRANSMIT:
            self._purpose = _REORDER
            self._arm_retransmission(now)

    def _time_out(self) -> None:
        """Handle the expiry of the retransmission timer."""
        now, rtt = self._env._now, self.rtt
        if self._retrying_since >= 0 and now - self._retrying_since >= RETRIES_NS:
            self._output.give_up()
            return
        if self._path is not None:
            self._path.end = 0
            if self._timed_out and now - self._retrying_since >= BLACK_HOLE_NS:
                self._path.shorten(now)
                self.mss = self._path.low
        self._recovery.time_out(now, self.una, self.next_seq, repeated=self._timed_out)
        self._probe_end = 0
        self._timed_out = True
        self._resend(0)
        rtt.back_off()
        self._arm(_RETRANSMIT, now + rtt.rto)

    def _probe_window(self) -> None:
        """Send a window probe with a sequence number that is acknowledged already (tcp_write_wakeup)."""
        if self._window_probes >= WINDOW_PROBES_MAX:
            self._output.give_up()
            return
        now = self._env._now
        self._window_probes += 1
        self._output.transmit(self.una - 1, b"")
        self._arm(_WINDOW, now + self._window_probe_ns())


_ON_TIMER: Final = {
    Purpose.PROBE: TcpSender._probe,
    Purpose.REORDER: TcpSender._look_again,
    Purpose.RETRANSMIT: TcpSender._time_out,
    Purpose.WINDOW: TcpSender._probe_window,
}
