"""A small data center that stores each record once and can misbehave."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import time

from tests.support.eventually import WAIT_SECONDS_MAX
from wire.compression import CompressionError, Decompressor
from wire.http.connection import Peer, Request, Response, Server, serve
from wire.messages import (
    BATCH_BODY_BYTES_MAX,
    BATCH_BYTES_MAX,
    Alert,
    Audit,
    Batch,
    BatchRefusal,
    BatchReply,
    BoxReport,
    Command,
    Entry,
    Gap,
    decode,
    encode,
    sequences,
)
from wire.tls.context import Identity, server_context

Misbehave = Callable[[Response], Response | None]
"""Changes the next response; None suppresses it."""


class StandIn:
    """A data center. `stored` has the records by (epoch, sequence), in order of arrival; each response uses up one of
    `misbehaviours`.
    """

    def __init__(self) -> None:
        self.stored: dict[tuple[int, int], Entry] = {}
        self.batches: list[list[Entry]] = []
        self.repeated = self.refusals = 0
        self.blame = BatchRefusal
        self.commands: list[Command] = []
        self.misbehaviours: deque[Misbehave] = deque()
        self.unreadable: Callable[[int, Entry], bool] = lambda _sequence, _entry: False
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self._changed = asyncio.Event()
        self._peers: dict[Peer, None] = {}
        self.server: Server

    @property
    def reports(self) -> list[tuple[str, int, int]]:
        """Instrument, run and number of each stored report of an instrument."""
        return [
            (entry.instrument, entry.run, entry.body.number)
            for entry in self.stored.values()
            if not isinstance(entry.body, BoxReport) and entry.instrument
        ]

    @property
    def gaps(self) -> list[Gap]:
        return [entry.body for entry in self.stored.values() if isinstance(entry.body, Gap)]

    @property
    def audits(self) -> list[str]:
        return [entry.body.event for entry in self.stored.values() if isinstance(entry.body, Audit)]

    @property
    def alerts(self) -> list[int]:
        return [entry.body.number for entry in self.stored.values() if isinstance(entry.body, Alert)]

    @property
    def connected(self) -> list[Peer]:
        """The open connections on which a batch has arrived, in the order of their first batch."""
        self._peers = {peer: None for peer in self._peers if not peer.is_lost}
        return list(self._peers)

    def hang_up(self) -> None:
        """Abort all connections."""
        for peer in self.connected:
            peer.hang_up()

    def drop_resumed(self) -> int:
        """Abort the connections that resumed a TLS session; return their number."""
        resumed = [peer for peer in self.connected if peer.resumed]
        for peer in resumed:
            peer.hang_up()
        return len(resumed)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a batch makes the condition true."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, request: Request) -> Response:
        self._peers[request.peer] = None
        stream = request.peer.state.setdefault("stream", Decompressor())
        try:
            batch = decode(Batch, stream.decompress(request.body, BATCH_BYTES_MAX))
        except CompressionError as error:
            return Response(409, str(error).encode())
        for sequence, record in zip(sequences(batch), batch.records, strict=True):
            if self.unreadable(sequence, record.entry):
                self.refusals += 1
                return Response(422, encode(self.blame(batch.epoch, sequence)), close=True)
        response = self._store(batch)
        self._changed.set()
        if self.before_answer is not None:
            await self.before_answer()
        if self.misbehaviours:
            changed = self.misbehaviours.popleft()(response)
            if changed is None:
                await asyncio.Event().wait()
            else:
                return changed
        return response

    def _store(self, batch: Batch) -> Response:
        new = 0
        for sequence, record in zip(sequences(batch), batch.records, strict=True):
            if (batch.epoch, sequence) in self.stored:
                self.repeated += 1
            else:
                self.stored[batch.epoch, sequence] = record.entry
                new += 1
        self.batches.append([record.entry for record in batch.records])
        return Response(200, encode(BatchReply(new, self.commands)))


@asynccontextmanager
async def stand_in(identity: Identity) -> AsyncIterator[StandIn]:
    """Run a data center on a loopback port within the context."""
    center = StandIn()
    center.server = await serve(
        center.handle,
        "127.0.0.1",
        0,
        tls=server_context(identity),
        body_bytes_max=BATCH_BODY_BYTES_MAX,
        now=time,
    )
    try:
        yield center
    finally:
        await center.server.close()
