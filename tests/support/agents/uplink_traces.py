"""Traces of the box's uplink in virtual time: each connection, batch, response and audit event, by the second.

    python -m tests.support.agents.uplink_traces

writes the golden files again. Read the difference before it is committed: each changed line is another decision of
the forwarder. The line to the data center is so fast that the times are those of the box and the data center alone.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import agents.box.uplink.forwarder
from agents.box.uplink.forwarder import Forwarder
from agents.spool import Priority
from sim.net.link import Link, LinkQuality
from sim.net.segment import SYN, TcpSegment, Verdict
from tests.support.agents.uplinked import World
from tests.support.hierarchy import Hierarchy
from tests.support.paths import FIXTURES
from wire.compression import body_kind
from wire.http.connection import ClientConnection, Request, Response
from wire.messages import Alert, Audit, BatchReply, CommandResult, Entry, Gap, Quality, encode

FOLDER: Final = FIXTURES / "uplink"
LINE: Final = LinkQuality(1_000_000_000, 100_000, queue_bytes_max=1 << 24)
KINDS: Final = {Alert: "alerts", Audit: "audits", Gap: "gaps", Quality: "routine", CommandResult: "results"}
NEVER_SECONDS: Final = 1e6
Answer = Callable[["Journal", Request], Awaitable[Response]]
Story = Callable[["Journal"], Awaitable[None]]


class NewConnections:
    """A packet filter that gives this verdict on each segment that begins a connection."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def send(self, _segment: TcpSegment, _link: Link) -> Verdict:
        return "accept"

    def receive(self, segment: TcpSegment, _link: Link) -> Verdict:
        return self._verdict if segment.flags & SYN else "accept"


class Journal(World):
    """A box whose uplink is noted. `answers` are used up one a batch; then the data center stores and answers."""

    def __init__(self, pki: Hierarchy) -> None:
        super().__init__(pki, LINE)
        self.lines: list[str] = []
        self.answers: list[Answer] = []
        self.always: Answer | None = None
        self.backlog = self.number = 0
        self.story: Story
        self._next_peer = 1
        self._store = self.center.handle
        self.center.handle = self.handle  # type: ignore[method-assign]

    def note(self, what: str) -> None:
        self.lines.append(f"{self.loop.time() + 1e-6:9.1f}  {what}")

    async def handle(self, request: Request) -> Response:
        peer = request.peer.state.setdefault("number", self._next_peer)
        self._next_peer += peer == self._next_peer
        self.note(f"#{peer} a batch arrives ({body_kind(request.body).name.lower()})")
        answer = self.answers.pop(0) if self.answers else self.always
        before = len(self.center.batches)
        try:
            response = await (answer(self, request) if answer else self._store(request))
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
        return ", ".join([f"{n} {kind}" for kind, n in count.items()]) + "".join(f" [{it}]" for it in events)

    async def fill(self) -> None:
        await self.routine(self.backlog)

    async def routine(self, records: int) -> None:
        """Store routine records in the buffer."""
        entries = []
        for _ in range(records):
            self.number += 1
            entries.append(encode(Entry("CHEM-1", 1, Quality(self.number, 0, "glu", 1, 0))))
        for start in range(0, records, 1000):
            some = entries[start : start + 1000]
            await self.buffer.append_all([Priority.ROUTINE] * len(some), some)

    async def alert(self, records: int = 1) -> None:
        """Store alerts in the buffer."""
        for _ in range(records):
            self.number += 1
            body = Alert(self.number, 0, "E0001", "lamp", "error")
            await self.buffer.append(Priority.ALERT, encode(Entry("CHEM-1", 1, body)))

    async def live(self) -> None:
        await self.story(self)

    def text(self) -> str:
        """Run; the trace."""
        dial, empty_line = agents.box.uplink.forwarder.dial, ClientConnection.send_empty_line

        async def noted_dial(*args: Any, **kwargs: Any) -> Any:
            self.note("dials")
            try:
                connection = await dial(*args, **kwargs)
            except Exception as error:
                self.note(f"no connection: {type(error).__name__}")
                raise
            is_resumed = connection.transport.get_extra_info("ssl_object").session_reused
            self.note("connected" + ", session resumed" * is_resumed)
            connection.lost.add_done_callback(lambda _: self.note("connection lost"))
            return connection

        def noted_empty_line(connection: ClientConnection) -> None:
            self.note("empty line")
            empty_line(connection)

        agents.box.uplink.forwarder.dial = noted_dial
        ClientConnection.send_empty_line = noted_empty_line  # type: ignore[method-assign]
        try:
            self.run()
        finally:
            agents.box.uplink.forwarder.dial = dial
            ClientConnection.send_empty_line = empty_line  # type: ignore[method-assign]
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
        self.left = (await self.buffer.status()).records


def after(seconds: float) -> Answer:
    """The data center takes its time."""

    async def answer(world: Journal, request: Request) -> Response:
        response = await world._store(request)
        await asyncio.sleep(seconds)
        return response

    return answer


def status(number: int, seconds: float = 0.0, *, close: bool = False, **headers: str) -> Answer:
    """A response with this status, and nothing is stored."""

    async def answer(_world: Journal, _request: Request) -> Response:
        await asyncio.sleep(seconds)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(number, b"", named, close=close)

    return answer


async def never(world: Journal, request: Request) -> Response:
    """Nothing is answered."""
    response = await world._store(request)
    await asyncio.sleep(NEVER_SECONDS)
    return response


async def hang_up(world: Journal, request: Request) -> Response:
    """The batch is stored, and the connection reset instead of an answer."""
    response = await world._store(request)
    request.peer.hang_up()
    return response


async def invalid(world: Journal, request: Request) -> Response:
    """The reply is not one."""
    return replace(await world._store(request), body=b"{}")


async def too_many(world: Journal, request: Request) -> Response:
    """The reply says that more records were stored than were sent."""
    await world._store(request)
    return Response(200, encode(BatchReply(1_000, [])))


async def last_one(world: Journal, request: Request) -> Response:
    """The answer announces the end of the connection."""
    return replace(await world._store(request), headers={"connection": "close"}, close=True)


SCENARIOS: Final[dict[str, Story]] = {}


def scenario(function: Story) -> Story:
    """Add to the scenarios, under the function's name; its docstring becomes the first line of the file."""
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


# -- without trouble


@scenario
async def quiet_box(world: Journal) -> None:
    """A few routine records wait 30 s for others; alerts and 64 routine records do not; a heartbeat every 300 s."""
    await asyncio.sleep(10)
    await world.routine(3)
    await asyncio.sleep(20)
    await world.routine(2)
    await asyncio.sleep(20)
    await world.alert()
    await asyncio.sleep(10)
    await world.routine(63)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(10)
    await world.routine(64)
    await asyncio.sleep(10)
    await world.routine(65)
    await world.alert()
    await asyncio.sleep(700)


@scenario
async def backlog(world: Journal) -> None:
    """A backlog is sent two batches at a time; each is answered after 0.4 s, and an alert overtakes what waits."""
    world.always = after(0.4)
    await world.routine(2000)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(2)
    await world.alert(5)
    await asyncio.sleep(60)


@scenario
async def answers_after_two_seconds(world: Journal) -> None:
    """A data center that answers within three seconds is not slow: as many batches are sent as a round trip holds."""
    world.always = after(2.0)
    await world.routine(800)
    await asyncio.sleep(5)
    await world.alert(3)
    await asyncio.sleep(120)


# -- a slow data center


@scenario
async def slow_answers(world: Journal) -> None:
    """Batches that take 5 s: one in flight; alerts go over a second connection, which ends when it is idle."""
    world.always = after(5.0)
    await world.routine(400)
    await asyncio.sleep(7)
    await world.alert()
    await asyncio.sleep(11)
    await world.alert(2)
    await asyncio.sleep(150)
    await world.alert()
    await asyncio.sleep(100)


@scenario
async def slow_then_quick(world: Journal) -> None:
    """The second connection ends when the first one is quick again."""
    world.answers = [after(10.0), after(0.0), after(0.0), after(10.0), after(0.0)]
    await world.routine(300)
    await asyncio.sleep(4)
    await world.alert()
    await asyncio.sleep(30)
    await world.alert()
    await asyncio.sleep(60)


@scenario
async def no_answer(world: Journal) -> None:
    """A batch is not answered: the connection ends after 20 s; the batches after it are small, and wait longer."""
    world.answers = [never, never, never, never, never]
    await world.routine(200)
    await asyncio.sleep(900)


@scenario
async def no_answer_to_alerts(world: Journal) -> None:
    """Neither batches nor alerts are answered on any of the connections."""
    world.answers = [never] * 6
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(300)


@scenario
async def answer_after_a_minute(world: Journal) -> None:
    """Empty lines keep a connection from being idle while an answer takes long."""
    world.answers = [never, never, after(70.0), after(61.0)]
    await world.routine(50)
    await asyncio.sleep(600)


@scenario
async def gateway_timeout(world: Journal) -> None:
    """Alerts are answered 504 after 30 s on the second connection: it stays closed for ten minutes."""
    world.answers = [after(20.0), status(504, 8.0), after(20.0), after(20.0), after(20.0)]
    await world.routine(400)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(200)
    world.answers = [after(100.0)]
    await world.routine(64)
    await asyncio.sleep(2)
    await world.alert()
    await asyncio.sleep(700)
    world.answers = [after(15.0)]
    await world.routine(64)
    await asyncio.sleep(2)
    await world.alert()
    await asyncio.sleep(100)


@scenario
async def gateway_timeout_of_batches(world: Journal) -> None:
    """Batches are cut off by a gateway after 30 s: they are halved until they are answered."""
    world.answers = [status(504, 30.0, close=True), status(504, 30.0, close=True), after(10.0), after(5.0)]
    await world.routine(1000)
    await asyncio.sleep(1200)


@scenario
async def second_connection_is_refused(world: Journal) -> None:
    """A status other than 5xx on the second connection is tried again after a back-off."""
    world.answers = [after(60.0), status(403), status(403), after(0.0)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(200)


@scenario
async def second_connection_is_lost(world: Journal) -> None:
    """The second connection is reset with an alert on it, and dialed again; the alert is stored once."""
    world.answers = [after(60.0), hang_up, hang_up]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(30)
    await world.alert()
    await asyncio.sleep(200)


@scenario
async def second_connection_cannot_be_opened(world: Journal) -> None:
    """The data center accepts no second connection: alerts wait for the first one."""
    world.answers = [after(30.0)]
    await world.routine(100)
    await asyncio.sleep(2)
    world.datacenter.firewall = NewConnections("reject")
    await world.alert()
    await asyncio.sleep(200)


@scenario
async def fallback_on_second_connection(world: Journal) -> None:
    """The second connection's stream is not known: batches are self-contained on both connections."""
    world.answers = [after(20.0), status(409)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(30)
    await world.routine(100)
    await asyncio.sleep(60)


# -- connections that end


@scenario
async def closed_while_idle(world: Journal) -> None:
    """A connection that lasted five seconds is opened again at once, one that did not after a back-off."""
    await world.alert()
    await asyncio.sleep(60)
    world.center.hang_up()
    await asyncio.sleep(60)
    world.center.hang_up()
    await asyncio.sleep(4)
    world.center.hang_up()
    await asyncio.sleep(60)
    await world.alert()
    await asyncio.sleep(10)


@scenario
async def reset_instead_of_an_answer(world: Journal) -> None:
    """Batches are stored and their answers lost: they are sent again, one at a time."""
    world.answers = [hang_up, hang_up, after(0.5), after(0.5), after(0.5)]
    await world.routine(300)
    await asyncio.sleep(120)


@scenario
async def one_request_per_connection(world: Journal) -> None:
    """Each answer ends its connection: batches go one by one, each on a connection of its own, without a back-off."""
    world.always = last_one
    await world.routine(300)
    await asyncio.sleep(2)
    await world.alert()
    await asyncio.sleep(120)


@scenario
async def nobody_listens(world: Journal) -> None:
    """The data center cannot be reached: the intervals grow, and one event says so."""
    world.datacenter.firewall = NewConnections("reject")
    world.center.hang_up()
    await asyncio.sleep(300)
    world.datacenter.firewall = None
    await world.alert()
    await asyncio.sleep(100)
    world.center.hang_up()
    await asyncio.sleep(100)


@scenario
async def refused(world: Journal) -> None:
    """Refused batches are sent again after a back-off, or after what Retry-After says; the status is in the event."""
    world.answers = [status(503), status(503, retry_after="100"), status(403), status(500, 5.0)]
    await world.alert()
    await asyncio.sleep(600)


@scenario
async def unknown_stream(world: Journal) -> None:
    """409: batches are self-contained for four hours, then a stream is tried again."""
    world.answers = [status(409)]
    await world.routine(100)
    await asyncio.sleep(60)
    world.answers = [status(409)]
    await world.routine(100)
    await asyncio.sleep(4 * 3600)
    await world.routine(100)
    await asyncio.sleep(60)
    world.center.hang_up()
    await world.routine(100)
    await asyncio.sleep(60)
    world.answers = [status(400)]
    await world.routine(100)
    await asyncio.sleep(60)


@scenario
async def invalid_replies(world: Journal) -> None:
    """A reply that is none, or that says too much, is no acknowledgement."""
    world.answers = [invalid, too_many]
    await world.routine(70)
    await asyncio.sleep(200)


@scenario
async def rejected_record(world: Journal) -> None:
    """The data center rejects a routine record and an alert: they are discarded, and reported as a gap."""
    world.center.unreadable = lambda _, entry: getattr(entry.body, "number", 0) in (17, 71)
    await world.routine(70)
    await asyncio.sleep(60)
    await world.alert(2)
    await asyncio.sleep(60)


@scenario
async def everything_is_rejected(world: Journal) -> None:
    """The data center rejects each record: after sixteen, one is discarded every ten minutes."""
    world.center.unreadable = lambda _, entry: isinstance(entry.body, Quality)
    await world.routine(64)
    await asyncio.sleep(700)


# -- the carrier


@scenario
async def carrier_is_lost(world: Journal) -> None:
    """After four seconds without a carrier the connection goes on; after six it is given up and opened again."""
    await world.alert()
    await asyncio.sleep(20)
    for seconds in (4, 6):
        world.uplink.backend.unplug()
        await asyncio.sleep(seconds)
        await world.alert()
        world.uplink.backend.plug()
        await asyncio.sleep(20)


@scenario
async def carrier_returns_during_a_back_off(world: Journal) -> None:
    """The return of the carrier ends a back-off; without a carrier nothing is dialed."""
    world.datacenter.firewall = NewConnections("reject")
    world.center.hang_up()
    await asyncio.sleep(100)
    world.uplink.backend.unplug()
    await asyncio.sleep(200)
    world.datacenter.firewall = None
    world.uplink.backend.plug()
    await asyncio.sleep(60)


@scenario
async def carrier_is_lost_while_dialing(world: Journal) -> None:
    """A dial that began six seconds before the carrier returned is given up; a later one is not."""
    await world.alert()
    await asyncio.sleep(10)
    for seconds in (4, 6):
        world.datacenter.firewall = NewConnections("drop")
        world.center.hang_up()
        await asyncio.sleep(0.01)
        world.uplink.backend.unplug()
        await asyncio.sleep(seconds)
        world.datacenter.firewall = None
        world.uplink.backend.plug()
        await asyncio.sleep(60)


@scenario
async def carrier_is_lost_beside_a_second_connection(world: Journal) -> None:
    """A long loss of the carrier ends the second connection, too."""
    world.answers = [after(40.0), after(20.0)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(10)
    world.uplink.backend.unplug()
    await asyncio.sleep(6)
    world.uplink.backend.plug()
    await asyncio.sleep(120)


def golden(name: str, pki: Hierarchy) -> str:
    """What the golden file of a scenario should hold."""
    world, story = Journal(pki), SCENARIOS[name]
    world.story = story
    return f"{story.__doc__}\n\n{world.text()}"


def main() -> None:
    """Write all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pki = Hierarchy.make(Path(folder))
        for name in SCENARIOS:
            (FOLDER / f"{name}.txt").write_text(golden(name, pki), "utf-8")


if __name__ == "__main__":
    main()
