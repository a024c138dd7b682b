"""A buffer and a forwarder on loopback sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog, encode_gap
from agents.box.uplink.batching import Timing
from agents.box.uplink.forwarder import Forwarder
from agents.box.uplink.trust import TrustDiagnosis
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.ethernet import EmulEthernetPort
from settings.types import Endpoint, Proxy
from tests.support.agents.boxes import CLOCK, disk
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.messages import Alert, Command, Entry, Quality, encode
from wire.tls.context import client_context


class Bench:
    """A buffer and its forwarder, and what the forwarder has passed on from the data center's replies."""

    def __init__(
        self,
        pki: Hierarchy,
        port: int,
        proxy: Proxy | None,
        timing: Timing,
        trust: TrustDiagnosis | None = None,
    ) -> None:
        spool = Spool.open(
            disk(), SpoolLimits(), random=Random(1), encode_gap=lambda gap: encode_gap(gap, CLOCK)
        )
        self.buffer = Buffer(spool)
        self.uplink = EmulEthernetPort("uplink")
        self.commands: list[Command] = []
        self.withdrawn: list[int] = []
        self.denied: list[str] = []
        self.update_news = asyncio.Event()
        self.sessions_waiting = asyncio.Event()
        self.tls = client_context(pki.box)
        self.audit = AuditLog(self.buffer, CLOCK)
        self.forwarder = Forwarder(
            self.buffer,
            Endpoint("127.0.0.1", port),
            self.tls,
            proxy=proxy,
            uplink=self.uplink,
            audit=self.audit,
            on_commands=self._commanded,
            on_withdrawn=self.withdrawn.extend,
            on_sessions=self.sessions_waiting.set,
            on_updates=self.update_news.set,
            on_denied=self.denied.extend,
            random=Random(2),
            timing=timing,
            clock=CLOCK,
            trust=trust,
        )
        self.created = 0

    def _commanded(self, commands: list[Command]) -> None:
        self.commands += commands

    async def routine(self, count: int) -> None:
        entries = [
            encode(Entry("CHEM-1", 1, Quality(self.created + n, 0, "glu", 1, n))) for n in range(1, count + 1)
        ]
        self.created += count
        for first in range(0, count, 1000):
            part = entries[first : first + 1000]
            await self.buffer.append_all([Priority.ROUTINE] * len(part), part)

    async def alert(self, number: int) -> None:
        entry = Entry("CHEM-1", 1, Alert(number, 0, "L0100", "lamp", "error"))
        await self.buffer.append(Priority.ALERT, encode(entry))

    async def waiting(self) -> int:
        return sum((await self.buffer.status()).records.values())


@asynccontextmanager
async def forwarding(
    pki: Hierarchy,
    port: int,
    *,
    proxy: Proxy | None = None,
    trust: TrustDiagnosis | None = None,
    backlog: int = 0,
    **timing: float,
) -> AsyncIterator[Bench]:
    bench = Bench(pki, port, proxy, Timing(**timing), trust)
    await bench.routine(backlog)
    task = asyncio.ensure_future(bench.forwarder.run())
    try:
        yield bench
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await bench.buffer.close()


async def drained(bench: Bench) -> None:
    """Wait until the buffer is empty."""

    async def is_empty() -> bool:
        return not await bench.waiting()

    await eventually(is_empty)
