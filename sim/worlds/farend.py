"""The data center of a virtual lab: the real store and ingest, and the ways in which a far end can fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

from datacenter.ingest import make_ingest
from datacenter.store import Store
from sim.loop import SimLoop
from sim.net.host import Host, Network
from sim.worlds.addresses import DATACENTER
from wire.http import Handler, Request, Response, Server, serve
from wire.messages import BATCH_BODY_BYTES_MAX, BatchReply, decode
from wire.tls import Identity, server_context

NAME = "datacenter"
PORT = 443


class FarEnd:
    """A data center with one address; `identities` are the certificates it can present, "good" among them."""

    def __init__(
        self,
        loop: SimLoop,
        network: Network,
        identities: Mapping[str, Identity],
        now_ns: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._identities = identities
        self._now_ns = now_ns
        self.host = Host(network, NAME, DATACENTER)
        # the simulated machine never loses its power: a file of SQLite's own, of which little leaves the memory
        self.store = Store("sqlite:///file:?uri=true", durable=False)
        self._server: Server | None = None
        self.status: int | None = None
        """Answer everything with this."""
        self.nonsense = False
        """Answer 200 with a body that is no reply."""
        self.loses_responses = False
        """Commit, and end the connection instead of answering."""
        self.stored = 0
        """Records stored so far, each once."""
        self.delay_s = 0.0
        """Wait before looking at a batch."""

    async def start(self, box: str) -> None:
        """Enrol the box and listen."""
        self.store.authorize([box], self._now_ns() // 1_000_000)
        self.host.power_on()
        await self.present("good")

    async def present(self, identity: str) -> None:
        """Listen under that certificate; connections that are open are ended."""
        if self._server is not None:
            await self._server.close()
        incarnation = self.host.incarnation
        assert incarnation is not None
        self._server = await incarnation.run(self._loop, self._serve(self._identities[identity]))

    async def _serve(self, identity: Identity) -> Server:
        ingest = make_ingest(self.store, lambda: self._now_ns() // 1_000_000, None)
        return await serve(
            self._with_faults(ingest),
            NAME,
            PORT,
            tls=server_context(identity),
            body_bytes_max=BATCH_BODY_BYTES_MAX,
            now=lambda: self._now_ns() / 1e9,
        )

    def _with_faults(self, ingest: Handler) -> Handler:
        async def handler(request: Request) -> Response:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.status is not None:
                return Response(HTTPStatus(self.status), b"a simulated failure", close=True)
            if self.nonsense:
                return Response(HTTPStatus.OK, b"\x93this is no reply", close=True)
            response = await ingest(request)
            if response.status == HTTPStatus.OK:
                self.stored += decode(BatchReply, response.body).stored
            if self.loses_responses:
                request.peer.hang_up()
            return response

        return handler
