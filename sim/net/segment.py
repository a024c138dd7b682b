"""TCP segments (RFC 9293), without urgent data, checksums and the wrapping of sequence numbers."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

HEADER_BYTES: Final = 40
"""IPv4 and TCP headers without options."""
MTU_BYTES: Final = 1500

MSS: Final = MTU_BYTES - HEADER_BYTES

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

SYN_OPTION_BYTES: Final = 12
"""The options of a Linux SYN without timestamps: maximum segment size, window scale, SACK permitted."""
SACK_BLOCKS_MAX: Final = 4

Verdict: TypeAlias = Literal["accept", "drop", "reject"]
"""A packet filter's decision. Only the sender of a rejected segment gets an error."""
Range: TypeAlias = tuple[int, int]
"""Sequence numbers: the first, and the one after the last."""


class TcpSegment:
    """One TCP segment. `address` is the destination; `flags` are as on the wire, except for PSH (see `push`)."""

    __slots__ = (
        "ack",
        "address",
        "data",
        "flags",
        "push",
        "sack",
        "seq",
        "source_port",
        "target_port",
        "window",
    )

    def __init__(
        self,
        source_port: int,
        target_port: int,
        address: str,
        seq: int,
        flags: int,
        data: bytes = b"",
        ack: int = 0,
        window: int = 0,
        sack: tuple[Range, ...] = (),
    ) -> None:
        self.source_port = source_port
        self.target_port = target_port
        self.address = address
        self.seq = seq
        self.flags = flags
        self.data = data
        self.ack = ack
        self.window = window
        self.sack = sack
        self.push = False
        """The PSH flag, separate so that the `flags` of an ordinary segment equal ACK."""

    @property
    def option_bytes(self) -> int:
        """The length of the TCP options, in bytes."""
        if self.flags & SYN:
            return SYN_OPTION_BYTES
        return 4 + 8 * len(self.sack) if self.sack else 0

    @classmethod
    def reset_for(cls, segment: TcpSegment) -> TcpSegment:
        """Return the RST in response to a segment of an unknown connection."""
        return cls(
            segment.target_port, segment.source_port, segment.address, segment.ack, RST, ack=segment.seq
        )


class Unreachable(TcpSegment):
    """The ICMP error of a firewall that rejects: "communication administratively prohibited" (RFC 1812, 5.2.7.1)."""

    __slots__ = ()
