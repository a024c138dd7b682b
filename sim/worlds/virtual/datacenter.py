"""The data center of a virtual lab: the real store and ingest, with injectable failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from datacenter.ingest import make_ingest
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from sim.engine.layers import End, Layers
from sim.faults.world import Certificate
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from sim.units import SECOND_NS
from sim.worlds.shared.addresses import DATACENTER, DATACENTER_MOVED, DATACENTER_NAME, DATACENTER_PORT
from wire.http.connection import Handler, Request, Response, Server, serve
from wire.messages import BATCH_BODY_BYTES_MAX, BatchReply, decode
from wire.tls.context import Identity, server_context
from wire.vocabulary import Verb

START_SECONDS: Final = 2.0
"""The start-up time of the program."""


class VirtualDataCenter:
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
        self.host = SimHost(network, DATACENTER_NAME, DATACENTER, DATACENTER_MOVED)
        self.host.mtu_probing = True
        # the simulated machine never loses its power: a file of SQLite's own, of which little leaves the memory
        self.store = Store("sqlite:///file:?uri=true", durable=False)
        self._server: Server | None = None
        self.presented: Certificate | None = None
        """The certificate that the program uses at present; None while it does not run."""
        self._presenting = asyncio.Lock()
        self._certificates = Layers[Certificate]()
        self._holds = Layers[None]()
        self._statuses = Layers[int]()
        self._nonsense = Layers[None]()
        self._lost_responses = Layers[None]()
        self._delays_ns = Layers[int]()
        self._enrolled = ""
        self.stored = 0
        """Records stored so far, each once."""

    async def start(self, box: str) -> None:
        """Enrol the box and listen."""
        self._enrolled = box
        self.store.authorize([box], self._now_ns() // 1_000_000)
        self.host.power_on()
        await self._present()

    # -- what happens to it: see `sim.faults.world`

    async def present(self, certificate: Certificate) -> End:
        """Present that certificate; of several the one that came last counts. Open connections are ended."""
        return await self._certificates.add_settled(certificate, self._present)

    async def hold_down(self) -> End:
        """Kill the program: its connections are reset. It is started again when nobody holds it down any more."""
        remove = self._holds.add(None)
        self.host.kill()
        self._server = self.presented = None

        async def end() -> None:
            remove()
            if not self._holds:
                await asyncio.sleep(START_SECONDS)
                await self._present()

        return end

    def change_address(self) -> None:
        """Move to the other address, under the same name."""
        self.host.change_address()

    def answer_with(self, status: int) -> End:
        """Answer every batch with that status; of several the one that came last counts."""
        return self._statuses.add(status)

    def answer_nonsense(self) -> End:
        """Answer every batch with 200 and no reply, unless an error is the answer."""
        return self._nonsense.add(None)

    def lose_responses(self) -> End:
        """Commit each batch, and end the connection instead of answering."""
        return self._lost_responses.add(None)

    def think(self, delay_ns: int) -> End:
        """Take so long before looking at a batch; several times add up."""
        return self._delays_ns.add(delay_ns)

    # -- running it

    async def _present(self) -> None:
        """Listen under the certificate that is to be presented now; if it is another one, connections are ended."""
        async with self._presenting:
            certificate = self._certificates.newest or "good"
            if self._holds or certificate == self.presented:
                return
            self.presented = certificate
            if self._server is not None:
                await self._server.close()
            incarnation = self.host.incarnation
            assert incarnation is not None
            starting = incarnation.run(self._loop, self._serve(self._identities[certificate]))
            await asyncio.wait([starting])
            if not starting.cancelled():  # the program was killed meanwhile; whoever did it starts it again
                self._server = starting.result()

    def queue_command(self, instrument: str, verb: Verb) -> None:
        """Queue a command for the instrument of that serial number, or with "" for the box."""
        self.store.queue_command(self._enrolled, instrument, verb, b"", self._now_ns() // 1_000_000)

    async def _serve(self, identity: Identity) -> Server:
        ingest = make_ingest(self.store, lambda: self._now_ns() // 1_000_000, StoreQueue(None))
        return await serve(
            self._with_faults(ingest),
            DATACENTER_NAME,
            DATACENTER_PORT,
            tls=server_context(identity),
            body_bytes_max=BATCH_BODY_BYTES_MAX,
            now=lambda: self._now_ns() / 1e9,
        )

    def _with_faults(self, ingest: Handler) -> Handler:
        async def handler(request: Request) -> Response:
            if self._delays_ns:
                await asyncio.sleep(sum(self._delays_ns) / SECOND_NS)
            if self._statuses:
                return Response(self._statuses.newest or 0, b"a simulated failure", close=True)
            if self._nonsense:
                return Response(HTTPStatus.OK, b"\x93this is no reply", close=True)
            response = await ingest(request)
            if response.status == HTTPStatus.OK:
                self.stored += decode(BatchReply, response.body).stored
            if self._lost_responses:
                request.peer.hang_up()
            return response

        return handler
