"""A sender that is killed at any time sends nothing twice to targets that do not recognize repetitions.

The kill points are enumerated: before each transaction, before and after its commit, and before and after each
message. A second kill follows while the next process continues.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Executable, select

from datacenter.notices.notice import Notice
from datacenter.notices.outbox import LEASE_MS, AttemptOutcome
from datacenter.notices.sender import NoticeSender
from datacenter.notices.targets import NoticeTarget
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, deliveries, notice_targets, notices
from tests.support.datacenter.notices import (
    CHAT,
    TICKETS,
    Receiver,
    SetClock,
    raise_alert,
    resolve_alert,
    states,
)
from tests.support.eventually import poll_until

KEYS = {("chat", "a:raised"), ("chat", "a:resolved"), ("tickets", "a:raised"), ("tickets", "a:resolved")}
FINAL = {"sent", "uncertain", "needless"}


class KilledError(BaseException):
    """Stands for SIGKILL: no code of the program runs after it."""


class KillPoints:
    """Counts the kill points that a process passes, and kills it at number `kill_at`."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.count = kill_at, 0

    def passed(self) -> None:
        """Count a kill point.

        Raises:
            KilledError: it is the one at which the process is killed, or a later one.
        """
        self.count += 1
        if self.kill_at is not None and self.count >= self.kill_at:
            raise KilledError


class KilledStore(Store):
    """A store with kill points before and after the commits of its transactions."""

    def __init__(self, store: Store, points: KillPoints) -> None:
        self.inner, self.points = store, points

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.points.passed()
        with self.inner.transaction() as connection:
            yield connection
            self.points.passed()
        self.points.passed()

    def read(self, statement: Executable) -> Iterator[Any]:
        return self.inner.read(statement)


class Inline(Executor):
    """Calls in the caller's thread, because switching threads for each call would take longer than the call."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = Future[Any]()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class KilledReceiver(Receiver):
    """A receiver with kill points before and after each message."""

    def __init__(self, points: KillPoints, receiver: Receiver) -> None:
        super().__init__()
        self.points, self.messages = points, receiver.messages

    async def send(self, target: NoticeTarget, due: Sequence[Notice], now_ms: int) -> AttemptOutcome:
        self.points.passed()
        outcome = await super().send(target, due, now_ms)
        self.points.passed()
        return outcome


def run_process(
    store: Store, receiver: Receiver, clock: SetClock, kill_at: int | None, executor: Executor
) -> int:
    """Run a sender until it has sent everything or is killed; return the number of kill points that it passed."""
    points = KillPoints(kill_at)
    sender = NoticeSender(
        KilledStore(store, points),
        [CHAT, TICKETS],
        KilledReceiver(points, receiver),
        str(clock.now_ms),
        clock,
        executor,
    )

    async def send_all() -> None:
        for _ in range(4):
            await sender.send_due()

    try:
        asyncio.run(send_all())
    except KilledError:
        clock.now_ms += LEASE_MS
    return points.count


def killed_processes(store: Store, kills: Sequence[int], executor: Executor) -> tuple[Receiver, SetClock]:
    """Kill processes one after the other at the kill points `kills`; the store first has the notices of one alert."""
    receiver, clock = Receiver(), SetClock()
    with store.transaction() as connection:
        for table in (alerts, notices, deliveries, notice_targets):
            connection.execute(table.delete())
    raise_alert(store, "a")
    resolve_alert(store, "a")
    for kill_at in kills:
        run_process(store, receiver, clock, kill_at, executor)
    return receiver, clock


def snapshot(store: Store, receiver: Receiver) -> str:
    """Return all that the next process depends on, except for the clock."""
    tables = (alerts, notices, deliveries, notice_targets)
    return repr([receiver.messages, *(list(store.read(select(table))) for table in tables)])


@pytest.mark.slow("kills a process at each of hundreds of pairs of kill points")
def test_a_kill_at_any_point_sends_nothing_twice_and_loses_nothing() -> None:
    """Several kill points leave the same database, such as those before and after a read: one of them suffices."""
    uncertain = tried = 0
    tried_states: set[str] = set()
    store = Store("sqlite://", durable=False)
    store.authorize(["RAP-0001"], 0)
    with Inline() as executor:
        receiver, clock = killed_processes(store, [], executor)
        points = run_process(store, receiver, clock, None, executor)
        for first in range(1, points + 1):
            receiver, _ = killed_processes(store, [first], executor)
            if (state := snapshot(store, receiver)) in tried_states:
                continue
            tried_states.add(state)
            for second in range(1, 25):
                receiver, clock = killed_processes(store, [first, second], executor)
                run_process(store, receiver, clock, None, executor)
                delivered = states(store)
                check(receiver, delivered, f"killed at {first} and {second}")
                tried += 1
                uncertain += "uncertain" in delivered.values()
    store.close()
    assert len(tried_states) > 10
    assert 0 < uncertain < tried


def check(receiver: Receiver, deliveries: dict[tuple[str, str], str], when: str) -> None:
    """Compare the received notices with the states of the deliveries."""
    assert set(deliveries) == KEYS and set(deliveries.values()) <= FINAL, (when, deliveries)
    for (target, key), state in deliveries.items():
        count = receiver.received.count((target, key))
        if target == "tickets":
            assert (state, count >= 1) == ("sent", True), (when, target, key, count)
        else:
            assert count <= 1 and (state != "sent" or count == 1), (when, key, state, count)
    for target in ("chat", "tickets"):
        keys = [key for at, key in receiver.received if at == target]
        assert keys == sorted(keys), (when, "the end was delivered before the beginning")


PROGRAM = """
import asyncio, sys, time
from pathlib import Path
from datacenter.notices.outbox import AttemptOutcome, AttemptResult
from datacenter.notices.sender import NoticeSender
from datacenter.store.store import Store
from tests.support.datacenter.notices import CHAT, TICKETS

log = Path(sys.argv[2]).open("a")

class Log:
    async def send(self, target, due, now_ms):
        log.write("".join(f"{target.name} {one.key}\\n" for one in due))
        log.flush()
        return AttemptOutcome(AttemptResult.SENT)

store, started = Store(sys.argv[1]), int(sys.argv[3])
sender = NoticeSender(store, [CHAT, TICKETS], Log(), sys.argv[3], lambda: started)
log.write("ready\\n")
log.flush()
while True:
    asyncio.run(sender.send_due())
"""


@pytest.mark.slow("starts and kills processes")
def test_killed_processes_send_nothing_twice(tmp_path: Path) -> None:
    url, log, clock = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "log", SetClock()
    store = Store(url)
    store.authorize(["RAP-0001"], 0)
    names = [f"{number:03}" for number in range(40)]
    for start in range(8):
        log_size = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(log), str(clock.now_ms)])
        for alert in names[5 * start : 5 * start + 5]:
            raise_alert(store, alert)
        poll_until(lambda size=log_size, lines=2 + start: _lines(log, size) >= lines)
        process.send_signal(signal.SIGKILL)
        process.wait()
        clock.now_ms += LEASE_MS
    with Inline() as executor:
        receiver = Receiver()
        for _ in range(4):
            run_process(store, receiver, clock, None, executor)
    lines = log.read_text().split("\n")
    for (target, key), state in states(store).items():
        count = lines.count(f"{target} {key}") + receiver.received.count((target, key))
        if target == "tickets":
            assert (state, count >= 1) == ("sent", True), (key, count)
        else:
            assert count <= 1 and (state != "sent" or count == 1), (key, state, count)
    assert len(states(store)) == 2 * len(names)
    store.close()


def _lines(log: Path, size: int) -> int:
    return log.read_bytes()[size:].count(b"\n") if log.exists() else 0
