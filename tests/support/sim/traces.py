"""Packet traces of short TCP connections, in the format of tcpdump, and their golden files.

    python -m tests.support.sim.traces

rewrites the golden files. Read the diff: each changed line is a different packet, or the same packet at a different
time; the durations in `tests/sim/net/test_tcp.py` show whether Linux agrees.
"""

from __future__ import annotations

from random import Random
from typing import Final

from sim.net.link import LinkQuality
from sim.net.segment import MSS
from tests.support.paths import FIXTURES
from tests.support.sim.ends import MEDIUM
from tests.support.sim.traced import FAST, MS, SCENARIOS, Scenario, Traced, scenario

FOLDER: Final = FIXTURES / "tcp"
SLOW: Final = LinkQuality(64_000, 100 * MS, queue_bytes_max=8 * 1024)

# -- transfers without loss


@scenario
def upload_without_loss() -> Traced:
    """60 segments at 1 Mbit/s: slow start, acknowledgements, the widening window."""
    pair = Traced(MEDIUM)
    pair.upload(60 * MSS)
    return pair


@scenario
def short_writes() -> Traced:
    """Twenty writes of 200 bytes, 30 ms apart, some answered."""
    pair = Traced(MEDIUM)
    pair.open()
    for n in range(20):
        pair.client.transport.write(bytes(200))
        if n % 3 == 2:
            pair.server.transport.write(bytes(300))
        pair.wait(30)
    pair.wait(1000)
    pair.close()
    return pair


@scenario
def burst_after_idle_time() -> Traced:
    """Two bursts with 5 s between them: the window begins again."""
    pair = Traced(LinkQuality(100_000_000, 100 * MS, queue_bytes_max=1 << 22))
    pair.open()
    for _ in range(2):
        pair.client.transport.write(bytes(40 * MSS))
        pair.wait(5000)
    pair.close()
    return pair


@scenario
def both_directions() -> Traced:
    """Each end sends 20 segments at the same time; one of each is lost."""
    pair = Traced(MEDIUM, a={8}, b={12})
    pair.open()
    pair.client.transport.write(bytes(20 * MSS))
    pair.server.transport.write(bytes(20 * MSS))
    pair.wait(5000)
    pair.close()
    return pair


@scenario
def closed_window() -> Traced:
    """b's program reads nothing for 20 s and then everything; the window closes and is probed."""
    pair = Traced(FAST)
    pair.open()
    pair.server.transport.pause_reading()
    pair.client.transport.write(bytes(150_000))
    pair.wait(20_000)
    pair.server.transport.resume_reading()
    pair.wait(5000)
    pair.close()
    return pair


@scenario
def closed_window_of_a_dead_host() -> Traced:
    """b's window closes and b loses power: a probes the window until it gives up."""
    pair = Traced(FAST)
    pair.open()
    pair.server.transport.pause_reading()
    pair.client.transport.write(bytes(150_000))
    pair.wait(5000)
    pair.b.power_off()
    pair.wait(3_600_000)
    return pair


# -- losses


@scenario
def one_loss() -> Traced:
    """The fifth of 30 segments is lost: selective acknowledgements repair it."""
    pair = Traced(FAST, a={7})
    pair.upload(30 * MSS, 3000)
    return pair


@scenario
def many_losses() -> Traced:
    """Every third of 30 segments in the middle of 100 is lost."""
    pair = Traced(FAST, a=range(32, 62, 3))
    pair.upload(100 * MSS, 5000)
    return pair


@scenario
def losses_twice() -> Traced:
    """Seven of 60 segments are lost, some during the recovery of earlier losses."""
    pair = Traced(FAST, a={7, 15, 22, 29, 40, 41, 42})
    pair.upload(60 * MSS, 5000)
    return pair


@scenario
def last_segment_lost() -> Traced:
    """The last of ten segments is lost: a loss probe repairs it."""
    pair = Traced(FAST, a={12})
    pair.upload(10 * MSS, 3000)
    return pair


@scenario
def last_segments_lost() -> Traced:
    """The last three of ten segments are lost: a loss probe detects it."""
    pair = Traced(FAST, a={10, 11, 12})
    pair.upload(10 * MSS, 3000)
    return pair


@scenario
def loss_probe_is_lost() -> Traced:
    """The last segments and the loss probe are lost: the retransmission timeout repairs it."""
    pair = Traced(FAST, a={11, 12, 13, 14})
    pair.upload(10 * MSS, 5000)
    return pair


@scenario
def acknowledgements_are_lost() -> Traced:
    """Acknowledgements of the end of a transfer are lost: the loss probe proves to be a duplicate."""
    pair = Traced(FAST, b={9, 10, 11, 12, 13})
    pair.upload(10 * MSS, 3000)
    return pair


@scenario
def everything_is_delayed() -> Traced:
    """The delay of the path rises by 900 ms for a time: a spurious timeout is detected and undone."""
    pair = Traced(FAST)
    pair.open()
    pair.client.transport.write(bytes(40 * MSS))
    pair.wait(1000)
    pair.link.set_quality(delay_ns=920 * MS)
    pair.client.transport.write(bytes(25 * MSS))
    pair.wait(1500)
    pair.link.restore()
    pair.wait(3000)
    pair.client.transport.write(bytes(25 * MSS))
    pair.wait(3000)
    pair.close()
    return pair


@scenario
def cable_is_pulled() -> Traced:
    """The link is down for 4 s in the middle of a transfer; packets in flight are lost."""
    pair = Traced(MEDIUM)
    pair.open()
    pair.client.transport.write(bytes(60 * MSS))
    pair.wait(300)
    pair.link.cut()
    pair.wait(4000)
    pair.link.mend()
    pair.wait(10_000)
    pair.close()
    return pair


@scenario
def connection_dies() -> Traced:
    """The link stays down: a gives up."""
    pair = Traced(MEDIUM)
    pair.open()
    pair.client.transport.write(bytes(5000))
    pair.wait(10)
    pair.link.cut()
    pair.wait(3_600_000)
    return pair


@scenario
def full_queue() -> Traced:
    """60 segments over a queue of 8 KiB at 64 kbit/s, which drops some."""
    pair = Traced(SLOW)
    pair.upload(60 * MSS, 60_000)
    return pair


@scenario
def reordering() -> Traced:
    """Some of 80 segments overtake each other: late segments are not considered lost."""
    pair = Traced(LinkQuality(10_000_000, 20 * MS, reordering=0.08))
    pair.upload(80 * MSS, 5000)
    return pair


@scenario
def duplication() -> Traced:
    """Some of 40 segments arrive twice."""
    pair = Traced(LinkQuality(10_000_000, 20 * MS, duplication=0.15))
    pair.upload(40 * MSS, 5000)
    return pair


@scenario
def random_losses() -> Traced:
    """A random tenth of the packets is lost in both directions."""
    pair = Traced(LinkQuality(1_000_000, 40 * MS, loss=0.1, queue_bytes_max=64 * 1024))
    pair.server.echo = True
    pair.upload(40 * MSS, 60_000)
    return pair


@scenario
def narrow_path() -> Traced:
    """Packets above 1300 bytes never arrive: a's segments become shorter, and then as long as the path permits."""
    pair = Traced(MEDIUM)
    pair.a.mtu_probing = True
    pair.open()
    pair.link.set_quality(packet_bytes_max=1300)
    pair.client.transport.write(bytes(120_000))
    pair.wait(30_000)
    pair.close()
    return pair


@scenario
def very_narrow_path() -> Traced:
    """Packets above 600 bytes never arrive, until the path takes long packets again."""
    pair = Traced(MEDIUM)
    pair.a.mtu_probing = True
    pair.open()
    pair.link.set_quality(packet_bytes_max=600)
    pair.client.transport.write(bytes(40_000))
    pair.wait(60_000)
    pair.link.restore()
    pair.wait(600_000)
    pair.client.transport.write(bytes(60_000))
    pair.wait(30_000)
    pair.close()
    return pair


@scenario
def path_is_wide_again() -> Traced:
    """A narrow path becomes wide again: ten minutes later a sends the longest segments again, and keeps to them."""
    pair = Traced(FAST, show_every=10)
    pair.a.mtu_probing = True
    pair.open()
    pair.link.set_quality(packet_bytes_max=1200)
    pair.client.transport.write(bytes(100_000))
    pair.wait(20_000)
    pair.link.restore()
    for _ in range(4):
        pair.client.transport.write(bytes(100_000))
        pair.wait(500_000)
    pair.close()
    return pair


@scenario
def reading_is_paused_for_nothing() -> Traced:
    """Programs pause and resume reading while nothing arrives: no packet is sent. Then b reads after a has closed."""
    pair = Traced(FAST)
    pair.open()
    for recorder in (pair.client, pair.server):
        recorder.transport.pause_reading()
        pair.wait(100)
        recorder.transport.resume_reading()
        pair.wait(100)
    pair.server.transport.pause_reading()
    pair.client.transport.write(bytes(1000))
    pair.wait(1000)
    pair.client.transport.close()
    pair.wait(1000)
    pair.server.transport.resume_reading()
    pair.wait(1000)
    return pair


@scenario
def probing_on_a_wide_path() -> Traced:
    """On a path that takes long packets, MTU probing changes nothing, not even after a loss and a timeout."""
    pair = Traced(FAST, a={9, 30, 31, 32, 33, 34}, show_every=10)
    pair.a.mtu_probing = True
    pair.upload(60 * MSS, 5000)
    return pair


@scenario
def early_duplicates() -> Traced:
    """Segments behind a gap arrive twice."""
    pair = Traced(LinkQuality(10_000_000, 20 * MS, duplication=0.5), a={5, 11, 20, 21})
    pair.upload(30 * MSS, 5000)
    return pair


@scenario
def long_fat_path() -> Traced:
    """1000 segments at 50 Mbit/s and 200 ms: slow start ends before a loss, and the receive window widens."""
    pair = Traced(LinkQuality(50_000_000, 100 * MS, queue_bytes_max=1 << 20), show_every=50)
    pair.upload(1000 * MSS)
    return pair


@scenario
def long_fat_path_with_a_short_queue() -> Traced:
    """600 segments at 10 Mbit/s and 400 ms, with a queue of 60 kB that drops some."""
    pair = Traced(LinkQuality(10_000_000, 200 * MS, queue_bytes_max=60_000), show_every=50)
    pair.upload(600 * MSS, 60_000)
    return pair


def _mixed(seed: int, rough: float) -> Scenario:
    """Return a scenario over a random line whose loss, duplication and reordering are multiplied by `rough`."""

    def run() -> Traced:
        random = Random(seed)
        quality = LinkQuality(
            random.choice((64_000, 256_000, 1_000_000, 10_000_000)),
            random.randrange(1, 300) * MS,
            random.choice((0, 0, 20 * MS)),
            random.choice((0.0, 0.01, 0.05)) * rough,
            random.choice((0.0, 0.02)) * rough,
            random.choice((0.0, 0.03)) * rough,
            random.choice((8, 64, 256)) * 1024,
        )
        pair = Traced(quality, seed=seed, show_every=20)
        pair.a.mtu_probing = random.random() < 0.3
        pair.open(20_000)
        up = down = 0
        for _ in range(12):
            size = random.choice((10, 1000, 20_000, 100_000))
            pair.client.transport.write(bytes(size))
            up += size
            if random.random() < 0.3:
                size = random.choice((10, 1000, 20_000))
                pair.server.transport.write(bytes(size))
                down += size
            if random.random() < 0.1:
                pair.link.cut()
                pair.wait(random.randrange(5_000))
                pair.link.mend()
            pair.wait(random.choice((10, 100, 1_000, 10_000)))
        pair.wait(3_600_000)
        assert (len(pair.server.received), len(pair.client.received)) == (up, down)
        pair.close(60_000)
        return pair

    run.__doc__ = (
        f"Random writes in both directions over a random line, seed {seed}, impairments times {rough}."
    )
    return run


SCENARIOS.update({f"mixed-{seed}": _mixed(seed, 1.0) for seed in range(1, 13)})
SCENARIOS.update({f"rough-{seed}": _mixed(seed, 3.0) for seed in range(21, 33)})


def golden(name: str) -> str:
    """Return the content of the golden file of a scenario."""
    run = SCENARIOS[name]
    return f"{run.__doc__}\n\n{run().text()}"


def main() -> None:
    """Write all golden files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SCENARIOS:
        (FOLDER / f"{name}.txt").write_text(golden(name), "utf-8")


if __name__ == "__main__":
    main()
