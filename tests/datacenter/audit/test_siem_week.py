"""A SIEM that is down for a week, in virtual time: with the forwarder of the program, its store, TCP and TLS."""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256
from random import Random

import pytest

from datacenter.audit.chain import AuditEntry
from datacenter.audit.siem import SiemForwarder
from datacenter.audit.trail import AuditTrail
from datacenter.store.store import Store
from sim.engine.streams import stream
from sim.net import link as links
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from tests.support.datacenter.batches import AT_MS
from tests.support.hierarchy import Hierarchy
from tests.support.sim.network import LAN
from wire.messages import Audit, Batch, Entry, Link, decode, encode, encode_batch
from wire.tls.context import client_context, server_context

PORT = 6514
HOUR = 3600
BOXES = ("RAP-0001", "RAP-0002")
MESSAGE = re.compile(rb"(\d+) <\d+>1 ")
IDENTITY = re.compile(rb'\[rap@32473 id="([^"]+)"')


class Siem(asyncio.Protocol):
    """A receiver of RFC 5425 that keeps the ids of the messages of a connection."""

    def __init__(self, received: list[str]) -> None:
        self._received, self._buffer = received, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := MESSAGE.match(self._buffer)) and len(self._buffer) >= head.end(1) + 1 + int(head[1]):
            message = self._buffer[head.end(1) + 1 :][: int(head[1])]
            self._buffer = self._buffer[head.end(1) + 1 + int(head[1]) :]
            found = IDENTITY.search(message)
            assert found
            self._received.append(found[1].decode())


class Week:
    """Boxes whose audit records arrive every hour, a data center, and a SIEM."""

    def __init__(self, pki: Hierarchy, seed: int) -> None:
        self.pki, self.seed, self.random = pki, seed, Random(seed)
        self.before = 0
        self.store = Store("sqlite://", durable=False)
        self.store.authorize(list(BOXES), 0)
        self.heads = dict.fromkeys(BOXES, (0, bytes(32)))
        self.sent: list[str] = []
        self.received: list[str] = []

    def records_arrive(self) -> None:
        for box in BOXES:
            entries = []
            first, previous = self.heads[box]
            number = first
            for _ in range(self.random.randint(1, 20)):
                number += 1
                entry = encode(Entry("", 0, Audit(AT_MS, "alive", 0, number), Link(number, previous)))
                previous = sha256(entry).digest()
                entries.append(entry)
                self.sent.append(f"{box}/5/{number}")
            batch = decode(Batch, encode_batch(5, list(enumerate(entries, first + 1))))
            self.store.ingest(box, batch, AT_MS)
            self.heads[box] = number, previous
        head = AuditTrail(self.store).append(
            [AuditEntry(AT_MS, "doris", "", "view", "Box", "RAP-0001", "", "", "permitted", "", "")]
        )
        self.sent.append(f"datacenter/{head.number}")

    async def siem(self) -> None:
        """The receiver listens."""
        loop = asyncio.get_running_loop()
        tls = server_context(self.pki.datacenter)
        await loop.create_server(lambda: Siem(self.received), "localhost", PORT, ssl=tls)

    async def live(self, hours: int) -> None:
        """Hours pass, in each of which records arrive."""
        for _ in range(hours):
            self.records_arrive()
            await asyncio.sleep(HOUR)

    def run(self) -> None:
        """A day with the SIEM, a week without it, and a day with it again."""
        loop, network = SimLoop(), Network()
        datacenter, siem = SimHost(network, "datacenter"), SimHost(network, "localhost")
        network.connect(datacenter, siem, links.Link(loop.env, "line", LAN, stream(self.seed, "link line")))
        running, receiving = datacenter.power_on(), siem.power_on()

        async def forward() -> None:
            tls = client_context(self.pki.box)
            await SiemForwarder(self.store, None, "localhost", PORT, tls).run()

        loop.run_until_complete(receiving.run(loop, self.siem()))
        forwarding = running.run(loop, forward())
        loop.run_until_complete(running.run(loop, self.live(24)))
        self.before = len(self.received)
        siem.kill()
        loop.run_until_complete(running.run(loop, self.live(7 * 24)))
        assert len(self.received) == self.before
        receiving = siem.kill()
        loop.run_until_complete(receiving.run(loop, self.siem()))
        loop.run_until_complete(running.run(loop, self.live(24)))
        forwarding.cancel()


@pytest.mark.slow("nine days of virtual time, with TLS")
def test_after_a_week_without_the_siem_nothing_is_lost_or_twice(pki: Hierarchy) -> None:
    week = Week(pki, 7)
    week.run()
    assert 0 < week.before < len(week.sent) / 4
    assert len(week.received) == len(set(week.received)), "none twice"
    assert set(week.sent) == set(week.received), "none lost"
    for chain in (*(f"{box}/5/" for box in BOXES), "datacenter/"):
        numbers = [int(each.removeprefix(chain)) for each in week.received if each.startswith(chain)]
        assert numbers == list(range(1, len(numbers) + 1)), "in the order of the chain"
