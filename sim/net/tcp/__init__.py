"""TCP like Linux's, as far as it decides how long things take and what they cost.

    segment      what goes over a link
    endpoint     handshake and end; puts the two halves of a connection together
    sender       what is sent when; loss probes, timeouts, window probes
    scoreboard   what is in flight: selective acknowledgement, RACK
    recovery     proportional rate reduction, F-RTO, undo
    cubic        the congestion window: CUBIC with HyStart
    mtu          shorter segments where long ones vanish
    rtt          round-trip time and retransmission timeout
    receiver     reassembly, delayed acknowledgements, the window and its growth

Left out: timestamps (the box turns them off), ECN, urgent data, simultaneous open, pacing. Sequence numbers do not
wrap: SYN is number 0, the first byte is 1. Linux's defaults are those of RHEL 9; docs/design/virtual-world.md has how
near it comes.
"""

from sim.net.segment import ACK, FIN, MSS, RST, SYN, TcpSegment, Unreachable
from sim.net.tcp.endpoint import Owner, TcpEndpoint

__all__ = ["ACK", "FIN", "MSS", "RST", "SYN", "Owner", "TcpEndpoint", "TcpSegment", "Unreachable"]
