"""The firewall state in the box program while the service answers, ends, hangs and restarts, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from netfw.events import Alarm, Event, FirewallState, PathsLost
from netfw.policy.policy import Service
from netfw.ruleset.sessions import Session
from netfw.service.client import CONFIRMED_SECONDS, PATH_ANSWER_SECONDS, RECONNECT_SECONDS, FirewallClient
from netfw.service.protocol import (
    ClosePath,
    ConnectionRefusal,
    FirewallProtocolError,
    OpenPath,
    PathAnswer,
    framed,
)
from sim.net.loop import SimLoop

IN_FORCE = FirewallState(in_force=True)
PATH = Session(ip_address("10.99.1.2"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))
LOST = PathsLost("the connection to the firewall service was lost")
NOT_YET = FirewallState(in_force=False, problem="the policy has not been put in force yet")


class FakeService:
    """A firewall service with connections in memory, each of which is open until the service ends."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader | None = None
        self.runs = True
        self.connections = 0
        self.received: list[bytes] = []
        self.client = FirewallClient(self.connect)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        if not self.runs:
            raise FirewallProtocolError("no firewall service answers")
        self.reader = asyncio.StreamReader()
        self.connections += 1
        yield self.reader, Writer(self)

    def send(self, event: Any) -> None:
        assert self.reader is not None
        self.reader.feed_data(framed(event))

    def end(self) -> None:
        self.runs = False
        assert self.reader is not None
        self.reader.feed_eof()


class Writer:
    """The client's side of a connection; aborting it ends the connection."""

    def __init__(self, service: FakeService) -> None:
        self._service, self.transport = service, self

    def write(self, data: bytes) -> None:
        self._service.received.append(data)

    def abort(self) -> None:
        assert self._service.reader is not None
        self._service.reader.feed_eof()


def run(scenario: Callable[[FakeService, list[Event]], Awaitable[None]]) -> None:
    loop = SimLoop()

    async def main() -> None:
        service, events = FakeService(), list[Event]()
        service.client = FirewallClient(service.connect)
        following = asyncio.ensure_future(service.client.follow(events.append))
        await asyncio.sleep(0)
        await scenario(service, events)
        following.cancel()

    loop.run_until_complete(main())


def test_events_are_passed_on_as_they_arrive() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(IN_FORCE)
        service.send(Alarm(7, "nft"))
        await asyncio.sleep(0.1)
        assert events == [IN_FORCE, Alarm(7, "nft")]

    run(scenario)


def test_a_policy_that_is_not_yet_in_force_at_the_start_is_not_reported() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(NOT_YET)
        await asyncio.sleep(CONFIRMED_SECONDS - 1)
        assert events == []
        service.send(IN_FORCE)
        await asyncio.sleep(0.1)
        assert events == [IN_FORCE]
        service.send(NOT_YET)
        await asyncio.sleep(0.1)
        assert events == [IN_FORCE, NOT_YET]

    run(scenario)


def test_a_policy_that_is_not_in_force_in_time_is_reported() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        for _ in range(6):
            service.send(NOT_YET)
            await asyncio.sleep(CONFIRMED_SECONDS / 5)
        await asyncio.sleep(0.1)
        assert events == [NOT_YET]

    run(scenario)


def test_a_service_that_does_not_answer_at_the_start_is_reported_after_a_time() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.end()
        await asyncio.sleep(CONFIRMED_SECONDS - 1)
        assert events == []
        await asyncio.sleep(1.5)
        assert events == [
            FirewallState(in_force=False, problem="no firewall service answers", is_known=False)
        ]

    run(scenario)


def test_a_service_that_restarts_in_time_causes_no_problem() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(IN_FORCE)
        await asyncio.sleep(1)
        service.end()
        await asyncio.sleep(CONFIRMED_SECONDS - 3)
        service.runs = True
        await asyncio.sleep(1)
        service.send(IN_FORCE)
        await asyncio.sleep(100 * 0.1)
        assert events == [IN_FORCE, IN_FORCE]

    run(scenario)


def test_without_a_service_a_confirmation_expires() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(IN_FORCE)
        await asyncio.sleep(0.1)
        service.end()
        await asyncio.sleep(CONFIRMED_SECONDS - 1)
        assert events == [IN_FORCE]
        await asyncio.sleep(1.5)
        assert events == [
            IN_FORCE,
            FirewallState(in_force=False, problem="no firewall service answers", is_known=False),
        ]
        await asyncio.sleep(1000)
        assert len(events) == 2  # each problem once
        service.runs = True
        await asyncio.sleep(1)
        service.send(IN_FORCE)
        await asyncio.sleep(0.1)
        assert events[2:] == [IN_FORCE]

    run(scenario)


def test_a_service_that_hangs_confirms_nothing() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(IN_FORCE)
        await asyncio.sleep(CONFIRMED_SECONDS - 0.1)
        assert events == [IN_FORCE]
        await asyncio.sleep(0.2)
        assert events[1:] == [
            FirewallState(
                in_force=False, problem="the firewall service has not answered for 10 s", is_known=False
            )
        ]

    run(scenario)


def test_a_service_that_ends_and_then_hangs_gets_no_additional_time() -> None:
    """The kernel still accepts connections to a stopped program."""

    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(IN_FORCE)
        await asyncio.sleep(CONFIRMED_SECONDS - 2)
        service.end()
        service.runs = True
        await asyncio.sleep(2.6)
        assert service.connections > 1
        assert [event for event in events if isinstance(event, FirewallState) and not event.is_known]

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (ConnectionRefusal("version 2"), "the firewall service refuses the connection: version 2"),
        (b"\xff\xff\xff\xff", "bytes was announced"),
        (b"\0\0\0\1\xc1", "cannot be read"),
    ],
)
def test_an_invalid_answer_is_not_a_confirmation(answer: Any, problem: str) -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        await asyncio.sleep(CONFIRMED_SECONDS + 1)
        assert service.reader is not None
        service.reader.feed_data(answer if isinstance(answer, bytes) else framed(answer))
        await asyncio.sleep(0.1)
        state = events[-1]
        assert isinstance(state, FirewallState)
        assert not state.in_force
        assert problem in state.problem

    run(scenario)


def test_answers_are_assigned_to_requests_in_order() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        opening = asyncio.gather(*(service.client.open_path(PATH, 60) for _ in range(2)))
        await asyncio.sleep(0.1)
        assert service.received[1:] == [framed(OpenPath.of(PATH, seconds=60))] * 2
        service.send(PathAnswer())
        service.send(PathAnswer("it is open already"))
        assert await opening == [True, False]
        closing = asyncio.ensure_future(service.client.close_path(PATH))
        await asyncio.sleep(0.1)
        assert service.received[-1] == framed(ClosePath.of(PATH))
        assert not closing.done()
        service.send(PathAnswer())
        await closing
        service.end()
        await asyncio.sleep(0.1)
        assert events == []

    run(scenario)


def test_the_paths_of_a_lost_connection_are_lost() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        opening = asyncio.ensure_future(service.client.open_path(PATH, 60))
        await asyncio.sleep(0.1)
        service.send(PathAnswer())
        assert await opening
        waiting = asyncio.ensure_future(service.client.open_path(PATH, 60))
        await asyncio.sleep(0.1)
        service.end()
        assert not await waiting
        assert events == [LOST]
        assert not await service.client.open_path(PATH, 60)
        await service.client.close_path(PATH)

    run(scenario)


@pytest.mark.parametrize("gives_up", [False, True])
def test_a_request_without_an_answer_ends_the_connection(gives_up: bool) -> None:
    """With the connection the service closes a path that the request may have opened."""

    async def scenario(service: FakeService, events: list[Event]) -> None:
        opening = asyncio.ensure_future(service.client.open_path(PATH, 60))
        await asyncio.sleep(0.1)
        if gives_up:
            opening.cancel()
        await asyncio.wait([opening])
        assert asyncio.get_running_loop().time() == pytest.approx(0.1 if gives_up else PATH_ANSWER_SECONDS)
        assert opening.cancelled() if gives_up else not opening.result()
        await asyncio.sleep(RECONNECT_SECONDS + 0.1)
        assert service.connections == 2
        assert events == []

    run(scenario)


def test_an_unsolicited_answer_ends_the_connection() -> None:
    async def scenario(service: FakeService, events: list[Event]) -> None:
        service.send(IN_FORCE)
        service.send(PathAnswer())
        await asyncio.sleep(RECONNECT_SECONDS + 0.1)
        assert service.connections == 2
        assert events == [IN_FORCE]

    run(scenario)
