"""The instrument's agent with a box that loses responses, refuses requests and repeats commands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from time import time

import pytest

import agents.instrument.agent
import wire.dial.backoff
from agents.instrument.agent import DROPS_BURST, InstrumentAgent
from settings.ranges import RangeSet
from tests.support.agents.boxes import Executing, running_agent
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.http.connection import Request, Response, serve
from wire.messages import (
    NEXT_RUN,
    Alert,
    Command,
    CommandResult,
    InstrumentReport,
    Outcome,
    Quality,
    Receipt,
    Reports,
    decode,
    encode,
)
from wire.tls.context import server_context


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MIN", 0.0)
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MAX", 0.002)
    yield


class FakeBox:
    """Sends the responses of `responders`, then receipts, and its commands once. `posts` collects the requests."""

    def __init__(self) -> None:
        self.posts: list[Reports] = []
        self.responders: deque[Callable[[Reports], Response | None]] = deque()
        self.commands: list[Command] = []
        self.opened = asyncio.Event()
        self.opened.set()

    @property
    def numbers(self) -> list[int]:
        return [report.number for post in self.posts for report in post.reports]

    async def handle(self, request: Request) -> Response:
        post = decode(Reports, request.body)
        self.posts.append(post)
        await self.opened.wait()
        commands, self.commands = self.commands, []
        response = self.responders.popleft()(post) if self.responders else receipt(post, commands)
        if response is None:
            await asyncio.Event().wait()
        assert response is not None
        return response


def size(ranges: RangeSet) -> int:
    return sum(last - first + 1 for first, last in ranges)


def receipt(post: Reports, commands: list[Command] | None = None) -> Response:
    return Response(200, encode(Receipt(len(post.reports), commands or [])))


@asynccontextmanager
async def fake_box(pki: Hierarchy) -> AsyncIterator[tuple[FakeBox, int]]:
    box = FakeBox()
    server = await serve(
        box.handle, "127.0.0.1", 0, tls=server_context(pki.box_server), body_bytes_max=65536, now=time
    )
    try:
        yield box, server.port
    finally:
        await server.close()


def alert(agent: InstrumentAgent) -> int:
    return agent.submit(Alert, "L0100", "lamp", "error")


def routine(agent: InstrumentAgent, count: int) -> None:
    for _ in range(count):
        agent.submit(Quality, "glu", 1, 0)


def test_reports_queued_during_a_request_share_the_next_one_and_alerts_are_first(pki: Hierarchy) -> None:
    async def scenario() -> None:
        acknowledged_reports: list[InstrumentReport] = []
        async with (
            fake_box(pki) as (box, port),
            running_agent(port, pki.instrument, on_acknowledged=acknowledged_reports.extend) as agent,
        ):
            box.opened.clear()
            routine(agent, 1)
            await eventually(lambda: len(box.posts) == 1)
            routine(agent, 100)
            number = alert(agent)
            box.opened.set()
            await eventually(lambda: agent.waiting == 0)
            assert [len(post.reports) for post in box.posts] == [1, 64, 37]
            assert box.posts[1].reports[0].number == number
            assert {post.run for post in box.posts} == {1}
            assert [report.number for report in acknowledged_reports] == box.numbers
            assert list(agent.acknowledged) == [(1, agent.made)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "respond",
    [
        lambda _post: None,
        lambda _post: Response(500),
        lambda _post: Response(429, headers={"retry-after": "0"}),
        lambda _post: Response(200, b"nonsense"),
        lambda _post: Response(200, encode(Receipt(1))),
        lambda _post: Response(200, encode(Receipt(3)), close=True),
    ],
)
def test_reports_are_repeated_until_a_receipt_acknowledges_them(
    pki: Hierarchy, respond: Callable[[Reports], Response | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.instrument.agent, "POST_SECONDS_MAX", 0.05)

    async def scenario() -> None:
        async with fake_box(pki) as (box, port), running_agent(port, pki.instrument) as agent:
            box.responders.extend([respond, respond])
            routine(agent, 3)
            await eventually(lambda: agent.waiting == 0)
            routine(agent, 3)
            await eventually(lambda: agent.waiting == 0)
            assert list(agent.acknowledged) == [(1, 6)]
            assert sorted(set(box.numbers)) == [1, 2, 3, 4, 5, 6]

    asyncio.run(scenario())


def test_a_rejected_report_does_not_block_the_others(pki: Hierarchy) -> None:
    def reject_report_2(post: Reports) -> Response:
        return Response(400) if any(report.number == 2 for report in post.reports) else receipt(post)

    async def scenario() -> None:
        async with fake_box(pki) as (box, port), running_agent(port, pki.instrument) as agent:
            box.responders.extend([reject_report_2] * 4)
            routine(agent, 3)
            await eventually(lambda: agent.waiting == 0)
            assert list(agent.acknowledged) == [(1, 1), (3, 3)]
            assert list(agent.dropped) == [(2, 2)]

    asyncio.run(scenario())


def test_a_box_that_rejects_everything_does_not_empty_the_queue(pki: Hierarchy) -> None:
    async def scenario() -> None:
        async with fake_box(pki) as (box, port), running_agent(port, pki.instrument) as agent:
            box.responders.extend([lambda _post: Response(400)] * (DROPS_BURST + 40))
            routine(agent, 100)
            await eventually(lambda: not box.responders and agent.waiting == 0)
            assert size(agent.dropped) == DROPS_BURST
            assert size(agent.acknowledged) == 100 - DROPS_BURST

    asyncio.run(scenario())


def test_any_number_of_rejected_reports_are_dropped_between_accepted_ones(pki: Hierarchy) -> None:
    def reject_odd_numbers(post: Reports) -> Response:
        return Response(400) if any(report.number % 2 for report in post.reports) else receipt(post)

    async def scenario() -> None:
        async with fake_box(pki) as (box, port), running_agent(port, pki.instrument) as agent:
            box.responders.extend([reject_odd_numbers] * 200)
            routine(agent, 100)
            await eventually(lambda: agent.waiting == 0)
            assert size(agent.dropped) == size(agent.acknowledged) == 50

    asyncio.run(scenario())


def test_an_agent_continues_under_the_run_that_the_box_names(pki: Hierarchy) -> None:
    def refuse(_post: Reports) -> Response:
        return Response(409, b"run 1 was used before", {NEXT_RUN: "42"})

    async def scenario() -> None:
        async with fake_box(pki) as (box, port), running_agent(port, pki.instrument) as agent:
            box.responders.append(refuse)
            routine(agent, 3)
            await eventually(lambda: agent.waiting == 0)
            routine(agent, 1)
            await eventually(lambda: agent.waiting == 0)
            assert [post.run for post in box.posts] == [1, 42, 42]
            assert box.posts[0].reports == box.posts[1].reports
            assert list(agent.acknowledged) == [(1, 4)]
            assert agent.run_number == 42

    asyncio.run(scenario())


@pytest.mark.parametrize("named", [{}, {NEXT_RUN: "-1"}, {NEXT_RUN: str(2**32)}, {NEXT_RUN: "soon"}])
def test_a_refusal_without_a_run_is_retried(pki: Hierarchy, named: dict[str, str]) -> None:
    async def scenario() -> None:
        async with fake_box(pki) as (box, port), running_agent(port, pki.instrument) as agent:
            box.responders.append(lambda _post: Response(409, b"", named))
            routine(agent, 1)
            await eventually(lambda: agent.waiting == 0)
            assert [post.run for post in box.posts] == [1, 1]

    asyncio.run(scenario())


def test_a_repeated_command_is_executed_once_and_its_result_reported_again(pki: Hierarchy) -> None:
    executed: list[int] = []

    async def execute(command: Command, content: bytes) -> Outcome:
        executed.append(command.id)
        return "done"

    async def scenario() -> None:
        async with (
            fake_box(pki) as (box, port),
            running_agent(port, pki.instrument, instrument=Executing(execute)) as agent,
        ):
            box.commands = [Command(7, "CHEM-1", "help-file", b"text")]
            routine(agent, 1)
            await eventually(lambda: len(results(box)) == 1)
            await eventually(lambda: agent.waiting == 0)
            box.commands = [Command(7, "CHEM-1", "help-file", b"text")]
            routine(agent, 1)
            await eventually(lambda: len(results(box)) == 2)
            assert executed == [7]
            assert {(result.command, result.outcome) for result in results(box)} == {(7, "done")}

    def results(box: FakeBox) -> list[CommandResult]:
        return [report for post in box.posts for report in post.reports if isinstance(report, CommandResult)]

    asyncio.run(scenario())
