"""Links between network namespaces behave as those of the virtual world, exact to the byte."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

from sim.faults.link.degraded import LinkDegraded
from sim.faults.link.down import LinkDown
from sim.faults.link.rate import LinkRate
from sim.faults.world import World
from sim.net.link import Impairment, LinkQuality
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run
from tests.support.eventually import eventually
from tests.support.sim.pairs import Pair, arrives, pair, send_and_wait, transfer

pytestmark = pytest.mark.kernel

FAST = LinkQuality(rate_bits=100_000_000)
HEADERS = 28  # of IP and UDP


async def carrier(both: Pair) -> tuple[str, str]:
    """Return the carrier of each host's interface, read on that host."""
    readings = (
        both.one.spawn(["cat", "/sys/class/net/eth1/carrier"]),
        both.other.spawn(["cat", "/sys/class/net/eth2/carrier"]),
    )
    for reading in readings:
        assert await reading.wait() == 0, reading.output()
    return readings[0].output().strip(), readings[1].output().strip()


def test_every_ip_packet_counts_with_its_length_and_transmission_time(name: str) -> None:
    async def main(lab: KernelLab) -> tuple[int, int, int, int]:
        both = pair(lab, FAST)
        near, far = both.datagrams()
        await send_and_wait(near, far)
        pipe = both.link.forward
        packets, total, busy = pipe.packets, pipe.bytes, pipe.busy_ns
        for size in (1, 100, 1472):
            await send_and_wait(near, far, bytes(size))
        return pipe.packets - packets, pipe.bytes - total, pipe.busy_ns - busy, both.link.backward.bytes

    packets, total, busy_ns, backward = run(name, main)
    expected = 1 + 100 + 1472 + 3 * HEADERS
    assert (packets, total, busy_ns) == (3, expected, expected * 80)
    assert backward == 0, "the reply to the ARP request does not count"


@pytest.mark.slow("transfers of 128 kbit/s in real time")
def test_tcp_at_128_kbit_takes_the_time_of_its_packets(name: str) -> None:
    data = bytes(range(256)) * 100

    async def main(lab: KernelLab) -> tuple[float, int, int, int]:
        both = pair(lab, LinkQuality(rate_bits=128_000, delay_ns=5_000_000))
        seconds = await transfer(both, data)
        pipe = both.link.forward
        return seconds, pipe.bytes, pipe.busy_ns, both.link.overrun

    seconds, total, busy_ns, overrun = run(name, main)
    assert len(data) < total < 1.3 * len(data)  # headers, and a spurious retransmission or two
    assert busy_ns == total * 62_500
    assert busy_ns / 1e9 * 0.9 < seconds < busy_ns / 1e9 * 3
    assert overrun == 0


def test_lost_packets_are_counted(name: str) -> None:
    sent = 2000

    async def main(lab: KernelLab) -> tuple[int, int]:
        both = pair(lab, FAST)
        near, far = both.datagrams()
        await send_and_wait(near, far)
        pipe = both.link.forward
        expected = pipe.packets + sent
        both.link.set_quality(loss=0.02)
        for _ in range(sent):
            near.send(b"x")
        await eventually(lambda: pipe.packets >= expected)
        both.link.restore()
        near.send(b"the end")
        received = 0
        while await asyncio.to_thread(far.recv, 100) != b"the end":
            received += 1
        return received, both.link.forward.lost

    received, lost = run(name, main)
    assert received + lost == sent
    assert 10 <= lost <= 90


def test_a_full_queue_drops_packets(name: str) -> None:
    sent, size = 50, 1000

    async def main(lab: KernelLab) -> tuple[int, int]:
        both = pair(lab, LinkQuality(rate_bits=1_000_000, queue_bytes_max=10 * size))
        near, far = both.datagrams()
        await send_and_wait(near, far)
        packets = both.link.forward.packets
        for _ in range(sent):
            near.send(bytes(size - HEADERS))
        while both.link.forward.packets + both.link.forward.lost < packets + sent:
            await asyncio.to_thread(far.recv, size)
        return both.link.forward.packets - packets, both.link.forward.lost

    carried, lost = run(name, main)
    assert carried + lost == sent
    assert carried >= 11  # one in transmission, and those that fit into the queue
    assert lost >= 10  # the sender is about fifty times faster than the link


def test_a_cut_link_has_no_carrier_at_either_end_and_keeps_its_addresses_and_routes(name: str) -> None:
    async def main(lab: KernelLab) -> list[object]:
        both = pair(lab, FAST)
        both.one.route("default", "10.9.0.2")
        near, far = both.datagrams()
        changes: list[bool] = []
        both.link.on_change.append(changes.append)
        await send_and_wait(near, far)
        before = await carrier(both)
        both.link.cut()
        both.link.cut()
        during = await carrier(both), await arrives(near, far, 0.05)
        both.link.mend()
        await send_and_wait(near, far)
        routes = both.one.spawn(["ip", "route"])
        await routes.wait()
        return [before, during, await carrier(both), changes, "default via 10.9.0.2" in routes.output()]

    assert run(name, main) == [("1", "1"), (("0", "0"), False), ("1", "1"), [False, True], True]


def test_packets_in_transit_are_lost_when_the_link_is_cut(name: str) -> None:
    async def main(lab: KernelLab) -> bytes:
        both = pair(lab, FAST)
        near, far = both.datagrams()
        await send_and_wait(near, far)
        both.link.set_quality(
            delay_ns=60_000_000_000
        )  # so long that the packet cannot arrive even if this process stalls
        near.send(b"before")
        both.link.cut()
        both.link.mend()
        both.link.set_quality(delay_ns=0)
        near.send(b"after")
        return await asyncio.to_thread(far.recv, 100)

    assert run(name, main) == b"after"


def test_the_link_faults_of_lab_files_work_in_the_kernel_world(name: str) -> None:
    async def main(lab: KernelLab) -> None:
        both = pair(lab, FAST)
        near, far = both.datagrams()
        world = cast(World, SimpleNamespace(link={"uplink": both.link}.__getitem__))
        await send_and_wait(near, far)

        end = await LinkDegraded(loss=1.0).start(world, "uplink")
        assert not await arrives(near, far, 0.05)
        end()
        await send_and_wait(near, far)

        end = await LinkRate(rate=1_000_000).start(world, "uplink")
        busy_ns = both.link.forward.busy_ns
        await send_and_wait(near, far, bytes(972))
        assert both.link.forward.busy_ns - busy_ns == 8_000_000
        end()
        assert both.link.forward.quality == FAST

        end = await LinkDown().start(world, "uplink")
        assert await carrier(both) == ("0", "0")
        end()
        await send_and_wait(near, far)

    run(name, main)


def _ip_packets(file: Path) -> int:
    return sum(IP in packet for packet in rdpcap(str(file)))


def test_a_capture_contains_the_packets_with_valid_checksums(name: str, tmp_path: Path) -> None:
    file = tmp_path / "uplink.pcapng"

    async def main(lab: KernelLab) -> None:
        both = pair(lab, FAST)
        both.link.start_capture(file)
        await transfer(both, bytes(200_000))
        pipes = both.link.forward, both.link.backward
        # until the last acknowledgement has left the link and is in the file
        await eventually(lambda: _ip_packets(file) == sum(pipe.packets for pipe in pipes), every_s=0.01)
        both.link.stop_capture()
        near, far = both.datagrams()
        await send_and_wait(near, far, b"after the end")

    run(name, main, writable=[tmp_path])
    assert b"after the end" not in file.read_bytes()
    captured = rdpcap(str(file))
    assert max(len(packet) for packet in captured) == 1514
    segments = [packet for packet in captured if TCP in packet]
    assert sum(len(packet[TCP].payload) for packet in segments if packet[IP].dst == "10.9.0.2") >= 200_000
    for packet in segments[:50]:
        recomputed = Ether(bytes(packet))
        del recomputed[IP].chksum, recomputed[TCP].chksum
        assert Ether(bytes(recomputed)) == Ether(bytes(packet))


def test_invalid_names_of_links_and_interfaces_are_refused(name: str) -> None:
    async def main(lab: KernelLab) -> list[str]:
        both = pair(lab, FAST)
        messages = []
        for link_name, interface in (
            ("uplink", "eth3"),
            ("lan", "a-very-long-interface"),
            ("instrument:1", ""),
        ):
            try:
                lab.link(link_name, (both.one, interface), (both.other, "eth9"), FAST)
            except ValueError as error:
                messages.append(str(error))
        return messages

    same, long, empty = run(name, main)
    assert "'uplink' already" in same
    assert "'a-very-long-interface'" in long
    assert "1 to 15 characters" in long
    assert "''" in empty


def test_mtu_probing_delivers_over_a_path_that_drops_long_packets(name: str) -> None:
    async def main(lab: KernelLab) -> tuple[float, int]:
        both = pair(lab, FAST)
        both.one.sysctl("net.ipv4.tcp_mtu_probing", 1)
        both.link.impair(Impairment(packet_bytes_max=1300))
        return await transfer(both, bytes(50_000)), both.link.forward.lost

    seconds, lost = run(name, main)
    assert 2 < seconds < 15  # the time of three timeouts
    assert lost > 3
