"""Simulated TCP compared with this machine's Linux, over the same link code: `python -m bench.lab.tcp`. Needs root.

Each case of the grid is one kind of transfer over one kind of line: an upload, or small exchanges one after the
other. Where packets are lost or delayed at random, each seed is run in both worlds with the same random numbers: the
n-th packet of a direction is lost in both or in neither, and has the same delay. One packet more or less in a full
queue can double the duration of a transfer, so the queue's length differs between seeds. A case's ratio is the median
of its seeds' ratios. In the kernel world, transfers run at the same time as long as their sum does not overload the
relay, each in separate namespaces, and with precedence over other work of this machine: a delayed relay sends bursts,
which fill the queue.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from bench.figures import Figure, figure, run
from sim.engine.streams import stream
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.net.loop import SimLoop
from sim.units import MILLISECOND_NS
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run as run_lab

QUEUE_BYTES: Final = 64 * 1024
"""The default of lab files."""
QUEUE_STEP_BYTES: Final = 3000
"""The difference between the queue lengths of consecutive seeds."""
EXCHANGES: Final = 20
EXCHANGE_BYTES: Final = 300
TOLERANCE: Final = 0.15
SEEDS: Final = 7
RATE_AT_ONCE: Final = 15_000_000
"""Bits per second that the relay of the kernel world carries without delay."""
CONNECTIONS_AT_ONCE: Final = 32


@dataclass(frozen=True, order=True)
class TransferCase:
    """A line and the transfer on it; `size` is in bytes, and 0 means small exchanges."""

    rate_bits: int
    delay_ms: int
    loss: float
    size: int
    jitter_ms: int = 0

    def __str__(self) -> str:
        transfer = f"{self.size / 1000:g} kB" if self.size else f"{EXCHANGES} exchanges"
        jitter = f"+{self.jitter_ms}" if self.jitter_ms else ""
        return (
            f"{self.rate_bits / 1000:g} kbit/s {self.delay_ms}{jitter} ms, loss {self.loss:.0%}, {transfer}"
        )

    def quality(self, seed: int) -> LinkQuality:
        """Return the line's quality for a seed; the mean queue length of all seeds is the default of lab files."""
        delay, jitter = self.delay_ms * MILLISECOND_NS, self.jitter_ms * MILLISECOND_NS
        queue = QUEUE_BYTES + (seed - (SEEDS + 1) // 2) * QUEUE_STEP_BYTES
        return LinkQuality(self.rate_bits, delay, jitter, self.loss, queue_bytes_max=queue)

    @property
    def load_bits(self) -> float:
        """The expected bits per second, by the square-root formula of congestion avoidance."""
        if not self.loss:
            return self.rate_bits
        return min(self.rate_bits, 1.3 * 1460 * 8 / (self.delay_ms / 500) / math.sqrt(self.loss))

    def randomize(self, link: Link, seed: int) -> None:
        """Give each direction of the link the random numbers that this case has with that seed."""
        for pipe, name in ((link.forward, "forward"), (link.backward, "backward")):
            pipe.random = stream(seed, f"{self}/{name}")


def grid() -> Iterable[TransferCase]:
    sizes = {
        64_000: (0, 10_000, 100_000),
        1_000_000: (0, 10_000, 500_000),
        10_000_000: (0, 100_000, 5_000_000),
    }
    for rate, rate_sizes in sizes.items():
        for delay in (20, 100, 300):
            for loss in (0.0, 0.01, 0.03):
                for size in rate_sizes:
                    if size < 5_000_000 or loss < 0.03 or delay < 100:
                        yield TransferCase(rate, delay, loss, size)
    yield TransferCase(128_000, 300, 0.0, 200_000, jitter_ms=80)
    yield TransferCase(1_000_000, 40, 0.01, 200_000, jitter_ms=20)


# -- virtual


class _Server(asyncio.Protocol):
    """Replies whenever `size` bytes have arrived."""

    def __init__(self, size: int, reply_bytes: bytes) -> None:
        self._size, self._reply_bytes, self._received = size, reply_bytes, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        while self._received >= self._size:
            self._received -= self._size
            self._transport.write(self._reply_bytes)


class _Client(asyncio.Protocol):
    """Sends requests one after the other; `done` is set by the last reply."""

    def __init__(self, requests: int, size: int, reply_bytes: int) -> None:
        self._left, self._size, self._reply_bytes, self._received = requests, size, reply_bytes, 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(bytes(self._size))

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received < self._reply_bytes:
            return
        self._received = 0
        self._left -= 1
        if self._left:
            self._transport.write(bytes(self._size))
        elif not self.done.done():
            self.done.set_result(None)


def _conversation(case: TransferCase) -> tuple[int, int, int]:
    """Return the number of requests, bytes per request, bytes per reply."""
    return (1, case.size, 1) if case.size else (EXCHANGES, EXCHANGE_BYTES, EXCHANGE_BYTES)


def virtual_seconds(case: TransferCase, seed: int) -> float:
    """Return the duration in the virtual world."""
    requests, size, reply_bytes = _conversation(case)
    loop, network = SimLoop(), Network()
    client_host, server_host = SimHost(network, "one"), SimHost(network, "other")
    link = Link(loop.env, "line", case.quality(seed), Random(seed))
    case.randomize(link, seed)
    network.connect(client_host, server_host, link)
    server, client = server_host.power_on(), client_host.power_on()

    async def serve() -> None:
        await loop.create_server(lambda: _Server(size, bytes(reply_bytes)), "other", 80)

    async def connect() -> float:
        began = loop.time()
        _, protocol = await loop.create_connection(lambda: _Client(requests, size, reply_bytes), "other", 80)
        assert isinstance(protocol, _Client)
        await protocol.done
        return loop.time() - began

    loop.run_until_complete(server.run(loop, serve()))
    seconds: float = loop.run_until_complete(client.run(loop, connect()))
    loop.close()
    return seconds


# -- kernel


class _Line:
    """Two hosts and a link between them, used for consecutive transfers."""

    def __init__(self, lab: KernelLab, number: int) -> None:
        self._number = number
        self._client, self._server = lab.host(f"one{number}"), lab.host(f"other{number}")
        for host in (self._client, self._server):
            host.sysctl("net.ipv4.tcp_timestamps", 0)
            host.sysctl("net.ipv4.tcp_no_metrics_save", 1)  # transfers must not influence each other
            host.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        quality = LinkQuality(RATE_AT_ONCE)
        self._link = lab.link(f"line{number}", (self._client, "eth0"), (self._server, "eth0"), quality)
        self._client.address("eth0", "10.9.0.1/24")
        self._server.address("eth0", "10.9.0.2/24")

    async def seconds(self, case: TransferCase, seed: int) -> float:
        """Return the duration in real time."""
        requests, size, reply_bytes = _conversation(case)
        loop = asyncio.get_running_loop()
        for pipe in (self._link.forward, self._link.backward):
            pipe.change(case.quality(seed))
        case.randomize(self._link, seed)
        with self._server.inside():
            listener = socket.create_server(("10.9.0.2", 4000))
        with self._client.inside():
            client = socket.socket()

        async def serve() -> None:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                _set_options(connection)
                for _ in range(requests):
                    await _receive(connection, size)
                    await loop.sock_sendall(connection, bytes(reply_bytes))
                await loop.sock_recv(connection, 1)

        with listener, client:
            _set_options(listener)
            _set_options(client)
            serving = asyncio.create_task(serve())
            began = loop.time()
            await loop.sock_connect(client, ("10.9.0.2", 4000))
            for _ in range(requests):
                await loop.sock_sendall(client, bytes(size))
                await _receive(client, reply_bytes)
            seconds = loop.time() - began
            client.close()
            await serving
        # its last packets must not delay the next transfer
        await asyncio.sleep(3 * case.delay_ms / 1000 + 0.1)
        assert not self._link.overrun, f"{case}: this machine was too slow"
        return seconds


def _set_options(connection: socket.socket) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _receive(connection: socket.socket, size: int) -> None:
    while size > 0:
        data = await asyncio.get_running_loop().sock_recv(connection, 1 << 20)
        assert data, "the connection ended"
        size -= len(data)


def kernel_seconds(cases: Iterable[TransferCase]) -> dict[TransferCase, dict[int, float]]:
    """Return the duration of each case in the kernel world, by seed."""

    async def main(lab: KernelLab) -> dict[TransferCase, dict[int, float]]:
        _precede_other_work()
        durations: dict[TransferCase, dict[int, float]] = {case: {} for case in cases}
        lines = [_Line(lab, number) for number in range(CONNECTIONS_AT_ONCE)]
        changed = asyncio.Condition()
        load = 0.0

        async def measure(case: TransferCase, seed: int) -> None:
            nonlocal load
            async with changed:
                await changed.wait_for(lambda: lines and (not load or load + case.load_bits <= RATE_AT_ONCE))
                line = lines.pop(0)
                load += case.load_bits
            durations[case][seed] = await line.seconds(case, seed)
            async with changed:
                lines.append(line)
                load -= case.load_bits
                changed.notify_all()

        await asyncio.gather(*(measure(case, seed) for case in durations for seed in range(1, SEEDS + 1)))
        return durations

    return run_lab("bench-tcp", main)


def _precede_other_work() -> None:
    """Give all threads of this process precedence over other processes (sched(7))."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))


def _share_within(ratios: Sequence[float]) -> float:
    return sum(abs(ratio - 1) <= TOLERANCE for ratio in ratios) / len(ratios)


def figures() -> list[Figure]:
    measured, ratios, pairs = [], [], []
    for case, seconds in kernel_seconds(sorted(grid())).items():
        linux = statistics.median(seconds.values())
        case_ratios = [virtual_seconds(case, seed) / kernel_s for seed, kernel_s in seconds.items()]
        pairs += case_ratios
        ratios.append(statistics.median(case_ratios))
        measured.append(figure(f"{case}: simulated over Linux's {linux:.2f} s", "x", ratios[-1]))
    return [
        *measured,
        figure(f"share of {len(ratios)} cases within {TOLERANCE:.0%}", "", _share_within(ratios), ">= 1"),
        figure(
            f"share of {len(pairs)} single transfers within {TOLERANCE:.0%}",
            "",
            _share_within(pairs),
        ),
        figure("greatest ratio", "x", max(ratios), f"<= {1 + TOLERANCE}"),
        figure("smallest ratio", "x", min(ratios), f">= {1 - TOLERANCE}"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
