"""Transfers by simulated TCP take the same time as on Linux; each mechanism of TCP is tested separately.

The durations in seconds were measured with Linux 6.18, CUBIC and the buffers of RHEL 9, over links of the kernel
world (`bench/lab/tcp.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import pytest

from sim.net.link import Impairment, Link, LinkQuality
from sim.net.loop import SimLoop
from sim.net.segment import HEADER_BYTES
from sim.net.tcp import ACK, FIN, MSS, SYN, TcpSegment
from sim.net.tcp.cubic import INITIAL_WINDOW, UNLIMITED, Cubic, cube_root
from sim.net.tcp.mtu import BASE_MSS
from sim.net.tcp.receiver import TcpReceiver
from sim.net.tcp.rtt import RTO_MIN_NS, RttEstimator
from sim.net.tcp.scoreboard import Scoreboard, Sent
from sim.net.timers import LazyTimers
from sim.units import MILLISECOND_NS
from tests.support.sim.network import Pair, Recorder

MS = MILLISECOND_NS
LINE = LinkQuality(1_000_000, 40 * MS, queue_bytes_max=64 * 1024)
Drop = Callable[[int, TcpSegment], bool]


class Watched(Pair):
    """A pair that records all segments, and drops the n-th data segment of host "a" if `drop(n, segment)` is true."""

    def __init__(self, quality: LinkQuality = LINE, drop: Drop = lambda *_: False) -> None:
        super().__init__(quality)
        self.seen: list[tuple[float, str, TcpSegment]] = []
        self._drop, self._send, self._sent = drop, self.link.send, 0
        self.link.send = self._watch  # type: ignore[method-assign]

    def _watch(self, source: object, segment: TcpSegment) -> None:
        name = "a" if source is self.a else "b"
        self.seen.append((self.loop.time(), name, segment))
        if name == "a" and segment.data:
            self._sent += 1
            if self._drop(self._sent, segment):
                return
        self._send(source, segment)  # type: ignore[arg-type]

    def of(self, name: str) -> list[tuple[float, TcpSegment]]:
        return [(at, segment) for at, sender, segment in self.seen if sender == name]

    def data(self) -> list[tuple[float, TcpSegment]]:
        return [(at, segment) for at, segment in self.of("a") if segment.data]


def upload(pair: Pair, size: int) -> float:
    """Send `size` bytes from a to b and wait for a reply of one byte; return the duration in seconds."""

    class Server(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.received) == size:
                self.transport.write(b"!")

    async def listen() -> None:
        await pair.loop.create_server(Server, "b", 80)

    async def send() -> float:
        began = pair.loop.time()
        transport, client = await pair.loop.create_connection(Recorder, "b", 80)
        assert isinstance(transport, asyncio.Transport) and isinstance(client, Recorder)
        transport.write(bytes(size))
        while not client.received:
            await asyncio.sleep(0.001)
        return pair.loop.time() - began

    pair.run(pair.b, listen())
    return float(pair.run(pair.a, asyncio.wait_for(send(), 3600)))


@pytest.mark.parametrize(
    ("rate", "delay", "size", "seconds"),
    [
        (64_000, 20, 10_000, 1.44),
        (64_000, 100, 100_000, 13.28),
        (64_000, 300, 100_000, 14.07),
        (1_000_000, 20, 10_000, 0.17),
        (1_000_000, 20, 500_000, 4.19),
        (1_000_000, 300, 500_000, 6.32),
        (10_000_000, 20, 5_000_000, 4.24),
        (10_000_000, 100, 100_000, 0.85),
        (64_000, 20, 100_000, 15.77),
        (10_000_000, 100, 5_000_000, 5.32),
    ],
)
def test_uploads_without_loss_take_as_long_as_on_linux(
    rate: int, delay: int, size: int, seconds: float
) -> None:
    quality = LinkQuality(rate, delay * MS, queue_bytes_max=64 * 1024)
    assert upload(Pair(quality), size) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize(
    ("queue", "seconds"), [(56_536, 15.91), (59_536, 15.83), (71_536, 12.30), (74_536, 12.24)]
)
def test_drops_by_a_short_queue_cost_as_much_time_as_on_linux(queue: int, seconds: float) -> None:
    quality = LinkQuality(10_000_000, 300 * MS, queue_bytes_max=queue)
    assert upload(Pair(quality), 5_000_000) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "delay", "loss", "size", "seconds"),
    [
        (64_000, 20, 0.01, 100_000, 16.14),
        (1_000_000, 20, 0.03, 500_000, 4.48),
        (10_000_000, 20, 0.01, 5_000_000, 12.57),
        (10_000_000, 20, 0.03, 5_000_000, 28.03),
    ],
)
def test_uploads_with_loss_take_as_long_as_on_linux(
    rate: int, delay: int, loss: float, size: int, seconds: float
) -> None:
    quality = LinkQuality(rate, delay * MS, 0, loss, queue_bytes_max=64 * 1024)
    took = median(upload(Pair(quality, seed), size) for seed in range(1, 10))
    assert took == pytest.approx(seconds, rel=0.15)


# -- losses


def test_a_lost_segment_is_retransmitted_once_before_the_timeout() -> None:
    pair = Watched(drop=lambda n, _: n == 5)
    upload(pair, 30 * MSS)
    numbers = [segment.seq for _, segment in pair.data()]
    (lost,) = {number for number in numbers if numbers.count(number) == 2}
    first, second = (at for at, segment in pair.data() if segment.seq == lost)
    assert len(numbers) == 31
    assert second - first < 0.2
    assert pair.link.forward.resent_bytes == MSS


def test_many_losses_in_one_window_are_repaired_in_few_round_trips() -> None:
    pair = Watched(LinkQuality(10_000_000, 40 * MS), lambda n, _: 30 <= n < 90 and n % 3 == 0)
    assert upload(pair, 200 * MSS) < 1.0  # one loss a round trip would take 1.6 s
    assert len(pair.data()) == 220


def test_a_lost_tail_is_detected_by_a_probe_before_the_timeout() -> None:
    pair = Watched(LinkQuality(10_000_000, 100 * MS), lambda n, _: n in (9, 10))
    upload(pair, 10 * MSS)
    first, second, *_ = (at for at, segment in pair.data() if segment.seq == 9 * MSS + 1)
    assert second - first < 0.65  # two round trips after the last acknowledgement; the timeout is 0.6 s


def test_a_lost_retransmission_is_repeated_before_the_timeout() -> None:
    lost: list[int] = []

    def drop(n: int, segment: TcpSegment) -> bool:
        again = n > 6 and segment.seq == 4 * MSS + 1 and len(lost) < 2
        if n == 5 or again:
            lost.append(n)
        return n == 5 or (again and len(lost) == 2)

    pair = Watched(LinkQuality(10_000_000, 20 * MS), drop)
    upload(pair, 400 * MSS)
    times = [at for at, segment in pair.data() if segment.seq == 4 * MSS + 1]
    assert len(times) == 3
    assert times[2] - times[1] < RTO_MIN_NS / 1e9


def connected(pair: Pair) -> tuple[Recorder, Recorder]:
    """Connect a to b; return the protocols of a and of b."""
    client, server = Recorder(), Recorder()

    async def serve() -> None:
        await pair.loop.create_server(lambda: server, "b", 80)

    async def dial() -> None:
        await pair.loop.create_connection(lambda: client, "b", 80)

    pair.run(pair.b, serve())
    pair.run(pair.a, dial())
    pair.loop.run_for(1_000 * MS)
    return client, server


def test_a_spurious_timeout_retransmits_few_segments_and_keeps_the_window() -> None:
    pair = Watched(LinkQuality(10_000_000, 20 * MS))
    client, server = connected(pair)
    client.transport.write(bytes(100 * MSS))
    pair.loop.run_for(2_000 * MS)
    before = len(pair.data())
    end = pair.link.impair(Impairment(delay_ns=700 * MS))
    client.transport.write(bytes(40 * MSS))
    pair.loop.run_for(900 * MS)
    end()
    pair.loop.run_for(2_100 * MS)
    assert len(server.received) == 140 * MSS
    assert len(pair.data()) - before <= 44


def test_reordering_is_not_mistaken_for_loss() -> None:
    pair = Watched(LinkQuality(10_000_000, 40 * MS, reordering=0.02, queue_bytes_max=1 << 20))
    upload(pair, 2_000 * MSS)
    assert pair.link.forward.resent_bytes < 40 * MSS


# -- paths that drop long packets


def limit_packets(pair: Pair, longest: int) -> Callable[[], object]:
    return pair.link.impair(Impairment(packet_bytes_max=longest))


def test_mtu_probing_shortens_packets_on_a_path_that_drops_long_ones() -> None:
    pair = Watched(LinkQuality(1_000_000, 40 * MS, queue_bytes_max=64 * 1024))
    pair.a.mtu_probing = True
    client, server = connected(pair)
    limit_packets(pair, 1300)
    client.transport.write(bytes(400_000))
    pair.loop.run_for(3_000 * MS)
    assert not server.received
    pair.loop.run_for(17_000 * MS)
    assert len(server.received) == 400_000
    lengths = [HEADER_BYTES + len(segment.data) for _, segment in pair.data()]
    shortened = lengths[lengths.index(HEADER_BYTES + BASE_MSS) :]
    assert max(length for length in shortened if length <= 1300) > 1290, "longer packets are tried again"
    assert sum(length > 1300 for length in shortened) < 8, "few longer packets are tried"


def test_mtu_probing_shortens_packets_further_on_a_narrower_path() -> None:
    pair = Watched(LinkQuality(1_000_000, 40 * MS, queue_bytes_max=64 * 1024))
    pair.a.mtu_probing = True
    client, server = connected(pair)
    limit_packets(pair, 600)
    client.transport.write(bytes(50_000))
    pair.loop.run_for(120_000 * MS)
    assert len(server.received) == 50_000


def test_without_mtu_probing_long_packets_are_lost_until_the_path_is_restored() -> None:
    pair = Watched(LinkQuality(1_000_000, 40 * MS))
    client, server = connected(pair)
    end = limit_packets(pair, 1300)
    client.transport.write(bytes(50_000))
    pair.loop.run_for(120_000 * MS)
    assert not server.received
    end()
    pair.loop.run_for(120_000 * MS)
    assert len(server.received) == 50_000


def test_a_path_passes_packets_of_exactly_its_mtu() -> None:
    pair = Watched(LinkQuality(1_000_000, 40 * MS))
    limit_packets(pair, 1500)
    upload(pair, 100_000)
    assert pair.link.forward.lost == 0
    assert max(len(segment.data) for _, segment in pair.data()) == MSS


# -- the receiver


def test_selective_acknowledgements_report_segments_received_out_of_order() -> None:
    pair = Watched(LinkQuality(10_000_000, 40 * MS), lambda n, _: n == 3)
    upload(pair, 10 * MSS)
    blocks = [segment.sack for _, segment in pair.of("b") if segment.sack]
    hole = 2 * MSS + 1
    assert blocks[0] == ((hole + MSS, hole + 2 * MSS),)
    assert blocks[-1][0][0] == hole + MSS
    assert all(len(segment.sack) <= 4 for _, _, segment in pair.seen)


def test_tcp_options_count_as_bytes_on_the_link() -> None:
    pair = Watched(LinkQuality(10_000_000, 40 * MS), lambda n, _: n == 3)
    upload(pair, 10 * MSS)
    for name, pipe in (("a", pair.link.forward), ("b", pair.link.backward)):
        segments = [segment for _, segment in pair.of(name)]
        lost = 3 if name == "a" else 0
        options = [12 if s.flags & SYN else (4 + 8 * len(s.sack) if s.sack else 0) for s in segments]
        headers = sum(HEADER_BYTES + more for more in options) - HEADER_BYTES * (lost > 0)
        data = sum(len(s.data) for s in segments) - MSS * (lost > 0)
        assert pipe.header_bytes == headers
        assert pipe.bytes == headers + data


def test_segments_are_acknowledged_singly_while_the_window_grows_and_otherwise_in_pairs() -> None:
    pair = Watched(LinkQuality(10_000_000, 40 * MS))
    upload(pair, 400 * MSS)
    acknowledgements = [s.ack for _, s in pair.of("b") if not s.data and not s.flags & (SYN | FIN)]
    steps = [(later - earlier) // MSS for earlier, later in pairwise([1, *acknowledgements])]
    assert steps[:134] == [1] * 22 + [2] * 12 + [1] * 100  # the numbers of a trace on Linux


def test_the_client_acknowledges_the_handshake_once_and_before_its_first_data() -> None:
    pair = Watched()
    upload(pair, 3 * MSS)
    sent = [(segment.flags, len(segment.data)) for _, segment in pair.of("a")]
    assert sent[:5] == [(SYN, 0), (ACK, 0), (ACK, MSS), (ACK, MSS), (ACK, MSS)]
    assert sent[5:] == [(ACK, 0)], "the reply is acknowledged"


def test_the_timeout_counts_from_the_first_unacknowledged_segment_during_a_loss_probe() -> None:
    pair = Watched(LinkQuality(64_000, 20 * MS, queue_bytes_max=64 * 1024))
    upload(pair, 100_000)
    first, second = [at for at, segment in pair.data() if segment.seq == MSS + 1][:2]
    assert first == pytest.approx(0.055, abs=0.005)
    assert second == pytest.approx(0.40, abs=0.02), (
        "Linux: 0.41 s; 0.73 s if the timeout counted from the probe"
    )


def test_after_a_timeout_two_new_segments_precede_the_lost_ones() -> None:
    pair = Watched(LinkQuality(64_000, 20 * MS, queue_bytes_max=64 * 1024))
    upload(pair, 100_000)
    after = [round((segment.seq - 1) / MSS) for at, segment in pair.data() if at > 0.42]
    assert after[:3] == [12, 13, 2], "two new segments, and the first one marked as lost"


def test_psh_is_set_at_the_end_of_each_burst_of_two_and_of_each_write() -> None:
    pair = Watched()
    upload(pair, 5 * MSS)
    assert [segment.push for _, segment in pair.data()] == [False, True, False, True, True]


def receiving() -> tuple[SimLoop, TcpReceiver, list[int]]:
    """Return the loop, a receiver that has acknowledged 22 segments of a transfer, and its acknowledgements."""
    loop, acknowledged = SimLoop(), list[int]()

    def acknowledge() -> None:
        receiver.announce()
        acknowledged.append(receiver.next_seq)

    receiver = TcpReceiver(loop.env, LazyTimers(loop.env), RttEstimator(), acknowledge)
    receiver.next_seq = receiver.acknowledged = 1
    receiver.announce()
    for _ in range(22):
        receiver.receive(next_segment(receiver))
    assert len(acknowledged) == 22
    return loop, receiver, acknowledged


def next_segment(receiver: TcpReceiver, *, push: bool = False, skip: int = 0) -> TcpSegment:
    segment = TcpSegment(1, 2, "far", receiver.next_seq + skip * MSS, ACK, bytes(MSS))
    segment.push = push
    return segment


def test_a_full_segment_is_acknowledged_at_once_only_with_psh() -> None:
    for push in (False, True):
        loop, receiver, acknowledged = receiving()
        receiver.receive(next_segment(receiver, push=push))
        assert len(acknowledged) == 22 + push
        loop.run_for(40 * MS)
        assert len(acknowledged) == 23


def test_the_announced_window_is_a_multiple_of_its_scale_and_does_not_grow_behind_a_gap() -> None:
    _, receiver, _ = receiving()
    full = receiver.announce()
    assert full == 81_536, "the free part of 128 KiB of memory beside the current segment"
    for skip in range(3, 13):
        receiver.receive(next_segment(receiver, skip=skip))
    assert receiver.announce() == full, "the announced window does not shrink"
    for left in (2, 1):
        receiver.receive(next_segment(receiver))
        assert receiver.announce() == -(-(full - (3 - left) * MSS) // 128) * 128, "the window does not grow"
    receiver.receive(next_segment(receiver))
    assert receiver.next_seq == receiver.acknowledged == 1 + 35 * MSS
    assert receiver.announce() == full


def test_a_lost_window_update_is_recovered_by_a_window_probe() -> None:
    pair = Pair(LINE)
    client, server = connected(pair)
    server.transport.pause_reading()
    client.transport.write(bytes(300_000))
    pair.loop.run_for(3_600_000 * MS)
    assert not client.lost, "a connection with a closed window does not time out"
    pair.link.backward.quality = LinkQuality(1_000_000, loss=1.0)
    server.transport.resume_reading()
    pair.loop.run_for(100 * MS)
    pair.link.backward.quality = LINE
    pair.loop.run_for(300_000 * MS)
    assert len(server.received) == 300_000


# -- congestion control and timers


def test_the_window_starts_with_ten_segments_and_doubles_each_round_trip() -> None:
    pair = Watched(LinkQuality(100_000_000, 100 * MS, queue_bytes_max=1 << 22))
    upload(pair, 70 * MSS)
    rounds = [0, 0, 0]
    for at, _ in pair.data():
        rounds[int((at - 0.15) / 0.2)] += 1
    assert rounds == [10, 20, 40]


def test_the_window_starts_again_after_an_idle_period() -> None:
    pair = Watched(LinkQuality(100_000_000, 100 * MS, queue_bytes_max=1 << 22))
    client, _ = connected(pair)
    for _ in range(2):
        pair.seen.clear()
        client.transport.write(bytes(200 * MSS))
        pair.loop.run_for(10_000 * MS)
        began = pair.data()[0][0]
        assert sum(at < began + 0.1 for at, _ in pair.data()) == INITIAL_WINDOW


def test_cubic_returns_to_the_old_window_after_the_time_of_its_curve() -> None:
    cubic = Cubic()
    assert (cubic.window, cubic.ssthresh) == (INITIAL_WINDOW, UNLIMITED)
    cubic.window = 100
    cubic.ssthresh = cubic.window = cubic.reduced()
    assert cubic.window == 70
    for n in range(42):  # the cube root of 30 / 0.4 is 4.2 s
        cubic.grow(cubic.window, (n + 1) * 100 * MS)
    assert 97 <= cubic.window <= 101
    for n in range(42, 84):
        cubic.grow(cubic.window, (n + 1) * 100 * MS)
    assert 120 <= cubic.window <= 135


@pytest.mark.parametrize(("rise", "ends"), [(3, False), (6, True)])
def test_slow_start_ends_when_the_round_trip_time_rises(rise: int, ends: bool) -> None:
    cubic = Cubic()
    cubic.window = 20
    cubic.measure(40 * MS, 40 * MS, 1, 100)
    for n in range(10):  # a rise by an eighth of the shortest round trip, here 5 ms, ends slow start
        cubic.measure((40 + rise) * MS, (1_000 + 50 * n) * MS, 200, 300)
    assert cubic.in_slow_start is not ends


@pytest.mark.parametrize("value", [0, 1, 7, 8, 26, 27, 10**12 - 1, 10**12, 2**61])
def test_the_cube_root_is_rounded_down(value: int) -> None:
    root = cube_root(value)
    assert root**3 <= value < (root + 1) ** 3


def test_the_timeout_exceeds_the_round_trip_time_by_at_least_200_ms() -> None:
    rtt = RttEstimator()
    rtt.measure(50 * MS, 1, 2)
    assert rtt.rto == 250 * MS
    for n in range(100):
        rtt.measure(50 * MS, n, n + 1)
    assert rtt.rto == 250 * MS
    for n in range(100, 200):
        rtt.measure((50 + n % 2 * 400) * MS, n, n + 1)
    assert rtt.rto > 600 * MS


def test_rack_waits_for_late_segments_after_reordering() -> None:
    board = Scoreboard()
    board.sent = [Sent(1 + n * MSS, 1 + (n + 1) * MSS, n * MS) for n in range(6)]
    assert board.select([(1 + 2 * MSS, 1 + 3 * MSS)], 50 * MS, 40 * MS, 0) == 1
    window = board.reordering_window(40 * MS, 40 * MS, in_recovery=False)
    assert window == 10 * MS
    assert board.detect_losses(50 * MS, window) == 9 * MS
    assert board.lost == 0
    board.news = True
    assert board.detect_losses(59 * MS, window) == 0
    assert board.lost == 2
    assert board.in_flight == 3


def test_the_reordering_window_widens_to_at_most_255_quarters_of_the_shortest_round_trip() -> None:
    board, second = Scoreboard(), 1_000 * MS
    board.reordering_seen = True
    for _ in range(300):
        board.dsack_seen = True
        board.adapt_window(board.delivered)
    assert board.reordering_window(4 * MS, second, in_recovery=False) == 255 * MS


def test_the_length_of_a_segments_options_follows_from_its_flags() -> None:
    assert TcpSegment(1, 2, "b", 0, SYN).option_bytes == 12
    assert TcpSegment(1, 2, "b", 1, ACK).option_bytes == 0
    assert TcpSegment(1, 2, "b", 1, ACK, sack=((5, 6), (8, 9))).option_bytes == 20
    assert isinstance(Pair().link, Link)
