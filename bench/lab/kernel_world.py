"""The kernel world compared with the virtual world: `python -m bench.lab.kernel_world [--json]`. Needs root.

The network of a whole lab, with box, four instruments, router, proxy and data center, is set up and removed. In
addition, the same transfers are made over a line of 128 kbit/s and 40 ms in both worlds: a connection is opened,
`size` bytes are sent, and one byte is returned when all have arrived.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from random import Random
from statistics import median
from typing import Final, TypeAlias

from bench.figures import Figure, figure, run
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.net.loop import SimLoop
from sim.worlds import kernel
from sim.worlds.kernel.supervision.measure import lab_seconds
from sim.worlds.kernel.supervision.supervisor import run as run_lab

LINE: Final = LinkQuality(rate_bits=128_000, delay_ns=40_000_000)
SIZES: Final = {"a bulk of 100 kB": 100_000, "a small exchange": 300}
TIMES: Final = 3
"""Repetitions. The slowest setup, the slowest removal, and the median transfer in the kernel world count."""
PORT: Final = 4000
NEAR, FAR = "10.9.0.1", "10.9.0.2"
Dial: TypeAlias = Callable[["BenchSender"], Awaitable[object]]


class BenchReceiver(asyncio.Protocol):
    """Replies with one byte when `size` bytes have arrived."""

    def __init__(self, size: int) -> None:
        self._missing = size

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing == 0:
            self._transport.write(b"!")


class BenchSender(asyncio.Protocol):
    """Sends `size` bytes and waits for the reply."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(bytes(self._size))

    def data_received(self, _data: bytes) -> None:
        self.answered.set_result(None)


async def _timed(size: int, dial: Dial) -> float:
    loop, sender = asyncio.get_running_loop(), BenchSender(size)
    began = loop.time()
    await dial(sender)
    await sender.answered
    return loop.time() - began


def virtual_seconds(size: int) -> float:
    """Return the duration of a transfer in the virtual world."""
    loop, network = SimLoop(), Network()
    near, far = SimHost(network, "near", NEAR), SimHost(network, "far", FAR)
    network.connect(near, far, Link(loop.env, "line", LINE, Random(1)))
    near_process, far_process = near.power_on(), far.power_on()

    async def listen() -> None:
        await loop.create_server(lambda: BenchReceiver(size), FAR, PORT)

    async def connected(sender: BenchSender) -> None:
        await loop.create_connection(lambda: sender, FAR, PORT)

    loop.run_until_complete(far_process.run(loop, listen()))
    seconds: float = loop.run_until_complete(near_process.run(loop, _timed(size, connected)))
    loop.close()
    return seconds


def kernel_seconds(size: int) -> float:
    """Return the duration of a transfer in the kernel world, after Ethernet addresses have been resolved."""
    return run_lab("bench-transfer", lambda lab: _transfer(lab, size))


async def _transfer(lab: kernel.KernelLab, size: int) -> float:
    near, far = lab.host("near"), lab.host("far")
    near.sysctl("net.ipv4.tcp_timestamps", 0)  # as on the box and in the virtual world
    lab.link("line", (near, "eth0"), (far, "eth0"), LINE)
    near.address("eth0", f"{NEAR}/24")
    far.address("eth0", f"{FAR}/24")
    loop = asyncio.get_running_loop()

    async def connected(sender: BenchSender) -> None:
        with near.inside():
            connection = socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, (FAR, PORT))
        await loop.create_connection(lambda: sender, sock=connection)

    with far.inside():
        listener = socket.create_server((FAR, PORT))
    sizes = iter((1, size))
    await loop.create_server(lambda: BenchReceiver(next(sizes)), sock=listener)
    await _timed(1, connected)
    return await _timed(size, connected)


def figures() -> list[Figure]:
    labs = [lab_seconds() for _ in range(TIMES)]
    measured = [
        figure("a lab's network up", "s", max(lab.up for lab in labs), "<= 3"),
        figure("a lab's network down", "s", max(lab.down for lab in labs), "<= 1"),
    ]
    for name, size in SIZES.items():
        virtual, real = virtual_seconds(size), median(kernel_seconds(size) for _ in range(TIMES))
        measured += [
            figure(f"{name} at 128 kbit/s, virtual world", "s", virtual),
            figure(f"{name} at 128 kbit/s, kernel world", "s", real),
            figure(f"{name}: difference of the two", "%", abs(real / virtual - 1) * 100, "<= 5"),
        ]
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
