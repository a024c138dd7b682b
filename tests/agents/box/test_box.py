"""The complete box, between instruments and a data center, over real mutual TLS on loopback."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import msgspec

from agents.box.box import Box, Hardware
from agents.box.configuration.config import InstrumentPort
from hal.emul.ethernet import EmulEthernetPort
from tests.support.agents.boxes import CLOCK, Executing, box_config, connect, disk, running_agent, running_box
from tests.support.agents.stand_in import StandIn, stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.messages import Command, CommandResult, Outcome, Quality, Reports, encode

DISCARD_PORT = 9  # the discard port: no data center
PORTS_MAX = 64


def test_reports_travel_from_instrument_to_data_center_once(pki: Hierarchy) -> None:
    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            config = box_config(pki, center.server.port, linger_s=0)
            async with running_box(config, disk()) as box, running_agent(box, pki.instrument) as agent:
                for _ in range(300):
                    agent.submit(Quality, "glu", 1, 17)
                await center.until(lambda: len(center.reports) == 300)
                assert sorted(center.reports) == [("CHEM-1", 1, number) for number in range(1, 301)]
                assert list(agent.acknowledged) == [(1, 300)]
                status = await box.status()
                assert status is not None
                assert status.is_connected
                assert status.traffic.cipher == "TLS_AES_128_GCM_SHA256"
                assert status.reports_accepted == 300
                assert center.repeated == 0

    asyncio.run(scenario())


def test_high_water_marks_survive_a_power_cut_and_the_backlog_is_delivered(pki: Hierarchy) -> None:
    async def scenario() -> None:
        spool_disk = disk()
        async with (
            running_box(box_config(pki, DISCARD_PORT), spool_disk) as box,
            running_agent(box, pki.instrument) as agent,
        ):
            for _ in range(200):
                agent.submit(Quality, "glu", 1, 17)
            await eventually(lambda: agent.waiting == 0)
            spool_disk = spool_disk.backend.cut_power()
        async with stand_in(pki.datacenter) as center:
            config = box_config(pki, center.server.port, linger_s=0)
            async with running_box(config, spool_disk) as box, running_agent(box, pki.instrument) as agent:
                # an agent that starts again with the same run number is refused
                agent.submit(Quality, "glu", 1, 17)
                await center.until(lambda: len(center.reports) == 201)
                old = [("CHEM-1", 1, number) for number in range(1, 201)]
                assert sorted(center.reports) == [*old, ("CHEM-1", 2, 1)]
                await center.until(lambda: "run-repeated" in center.audits)
                assert "started-after-crash" in center.audits

    asyncio.run(scenario())


def test_a_clean_stop_is_not_reported_as_a_crash(pki: Hierarchy) -> None:
    async def scenario() -> None:
        spool_disk = disk()
        for _ in range(3):
            async with running_box(box_config(pki, DISCARD_PORT), spool_disk):
                pass
        async with (
            stand_in(pki.datacenter) as center,
            running_box(box_config(pki, center.server.port), spool_disk),
        ):
            await center.until(lambda: center.audits.count("started") == 4)
            assert "started-after-crash" not in center.audits

    asyncio.run(scenario())


def test_a_command_travels_to_the_instrument_and_its_result_back(pki: Hierarchy) -> None:
    received: list[Command] = []

    async def execute(command: Command, content: bytes) -> Outcome:
        received.append(command)
        return "refused"

    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            center.commands = [Command(5, "CHEM-1", "help-file", b"text"), Command(6, "", "send-inventory")]
            config = box_config(pki, center.server.port, linger_s=0)
            async with (
                running_box(config, disk()) as box,
                running_agent(box, pki.instrument, instrument=Executing(execute)) as agent,
            ):
                await center.until(lambda: "command-done" in center.audits)
                agent.submit(Quality, "glu", 1, 17)
                await center.until(lambda: len(results(center)) == 2)
                assert received == [center.commands[0]]
                assert sorted(results(center)) == [("", 6, "done"), ("CHEM-1", 5, "refused")]
                assert "backlog-routine" in center.audits

    def results(center: StandIn) -> list[tuple[str, int, str]]:
        bodies = [(entry.instrument, entry.body) for entry in center.stored.values()]
        return [
            (instrument, body.command, body.outcome)
            for instrument, body in bodies
            if isinstance(body, CommandResult)
        ]

    asyncio.run(scenario())


def test_a_port_that_cannot_listen_is_recorded_and_the_others_are_served(pki: Hierarchy) -> None:
    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            config = box_config(pki, center.server.port)
            taken = msgspec.structs.replace(config.port[1], tcp_port=center.server.port)
            config = msgspec.structs.replace(config, port=[config.port[0], taken])
            box = Box(config, Hardware(disk(), CLOCK, EmulEthernetPort("uplink")), Random(1))
            task = asyncio.ensure_future(box.run())
            await center.until(lambda: "port-not-served" in center.audits)
            await eventually(lambda: list(box.tcp_ports) == [1])
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(scenario())


def test_a_box_serves_the_largest_number_of_ports(pki: Hierarchy) -> None:
    async def scenario() -> None:
        config = box_config(pki, DISCARD_PORT)
        free = [
            InstrumentPort(number=number, listen="127.0.0.1", tcp_port=0, instrument=[])
            for number in range(3, PORTS_MAX + 1)
        ]
        config = msgspec.structs.replace(config, port=[*config.port, *free])
        async with running_box(config, disk()) as box:
            assert sorted(box.tcp_ports) == list(range(1, PORTS_MAX + 1))
            for number, status in ((1, 200), (PORTS_MAX, 403)):
                connection = await connect(box, pki.instrument, number)
                answer = await connection.request(
                    "POST", "/v1/reports", encode(Reports(1, [Quality(1, 0, "glu", 1, 17)]))
                )
                assert answer.status == status
                connection.close()

    asyncio.run(scenario())
