"""Observers of the firewall service: each has limits, and none affects another."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from hal.unix_socket import Listener
from netfw.events import Alarm, FirewallState
from netfw.policy.policy import Service
from netfw.ruleset.sessions import Session
from netfw.service import server as server_module
from netfw.service.protocol import (
    LENGTH_BYTES,
    Answer,
    ClosePath,
    ConnectionRefusal,
    Hello,
    OpenPath,
    PathAnswer,
    decoded,
    framed,
)
from netfw.service.server import OBSERVERS_MAX, PATH_REQUESTS_MAX, UNDELIVERED_MAX, FirewallServer
from tests.support.eventually import WAIT_SECONDS_MAX, eventually

IN_FORCE = FirewallState(in_force=True)
PATH = Session(ip_address("10.99.1.2"), 1, ip_address("10.77.1.5"), Service("tcp", 5900))
OPEN, CLOSE = OpenPath.of(PATH, seconds=60), ClosePath.of(PATH)
OWN = (os.geteuid(),)


class FakePaths:
    """Paths of sessions, which can be opened except at port 9."""

    def __init__(self) -> None:
        self.open: set[Session] = set()

    def open_session(self, session: Session, seconds: int) -> str:
        if session.port == 9:
            return "port 9 is not in use"
        self.open.add(session)
        return ""

    def close_session(self, session: Session) -> None:
        self.open.remove(session)


class Observer:
    """The observer's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes = framed(Hello())) -> None:
        self.writer.write(data)

    async def receive(self) -> Answer | None:
        """Return the next message, or None at the end of the connection."""
        try:
            size = int.from_bytes(await self.reader.readexactly(LENGTH_BYTES), "big")
            return decoded(await self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def refusal(self) -> str:
        answer = await self.receive()
        assert isinstance(answer, ConnectionRefusal)
        assert await self.receive() is None
        return answer.reason


class RunningServer:
    """A server, its log messages, and its observers."""

    def __init__(self, path: Path, server: FirewallServer, messages: list[str]) -> None:
        self.path, self.server, self.messages = path, server, messages
        self.paths = server.paths
        self.observers: list[Observer] = []

    async def connect(self) -> Observer:
        self.observers.append(Observer(*await asyncio.open_unix_connection(self.path)))
        return self.observers[-1]

    async def observer(self) -> Observer:
        observer = await self.connect()
        observer.send()
        await eventually(lambda: any(each.is_observer for each in self.server.connections))
        return observer


@asynccontextmanager
async def serving(
    folder: Path, users: set[int] | None = None, path_users: Collection[int] = ()
) -> AsyncIterator[RunningServer]:
    messages: list[str] = []
    listener = Listener(folder / "socket", 0o660)
    permitted = {os.geteuid()} if users is None else users
    server = FirewallServer(permitted, messages.append, FakePaths(), path_users)
    accepting = await asyncio.get_running_loop().create_unix_server(server.connected, sock=listener.socket)
    async with accepting:
        running = RunningServer(folder / "socket", server, messages)
        yield running
        for observer in running.observers:
            observer.writer.transport.abort()
    listener.close()


def run(
    scenario: Callable[[RunningServer], object],
    folder: Path,
    users: set[int] | None = None,
    path_users: Collection[int] = (),
) -> None:
    async def main() -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX), serving(folder, users, path_users) as running:
            await scenario(running)  # type: ignore[misc]

    asyncio.run(main())


def test_an_observer_gets_the_state_immediately_and_events_as_they_happen(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        running.server.publish(IN_FORCE)
        observer = await running.observer()
        assert await observer.receive() == IN_FORCE
        running.server.publish(Alarm(7, "nft"))
        assert await observer.receive() == Alarm(7, "nft")

    run(scenario, tmp_path)


def test_no_state_is_sent_before_the_first_attempt(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        observer = await running.observer()
        running.server.publish(IN_FORCE)
        assert await observer.receive() == IN_FORCE

    run(scenario, tmp_path)


def test_events_without_an_observer_wait_for_the_next_one(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        for pid in range(UNDELIVERED_MAX + 2):
            running.server.publish(Alarm(pid, "nft"))
        running.server.publish(IN_FORCE)
        observer = await running.observer()
        events = [await observer.receive() for _ in range(UNDELIVERED_MAX + 1)]
        assert events == [*(Alarm(pid, "nft") for pid in range(2, UNDELIVERED_MAX + 2)), IN_FORCE]
        second = await running.connect()
        second.send()
        assert await second.receive() == IN_FORCE

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (framed(Hello(version=2)), "supports version 1 of the protocol, not 2"),
        ((2000).to_bytes(4, "big"), "2000 bytes was announced; at most 1024"),
        (b"\0\0\0\1\xc1", "only Hello, OpenPath and ClosePath are accepted"),
        (b"\0\0\0\0", "only Hello, OpenPath and ClosePath are accepted"),
        (b"GET / HTTP/1.1\r\n\r\n", "bytes was announced"),
        (framed(Hello()) * 2, "Hello was sent twice"),
        (framed(OPEN), "a connection begins with Hello"),
        (framed(Hello()) + framed(OPEN), "only the user of the box program may open"),
        (framed(Hello()) + framed(CLOSE), "only the user of the box program may open"),
        (
            framed(msgspec.defstruct("Open", [("port", int)], tag="open")(1)),
            "only Hello, OpenPath and ClosePath are accepted",
        ),
    ],
)
def test_a_client_that_violates_the_protocol_is_refused_and_the_others_stay(
    messages: bytes, reason: str, tmp_path: Path
) -> None:
    async def scenario(running: RunningServer) -> None:
        other = await running.observer()
        violating = await running.connect()
        violating.send(messages)
        assert reason in await violating.refusal()
        running.server.publish(IN_FORCE)
        assert await other.receive() == IN_FORCE
        assert len(running.server.connections) == 1

    run(scenario, tmp_path)


def test_a_client_without_a_complete_hello_is_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(running: RunningServer) -> None:
        for incomplete in (b"", framed(Hello())[:7]):
            silent = await running.connect()
            silent.send(incomplete)
            assert "no Hello within" in await silent.refusal()
        await eventually(lambda: not running.server.connections)

    monkeypatch.setattr(server_module, "HELLO_SECONDS", 0.01)
    run(scenario, tmp_path)


def test_an_observer_that_does_not_read_is_disconnected_and_the_others_get_all_events(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        reader = await running.observer()
        path = os.fspath(running.path)
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(path)
            slow.sendall(framed(Hello()))
            await eventually(lambda: sum(each.is_observer for each in running.server.connections) == 2)
            large = Alarm(1, "x" * 100_000)
            for _ in range(30):
                running.server.publish(large)
                assert await reader.receive() == large
            assert running.messages == ["an observer does not read and is disconnected"]
            assert len(running.server.connections) == 1

    run(scenario, tmp_path)


def test_the_number_of_observers_is_limited(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        observers = [await running.connect() for _ in range(OBSERVERS_MAX)]
        await eventually(lambda: len(running.server.connections) == OBSERVERS_MAX)
        assert f"{OBSERVERS_MAX} observers" in await (await running.connect()).refusal()
        observers[0].writer.close()
        await eventually(lambda: len(running.server.connections) < OBSERVERS_MAX)
        await running.observer()

    run(scenario, tmp_path)


def test_an_unauthorized_user_is_refused_and_logged_once(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        for _ in range(3):
            unauthorized = await running.connect()
            unauthorized.send()
            assert f"user {os.geteuid()} may not observe the service" in await unauthorized.refusal()
        assert len(running.messages) == 1
        assert not running.server.connections

    run(scenario, tmp_path, users={os.geteuid() + 1})


def test_the_state_is_sent_periodically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(running: RunningServer) -> None:
        observer = await running.observer()
        beats: list[int] = []
        beating = asyncio.ensure_future(running.server.beat(lambda: beats.append(1)))
        await eventually(lambda: len(beats) > 2)
        running.server.publish(IN_FORCE)
        assert [await observer.receive() for _ in range(3)] == [IN_FORCE] * 3
        beating.cancel()

    monkeypatch.setattr(server_module, "HEARTBEAT_SECONDS", 0.001)
    run(scenario, tmp_path)


def paths_of(running: RunningServer) -> set[Session]:
    assert isinstance(running.paths, FakePaths)
    return running.paths.open


def test_the_user_of_the_box_program_opens_and_closes_paths(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        box = await running.observer()
        box.send(framed(OPEN))
        assert await box.receive() == PathAnswer()
        assert paths_of(running) == {PATH}
        box.send(framed(OpenPath.of(replace(PATH, port=9), seconds=60)) + framed(CLOSE))
        assert await box.receive() == PathAnswer("port 9 is not in use")
        assert await box.receive() == PathAnswer()
        assert paths_of(running) == set()
        assert running.messages == ["the path of a session was refused: port 9 is not in use"]

    run(scenario, tmp_path, path_users=OWN)


@pytest.mark.parametrize("end", [b"", framed(Hello()), b"\xff" * 4])
def test_the_paths_of_a_connection_end_with_it(end: bytes, tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        other, box = await running.observer(), await running.observer()
        for client, path in ((other, replace(PATH, port=2)), (box, PATH)):
            client.send(framed(OpenPath.of(path, seconds=60)))
            assert await client.receive() == PathAnswer()
        other.send(framed(CLOSE))  # a path of another connection
        assert await other.receive() == PathAnswer()
        assert len(paths_of(running)) == 2
        if end:
            box.send(end)
        else:
            box.writer.close()
        await eventually(lambda: paths_of(running) == {replace(PATH, port=2)})

    run(scenario, tmp_path, path_users=OWN)


@pytest.mark.parametrize("staff", ["10.99.1", "", "fd00:99::2%eth0", "10.99.1.2/32", "localhost"])
def test_an_invalid_address_ends_the_connection(staff: str, tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        box = await running.observer()
        box.send(framed(OpenPath(staff, 1, "10.77.1.5", "tcp", 5900, 60)))
        assert "the path of a session is invalid" in await box.refusal()

    run(scenario, tmp_path, path_users=OWN)


def test_the_requests_of_a_connection_are_limited(tmp_path: Path) -> None:
    async def scenario(running: RunningServer) -> None:
        box = await running.observer()
        box.send((framed(OPEN) + framed(CLOSE)) * (PATH_REQUESTS_MAX // 2) + framed(OPEN))
        for _ in range(PATH_REQUESTS_MAX):
            assert await box.receive() == PathAnswer()
        assert "more than 64 requests in 10 s" in await box.refusal()
        assert paths_of(running) == set()

    run(scenario, tmp_path, path_users=OWN)
