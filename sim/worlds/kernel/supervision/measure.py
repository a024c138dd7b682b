"""Measurements of the kernel world for the benchmarks: cost of namespaces and links, accuracy of links."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Final

from sim.net.link import LinkQuality
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.kernel.supervision.supervisor import run

INSTRUMENTS: Final = 4
_LAN: Final = LinkQuality(rate_bits=100_000_000, delay_ns=100_000)
_UPLINK: Final = LinkQuality(rate_bits=128_000, delay_ns=40_000_000)
_PORT: Final = 4000


@dataclass(frozen=True, slots=True)
class LabSeconds:
    """The time to create a lab's namespaces, links and addresses, and the time to end the lab, in seconds."""

    up: float
    down: float


@dataclass(frozen=True, slots=True)
class Bulk:
    """One TCP transfer over a link."""

    seconds: float
    line_seconds: float
    """The time to send its packets at the link's rate."""
    packets: int
    processor_seconds: float
    overrun: int
    """Packets that the kernel dropped between the ends of the link."""


def lab_seconds() -> LabSeconds:
    """Create and end the network of a whole lab: box, instruments, router, proxy, data center."""
    started = time.monotonic()
    up_at = run("measure-lab", _whole_network)
    return LabSeconds(up_at - started, time.monotonic() - up_at)


async def _whole_network(lab: KernelLab) -> float:
    box, router, proxy, datacenter = (lab.host(name) for name in ("box", "router", "proxy", "datacenter"))
    for number in range(1, INSTRUMENTS + 1):
        instrument = lab.host(f"instrument{number}")
        lab.link(f"instrument:{number}", (instrument, "eth0"), (box, f"enp{number + 1}s0"), _LAN)
        instrument.address("eth0", f"10.77.{number}.2/24")
        box.address(f"enp{number + 1}s0", f"10.77.{number}.1/24")
    chain = [
        ((box, "enp1s0"), (router, "lan")),
        ((router, "wan"), (proxy, "lan")),
        ((proxy, "wan"), (datacenter, "eth0")),
    ]
    for number, (one, other) in enumerate(chain):
        lab.link(f"hop{number}", one, other, _UPLINK)
        for end, (host, interface) in enumerate((one, other), start=1):
            host.address(interface, f"10.78.{number}.{end}/24")
    return time.monotonic()


def bulk(quality: LinkQuality, size: int) -> Bulk:
    """Send `size` bytes over TCP and a link of that quality."""

    async def main(lab: KernelLab) -> Bulk:
        one, other = lab.host("one"), lab.host("other")
        link = lab.link("uplink", (one, "eth0"), (other, "eth0"), quality)
        one.address("eth0", "10.9.0.1/24")
        other.address("eth0", "10.9.0.2/24")
        with other.inside():
            server = socket.create_server(("10.9.0.2", _PORT))
        with one.inside():
            client = socket.socket()
        busy_ns, processor = link.forward.busy_ns, time.process_time()
        started = time.monotonic()
        await asyncio.gather(asyncio.to_thread(_send, client, size), asyncio.to_thread(_receive, server))
        seconds, processor = time.monotonic() - started, time.process_time() - processor
        line_seconds = (link.forward.busy_ns - busy_ns) / 1e9
        return Bulk(
            seconds, line_seconds, link.forward.packets + link.backward.packets, processor, link.overrun
        )

    return run("measure-bulk", main)


def _send(client: socket.socket, size: int) -> None:
    client.connect(("10.9.0.2", _PORT))
    client.sendall(bytes(size))
    client.shutdown(socket.SHUT_WR)


def _receive(server: socket.socket) -> None:
    connection, _ = server.accept()
    while connection.recv(1 << 20):
        pass
