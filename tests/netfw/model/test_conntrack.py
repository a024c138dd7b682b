"""Connection tracking and reassembly of fragments in the model; test_fuzz.py compares them with the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from struct import pack

import pytest
from crc32c import crc32c

from netfw.model.conntrack import Conntrack, ConntrackEntry, Settings, Tracked, inverse, tuple_of
from netfw.model.conntrack_tcp import SegmentKind, TrackedSegment
from netfw.model.conntrack_tcp import segment as segment_at
from netfw.model.fragments import Reassembly
from netfw.model.packet import (
    ACK,
    FIN,
    ICMP,
    MORE_FRAGMENTS,
    PSH,
    RST,
    SCTP,
    SYN,
    Packet,
    icmp,
    ip,
    parse,
    tcp,
    udp,
)
from netfw.model.values import STATES

SECOND_NS = 1_000_000_000
US, THEM = "10.0.0.1", "203.0.113.5"
US6, THEM6 = "fd00::1", "2001:db8::5"
NAME_OF = {bit: name for name, bit in STATES.items()}


def statement(tracked: Tracked) -> str:
    direction = {None: "", False: " original", True: " reply"}[tracked.tracking.reply]
    return NAME_OF[tracked.tracking.state] + direction


def take(table: Conntrack, data: bytes, now_ns: int = 0, *, incoming: bool = True) -> str:
    """Track a packet that every chain accepts; return its state and direction."""
    tracked = table.track(parse(data), now_ns, incoming=incoming)
    table.confirm(tracked.entry)
    return statement(tracked)


def call(flags: int, seq: int = 1000, ack: int = 0, payload: bytes = b"") -> bytes:
    return tcp(US, 5000, THEM, 443, flags, seq=seq, ack=ack, payload=payload)


def answer(flags: int, seq: int = 7000, ack: int = 0, payload: bytes = b"") -> bytes:
    return tcp(THEM, 443, US, 5000, flags, seq=seq, ack=ack, payload=payload)


CONVERSATION = [
    (call(SYN), "new original"),
    (answer(SYN | ACK, ack=1001), "established reply"),
    (call(ACK, 1001, 7001), "established original"),
    (call(PSH | ACK, 1001, 7001, b"ask"), "established original"),
    (answer(PSH | ACK, 7001, 1004, b"answer"), "established reply"),
    (call(FIN | ACK, 1004, 7007), "established original"),
    (answer(FIN | ACK, 7007, 1005), "established reply"),
    (call(ACK, 1005, 7008), "established original"),
]


def after_steps(steps: int) -> Conntrack:
    table = Conntrack()
    for data, expected in CONVERSATION[:steps]:
        assert take(table, data) == expected
    return table


def test_a_tcp_connection_passes_through_all_states() -> None:
    assert len(after_steps(len(CONVERSATION))) == 1


def test_a_connection_is_confirmed_only_when_its_packet_was_accepted() -> None:
    table = Conntrack()
    assert statement(table.track(parse(call(SYN)), 0, incoming=False)) == "new original"
    assert len(table) == 0
    assert take(table, answer(SYN | ACK, ack=1001)) == "invalid"


@pytest.mark.parametrize(("loose", "expected"), [(True, "new original"), (False, "invalid")])
def test_an_established_connection_is_picked_up_only_if_tcp_loose_is_set(loose: bool, expected: str) -> None:
    assert take(Conntrack(Settings(tcp_loose=loose)), call(ACK, 1001, 7001)) == expected


@pytest.mark.parametrize("flags", [0, FIN, SYN | FIN, SYN | RST, FIN | RST, FIN | SYN | RST | ACK])
def test_invalid_flag_combinations_are_invalid(flags: int) -> None:
    assert take(Conntrack(), call(flags)) == "invalid"


@pytest.mark.parametrize(
    "data",
    [
        answer(ACK, 7001, 5_000_000),  # acknowledges data that was never sent
        answer(PSH | ACK, 8_000_000, 1001, b"far beyond the window"),
        answer(SYN, 7000),
        answer(RST, 6000),
    ],
)
def test_an_out_of_window_segment_is_invalid_and_changes_nothing(data: bytes) -> None:
    table = after_steps(3)
    assert take(table, data) == "invalid"
    for following, expected in CONVERSATION[3:]:
        assert take(table, following) == expected


def test_a_new_connection_can_follow_a_reset_immediately() -> None:
    table = after_steps(3)
    assert take(table, call(RST, 1001)) == "established original"
    assert take(table, call(SYN, 90_000)) == "new original"


def test_a_syn_on_an_established_connection_resynchronizes_the_windows() -> None:
    table = after_steps(4)
    # accepted, because the tracked windows may be outdated
    assert take(table, call(SYN, 900_000)) == "established original"
    assert take(table, answer(SYN | ACK, 500_000, 900_001)) == "established reply"
    assert take(table, call(ACK, 900_001, 500_001)) == "established original"


def test_an_out_of_window_close_prevents_the_resynchronization() -> None:
    table = after_steps(4)
    assert take(table, call(SYN, 900_000)) == "established original"
    assert take(table, answer(FIN | ACK, 7001, 5_000_000)) == "invalid"
    assert take(table, answer(SYN | ACK, 500_000, 900_001)) == "established reply"
    assert take(table, call(ACK, 900_001, 500_001)) == "invalid"


def test_a_reset_before_any_reply_deletes_the_connection() -> None:
    table = after_steps(1)
    assert take(table, call(RST, 1001)) == "new original"
    assert len(table) == 0


def test_entries_expire_at_their_timeout() -> None:
    table = after_steps(2)  # SYN_RECV: 60 seconds
    assert take(table, call(ACK, 1001, 7001), 60 * SECOND_NS - 1) == "established original"
    table = after_steps(2)
    assert take(table, answer(PSH | ACK, 7001, 1001, b"late"), 60 * SECOND_NS) == "new original"


def test_a_udp_flow_is_established_by_its_reply() -> None:
    table = Conntrack()
    ask, reply = udp(US, 5000, THEM, 53, b"ask"), udp(THEM, 53, US, 5000, b"answer")
    assert take(table, ask) == "new original"
    assert take(table, ask) == "new original"
    assert take(table, reply) == "established reply"
    assert take(table, ask) == "established original"
    entry = table.find((4, 17, 0x0A000001, 0xCB007105, 5000, 53), 0)
    assert entry is not None
    table.delete(entry)
    assert take(table, reply) == "new original"


@pytest.mark.parametrize(("us", "them", "request_", "reply"), [(US, THEM, 8, 0), (US6, THEM6, 128, 129)])
def test_only_icmp_requests_create_entries_and_only_their_replies_match(
    us: str, them: str, request_: int, reply: int
) -> None:
    table, rest = Conntrack(), pack("!HH", 7, 1)
    assert take(table, icmp(them, us, reply, rest=rest)) == "invalid"
    assert take(table, icmp(us, them, request_, rest=rest)) == "new original"
    assert take(table, icmp(them, us, reply, rest=pack("!HH", 8, 1))) == "invalid"
    assert take(table, icmp(them, us, reply, rest=rest)) == "established reply"


def test_an_icmp_error_is_related_only_to_a_known_packet_and_its_sender() -> None:
    table = after_steps(1)
    quoted = bytes(4) + call(SYN)[:28]
    assert take(table, icmp("192.0.2.9", US, 3, 1, quoted)) == "related reply"
    assert take(table, icmp("192.0.2.9", "10.0.0.2", 3, 1, quoted)) == "invalid"
    foreign_packet = bytes(4) + tcp(US, 5001, THEM, 443)[:28]
    assert take(table, icmp("192.0.2.9", US, 3, 1, foreign_packet)) == "invalid"
    assert take(table, icmp("192.0.2.9", US, 3, 1, quoted[:20])) == "invalid"


@pytest.mark.parametrize("kind", [130, 133, 134, 135, 136, 143])
def test_neighbour_discovery_is_not_tracked(kind: int) -> None:
    assert take(Conntrack(), icmp("fe80::1", "ff02::1", kind, hops=255)) == "untracked"


def test_a_wrong_checksum_is_invalid_only_on_input() -> None:
    for data in (call(SYN), udp(US, 1, THEM, 53, b"ask"), icmp(US, THEM, 8), icmp(US6, THEM6, 128)):
        wrong = data[:-1] + bytes((data[-1] ^ 1,))
        assert take(Conntrack(), wrong, incoming=True) == "invalid"
        assert take(Conntrack(), wrong, incoming=False) == "new original"
        assert take(Conntrack(Settings(checksum=False)), wrong) == "new original"


def test_udp_without_a_checksum_is_valid_and_with_a_wrong_length_is_not() -> None:
    datagram = udp(US, 1, THEM, 53, b"ask")
    assert take(Conntrack(), datagram[:26] + b"\0\0" + datagram[28:]) == "new original"
    assert take(Conntrack(), datagram[:24] + b"\0\x07" + datagram[26:], incoming=False) == "invalid"


def test_an_sctp_association_begins_with_a_single_init_chunk() -> None:
    def sctp(*chunks: int) -> bytes:
        body = pack("!HHI", 1, 2, 0) + bytes(4) + b"".join(pack("!BBH", kind, 0, 4) for kind in chunks)
        return ip(US, THEM, SCTP, body[:8] + crc32c(body).to_bytes(4, "little") + body[12:])

    assert take(Conntrack(), sctp(1)) == "new original"
    assert take(Conntrack(), sctp(1, 1)) == "invalid"
    assert take(Conntrack(), sctp(0)) == "invalid"
    assert take(Conntrack(), sctp(1)[:-1] + b"\x05") == "invalid"


def test_only_tuples_of_requests_have_an_inverse() -> None:
    packet = parse(call(SYN))
    tuple_ = tuple_of(packet)
    assert tuple_ is not None
    inverted = inverse(tuple_)
    assert inverted == (4, 6, packet.daddr, packet.saddr, 443, 5000)
    assert inverted is not None
    assert inverse(inverted) == tuple_
    assert inverse((4, ICMP, 1, 2, 0, 3 << 8)) is None


def test_a_segment_is_read_with_its_window_scale() -> None:
    options = b"\x02\x04\x05\xb4\x01\x03\x03\x07"
    data = pack("!HHIIBBHHH", 1, 2, 10, 20, 7 << 4, SYN, 512, 0, 0) + options
    assert segment_at(data, 0) == TrackedSegment(SYN, 10, 20, 512, 11, 7, SegmentKind.SYN)
    assert segment_at(data[:-1], 0) is None


DATAGRAM = udp(US, 1, THEM, 53, bytes(range(20)))


def fragments() -> Iterator[bytes]:
    for start, end in ((0, 8), (8, 24), (24, 28)):
        word = start // 8 | (MORE_FRAGMENTS if end < 28 else 0)
        yield ip(US, THEM, 17, DATAGRAM[20:][start:end], fragment=word, identifier=9)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_fragments_are_reassembled_in_any_order(order: tuple[int, ...]) -> None:
    parts, reassembly = list(fragments()), Reassembly()
    first, second, third = (reassembly.put(parse(parts[index])) for index in order)
    assert (first, second) == (None, None)
    assert third is not None
    assert third.data[20:] == DATAGRAM[20:]


def test_an_overlap_discards_all_fragments_and_a_duplicate_does_not() -> None:
    first, second, third = fragments()
    overlap = ip(US, THEM, 17, bytes(16), fragment=MORE_FRAGMENTS, identifier=9)
    reassembly = Reassembly()
    assert [reassembly.put(parse(part)) for part in (second, overlap, first, third)] == [None] * 4
    reassembly = Reassembly()
    results = [reassembly.put(parse(part)) for part in (first, first, second, third)]
    assert isinstance(results[-1], Packet)


def test_an_ipv6_fragment_with_a_wrong_length_is_not_reassembled() -> None:
    def fragment(word: int, part: bytes) -> Packet:
        return parse(ip(US6, THEM6, 44, pack("!BBHI", 17, 0, word, 5) + part))

    odd = fragment(8 | 1, b"12345")
    assert Reassembly().put(odd) is odd
    truncated = fragment(1, b"1234")
    assert Reassembly().put(truncated) is truncated
    datagram = udp(US6, 1, THEM6, 53, bytes(8))[40:]
    reassembly = Reassembly()
    assert reassembly.put(fragment(8, datagram[8:])) is None
    reassembled = reassembly.put(fragment(1, datagram[:8]))
    assert reassembled is not None
    assert reassembled.data == udp(US6, 1, THEM6, 53, bytes(8))


def test_a_confirmed_entry_is_found_in_both_directions() -> None:
    table = Conntrack()
    entry = ConntrackEntry((4, 6, 1, 2, 3, 4), (4, 6, 2, 1, 4, 3), expires_ns=10)
    table.confirm(entry)
    assert table.find(entry.original, 9) is table.find(entry.reply, 9) is entry
    assert table.find(entry.reply, 10) is None
    assert len(table) == 0
