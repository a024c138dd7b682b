"""One end of a TCP connection: handshake, close, reset, and the coordination of its sender and receiver."""

from __future__ import annotations

import errno
from typing import Final, Protocol

from sim.engine.clock import Environment
from sim.net.link import Link, LinkEnd
from sim.net.segment import ACK, FIN, RST, SYN, TcpSegment, Unreachable, Verdict
from sim.net.tcp.receiver import TcpReceiver
from sim.net.tcp.rtt import RTO_INITIAL_NS, RttEstimator
from sim.net.tcp.sender import TcpSender

SYN_RETRIES_MAX: Final = 6


class Node(LinkEnd, Protocol):
    """The host of an endpoint."""

    @property
    def mtu_probing(self) -> bool:
        """Whether TCP shortens its segments where long ones are lost."""
        ...

    def send(self, segment: TcpSegment, link: Link) -> Verdict:
        """Send a segment of this host over `link`; returns the decision of the host's packet filter."""
        ...


class Owner(Protocol):
    """The callbacks of an endpoint, implemented by the transport above it."""

    def on_connected(self) -> None:
        """Called when the handshake is complete."""

    def on_data(self, data: bytes) -> None:
        """Called with received bytes, in order."""

    def on_eof(self) -> None:
        """Called when all data before the peer's FIN was received."""

    def on_lost(self, error: OSError | None) -> None:
        """Called when the connection has ended; `error` is None after a normal close."""

    def on_acknowledged(self) -> None:
        """Called when some of the written data was acknowledged."""


class TcpEndpoint:
    """One end of a TCP connection."""

    __slots__ = (
        "_address", "_closed", "_env", "_eof", "_established", "_link", "_local", "_owner", "_receiver", "_sender",
        "_soft_error", "_syn_at", "_syns_resent", "alive", "local_port", "remote", "remote_port",
    )  # fmt: skip

    def __init__(
        self,
        env: Environment,
        link: Link,
        local: Node,
        remote: LinkEnd,
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
        self._established = self._closed = self._eof = False
        self._soft_error: OSError | None = None
        """The error reported since the last acknowledgement; raised if the connection times out."""
        self._syn_at = 0
        self._syns_resent = 0
        rtt = RttEstimator()
        self._sender = TcpSender(
            env, link.timers, self, rtt, owner.on_acknowledged, mtu_probing=local.mtu_probing
        )
        self._receiver = TcpReceiver(env, link.timers, rtt, self._acknowledge)

    @property
    def unacknowledged(self) -> int:
        """Bytes written and not yet acknowledged."""
        return self._sender.unacknowledged

    @property
    def last_acknowledgement(self) -> TcpSegment | None:
        """After the end, the segment that answers a repeated FIN in TIME-WAIT; None if this end closed last."""
        sender, receiver = self._sender, self._receiver
        if not (self._eof and sender.is_done and receiver.closed_first):
            return None
        return TcpSegment(
            self.local_port, self.remote_port, self._address, sender.next_seq, ACK, b"", receiver.next_seq,
            receiver.announce(),
        )  # fmt: skip

    # -- the program's side

    def connect(self) -> None:
        """Start the handshake by sending SYN."""
        self._send_syn()

    def accept(self) -> None:
        """Answer the peer's SYN."""
        self._receiver.next_seq = self._receiver.acknowledged = 1
        self._send_syn()

    def write(self, data: bytes) -> int:
        """Queue bytes and send as much as the windows allow; returns the number of unacknowledged bytes."""
        return self._sender.write(data)

    def close(self) -> None:
        """Send the queued data, then FIN; data that arrives from now on is answered with RST."""
        self._closed = self._receiver.closing = True
        if self._established:
            self._sender.finish()
        else:
            self.terminate(reset=False)

    def finish(self) -> None:
        """Send the queued data, then FIN; data may still arrive. The connection must be established."""
        self._sender.finish()

    def terminate(self, *, reset: bool) -> None:
        """End the connection at once, sending RST to the peer if `reset`."""
        # before the peer has answered, no RST is sent (RFC 9293, 3.10.5)
        if reset and self.alive and self._receiver.next_seq:
            self.transmit(self._sender.next_seq, b"", RST | ACK)
        self._stop()

    def pause(self) -> None:
        """Keep received data, so that the receive window shrinks."""
        self._receiver.pause()

    def resume(self) -> None:
        """Deliver the kept data, and announce the larger window to the peer."""
        data = self._receiver.resume()
        if data and self.alive:
            self._owner.on_data(data)
            self._acknowledge()
        self._deliver_eof()

    # -- sending

    def transmit(
        self, seq: int, data: bytes, flags: int = ACK, *, is_resend: bool = False, push: bool = False
    ) -> None:
        """See `sim.net.tcp.sender.Output`."""
        receiver = self._receiver
        if data:
            receiver.note_answer(self._env._now)
        segment = TcpSegment(
            self.local_port, self.remote_port, self._address, seq, flags, data,
            receiver.next_seq, receiver.announce(),
        )  # fmt: skip
        if receiver.blocks or receiver.duplicate:
            segment.sack = receiver.selected()
        if push:
            segment.push = True
        verdict = self._local.send(segment, self._link)
        if verdict == "accept":
            if is_resend:
                self._link.resent(self._local, len(data))
        elif verdict == "reject":
            self._env.after(0, self._rejected)

    def _acknowledge(self) -> None:
        if self.alive:
            self.transmit(self._sender.next_seq, b"")

    def _send_syn(self) -> None:
        """Send SYN or SYN-ACK, and retransmit it until the peer answers."""
        self._syn_at = self._env.now
        self.transmit(0, b"", SYN | ACK if self._receiver.next_seq else SYN)
        self._env.after(RTO_INITIAL_NS << self._syns_resent, self._syn_timer, self._syns_resent)

    def _syn_timer(self, resent: int) -> None:
        if self._established or not self.alive or resent != self._syns_resent:
            return
        if self._syns_resent == SYN_RETRIES_MAX:
            self.give_up()
            return
        self._syns_resent += 1
        self._send_syn()

    # -- receiving

    def receive(self, segment: TcpSegment) -> None:
        """Process a segment of this connection."""
        flags = segment.flags
        if (flags != ACK or not self._established) and not self._prepare(segment, flags):
            return
        self._soft_error = None
        sender, receiver = self._sender, self._receiver
        sender.receive_ack(segment)
        if not self.alive:
            return
        if segment.data or flags & FIN:
            self._receive_data(segment)
        elif segment.seq < receiver.acknowledged:
            self._acknowledge()  # a window probe
        if self._eof and sender.is_done:
            self._end(None)

    def _prepare(self, segment: TcpSegment, flags: int) -> bool:
        """Process a handshake, reset or error; returns whether the segment is to be processed further."""
        if isinstance(segment, Unreachable):
            self._unreachable(OSError(errno.EHOSTUNREACH, "a firewall on the path rejected it"))
            return False
        if flags & RST:
            self._end(
                ConnectionResetError("connection reset by the other end")
                if self._established
                else ConnectionRefusedError("connection refused")
            )
            return False
        if flags & SYN:
            self._receive_syn(segment)
            return False
        if not flags & ACK or segment.ack < 1:
            return False
        if not self._established:
            self._establish(segment)
        return self.alive

    def _receive_syn(self, segment: TcpSegment) -> None:
        receiver = self._receiver
        if receiver.next_seq:  # the peer's SYN was retransmitted: our answer was lost
            if self._established:
                self._acknowledge()
            else:
                self.transmit(0, b"", SYN | ACK)
            return
        receiver.next_seq = receiver.acknowledged = 1
        self._acknowledge()  # before the program can write anything
        self._establish(segment)

    def _establish(self, segment: TcpSegment) -> None:
        self._established = True
        rtt = 0 if self._syns_resent else self._env.now - self._syn_at
        self._sender.start(segment.window, rtt, syns_resent=self._syns_resent)
        self._owner.on_connected()
        self._sender.push()

    def _receive_data(self, segment: TcpSegment) -> None:
        if self._closed and segment.data:
            self.terminate(reset=True)
            self._owner.on_lost(None)
            return
        data = self._receiver.receive(segment)
        if data:
            self._owner.on_data(data)
        if self._receiver.fin_at >= 0:
            self._deliver_eof()

    def _deliver_eof(self) -> None:
        if self._eof or not self.alive or not self._receiver.at_end:
            return
        self._eof = True
        if self._sender.is_done:
            self._end(None)
        else:
            self._owner.on_eof()

    # -- the end

    def _rejected(self, _: None) -> None:
        self._unreachable(OSError(errno.EHOSTUNREACH, "refused by the firewall"))

    def _unreachable(self, error: OSError) -> None:
        """End a connection attempt; an established connection keeps retransmitting (RFC 1122, 4.2.3.9)."""
        if self._established:
            self._soft_error = error
        else:
            self._end(error)

    def give_up(self) -> None:
        """See `sim.net.tcp.sender.Output`."""
        self._end(self._soft_error or TimeoutError("the other end does not answer"))

    def _end(self, error: OSError | None) -> None:
        if self.alive:
            self._stop()
            self._owner.on_lost(error)

    def _stop(self) -> None:
        self.alive = False
        self._sender.stop()
        self._receiver.stop()
