"""A box's uplink in simulated time with a log of its connections, batches and responses, and responses to batches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from agents.box.files.requests import RequestQueue, SingleRequest, TransferRequest
from agents.box.uplink.forwarder import Forwarder
from agents.spool import Priority
from sim.net.link import Link, LinkQuality
from sim.net.segment import SYN, TcpSegment, Verdict
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire.compression import body_kind
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, Request, Response
from wire.messages import Alert, Audit, BatchReply, CommandResult, Entry, Gap, Quality, encode

LINE: Final = LinkQuality(1_000_000_000, 100_000, queue_bytes_max=1 << 24)
KINDS: Final = {Alert: "alerts", Audit: "audits", Gap: "gaps", Quality: "routine", CommandResult: "results"}
NEVER_SECONDS: Final = 1e6
Answer = Callable[["Journal", Request], Awaitable[Response]]
Story = Callable[["Journal"], Awaitable[None]]


class NewConnections:
    """A packet filter that returns this verdict for each segment that begins a connection."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def send(self, _segment: TcpSegment, _link: Link) -> Verdict:
        return "accept"

    def receive(self, segment: TcpSegment, _link: Link) -> Verdict:
        return self._verdict if segment.flags & SYN else "accept"


class Journal(World):
    """A box with a log of its uplink. Each batch uses one of `answers`; further ones are stored and acknowledged."""

    def __init__(self, pki: Hierarchy) -> None:
        super().__init__(pki, LINE)
        self.lines: list[str] = []
        self.answers: list[Answer] = []
        self.always: Answer | None = None
        self.ranges = SingleRequest()
        self.seconds_of_ranges = 0.0
        self.backlog = self.number = 0
        self.story: Story
        self.connections: list[ClientConnection] = []
        self._next_peer = 1
        self.store_batch = self.center.handle
        self.center.handle = self.handle  # type: ignore[method-assign]

    def note(self, text: str) -> None:
        self.lines.append(f"{self.loop.time() + 1e-6:9.1f}  {text}")

    def requests(self) -> RequestQueue:
        return self.ranges

    async def range(self) -> None:
        """Fetch a range of a file, of the length that the forwarder permits."""
        response = await self.ranges.ask(
            lambda bytes_max: TransferRequest("GET", f"/range/{bytes_max}", b"", bytes_max)
        )
        self.note(f"the box has {len(response.body)} bytes")

    async def upload(self) -> None:
        """Upload a range of a file, of the maximum length that the forwarder permits."""
        await self.ranges.ask(lambda bytes_max: TransferRequest("PUT", "/upload", bytes(bytes_max), 0))

    async def handle(self, request: Request) -> Response:
        peer = request.peer.state.setdefault("number", self._next_peer)
        self._next_peer += peer == self._next_peer
        if request.method == "GET":
            self.note(f"#{peer} {request.target} is requested")
            await asyncio.sleep(self.seconds_of_ranges)
            return Response(200, bytes(int(request.target.rpartition("/")[2])))
        if request.method == "PUT":
            self.note(f"#{peer} {len(request.body)} bytes are uploaded")
            return Response(200)
        self.note(f"#{peer} a batch arrives ({body_kind(request.body).name.lower()})")
        answer = self.answers.pop(0) if self.answers else self.always
        before = len(self.center.batches)
        try:
            response = await (answer(self, request) if answer else self.store_batch(request))
        except asyncio.CancelledError:
            self.note(f"#{peer} {self._of(before)}: closed without an answer")
            raise
        self.note(f"#{peer} {self._of(before)}: {response.status}")
        return response

    def _of(self, before: int) -> str:
        if len(self.center.batches) == before:
            return "a batch"
        entries = self.center.batches[before]
        count = Counter(KINDS[type(entry.body)] for entry in entries)
        events = [f"{e.body.event} {e.body.value}" for e in entries if isinstance(e.body, Audit)]
        return ", ".join([f"{n} {kind}" for kind, n in count.items()]) + "".join(
            f" [{event}]" for event in events
        )

    async def fill(self) -> None:
        await self.routine(self.backlog)

    async def routine(self, records: int) -> None:
        """Store routine records in the buffer."""
        entries = []
        for _ in range(records):
            self.number += 1
            entries.append(encode(Entry("CHEM-1", 1, Quality(self.number, 0, "glu", 1, 0))))
        for start in range(0, records, 1000):
            part = entries[start : start + 1000]
            await self.buffer.append_all([Priority.ROUTINE] * len(part), part)

    async def alert(self, records: int = 1) -> None:
        """Store alerts in the buffer."""
        for _ in range(records):
            self.number += 1
            body = Alert(self.number, 0, "L0100", "lamp", "error")
            await self.buffer.append(Priority.ALERT, encode(Entry("CHEM-1", 1, body)))

    async def live(self) -> None:
        await self.story(self)
        traffic = self.forwarder.traffic
        for name in ("body_bytes_sent", "head_bytes_sent", "body_bytes_received", "head_bytes_received"):
            counted = sum(getattr(connection, name) for connection in self.connections)
            assert getattr(traffic, name) == counted, name

    def text(self) -> str:
        """Run, and return the trace."""
        empty_line = ClientConnection.send_empty_line

        async def noted_dial(*args: Any, **kwargs: Any) -> Any:
            self.note("dials")
            try:
                connection = await dial(*args, **kwargs)
            except Exception as error:
                self.note(f"no connection: {type(error).__name__}")
                raise
            self.connections.append(connection)
            assert connection.transport is not None
            is_resumed = connection.transport.get_extra_info("ssl_object").session_reused
            self.note("connected" + ", session resumed" * is_resumed)
            connection.lost.add_done_callback(lambda _: self.note("connection lost"))
            return connection

        def noted_empty_line(connection: ClientConnection) -> None:
            self.note("empty line")
            empty_line(connection)

        with (
            patch("agents.box.uplink.forwarder.dial", noted_dial),
            patch.object(ClientConnection, "send_empty_line", noted_empty_line),
        ):
            self.run()
        return "\n".join([*self.lines, *self._summary(self.forwarder)]) + "\n"

    def _summary(self, forwarder: Forwarder) -> list[str]:
        traffic, stored = forwarder.traffic, self.center.stored
        waiting = {p.name.lower(): n for p, n in self.left.items() if n}
        return [
            f"stored {len(stored)}, repeated {self.center.repeated}, waiting {waiting or 0}",
            f"traffic: {traffic.connections} connections, {traffic.resumed} resumed, {traffic.batches} batches, "
            f"{traffic.records} records; discards {forwarder.discards()[0]:.2f}",
        ]

    async def forward(self) -> None:
        await super().forward()
        self.note("the forwarder is ended")
        await asyncio.sleep(1)
        self.left = (await self.buffer.status()).records


def after(seconds: float) -> Answer:
    """Answer after a delay."""

    async def answer(world: Journal, request: Request) -> Response:
        response = await world.store_batch(request)
        await asyncio.sleep(seconds)
        return response

    return answer


def status(number: int, seconds: float = 0.0, *, close: bool = False, **headers: str) -> Answer:
    """Respond with this status and store nothing."""

    async def answer(_world: Journal, _request: Request) -> Response:
        await asyncio.sleep(seconds)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(number, b"", named, close=close)

    return answer


async def never(world: Journal, request: Request) -> Response:
    """Store the batch and do not respond."""
    response = await world.store_batch(request)
    await asyncio.sleep(NEVER_SECONDS)
    return response


async def hang_up(world: Journal, request: Request) -> Response:
    """Store the batch and reset the connection instead of responding."""
    response = await world.store_batch(request)
    request.peer.hang_up()
    return response


async def invalid(world: Journal, request: Request) -> Response:
    """Respond with a malformed acknowledgement."""
    return replace(await world.store_batch(request), body=b"{}")


async def too_many(world: Journal, request: Request) -> Response:
    """Acknowledge more records than were sent."""
    await world.store_batch(request)
    return Response(200, encode(BatchReply(1_000, [])))


async def last_one(world: Journal, request: Request) -> Response:
    """Respond with `Connection: close`."""
    return replace(await world.store_batch(request), headers={"connection": "close"}, close=True)
