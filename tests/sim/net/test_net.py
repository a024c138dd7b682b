"""Connections between two hosts over a simulated link."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.net.link import LinkQuality
from sim.net.segment import HEADER_BYTES
from sim.net.tcp import MSS
from sim.net.transport import WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from tests.support.sim.network import CLINIC, LAN, Pair, Recorder


def serve(pair: Pair, *, echo: bool = False) -> list[Recorder]:
    """Listen on b:7; the returned list grows by each accepted connection."""
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder(echo=echo))
        return accepted[-1]

    async def listen() -> None:
        await pair.loop.create_server(accept, "b", 7)

    pair.run(pair.b, listen())
    return accepted


async def dial(pair: Pair) -> Recorder:
    _, recorder = await pair.loop.create_connection(Recorder, "b", 7)
    assert isinstance(recorder, Recorder)
    return recorder


@settings(max_examples=60)
@given(
    loss=st.floats(0, 0.2),
    duplication=st.floats(0, 0.2),
    reordering=st.floats(0, 0.2),
    jitter_ms=st.integers(0, 100),
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
)
def test_every_byte_arrives_once_and_in_order_over_any_link(
    loss: float, duplication: float, reordering: float, jitter_ms: int, sizes: list[int], seed: int
) -> None:
    quality = LinkQuality(2_000_000, 20_000_000, jitter_ms * 1_000_000, loss, duplication, reordering)
    pair = Pair(quality, seed)
    accepted = serve(pair, echo=True)
    content = [Random(seed + n).randbytes(size) for n, size in enumerate(sizes)]

    async def talk() -> bytes:
        recorder = await dial(pair)
        for piece in content:
            recorder.transport.write(piece)
            await asyncio.sleep(0.01)
        while len(recorder.received) < sum(sizes):
            await asyncio.sleep(1)
        recorder.transport.close()
        return bytes(recorder.received)

    assert pair.run(pair.a, asyncio.wait_for(talk(), 3000)) == b"".join(content)
    pair.loop.run_for(600_000_000_000)
    assert bytes(accepted[0].received) == b"".join(content)
    assert accepted[0].lost, "the end of the connection was not received"


def test_the_time_of_a_bulk_transfer_is_that_of_its_packets_at_the_links_rate() -> None:
    pair = Pair(CLINIC)
    accepted = serve(pair)
    size = 500_000

    async def send() -> None:
        recorder = await dial(pair)
        recorder.transport.write(bytes(size))
        recorder.transport.close()

    pair.run(pair.a, send())
    while len(accepted[0].received) < size:
        pair.loop.run_for(10_000_000)
    packets = -(-size // MSS)
    ideal = (size + packets * HEADER_BYTES) * 8 / CLINIC.rate_bits
    assert ideal < pair.loop.time() < ideal * 1.03 + 0.3
    assert pair.link.forward.bytes == pytest.approx(size + packets * HEADER_BYTES, abs=200)


def test_a_closed_port_refuses_and_a_host_without_power_does_not_answer() -> None:
    pair = Pair()
    with pytest.raises(ConnectionRefusedError):
        pair.run(pair.a, dial(pair))
    pair.b.power_off()
    before = pair.loop.time()
    with pytest.raises(TimeoutError):
        pair.run(pair.a, dial(pair))
    assert pair.loop.time() - before > 60


def test_an_unknown_address_has_no_route() -> None:
    pair = Pair()

    async def dial_nowhere() -> None:
        await pair.loop.create_connection(Recorder, "nowhere", 7)

    with pytest.raises(OSError, match="no route to nowhere"):
        pair.run(pair.a, dial_nowhere())


def test_a_connection_survives_a_cut_cable_without_losing_data() -> None:
    pair = Pair(CLINIC)
    accepted = serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    recorder.transport.write(bytes(100_000))
    pair.loop.run_for(2_000_000_000)
    pair.link.cut()
    received = len(accepted[0].received)
    pair.loop.run_for(30_000_000_000)
    assert len(accepted[0].received) == received < 100_000
    pair.link.mend()
    pair.loop.run_for(120_000_000_000)
    assert len(accepted[0].received) == 100_000


def test_a_connection_is_reset_when_its_peer_restarts_after_a_power_cut() -> None:
    pair = Pair()
    serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    pair.b.power_off()
    recorder.transport.write(b"data")
    pair.loop.run_for(5_000_000_000)
    assert not recorder.lost, "a host without power sends nothing"
    pair.b.power_on()
    pair.loop.run_for(30_000_000_000)
    assert isinstance(recorder.lost[0], ConnectionResetError)


def test_a_killed_program_resets_its_connections_at_once() -> None:
    pair = Pair()
    serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    pair.b.kill()
    pair.loop.run_for(1_000_000)
    assert isinstance(recorder.lost[0], ConnectionResetError)


def test_a_connection_without_acknowledgements_times_out() -> None:
    pair = Pair()
    serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    pair.link.cut()
    recorder.transport.write(b"?")
    pair.loop.run_for(3600_000_000_000)
    assert isinstance(recorder.lost[0], TimeoutError)


def test_a_paused_reader_stops_the_writer_without_losing_data() -> None:
    pair = Pair(LAN)
    accepted = serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    pair.loop.run_for(1_000_000)
    accepted[0].transport.pause_reading()
    recorder.transport.write(bytes(1_000_000))
    pair.loop.run_for(10_000_000_000)
    assert len(accepted[0].received) == 0
    assert recorder.transport.get_write_buffer_size() > 500_000
    accepted[0].transport.resume_reading()
    pair.loop.run_for(200_000_000_000)
    assert len(accepted[0].received) == 1_000_000


def test_a_stopped_writer_continues_when_little_data_is_unacknowledged() -> None:
    class Writer(Recorder):
        """Records how many bytes are unacknowledged at each stop and continuation."""

        def __init__(self) -> None:
            super().__init__()
            self.stopped: list[int] = []
            self.continued: list[int] = []

        def pause_writing(self) -> None:
            self.stopped.append(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            self.continued.append(self.transport.get_write_buffer_size())

    pair = Pair(LAN)
    serve(pair)
    _, writer = pair.run(pair.a, pair.loop.create_connection(Writer, "b", 7))
    assert isinstance(writer, Writer)
    for _ in range(2):
        writer.transport.write(bytes(200_000))
        pair.loop.run_for(10_000_000_000)
    assert len(writer.stopped) == len(writer.continued) == 2
    assert min(writer.stopped) > WRITE_HIGH_BYTES
    assert max(writer.continued) <= WRITE_LOW_BYTES


def test_a_cable_may_be_unplugged_for_a_minute_at_any_time_after_the_start() -> None:
    pair = Pair(LAN)
    accepted = serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    pair.loop.run_for(10_000_000_000_000)
    pair.link.cut()
    recorder.transport.write(b"late")
    pair.loop.run_for(60_000_000_000)
    pair.link.mend()
    pair.loop.run_for(130_000_000_000)
    assert bytes(accepted[0].received) == b"late"


def test_the_queue_of_a_slow_link_drops_packets_that_do_not_fit() -> None:
    pair = Pair(LinkQuality(128_000, queue_bytes_max=10_000))
    serve(pair)
    recorder = pair.run(pair.a, dial(pair))
    recorder.transport.write(bytes(14 * MSS))
    pair.loop.run_for(120_000_000_000)
    assert pair.link.forward.lost > 0
    assert recorder.transport.get_write_buffer_size() == 0


def test_the_same_seed_gives_the_same_times() -> None:
    def run() -> tuple[int, int, int]:
        pair = Pair(LinkQuality(1_000_000, 30_000_000, 20_000_000, 0.05, 0.02, 0.02), seed=7)
        serve(pair, echo=True)

        async def talk() -> None:
            recorder = await dial(pair)
            recorder.transport.write(bytes(200_000))
            while len(recorder.received) < 200_000:
                await asyncio.sleep(0.1)

        pair.run(pair.a, talk())
        return pair.loop.env.now, pair.link.forward.bytes, pair.link.backward.lost

    assert run() == run()
