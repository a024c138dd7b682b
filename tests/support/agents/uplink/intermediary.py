"""A data center behind HTTP intermediaries, in simulated time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from agents.spool import Priority
from datacenter.ingest import make_ingest
from datacenter.store import queries
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from sim.net.link import LinkQuality
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.datacenter.store.duplicates import duplicates
from wire.compression import BodyKind, Decompressor, UnknownStreamError, body_kind
from wire.http.connection import Request, Response
from wire.messages import BATCH_BYTES_MAX, RECORDS_PER_BATCH_MAX, Batch, Entry, decode, encode
from wire.messages import Quality as QualityReport

LINE = LinkQuality(1_000_000, 20_000_000)


BOX: Final = "RAP-1"


HOUR: Final = 3600.0


REPORTS_EACH: Final = 100
"""Enough records for a batch that is sent without delay."""


class Seen(NamedTuple):
    """A request that arrived at the data center."""

    at: float
    kind: BodyKind
    status: int


class Spread(World):
    """An intermediary with `connections` to data centers that share one store; requests alternate between them."""

    def __init__(self, pki: Hierarchy) -> None:
        super().__init__(pki, LINE)
        self.store = Store("sqlite://")
        self.store.authorize([BOX], 0)
        self.ingest = make_ingest(lambda: 0, StoreQueue(None, self.store.ingest_all))
        self.connections = 2
        self.states: list[dict[str, object]] = [{}, {}]
        self.refusal = 409
        self.seen: list[Seen] = []
        self.created = 0
        self.refuses_all = False
        self.center.handle = self.handle  # type: ignore[method-assign]

    async def handle(self, request: Request) -> Response:
        state = self.states[len(self.seen) % self.connections]
        kind = body_kind(request.body)
        forwarded = replace(request, peer=replace(request.peer, state=state))
        response = Response(409) if self.refuses_all else await self.ingest(forwarded)
        if response.status == 409:
            response.status = self.refusal
        self.seen.append(Seen(self.loop.time(), kind, response.status))
        if response.close:
            state.clear()  # the intermediary's connection ends; its next request opens another one
        return replace(response, close=False)

    async def report(self) -> None:
        bodies = [QualityReport(self.created + n, 0, "glu", 1, n) for n in range(1, REPORTS_EACH + 1)]
        self.created += REPORTS_EACH
        entries = [encode(Entry("CHEM-1", 1, body)) for body in bodies]
        await self.buffer.append_all([Priority.ROUTINE] * len(entries), entries)

    async def report_for(self, hours: float) -> None:
        """Append reports every ten minutes for this number of hours."""
        ends_at = self.loop.time() + hours * HOUR
        while self.loop.time() < ends_at:
            await self.report()
            await asyncio.sleep(600)

    async def drained(self) -> None:
        while any((await self.buffer.status()).records.values()):
            await asyncio.sleep(1)

    def check_stored_once(self) -> None:
        assert queries.counts(self.store)[BOX, "CHEM-1"] == self.created > 0
        assert duplicates(self.store) == []

    def refusals(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.status != 200]


FULL_BATCH_SECONDS: Final = 90.0


SHARE_SECONDS: Final = FULL_BATCH_SECONDS / RECORDS_PER_BATCH_MAX


SLOW_RECORDS: Final = 3000


QUICK_RECORDS: Final = 20_000


class ShortGatewayTimeout(Spread):
    """An intermediary that answers 504 after `timeout_s`; each record takes its share of FULL_BATCH_SECONDS.

    The first `quick` records take no time.
    """

    def __init__(
        self, pki: Hierarchy, timeout_s: float, connections: int, least_s: float, quick: int
    ) -> None:
        super().__init__(pki)
        self.quick = quick
        self.timeout_s, self.connections, self.least_s = timeout_s, connections, least_s
        self.turn = asyncio.Lock()
        self.streams: list[Decompressor] = []
        self.timeouts = 0

    async def handle(self, request: Request) -> Response:
        ingesting = asyncio.ensure_future(self.ingest_slowly(request))
        done, _ = await asyncio.wait({ingesting}, timeout=self.timeout_s)
        if done:
            return ingesting.result()
        self.timeouts += 1
        return Response(504, close=True)

    async def ingest_slowly(self, request: Request) -> Response:
        records = len(decode(Batch, self.decompress(request.body)).records)
        async with self.turn:
            if self.quick > 0:
                self.quick -= records
            else:
                await asyncio.sleep(self.least_s + SHARE_SECONDS * records)
            return await super().handle(request)

    def decompress(self, body: bytes) -> bytes:
        """Decompress a batch of any known stream."""
        if body_kind(body) is BodyKind.BEGINS:
            self.streams.append(Decompressor())
            return self.streams[-1].decompress(body, BATCH_BYTES_MAX)
        for stream in (*reversed(self.streams), Decompressor()):
            with suppress(UnknownStreamError):
                return stream.decompress(body, BATCH_BYTES_MAX)
        raise AssertionError("this body continues no known stream")

    async def fill(self) -> None:
        while self.created < SLOW_RECORDS + self.quick:
            await self.report()

    async def live(self) -> None:
        async with asyncio.timeout(4 * 3600):
            await self.drained()
        self.drained_at = self.loop.time()


def best_seconds(timeout_s: float, least_s: float) -> float:
    """Return the time for the slow records in the largest batches whose responses arrive before the timeout."""
    records = min(RECORDS_PER_BATCH_MAX, (timeout_s - least_s) / SHARE_SECONDS)
    return SLOW_RECORDS * (least_s / records + SHARE_SECONDS)
