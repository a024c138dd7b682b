"""TCP loss recovery: the states of Linux's tcp_fastretrans_alert (net/ipv4/tcp_input.c), proportional rate reduction,
and the undoing of spurious window reductions.

    OPEN ─SACK─▶ DISORDER ─a segment is lost─▶ RECOVERY ─all before `high` acknowledged─▶ OPEN
      └──────────────────── timeout ─────────▶ LOSS ─────────────────────────────────────▶ OPEN

RECOVERY sends in proportion to what is delivered until the window is at the threshold (RFC 6937). LOSS starts with
one segment and slow start; meanwhile F-RTO (RFC 5682) detects a spurious timeout. A reduction is undone when every
retransmission was reported as a duplicate (RFC 3708), or the original segments were delivered.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from sim.net.segment import Range
from sim.net.tcp.cubic import Cubic
from sim.net.tcp.rtt import RttEstimator
from sim.net.tcp.scoreboard import REORDERING, Scoreboard


class RecoveryState(IntEnum):
    """The state of loss recovery, as Linux's tcp_ca_state."""

    OPEN = 0
    DISORDER = 1
    RECOVERY = 2
    LOSS = 3


class Resend(IntEnum):
    """Segments to send after an acknowledgement, before new data within the window."""

    NOTHING = 0
    LOST = 1
    NEW = 2


class AckEvent(NamedTuple):
    """The contents of an acknowledgement, as far as loss recovery uses them; `now` in nanoseconds of lab time."""

    now: int
    una: int
    next_seq: int
    """The next sequence number to be sent (SND.NXT)."""
    can_send_new: bool
    advanced: bool
    selected: bool
    """Whether it selectively acknowledged a segment for the first time."""
    duplicate: bool


_NOT_UNDOABLE: Final = -1


class LossRecovery:
    """The loss recovery of one sender, which sets the congestion window."""

    __slots__ = (
        "_board", "_cubic", "_frto", "_prior_ssthresh", "_prior_window", "_prr_delivered", "_rtt", "_undo_from",
        "_undo_resent", "high", "look_in_ns", "prr_out", "state",
    )  # fmt: skip

    def __init__(self, board: Scoreboard, cubic: Cubic, rtt: RttEstimator) -> None:
        self._board, self._cubic, self._rtt = board, cubic, rtt
        self.state = RecoveryState.OPEN
        self.high = 0
        """The sequence number at which the current recovery, or the last one, ends."""
        self.look_in_ns = 0
        """The time until RACK's next check for losses, in nanoseconds; 0 if none is due."""
        self.prr_out = 0
        self._prr_delivered = self._prior_window = self._prior_ssthresh = 0
        self._undo_from = self._undo_resent = _NOT_UNDOABLE
        self._frto = False

    @property
    def in_loss(self) -> bool:
        """Whether recovery from a retransmission timeout is in progress."""
        return self.state is RecoveryState.LOSS

    # -- acknowledgements

    def on_ack(self, event: AckEvent) -> Resend:
        """Update the state for an acknowledgement; call `control` afterwards, which sets the window."""
        self.look_in_ns = 0
        if self.state is RecoveryState.RECOVERY and event.una >= self.high:
            self._leave()
        if self.state is RecoveryState.RECOVERY:
            return self._on_ack_in_recovery(event)
        resend = Resend.NOTHING
        if self.state is RecoveryState.LOSS:
            resend = self._on_ack_in_loss(event)
            resent = self._board.resent
            self._detect(event.now)
            if self.in_loss and self._board.resent >= resent:
                return resend
        if not self.in_loss:
            self._undo_if_duplicates()
        self._detect(event.now)
        if self._board.lost:
            self._enter(event.una, event.next_seq)
            return Resend.LOST
        self._keep_open(event.next_seq)
        return resend

    def _on_ack_in_recovery(self, event: AckEvent) -> Resend:
        if self._undo_if_duplicates():
            self._keep_open(event.next_seq)
        self._detect(event.now)
        if self.state is not RecoveryState.RECOVERY:
            if not self._board.lost:
                return Resend.NOTHING
            self._enter(event.una, event.next_seq)
        return Resend.LOST

    def _on_ack_in_loss(self, event: AckEvent) -> Resend:
        """Process an acknowledgement after a retransmission timeout (tcp_process_loss)."""
        recovered = event.una >= self.high
        if event.advanced and self._undo_resent == 0:
            self._undo_loss()
            return Resend.NOTHING
        if self._frto:
            if self._board.original_acked:
                self._undo_loss()
                return Resend.NOTHING
            if event.next_seq > self.high:
                if event.selected or event.duplicate:
                    self._frto = False
            elif event.advanced and not recovered:
                self.high = event.next_seq
                if event.can_send_new:
                    return Resend.NEW
                self._frto = False
        if recovered:
            self._leave()
            return Resend.NOTHING
        return Resend.LOST

    def give_up_frto(self) -> None:
        """End F-RTO, because there was no new data to send."""
        self._frto = False

    def control(self, event: AckEvent, delivered: int, losses: int, *, limited: bool) -> None:
        """Set the window after `delivered` and `losses` segments; it grows only if it `limited` the sender."""
        if self.state is RecoveryState.RECOVERY:
            self._reduce(delivered, advanced=event.advanced, lost=losses > 0)
        elif delivered and limited and (event.advanced or self._board.reordering > REORDERING):
            self._cubic.grow(delivered, event.now)

    def _reduce(self, delivered: int, *, advanced: bool, lost: bool) -> None:
        """Set the window by proportional rate reduction (RFC 6937)."""
        if delivered <= 0:
            return
        cubic, in_flight = self._cubic, self._board.in_flight
        self._prr_delivered += delivered
        room = cubic.ssthresh - in_flight
        if room < 0:
            prior = self._prior_window
            more = (cubic.ssthresh * self._prr_delivered + prior - 1) // prior - self.prr_out
        else:
            more = max(self._prr_delivered - self.prr_out, delivered)
            more = min(room, more + (advanced and not lost))
        cubic.window = in_flight + max(more, 0 if self.prr_out else 1)

    def _detect(self, now: int) -> None:
        """Let RACK check for losses, if segments were delivered since the last check."""
        board, rtt = self._board, self._rtt
        if board.news and board.sent:
            window = board.reordering_window(
                rtt.minimum, rtt.smoothed, in_recovery=self.state >= RecoveryState.RECOVERY
            )
            self.look_in_ns = board.detect_losses(now, window)

    def _keep_open(self, next_seq: int) -> None:
        """Set the state OPEN, or DISORDER while there are holes or retransmissions in flight."""
        board = self._board
        open_ = not (board.sacked or board.lost or any(segment.ever_resent for segment in board.sent))
        state = RecoveryState.OPEN if open_ else RecoveryState.DISORDER
        if state is not self.state:
            self.state, self.high = state, next_seq

    def _enter(self, una: int, next_seq: int) -> None:
        self._begin_undo(una)
        self._prior_ssthresh = self.prior_ssthresh()
        self.begin_reduction(next_seq)
        self.state = RecoveryState.RECOVERY

    def begin_reduction(self, next_seq: int) -> None:
        """Begin a reduction of the window (tcp_init_cwnd_reduction)."""
        cubic = self._cubic
        self.high = next_seq
        self._prior_window = cubic.window
        self._prr_delivered = self.prr_out = 0
        cubic.ssthresh = cubic.reduced()

    def _leave(self) -> None:
        """End a recovery: everything that was in flight when the loss was found is acknowledged."""
        if self._undo_resent == 0:
            self._undo()
        else:
            self._board.recovered()
            if self.state is RecoveryState.RECOVERY and self._undo_from >= 0:
                self._cubic.window = self._cubic.ssthresh
        self.state = RecoveryState.OPEN

    # -- timers

    def time_out(self, now: int, una: int, next_seq: int, *, repeated: bool) -> None:
        """Enter LOSS after a retransmission timeout, `repeated` if for the same segment (tcp_enter_loss)."""
        board, cubic, state = self._board, self._cubic, self.state
        board.mark_timed_out(now, una)
        if (
            state < RecoveryState.RECOVERY
            or self.high <= una
            or (state is RecoveryState.LOSS and not repeated)
        ):
            self._prior_ssthresh = self.prior_ssthresh()
            self._prior_window = cubic.window
            cubic.ssthresh = cubic.reduced()
            self._begin_undo(una)
        cubic.reset()
        cubic.begin_round(now, next_seq)
        cubic.window = board.in_flight + 1
        self.state, self.high = RecoveryState.LOSS, next_seq
        self._frto = state < RecoveryState.RECOVERY or repeated

    def look_again(self, now: int, una: int, next_seq: int) -> bool:
        """Check for losses after RACK's timer; returns whether to retransmit (tcp_rack_reo_timeout)."""
        in_flight, losses = self._board.in_flight, self._board.losses
        self._board.news = True
        self.look_in_ns = 0
        self._detect(now)
        if self._board.in_flight == in_flight:
            return False
        if self.state is not RecoveryState.RECOVERY:
            self._enter(una, next_seq)
            self._reduce(1, advanced=False, lost=self._board.losses > losses)
        return True

    def tail_was_lost(self, next_seq: int) -> None:
        """Reduce the window for a loss that was repaired only by a loss probe (RFC 8985, 7.4)."""
        self.begin_reduction(next_seq)
        self._cubic.window = self._cubic.ssthresh
        self._keep_open(next_seq)

    def resend_probe(self, next_seq: int) -> None:
        """Retransmit a lost path MTU probe without reducing the window (tcp_simple_retransmit)."""
        cubic = self._cubic
        if self.state is RecoveryState.RECOVERY:
            cubic.window = self._prior_window
            cubic.ssthresh = self._prior_ssthresh
        cubic.window += 1
        self.state, self.high = RecoveryState.LOSS, next_seq
        self._undo_from = self._undo_resent = _NOT_UNDOABLE
        self._frto = False

    # -- undo

    def prior_ssthresh(self) -> int:
        """Return the slow start threshold before a reduction (tcp_current_ssthresh)."""
        cubic = self._cubic
        if self.state is RecoveryState.RECOVERY:
            return cubic.ssthresh
        return max(cubic.ssthresh, cubic.window // 2 + cubic.window // 4)

    def _begin_undo(self, una: int) -> None:
        self._undo_from = una
        self._undo_resent = self._board.resent or _NOT_UNDOABLE

    def note_resent(self) -> None:
        """Count a retransmission."""
        if self._undo_from >= 0:
            self._undo_resent = max(self._undo_resent, 0) + 1

    def note_duplicate(self, blocks: tuple[Range, ...], ack: int, probe_end: int) -> int:
        """Return the number of leading blocks that report a duplicate: 1 or 0 (RFC 2883).

        A duplicate of the loss probe that ends at `probe_end` does not widen the reordering window.
        """
        if not blocks:
            return 0
        first, end = blocks[0]
        within = len(blocks) > 1 and blocks[1][0] <= first and end <= blocks[1][1]
        if first >= ack and not within:
            return 0
        if end != probe_end:
            self._board.dsack_seen = True
        if self._undo_resent > 0 and self._undo_from < end <= ack:
            self._undo_resent -= 1
        return 1

    def _undo_if_duplicates(self) -> bool:
        """Undo the reduction if every retransmission was a duplicate; returns whether it was undone."""
        if self._undo_from < 0 or self._undo_resent != 0:
            return False
        self._undo()
        return True

    def _undo(self) -> None:
        cubic = self._cubic
        if self._prior_ssthresh:
            cubic.window = max(cubic.window, self._prior_window)
            cubic.ssthresh = max(cubic.ssthresh, self._prior_ssthresh)
        self._undo_from = self._undo_resent = _NOT_UNDOABLE
        self._board.news = True

    def _undo_loss(self) -> None:
        self._board.unmark_lost()
        self._undo()
        self.state = RecoveryState.OPEN
