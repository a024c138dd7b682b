"""Ports are open, and reports are accepted and sent, only while the firewall policy is in force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import msgspec
import pytest

from agents.box import firewall
from agents.box.box import Box, Hardware
from agents.box.configuration.config import FirewallPolicy
from agents.box.firewall import FirewallGuard
from agents.box.health.alarm import AlarmLed
from agents.box.health.audit import AuditLog
from hal.emul.ethernet import EmulEthernetPort
from hal.emul.indicators import EmulIndicators
from hal.ethernet import EthernetError, EthernetErrorKind
from hal.indicators import Light
from netfw.events import OutsideInspection
from netfw.service.supervisor import Supervisor
from tests.support.agents.backends import FakeBackend
from tests.support.agents.boxes import CLOCK, box_config, disk, running_agent
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.messages import Quality

RETRY_SECONDS = 0.001


class FakeAudit:
    """Collects audit events as (event, port), or (event, value) without a port."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int]] = []

    def note(self, event: str, value: int = 0, *, port: int = 0, unlimited: bool = False) -> None:
        self.notes.append((event, port or value))

    def events(self, beginning: str = "") -> list[str]:
        return [event for event, _ in self.notes if event.startswith(beginning)]


class StubbornPort(EmulEthernetPort):
    """A port whose driver refuses to close it."""

    def set_up(self, up: bool) -> None:
        if not up:
            raise EthernetError(EthernetErrorKind.IO, "the driver refused")
        super().set_up(up)


@dataclass
class GuardedPorts:
    """Three ports, of which the policy uses 1 and 2, and their firewall guard. `lives` counts starts of `work`."""

    ports: dict[int, EmulEthernetPort] = field(
        default_factory=lambda: {number: EmulEthernetPort(f"port{number}") for number in (1, 2, 3)}
    )
    lights: EmulIndicators = field(default_factory=lambda: EmulIndicators(["alarm"], []))
    audit: FakeAudit = field(default_factory=FakeAudit)
    messages: list[str] = field(default_factory=list)
    works: bool = False
    lives: int = 0

    def __post_init__(self) -> None:
        self.backend = FakeBackend(self.open)
        self.supervisor = Supervisor(self.backend, self.ports, RETRY_SECONDS, RETRY_SECONDS)
        self.guard = FirewallGuard(
            self.supervisor, AlarmLed(self.lights).used_by("firewall"), self.messages.append
        )

    def open(self) -> list[int]:
        return [number for number, port in self.ports.items() if port.carrier()]

    def light(self) -> Light:
        return self.lights.backend.lights["alarm"]

    async def work(self) -> None:
        assert self.open() == [1, 2]
        self.works = True
        self.lives += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.works = False

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.guard.guard(cast(AuditLog, self.audit), self.work))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def test_ports_open_after_the_firewall_is_in_force_and_forwarding_comes_last() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        async with ports.guarded():
            await eventually(lambda: ports.works)
            assert ports.backend.log[:3] == [
                ("forward False", [1, 2, 3]),
                ("enforce", []),
                ("forward True", [1, 2]),
            ]
            assert ports.audit.events() == ["firewall-in-force"]
            assert ports.guard.status().in_force

    asyncio.run(scenario())


def test_ports_stay_closed_until_the_policy_is_in_force_and_the_problem_is_reported() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        ports.backend.problem = "the kernel does not take it"
        async with ports.guarded():
            await eventually(lambda: ports.audit.events()[:3] == ["firewall-not-in-force"] * 3)
            assert (ports.open(), ports.lives, ports.backend.forwards) == ([], 0, False)
            assert ports.light() is Light.FAST
            assert [ports.backend.problem in message for message in ports.messages] == [
                True
            ]  # one message for all retries
            assert ports.guard.status().problem == ports.backend.problem
            ports.backend.problem = ""
            await eventually(lambda: ports.works)
            assert ports.light() is Light.OFF
            assert ports.audit.events()[-1] == "firewall-in-force"

    asyncio.run(scenario())


def test_a_policy_in_force_at_the_start_is_kept_and_no_port_in_use_is_closed() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        ports.backend.in_force = True
        changes: list[int] = []
        for number, port in ports.ports.items():
            port.watch(partial(lambda number, _: changes.append(number), number))
        async with ports.guarded():
            await eventually(lambda: ports.works)
        assert changes == [3]
        assert ports.open() == [1, 2]  # the end of the guard changes nothing
        assert ports.backend.in_force
        assert not ports.backend.is_watching

    asyncio.run(scenario())


def test_a_change_by_others_is_audited_and_counted_and_so_is_its_repair() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        async with ports.guarded():
            await eventually(lambda: ports.works)
            ports.backend.changed_by_others()
            assert ports.audit.notes[1:] == [("firewall-changed", 4711), ("firewall-repaired", 1)]
            status = ports.guard.status()
            assert (status.alarms, status.repairs, status.in_force) == (1, 1, True)
            await asyncio.sleep(0)
            assert (ports.works, ports.lives) == (True, 1)

    asyncio.run(scenario())


def test_a_newer_policy_opens_and_closes_its_ports() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        async with ports.guarded():
            await eventually(lambda: ports.works)
            ports.backend.ports = (2, 3)
            ports.backend.changed_by_others()
            assert ports.open() == [2, 3]
            assert ports.works

    asyncio.run(scenario())


def test_a_failed_repair_closes_the_ports_immediately_and_stops_the_work() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        async with ports.guarded():
            await eventually(lambda: ports.works)
            ports.backend.problem = "not any more"
            ports.backend.changed_by_others()
            assert (ports.open(), ports.backend.forwards) == (
                [],
                False,
            )  # in the same iteration of the event loop
            assert ports.guard.status().problem == "not any more"
            await eventually(lambda: not ports.works)
            ports.backend.problem = ""
            await eventually(lambda: ports.works)
            assert ports.lives == 2

    asyncio.run(scenario())


def test_a_missing_port_does_not_affect_others_and_opens_when_it_returns() -> None:
    async def scenario() -> None:
        class PortsCanBeMissing(GuardedPorts):
            async def work(self) -> None:
                await asyncio.Event().wait()

        ports = PortsCanBeMissing()
        ports.ports[1].backend.remove_device()
        async with ports.guarded():
            await eventually(lambda: ("port-not-opened", 1) in ports.audit.notes)
            assert ports.open() == [2]
            ports.ports[1].backend.restore_device()
            await eventually(lambda: ports.open() == [1, 2])

    asyncio.run(scenario())


def test_a_port_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    async def scenario() -> None:
        ports = GuardedPorts({1: StubbornPort("port1"), 2: EmulEthernetPort("port2")})
        ports.backend.problem = "no"
        async with ports.guarded():
            await eventually(lambda: bool(ports.messages))
            assert ports.open() == [1]
            assert ports.guard.status().problem == "no; the driver refused"

    asyncio.run(scenario())


def test_refused_packets_are_recorded_as_sums_since_the_last_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        ports.backend.packets = {"outside": 100, "egress": 7}
        async with ports.guarded():
            await eventually(lambda: ports.works)
            ports.backend.packets = {"outside": 150, "egress": 7}
            await eventually(lambda: len(ports.audit.events("refused")) == 1)
            ports.backend.packets = {"outside": 30, "egress": 7}  # the counters were reset
            await eventually(lambda: len(ports.audit.events("refused")) == 2)
            monkeypatch.setattr(firewall, "REFUSED_EVERY_SECONDS", 3600)
            ports.backend.packets = {"outside": 31, "egress": 7}
            await eventually(lambda: ports.guard.status().refused["outside"] == 31)
        refused = [(event, value) for event, value in ports.audit.notes if event.startswith("refused")]
        assert refused == [("refused-outside", 50), ("refused-outside", 30), ("refused-outside", 1)]

    monkeypatch.setattr(firewall, "REFUSED_EVERY_SECONDS", 0)
    asyncio.run(scenario())


def test_repaired_settings_are_recorded_and_uncovered_items_are_in_the_status() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        ports.backend.surroundings = OutsideInspection(("rp_filter",), ("not covered: table bridge x",))
        async with ports.guarded():
            await eventually(lambda: ("firewall-settings-repaired", 1) in ports.audit.notes)
            await eventually(lambda: ports.works)
            assert ports.guard.status().not_covered == ("not covered: table bridge x",)

    asyncio.run(scenario())


def test_a_theorem_that_fails_closes_the_ports_until_it_holds_again() -> None:
    async def scenario() -> None:
        ports = GuardedPorts()
        async with ports.guarded():
            await eventually(lambda: ports.works)
            ports.backend.surroundings = OutsideInspection(problem="a chain behind ours rewrites addresses")
            await eventually(lambda: not ports.works)
            assert (ports.open(), ports.backend.forwards) == ([], False)
            assert ports.guard.status().problem == "a chain behind ours rewrites addresses"
            ports.backend.surroundings = OutsideInspection()
            await eventually(lambda: ports.works and ports.guard.status().in_force)

    asyncio.run(scenario())


def test_a_box_with_a_failing_firewall_accepts_and_sends_nothing_and_records_it_later(
    pki: Hierarchy,
) -> None:
    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            ports = GuardedPorts()
            ports.backend.problem = "the kernel does not take it"
            config = box_config(pki, center.server.port, linger_s=0)
            config = msgspec.structs.replace(
                config, firewall=FirewallPolicy(policy=Path("firewall.toml"), retry_s=0.1)
            )
            hardware = Hardware(disk(), CLOCK, EmulEthernetPort("uplink"), firewall=ports.supervisor)
            box = Box(config, hardware, Random(1), log_message=ports.messages.append)
            task = asyncio.ensure_future(box.run())
            await eventually(lambda: len(ports.messages) == 1)
            status = await box.status()
            assert status is not None
            assert status.firewall is not None
            assert not status.firewall.in_force
            assert (box.tcp_ports, box.is_connected, ports.open(), center.batches) == ({}, False, [], [])
            ports.backend.problem = ""
            await eventually(lambda: len(box.tcp_ports) == 2)
            async with running_agent(box, pki.instrument) as agent:
                agent.submit(Quality, "glu", 1, 17)
                await center.until(lambda: len(center.reports) == 1)
            await center.until(lambda: "firewall-in-force" in center.audits)
            assert "firewall-not-in-force" in center.audits
            ports.backend.problem = "no more"
            ports.backend.changed_by_others()
            await eventually(lambda: not box.tcp_ports and not box.is_connected)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
