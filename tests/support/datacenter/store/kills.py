"""A data center whose program and PostgreSQL server are killed at random times while boxes send, and its losses.

The program runs in a process that is forked from one that has already imported it, so that a thousand starts are
cheap. Each start sets its clock ahead by another lease of notices, because the next process sends the notices of a
killed one only after their lease has expired. Boxes send by TLS, and repeat each batch until it is acknowledged.
Notices go to the API of an Alertmanager and, by Apprise, to a receiver that cannot recognize repetitions.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from sqlalchemy import func, select

from datacenter.notices.outbox import LEASE_MS
from datacenter.store import queries
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, deliveries, evaluated, notices
from settings.types import Endpoint
from tests.support.datacenter.evaluation.scored_triggers import write_triggers
from tests.support.datacenter.evaluation.triggers import MODEL
from tests.support.datacenter.programs import configure_boxes
from tests.support.datacenter.store.postgres import PostgresServer, killable_server
from tests.support.eventually import eventually
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError
from wire.messages import Entry, ProfileInForce, Status, decode, encode, encode_batch
from wire.tls.context import Identity, client_context

BOXES = 4
SIZE = 8
"""Reports per batch; each batch begins and ends an alert."""
CRITICAL = 25
"""Interval, in batches, of critical alerts, which also go to the receiver of Apprise."""
DATABASE_SHARE = 0.3
"""The share of kills that hit the database; the others hit the program."""
SERVING_SHARE = 0.6
"""The share of kills while boxes are served; the others may hit the start."""
RUN_SECONDS_MAX = 0.3
"""The maximum of the random time between the latest kill, or the first acknowledgement after it, and a kill."""
END_SECONDS_MAX = 600.0
TRIGGER = """model = "{model}"
severity = "{severity}"
component = "lamp"
text = "The lamp is weak"
when = "{when}"
"""
SUPERVISOR = """
import itertools, os, sys, time
from datacenter.main import run_datacenter
import datacenter.notices.transports, datacenter.web.start, psycopg
for start in itertools.count():
    if (pid := os.fork()) == 0:
        try:
            run_datacenter(sys.argv[1], now_ms=lambda: time.time_ns() // 1_000_000 + start * int(sys.argv[2]))
        finally:
            os._exit(1)
    print(pid, flush=True)
    if os.WIFEXITED(os.waitpid(pid, 0)[1]):
        time.sleep(0.1)  # the program ended itself: the database is not available
"""
"""Starts the program again whenever it ends, and prints its process id."""


@dataclass
class Losses:
    """The kills and received notices, and the problems in the database and at the receivers."""

    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    lost: int = 0
    """Acknowledged records that are not stored, or not as they were sent."""
    duplicates: int = 0
    alerts: int = 0
    wrong_alerts: int = 0
    """Alerts that are missing, or that no report began."""
    unnoticed: int = 0
    """Notices that a receiver did not get, although they are not recorded as uncertain."""
    repeated: int = 0
    """Repetitions of notices to the receiver that cannot recognize them."""
    uncertain: int = 0
    """Notices for which the data center recorded that it cannot know whether they were sent."""


class Receivers:
    """The HTTP service of both targets; counts the received notices."""

    def __init__(self) -> None:
        self.posted = Counter[str]()
        """Requests to the Alertmanager's API by alert."""
        self.sent = Counter[str]()
        """Messages to the receiver of Apprise by notice (alert:kind)."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            body = json.loads(await reader.readexactly(size))
            if "/api/v2/alerts" in head:
                self.posted.update(one["labels"]["alert"] for one in body)
            else:
                self.sent.update(re.findall(r"Notice (\w+:\w+)", body["message"]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


class Program:
    """The data center's program, which a supervisor starts again whenever it ends."""

    def __init__(self, config: Path) -> None:
        self._supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(config), str(LEASE_MS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait()

    def _wait(self) -> None:
        """Wait until the next process is started."""
        assert self._supervisor.stdout is not None
        self._pid = int(self._supervisor.stdout.readline())

    def kill(self) -> None:
        """Kill the running process, and wait until the next one is started; skip processes that ended themselves."""
        while True:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
                self._wait()
                return
            self._wait()

    def close(self) -> None:
        assert self._supervisor.stdout is not None
        os.killpg(self._supervisor.pid, signal.SIGKILL)
        self._supervisor.wait()
        self._supervisor.stdout.close()


class SendingBox:
    """A box with one instrument, which sends batches until it is stopped."""

    def __init__(self, serial: str, identity: Identity, port: int, start_ms: int) -> None:
        self.serial, self._context, self._port = serial, client_context(identity), port
        self._start_ms = start_ms
        self.batches = 0
        """The number of acknowledged batches."""
        self.last: int | None = None
        """The number of batches after which it stops."""

    @property
    def instrument(self) -> str:
        return f"CHEM-{self.serial[-4:]}"

    def entries(self, index: int) -> list[tuple[int, bytes]]:
        """Return the encoded records of a batch with their sequence numbers; batch 0 is the instrument's profile."""
        if index == 0:
            profile = ProfileInForce(self._start_ms, self.instrument, MODEL, 1)
            return [(1, encode(Entry("", 0, profile)))]
        records = []
        for within in range(SIZE):
            number = (index - 1) * SIZE + within + 1
            is_high = within in (2, 3)
            readings = {
                "water-conductivity-ns": 60 if is_high else 0,
                "lamp-intensity-pct": 10 if is_high and index % CRITICAL == 0 else 100,
            }
            status = Status(number, self._start_ms + number * 1000, "running", 0, readings)
            records.append((number + 1, encode(Entry(self.instrument, 1, status))))
        return records

    def alerts(self) -> set[tuple[str, str, int]]:
        """Return instrument, trigger and report number of the alerts that all acknowledged reports raise."""
        expected = set()
        for index in range(1, self.batches):
            number = (index - 1) * SIZE + 3
            expected.add((self.instrument, "water", number))
            if index % CRITICAL == 0:
                expected.add((self.instrument, "lamp", number))
        return expected

    @property
    def is_finished(self) -> bool:
        return self.batches == self.last

    async def send(self) -> None:
        while not self.is_finished:
            with suppress(OSError, HttpError):
                connection = await dial(
                    Endpoint("localhost", self._port), self._context, reply_bytes_max=10_000
                )
                try:
                    await self._send_on(connection)
                finally:
                    connection.close()
            await asyncio.sleep(0.02)

    async def _send_on(self, connection: ClientConnection) -> None:
        compressor = Compressor()
        while not self.is_finished:
            batch = compressor.compress(encode_batch(1, self.entries(self.batches)))
            response = await connection.request("POST", "/v1/batches", batch)
            if response.status != 200:
                return
            self.batches += 1


def kill_repeatedly(kills: int, seed: int) -> Losses:
    """Kill the program or the database server `kills` times, at times that follow from `seed`; return the losses."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rap-kills-")))
        server = stack.enter_context(killable_server(flushes=True))
        return asyncio.run(_run(folder, server, kills, Random(seed)))


async def _run(folder: Path, server: PostgresServer, kills: int, random: Random) -> Losses:
    names = [f"RAP-{number:04}" for number in range(BOXES)]
    config, identities = configure_boxes(folder, server.url, names)
    receivers, losses = Receivers(), Losses()
    web = await asyncio.start_server(receivers.answer, "127.0.0.1", 0)
    _configure(folder, config, port := _free_port(), web.sockets[0].getsockname()[1])
    start_ms = time.time_ns() // 1_000_000 - 5 * 86_400_000
    boxes = [SendingBox(name, identities[name], port, start_ms) for name in names]
    with closing(Program(config)) as program:
        sending = [asyncio.create_task(box.send()) for box in boxes]
        await _wait_until(lambda: all(box.batches for box in boxes))
        for _ in range(kills):
            await _run_for_a_while(boxes, random)
            kind = "database" if random.random() < DATABASE_SHARE else "program"
            losses.kills[kind] += 1
            if kind == "database":
                server.kill()
                await asyncio.to_thread(server.start)
            else:
                await asyncio.to_thread(program.kill)
        for box in boxes:
            box.last = box.batches + 1
        await asyncio.gather(*sending)
        with closing(Store(server.url)) as store:
            await _settle(store, program, boxes)
            _compare(store, boxes, receivers, losses)
    web.close()
    return losses


async def _run_for_a_while(boxes: list[SendingBox], random: Random) -> None:
    """Wait for a random time, sometimes from the next acknowledgement."""
    if random.random() < SERVING_SHARE:
        before = sum(box.batches for box in boxes)
        await _wait_until(lambda: sum(box.batches for box in boxes) > before)
    await asyncio.sleep(random.uniform(0, RUN_SECONDS_MAX))


def _configure(folder: Path, config: Path, port: int, receiver: int) -> None:
    write_triggers(
        folder / "triggers",
        water=TRIGGER.format(model=MODEL, severity="warning", when="water-conductivity-ns > 50"),
        lamp=TRIGGER.format(model=MODEL, severity="critical", when="lamp-intensity-pct < 50"),
    )
    targets = folder / "targets.toml"
    targets.write_text(
        f'[[target]]\nname = "alertmanager"\nalertmanager = "http://127.0.0.1:{receiver}"\ninterval_s = 0\n'
        f'[[target]]\nname = "chat"\napprise = "json://127.0.0.1:{receiver}/chat"\ninterval_s = 0\n'
        'severities = ["critical"]\n'
    )
    targets.chmod(0o600)
    config.write_text(
        config.read_text().replace("port = 0", f"port = {port}")
        + '[evaluation]\ntriggers = "triggers"\n[notices]\ntargets = "targets.toml"\n'
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def _wait_until(holds: Callable[[], bool]) -> None:
    await eventually(holds, END_SECONDS_MAX, every_s=0.1)


async def _settle(store: Store, program: Program, boxes: list[SendingBox]) -> None:
    """Wait until the program has evaluated all reports, and sent or otherwise settled all notices."""
    wanted = {box.serial: (box.batches - 1) * SIZE + 1 for box in boxes}
    await _wait_until(
        lambda: (
            {one.box: one.sequence for one in store.read(select(evaluated.c.box, evaluated.c.sequence))}
            == wanted
        )
    )
    # the next start sets the clock ahead, so that the leases of killed processes expire
    await asyncio.to_thread(program.kill)
    d, n = deliveries.c, notices.c
    unsettled = select(func.count()).where(d.state.in_(("waiting", "sending")))
    unrouted = select(func.count()).where(n.routed_at_ms.is_(None))
    await _wait_until(lambda: not any(next(store.read(query))[0] for query in (unsettled, unrouted)))


def _compare(store: Store, boxes: list[SendingBox], receivers: Receivers, losses: Losses) -> None:
    stored = Counter[tuple[str, int]]()
    bodies = {}
    for record, body in queries.bodies(store):
        stored[record.box, record.sequence] += 1
        bodies[record.box, record.sequence] = body
    for box in boxes:
        for index in range(box.batches):
            for sequence, entry in box.entries(index):
                losses.acknowledged += 1
                losses.lost += encode(decode(Entry, entry).body) != bodies.get((box.serial, sequence))
    losses.duplicates = sum(stored.values()) - len(stored)
    c = alerts.c
    stored_alerts = [tuple(row) for row in store.read(select(c.instrument, c.trigger, c.number))]
    expected = {one for box in boxes for one in box.alerts()}
    losses.alerts = len(stored_alerts)
    losses.wrong_alerts = len(set(stored_alerts) ^ expected) + len(stored_alerts) - len(set(stored_alerts))
    d = deliveries.c
    for row in store.read(select(d.alert, d.kind, d.target, d.state)):
        if row.target == "chat":
            count = receivers.sent[f"{row.alert}:{row.kind}"]
            losses.repeated += max(0, count - 1)
            losses.uncertain += row.state == "uncertain"
            losses.unnoticed += not count and row.state not in ("uncertain", "needless")
        elif row.kind == "raised":
            losses.unnoticed += not receivers.posted[row.alert] and row.state != "needless"
