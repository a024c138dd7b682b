"""TCP, as far as it decides how long things take and what they cost.

Handshake, segments of MSS bytes, cumulative and delayed acknowledgements, slow start and congestion avoidance,
fast retransmission with NewReno recovery, retransmission timeouts with exponential back-off, the receiver's
window, orderly and abrupt ends. Left out: selective acknowledgement, timestamps, urgent data, simultaneous open.

Sequence numbers do not wrap: SYN is number 0, the first byte is 1. Sources: RFC 9293, 5681, 6298, 6582; the
delays are Linux's.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Protocol

from sim.net.link import HEADER_BYTES, MTU_BYTES, Link

if TYPE_CHECKING:
    from sim.clock import Environment
    from sim.net.host import Host

MSS: Final = MTU_BYTES - HEADER_BYTES
WINDOW_BYTES: Final = 256 * 1024
INITIAL_CWND: Final = 10 * MSS
RTO_INITIAL_NS: Final = 1_000_000_000
RTO_MIN_NS: Final = 200_000_000
RTO_MAX_NS: Final = 120_000_000_000
DELAYED_ACK_NS: Final = 40_000_000
QUICK_ACKS: Final = 16
"""How many segments an end acknowledges at once that has not yet answered any: Linux's TCP_MAX_QUICKACKS."""
SYN_RETRIES_MAX: Final = 6
RETRIES_MAX: Final = 15


class Segment:
    """One TCP segment; `address` is the one it is sent to."""

    __slots__ = (
        "ack", "address", "data", "fin", "has_ack", "rst", "seq", "source_port", "syn", "target_port", "window",
    )  # fmt: skip

    def __init__(
        self,
        source_port: int,
        target_port: int,
        address: str,
        seq: int,
        data: bytes,
        ack: int,
        window: int,
        *,
        syn: bool = False,
        has_ack: bool = True,
        fin: bool = False,
        rst: bool = False,
    ) -> None:
        self.source_port = source_port
        self.target_port = target_port
        self.address = address
        self.seq = seq
        self.data = data
        self.ack = ack
        self.window = window
        self.syn = syn
        self.has_ack = has_ack
        self.fin = fin
        self.rst = rst

    @classmethod
    def reset_for(cls, segment: Segment) -> Segment:
        """The answer to a segment that belongs to no connection."""
        return cls(
            segment.target_port,
            segment.source_port,
            segment.address,
            segment.ack,
            b"",
            segment.seq,
            0,
            rst=True,
        )


class Unreachable(Segment):
    """Stands for the ICMP error of a firewall that rejects: "administratively prohibited" (RFC 1812, 5.2.7.1)."""

    __slots__ = ()


class Owner(Protocol):
    """What an endpoint tells the transport above it."""

    def on_connected(self) -> None:
        """The handshake is done."""

    def on_data(self, data: bytes) -> None:
        """Bytes came in, in order."""

    def on_eof(self) -> None:
        """The other end will send no more."""

    def on_lost(self, error: OSError | None) -> None:
        """The connection is over."""

    def on_acknowledged(self) -> None:
        """Some of what was written has arrived."""


class Endpoint:
    """One end of a connection."""

    def __init__(
        self,
        env: Environment,
        link: Link,
        local: Host,
        remote: Host,
        local_port: int,
        remote_port: int,
        owner: Owner,
        address: str,
    ) -> None:
        self._env = env
        self._link = link
        self._local = local
        self.remote = remote
        self.local_port = local_port
        self.remote_port = remote_port
        self._owner = owner
        self._address = address
        self.alive = True
        self._established = False
        self._soft_error: OSError | None = None
        """What an unreachable route reported since the last acknowledgement: the reason if it stays so."""
        # sending: `_buffer` holds what is not acknowledged, from `_una` on
        self._buffer = bytearray()
        self._una = 0
        self._next = 0
        self._highest = 0
        self._peer_window = MSS
        self._fin_wanted = self._fin_sent = False
        self._cwnd = INITIAL_CWND
        self._ssthresh = 1 << 30
        self._recover = -1
        self._duplicates = 0
        # round-trip time, and the timer
        self._rto = RTO_INITIAL_NS
        self._srtt = self._rttvar = 0
        self._timed = (-1, 0)
        self._retries = 0
        self._deadline = 0
        self._timer_set = False
        # receiving
        self._rcv_next = 0
        self._early: dict[int, bytes] = {}
        self._fin_at = -1
        self._eof = False
        self._reading = True
        self._held = bytearray()
        self._unacknowledged = 0
        self._quick_acks = QUICK_ACKS
        self._ack_timer_set = False
        self._closed = False

    @property
    def unsent(self) -> int:
        """Bytes written and not yet acknowledged."""
        return len(self._buffer)

    def connect(self) -> None:
        """Begin the handshake."""
        self._transmit(0, b"", syn=True, has_ack=False)
        self._next = self._highest = 1
        self._start_timer()

    def accept(self, syn: Segment) -> None:
        """Answer the other end's SYN."""
        self._rcv_next = 1
        self._peer_window = syn.window
        self._transmit(0, b"", syn=True)
        self._next = self._highest = 1
        self._start_timer()

    def write(self, data: bytes) -> None:
        """Queue bytes and send what the windows allow."""
        self._buffer += data
        self._push()

    def close(self) -> None:
        """Send what is queued, then FIN; what comes in from now on is refused."""
        self._closed = True
        if self._established:
            self._fin_wanted = True
            self._push()
        else:
            self.die(reset=False)

    def die(self, *, reset: bool) -> None:
        """End at once; `reset` tells the other end."""
        if reset and self.alive and self._rcv_next:  # unanswered, it ends without a word (RFC 9293, 3.10.5)
            self._transmit(self._next, b"", rst=True)
        self.alive = False

    def pause(self) -> None:
        """Keep what comes in, and let the window shrink."""
        self._reading = False

    def resume(self) -> None:
        """Hand over what was kept; tell the other end of the room."""
        self._reading = True
        if self._held and self.alive:
            data, self._held = bytes(self._held), bytearray()
            self._owner.on_data(data)
            self._acknowledge()
        self._deliver_eof()

    # sending

    def _transmit(self, seq: int, data: bytes, *, syn: bool = False, has_ack: bool = True, fin: bool = False,
                  rst: bool = False) -> None:  # fmt: skip
        self._unacknowledged = 0
        if data and self._rcv_next > 1:
            self._quick_acks = 0  # from the first answer on, acknowledgements wait to travel with answers
        segment = Segment(
            self.local_port, self.remote_port, self._address, seq, data, self._rcv_next,
            WINDOW_BYTES - len(self._held), syn=syn, has_ack=has_ack, fin=fin, rst=rst,
        )  # fmt: skip
        verdict = self._local.send(segment, self._link)
        if verdict == "accept":
            if data and seq < self._highest:
                self._link.resent(self._local, len(data))
        elif verdict == "reject":
            self._env.after(0, self._rejected)

    def _rejected(self, _: None) -> None:
        self._unreachable(OSError(errno.EHOSTUNREACH, "refused by the firewall"))

    def _unreachable(self, error: OSError) -> None:
        """End an attempt to connect; an established connection tries again until it gives up (RFC 1122, 4.2.3.9)."""
        if self._established:
            self._soft_error = error
        else:
            self._end(error)

    def _acknowledge(self) -> None:
        if self.alive:
            self._transmit(self._next, b"")

    def _push(self) -> None:
        if not self._established or not self.alive:
            return
        window = min(self._cwnd, self._peer_window)
        while (left := len(self._buffer) - (flight := self._next - self._una)) > 0:
            size = min(MSS, left, window - flight)
            if size <= 0 or (size < MSS and size < left and flight):
                break
            if self._timed[0] < 0 and self._next >= self._highest:
                self._timed = (self._next + size, self._env.now)
            data = self._buffer[flight : flight + size] if flight or size < left else self._buffer
            self._transmit(self._next, bytes(data))
            self._next += size
        if self._fin_wanted and self._next - self._una == len(self._buffer):
            self._transmit(self._next, b"", fin=True)
            self._next += 1
            self._fin_sent = True
        if self._next > self._highest:
            self._highest = self._next
        if self._next > self._una or self._buffer:
            self._start_timer()

    def _start_timer(self) -> None:
        self._deadline = self._env.now + self._rto
        if not self._timer_set:
            self._timer_set = True
            self._env.after(self._rto, self._timer)

    def _timer(self, _: None) -> None:
        self._timer_set = False
        if not self.alive or (self._una == self._next and not self._buffer):
            return
        left = self._deadline - self._env.now
        if left > 0:
            self._timer_set = True
            self._env.after(left, self._timer)
            return
        self._timed_out()

    def _timed_out(self) -> None:
        self._retries += 1
        if self._retries > (RETRIES_MAX if self._established else SYN_RETRIES_MAX):
            self._end(self._soft_error or TimeoutError("the other end does not answer"))
            return
        self._rto = min(2 * self._rto, RTO_MAX_NS)
        self._timed = (-1, 0)
        if not self._established:
            self._transmit(0, b"", syn=True, has_ack=self._rcv_next > 0)
        elif self._next == self._una:
            self._acknowledge()  # a closed window: ask whether it has opened
        else:
            flight = self._next - self._una
            self._ssthresh = max(flight // 2, 2 * MSS)
            self._cwnd = MSS
            self._recover = -1
            self._duplicates = 0
            self._next = self._una
            self._fin_sent = False
            self._push()
        self._start_timer()

    def _resend_first(self) -> None:
        self._timed = (-1, 0)
        data = bytes(self._buffer[:MSS])
        self._transmit(self._una, data, fin=self._fin_sent and not data)

    # receiving

    def receive(self, segment: Segment) -> None:
        """A segment of this connection came in."""
        if isinstance(segment, Unreachable):
            self._unreachable(OSError(errno.EHOSTUNREACH, "a firewall on the way refused it"))
            return
        if segment.rst:
            self._end(self._why_ended())
            return
        if segment.syn:
            self._receive_syn()
            if not self._established:
                return
        elif not self._established:
            if not segment.has_ack or segment.ack < 1:
                return
            self._establish()
        if segment.has_ack:
            self._receive_ack(segment)
        if self.alive and (segment.data or segment.fin):
            self._receive_data(segment)

    def _why_ended(self) -> OSError:
        if self._established:
            return ConnectionResetError("connection reset by the other end")
        return ConnectionRefusedError("connection refused")

    def _receive_syn(self) -> None:
        if self._rcv_next:  # ours or its acknowledgement was lost
            if self._established:
                self._acknowledge()
            else:
                self._transmit(0, b"", syn=True)
            return
        self._rcv_next = 1
        self._establish()
        self._acknowledge()

    def _establish(self) -> None:
        self._established = True
        self._una = self._next = 1
        self._retries, self._rto = 0, RTO_INITIAL_NS
        self._owner.on_connected()

    def _receive_ack(self, segment: Segment) -> None:
        opened = segment.window > self._peer_window
        self._peer_window = segment.window
        ack = segment.ack
        if self._una < ack <= self._highest:
            self._advance(ack)
        elif ack == self._una and self._next > self._una and not segment.data and not opened:
            self._duplicate()
        if self._buffer or self._fin_wanted:
            self._push_if_more()
        if self._fin_sent and ack == self._highest and self._eof:
            self._end(None)

    def _push_if_more(self) -> None:
        if not self._fin_sent or self._next - self._una < len(self._buffer):
            self._push()

    def _advance(self, ack: int) -> None:
        acked = ack - self._una
        del self._buffer[:acked]
        self._una = ack
        if ack > self._next:
            self._next = ack
        self._retries, self._soft_error, now = 0, None, self._env.now
        if 0 <= self._timed[0] <= ack:
            self._measure(now - self._timed[1])
            self._timed = (-1, 0)
        elif self._srtt:
            self._set_rto()
        if self._recover >= 0:
            self._recovering(ack, acked)
        else:
            self._duplicates = 0
            grown = acked if self._cwnd < self._ssthresh else MSS * MSS // self._cwnd
            self._cwnd = min(self._cwnd + grown, 4 * WINDOW_BYTES)
        self._deadline = now + self._rto
        self._owner.on_acknowledged()

    def _recovering(self, ack: int, acked: int) -> None:
        if ack > self._recover:
            self._cwnd, self._recover, self._duplicates = self._ssthresh, -1, 0
        else:
            self._cwnd = max(self._cwnd - acked + MSS, MSS)
            self._resend_first()

    def _duplicate(self) -> None:
        self._duplicates += 1
        if self._recover >= 0:
            self._cwnd += MSS
        elif self._duplicates == 3:
            self._ssthresh = max((self._next - self._una) // 2, 2 * MSS)
            self._cwnd = self._ssthresh + 3 * MSS
            self._recover = self._highest - 1
            self._resend_first()

    def _measure(self, rtt: int) -> None:
        if not self._srtt:
            self._srtt, self._rttvar = rtt, rtt // 2
        else:
            self._rttvar = (3 * self._rttvar + abs(self._srtt - rtt)) // 4
            self._srtt = (7 * self._srtt + rtt) // 8
        self._set_rto()

    def _set_rto(self) -> None:
        self._rto = min(self._srtt + max(4 * self._rttvar, RTO_MIN_NS), RTO_MAX_NS)

    def _receive_data(self, segment: Segment) -> None:
        if self._closed and segment.data:
            self.die(reset=True)
            self._owner.on_lost(None)
            return
        if segment.fin:
            self._fin_at = segment.seq + len(segment.data)
        seq, data = segment.seq, segment.data
        if seq > self._rcv_next:
            if data and len(self._early) * MSS < WINDOW_BYTES:
                self._early[seq] = data
            self._acknowledge()
            return
        if seq + len(data) < self._rcv_next or (data and seq + len(data) == self._rcv_next):
            self._acknowledge()  # seen before: our acknowledgement was lost
            return
        self._accept_data(data[self._rcv_next - seq :])

    def _accept_data(self, data: bytes) -> None:
        filled = bool(self._early)
        chunks = [data]
        self._rcv_next += len(data)
        while self._early:
            seq = min(self._early)
            if seq > self._rcv_next:
                break
            more = self._early.pop(seq)[self._rcv_next - seq :]
            chunks.append(more)
            self._rcv_next += len(more)
        whole = b"".join(chunks) if filled else data
        self._unacknowledged += 1
        at_end = self._rcv_next == self._fin_at
        if at_end:
            self._rcv_next += 1
        if self._quick_acks:
            self._quick_acks -= 1
            self._acknowledge()
        elif filled or at_end or (self._unacknowledged >= 2 and len(data) == MSS):
            self._acknowledge()
        if whole:
            self._hand_over(whole)
        if self._unacknowledged and not self._ack_timer_set:
            self._ack_timer_set = True
            self._env.after(DELAYED_ACK_NS, self._ack_timer)
        if self._fin_at >= 0:
            self._deliver_eof()

    def _hand_over(self, data: bytes) -> None:
        if self._reading:
            self._owner.on_data(data)
        else:
            self._held += data

    def _ack_timer(self, _: None) -> None:
        self._ack_timer_set = False
        if self._unacknowledged:
            self._acknowledge()

    def _deliver_eof(self) -> None:
        if self._eof or self._fin_at < 0 or self._rcv_next <= self._fin_at or self._held or not self.alive:
            return
        self._eof = True
        if self._fin_sent and self._una == self._highest:
            self._end(None)
        else:
            self._owner.on_eof()

    def _end(self, error: OSError | None) -> None:
        if self.alive:
            self.alive = False
            self._owner.on_lost(error)
