"""Model of the kernel's defragmentation before connection tracking: chains see only complete packets.

A duplicate fragment is dropped; one that overlaps others discards all fragments of its packet (RFC 5722, also for
IPv4). In IPv6 a fragment with an invalid fragment header passes unchanged. Source: Linux
net/ipv6/netfilter/nf_conntrack_reasm.c, net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c. Not modelled: limits on
memory and time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from netfw.model.packet import (
    EXTENSIONS,
    FRAGMENT,
    ICMPV6,
    IPV6_HEADER_BYTES,
    MORE_FRAGMENTS,
    NO_NEXT,
    OFFSET_MASK,
    TCP,
    UDP,
    Packet,
    checksum,
    extension_bytes,
    parse,
    read_for_tracking,
)

FragmentResult: TypeAlias = Literal["new", "known", "contradicts", "overlaps"]
"""Result for a fragment. "contradicts": it is empty, or implies another packet length than earlier ones."""

IP_BYTES_MAX: Final = 65535

_HEADER_BYTES_MIN: Final = {TCP: 20, UDP: 8, ICMPV6: 8}


@dataclass(slots=True)
class _Queue:
    """The fragments of one packet. A run is a contiguous stretch received in order; only its end can grow."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    parts: dict[int, bytes] = field(default_factory=dict)
    head: bytes = b""
    length: int = 0
    last_seen: bool = False

    def put(self, offset: int, part: bytes, more: bool) -> FragmentResult:
        """Add a fragment."""
        end = offset + len(part)
        if not more:
            if end < self.length or (self.last_seen and end != self.length):
                return "contradicts"
            self.last_seen, self.length = True, end
        elif end > self.length:
            if self.last_seen:
                return "contradicts"
            self.length = end
        return "contradicts" if end == offset else self._insert(offset, end, part)

    def _insert(self, offset: int, end: int, part: bytes) -> FragmentResult:
        last = max(self.runs, default=(0, 0))
        if end > last[1]:
            if offset < last[1]:
                return "overlaps"
            if self.runs and offset == last[1]:
                self.runs.remove(last)
                self.runs.append((last[0], end))
            else:
                self.runs.append((offset, end))
        elif any(start <= offset and end <= stop for start, stop in self.runs):
            return "known"
        elif any(offset < stop and start < end for start, stop in self.runs):
            return "overlaps"
        else:
            self.runs.append((offset, end))
        self.parts[offset] = part
        return "new"

    @property
    def is_complete(self) -> bool:
        return self.last_seen and bool(self.head) and sum(map(len, self.parts.values())) == self.length

    @property
    def payload(self) -> bytes:
        return b"".join(part for _, part in sorted(self.parts.items()))


class Reassembly:
    """Incomplete packets."""

    def __init__(self) -> None:
        self._queues: dict[tuple[object, ...], _Queue] = {}

    def flush(self) -> None:
        """Discard all fragments."""
        self._queues.clear()

    def put(self, packet: Packet) -> Packet | None:
        """Return the packet if it is not a fragment, the reassembled packet if this completes it, else None."""
        return self._put_ipv4(packet) if packet.family == 4 else self._put_ipv6(packet)

    def _put_ipv4(self, packet: Packet) -> Packet | None:
        data = packet.data
        word = data[6] << 8 | data[7]
        if not word & (MORE_FRAGMENTS | OFFSET_MASK):
            return packet
        header = (data[0] & 15) * 4
        more = bool(word & MORE_FRAGMENTS)
        part = data[header:]
        if more:
            part = part[: len(part) & ~7]
        key = (4, packet.saddr, packet.daddr, data[4:6], data[9])
        payload = self._collect(key, data[:header], (word & OFFSET_MASK) * 8, part, more)
        if payload is None:
            return None
        head, body = payload
        if len(head) + len(body) > IP_BYTES_MAX:
            return None
        head = head[:2] + (len(head) + len(body)).to_bytes(2, "big") + head[4:6] + bytes(2) + head[8:]
        head = head[:10] + bytes(2) + head[12:]
        head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
        return parse(head + body, iif=packet.iif, oif=packet.oif)

    def _put_ipv6(self, packet: Packet) -> Packet | None:
        data = packet.data
        header = _fragment_header(data)
        if header is None or data[4:6] == b"\0\0":
            return packet
        field_at, at = header
        if at + 8 > len(data):
            return None
        if _truncated(data, at):
            return packet
        word = data[at + 2] << 8 | data[at + 3]
        part, more = data[at + 8 :], bool(word & 1)
        key = (6, packet.saddr, packet.daddr, data[at + 4 : at + 8])
        if (word & ~7) + len(part) > IP_BYTES_MAX:
            return None
        if more and len(part) & 7:
            self._queues.pop(key, None)
            return packet
        head = data[:field_at] + data[at : at + 1] + data[field_at + 1 : at]
        payload = self._collect(key, head, word & ~7, part, more)
        if payload is None:
            return None
        head, body = payload
        length = len(head) - IPV6_HEADER_BYTES + len(body)
        if length > IP_BYTES_MAX:
            return None
        return parse(head[:4] + length.to_bytes(2, "big") + head[6:] + body, iif=packet.iif, oif=packet.oif)

    def _collect(
        self, key: tuple[object, ...], head: bytes, offset: int, part: bytes, more: bool
    ) -> tuple[bytes, bytes] | None:
        queue = self._queues.setdefault(key, _Queue())
        result = queue.put(offset, part, more)
        if result == "overlaps" or (result == "contradicts" and key[0] == 4):
            del self._queues[key]
        if result != "new":
            return None
        if offset == 0 and not queue.head:
            queue.head = head
        if not queue.is_complete:
            return None
        del self._queues[key]
        return queue.head, queue.payload


def _fragment_header(data: bytes) -> tuple[int, int] | None:
    """Return the offsets of the preceding header's next-header field and of the fragment header, if there is one."""
    field_at, at, kind = 6, IPV6_HEADER_BYTES, data[6]
    while kind != FRAGMENT:
        if kind not in EXTENSIONS or kind == NO_NEXT or at + 2 > len(data):
            return None
        field_at, kind, at = at, data[at], at + extension_bytes(data, kind, at)
    return (field_at, at) if at <= len(data) else None


def _truncated(data: bytes, at: int) -> bool:
    """Return whether a first fragment lacks part of the headers (RFC 8200 section 4.5)."""
    protocol, offset = read_for_tracking(data, at, FRAGMENT)
    return protocol is not None and offset + _HEADER_BYTES_MIN.get(protocol, 1) > len(data)
