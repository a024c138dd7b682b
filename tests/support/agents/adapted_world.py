"""A box with an instrument without an agent, the laboratory's host and a data center, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any

from msgspec.structs import replace

from agents.box.box import Box, Hardware
from agents.box.configuration.config import InstrumentPort, PortInstrument
from agents.box.intake.adapter import listen
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from hal.serial import SerialPort
from settings.adapted import AdaptedPort
from settings.types import Endpoint
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.net.loop import SimLoop
from tests.support.agents.boxes import box_config, disk
from tests.support.agents.stand_in import StandIn
from tests.support.crypto.hierarchy import Hierarchy
from wire import messages
from wire.http.connection import serve
from wire.messages import Command, CommandResult
from wire.tls.context import server_context

SERIAL = "ANALYZER-1"
BOX_ADDRESS, HOST_ADDRESS = "10.77.1.1", "192.0.2.20"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AdaptedWorld:
    """The box listens for the instrument at `BOX_ADDRESS`; the laboratory's host has `HOST_ADDRESS`."""

    def __init__(self, pki: Hierarchy, site: AdaptedPort, model: str = "modular-analyzer") -> None:
        self.loop = SimLoop()
        network = Network()
        self.box_host, self.center_host = SimHost(network, "box", BOX_ADDRESS), SimHost(network, "localhost")
        self.analyzer, self.lis = SimHost(network, "analyzer"), SimHost(network, "lis", HOST_ADDRESS)
        for number, other in enumerate((self.center_host, self.analyzer, self.lis)):
            link = Link(self.loop.env, other.name, LinkQuality(10_000_000, 1_000_000), Random(number))
            network.connect(self.box_host, other, link)
        start_ns = int(datetime.now(UTC).timestamp()) * 10**9  # certificates are valid today
        self.clock = EmulClock(lambda: start_ns + self.loop.env.now)
        self.center = StandIn()
        self.disk: EmulDisk = disk()
        self.serial_ports: dict[int, SerialPort] = {}
        port = InstrumentPort(number=1, listen=BOX_ADDRESS, instrument=[PortInstrument(SERIAL, model, site)])
        self._config = replace(
            box_config(pki, 443, linger_s=0.0, heartbeat_s=10.0),
            port=[port],
            datacenter=Endpoint("localhost", 443),
        )
        self._pki = pki
        self._programs: list[asyncio.Task[Any]] = []
        self.box: Box

    def run(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the scenario as the instrument's program, beside the box and the data center."""
        self.on(self.center_host, self._serve())
        self.start_box()
        try:
            self.loop.run_until_complete(self.on(self.analyzer, scenario()))
            assert self.loop.failures == [], [repr(failure) for failure in self.loop.failures]
        finally:
            for host in (self.box_host, self.center_host, self.analyzer, self.lis):
                host.power_off()
            self.loop.run_until_complete(asyncio.sleep(1))
            self.loop.close()

    def on(self, host: SimHost, program: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a program on a host, which is switched on if necessary."""
        task = (host.incarnation or host.power_on()).run(self.loop, program)
        self._programs.append(task)
        return task

    def start_box(self) -> None:
        """Switch the box on."""
        hardware = Hardware(self.disk, self.clock, EmulEthernetPort("uplink"), serial_ports=self.serial_ports)
        self.box = Box(self._config, hardware, Random(2))
        self.on(self.box_host, self.box.run())

    def restart_box(self) -> None:
        """Kill the box's program and start it again: its connections are reset."""
        self.box_host.kill()
        self.start_box()

    def cut_power(self) -> None:
        """Cut the box's power, and switch it on again: its connections are half-open."""
        self.box_host.power_off()
        self.disk = self.disk.backend.cut_power()
        self.start_box()

    async def connect(self, tcp_port: int = 2575) -> Streams:
        """Connect the instrument to the box, as soon as it listens."""
        while True:
            try:
                return await asyncio.open_connection(BOX_ADDRESS, tcp_port)
            except OSError:
                await asyncio.sleep(1)

    def listen(self, serve_one: Callable[..., Awaitable[None]], tcp_port: int) -> None:
        """Listen as the laboratory's host; a connection error ends only its connection."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                await serve_one(reader, writer)

        async def forever() -> None:
            async with await listen(connected, HOST_ADDRESS, tcp_port):
                await asyncio.Event().wait()

        self.on(self.lis, forever())

    def queue(self, *commands: Command) -> None:
        """Have the data center send commands until it has their results."""
        self.center.commands = list(commands)

    @property
    def results(self) -> list[tuple[str, int, str]]:
        """Instrument, command number and outcome of each result that the data center has stored."""
        return [
            (entry.instrument, entry.body.command, entry.body.outcome)
            for entry in self.center.stored.values()
            if isinstance(entry.body, CommandResult)
        ]

    async def _serve(self) -> None:
        self.center.server = await serve(
            self.center.handle,
            "localhost",
            443,
            tls=server_context(self._pki.datacenter),
            body_bytes_max=messages.BATCH_BODY_BYTES_MAX,
            now=lambda: self.clock.now_ns() / 1e9,
        )
