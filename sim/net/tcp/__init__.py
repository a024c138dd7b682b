"""TCP as implemented by Linux, in the parts that affect timing and the bytes on the wire.

    endpoint     one end of a connection: handshake, close, and the two halves of the connection
    sender       when data is sent; loss probes, timeouts, window probes
    scoreboard   segments in flight: selective acknowledgement, RACK
    recovery     loss recovery: proportional rate reduction, F-RTO, undo
    cubic        the congestion window: CUBIC with HyStart
    mtu          path MTU probing: shorter segments where long ones are lost
    rtt          round-trip time and retransmission timeout
    receiver     reassembly, delayed acknowledgements, the receive window and its growth
    time_wait    closed connections that still answer a repeated FIN

Not modelled: timestamps (the box turns them off), ECN, urgent data, simultaneous open, pacing. Sequence numbers do
not wrap: SYN is number 0, the first byte is 1. The defaults are those of RHEL 9. docs/design/virtual-world.md
compares the model with Linux.
"""

from sim.net.segment import ACK, FIN, MSS, RST, SYN, TcpSegment, Unreachable
from sim.net.tcp.endpoint import Owner, TcpEndpoint
from sim.net.tcp.time_wait import TimeWait

__all__ = ["ACK", "FIN", "MSS", "RST", "SYN", "Owner", "TcpEndpoint", "TcpSegment", "TimeWait", "Unreachable"]
