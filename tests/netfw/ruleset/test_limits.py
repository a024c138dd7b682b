"""One port's instruments cannot exhaust the connections and log records of another port."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from netfw.kernel.log import FirewallLog, Lost, RefusedPacket
from netfw.model.packet import SYN, parse, tcp
from netfw.model.packet_filter import PacketFilterModel
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from netfw.ruleset.names import CONNECTIONS_MAX
from netfw.ruleset.render import render
from tests.support.eventually import eventually
from tests.support.netfw.boxlab import INSTRUMENT, POLICIES, PORT, BoxLab, box_lab

pytestmark = pytest.mark.kernel

POLICY = load_policy(POLICIES / "clinic.toml")
BEYOND = 20


@pytest.fixture(scope="module")
def lab() -> Iterator[BoxLab]:
    with box_lab() as running:
        running.apply(POLICY)
        yield running


@contextmanager
def half_open(lab: BoxLab, count: int) -> Iterator[None]:
    """Open connections of the first port's instrument that are not accepted."""
    with ExitStack() as stack:
        stack.enter_context(lab.listener(lab.box, PORT[1][4], 443))
        for _ in range(count):
            sock = stack.enter_context(lab.instrument[1].socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.setblocking(False)
            sock.connect_ex((PORT[1][4], 443))
        yield


@dataclass
class LoggedRecords:
    """The number of log records of each interface."""

    of: Counter[str] = field(default_factory=Counter)

    def add(self, entry: RefusedPacket | Lost) -> None:
        if isinstance(entry, RefusedPacket):
            self.of[entry.interface_in] += 1


def tracked(lab: BoxLab) -> int:
    return int(lab.box.run(lambda: open("/proc/sys/net/netfilter/nf_conntrack_count").read()))  # noqa: PTH123


def test_connections_are_limited_per_port(lab: BoxLab) -> None:
    before = tracked(lab)
    with half_open(lab, CONNECTIONS_MAX + BEYOND):
        assert tracked(lab) - before == CONNECTIONS_MAX
        assert lab.packets(names.CROWDED) >= BEYOND
        assert lab.attempt(lab.instrument[2], lab.box, PORT[2][4], 443) == "reached"


def test_the_model_counts_as_the_kernel_does() -> None:
    packet_filter = PacketFilterModel(render(POLICY).commands())
    at, interface = PORT[1][4], POLICY.ports[0].interface

    def begin(number: int, now_ns: int, port: int = 1) -> str:
        iif = POLICY.ports[port - 1].interface
        data = tcp(INSTRUMENT[port][4], 1024 + number, PORT[port][4], 443, SYN)
        return packet_filter.receive(parse(data, iif=iif), now_ns).cause or "accepted"

    assert (at, interface) == ("10.77.1.1", "enp2s0")
    assert [begin(number, 0) for number in range(CONNECTIONS_MAX)] == ["accepted"] * CONNECTIONS_MAX
    assert begin(CONNECTIONS_MAX, 0) == names.CROWDED
    assert begin(0, 0) == "accepted", "this connection is counted already"
    assert begin(1, 0, port=2) == "accepted"
    later = 3600 * 10**9  # the half-open connections have timed out
    assert begin(CONNECTIONS_MAX + 1, later) == "accepted"


def test_refused_packets_of_one_port_do_not_suppress_the_log_of_another(lab: BoxLab) -> None:
    one, two = POLICY.ports[0].interface, POLICY.ports[1].interface

    def send_refused(port: int, packets: int) -> None:
        with lab.instrument[port].socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(packets):
                sock.sendto(b"x", (PORT[port][4], 9))

    async def scenario() -> Counter[str]:
        records = LoggedRecords()
        log = lab.box.run(lambda: FirewallLog(records.add))
        log.start()
        try:
            send_refused(1, 50 * names.LOG_BURST)
            send_refused(2, 1)
            await eventually(lambda: bool(records.of[two]))
        finally:
            log.stop()
        return records.of

    logged = asyncio.run(scenario())
    assert names.LOG_BURST <= logged[one] < 50 * names.LOG_BURST
    assert logged[two] == 1
