"""A complete box on loopback sockets with an emulated disk, and instruments' agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from time import time_ns
from typing import Any

from agents.box.audit.log_reader import LogFolder
from agents.box.box import Box, Hardware
from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument, Sending
from agents.box.sessions.running import SessionHardware
from agents.enrolment.certificate_files import BoxCertificates
from agents.instrument.agent import InstrumentAgent
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.emul.ethernet import EmulEthernetPort
from settings.types import Endpoint
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection
from wire.messages import REPLY_BYTES_MAX, Command, Outcome
from wire.pki.hierarchy import PrivateKey, make_key
from wire.tls.context import Identity, client_context

CLOCK = EmulClock(time_ns)
MAKE_KEY: Callable[[], PrivateKey] = make_key
"""Creates the keys of boxes that enrol."""


def disk() -> EmulDisk:
    return EmulDisk(64 * 1024 * 1024, Random(1))


def box_config(pki: Hierarchy, datacenter: int, **sending: Any) -> BoxConfig:
    return BoxConfig(
        board="rap-4",
        identity=BoxCertificates(
            certificate=pki.box.certificate,
            key=pki.box.key,
            vendor_authority=pki.box_server.authorities,
            datacenter_authority=pki.box.authorities,
        ),
        datacenter=Endpoint(host="127.0.0.1", port=datacenter),
        port=[
            InstrumentPort(
                number=1,
                listen="127.0.0.1",
                tcp_port=0,
                instrument=[PortInstrument("CHEM-1", "chemistry-analyzer")],
            ),
            InstrumentPort(
                number=2,
                listen="127.0.0.1",
                tcp_port=0,
                instrument=[PortInstrument("HEMA-1", "chemistry-analyzer")],
            ),
        ],
        sending=Sending(**sending),
    )


@asynccontextmanager
async def running_box(
    config: BoxConfig,
    spool_disk: EmulDisk,
    sessions: SessionHardware | None = None,
    audit_log: LogFolder | None = None,
) -> AsyncIterator[Box]:
    """Run a box within the context; it serves its ports when the context begins."""
    uplink = EmulEthernetPort("uplink")
    hardware = Hardware(spool_disk, CLOCK, uplink, sessions=sessions, audit_log=audit_log, make_key=MAKE_KEY)
    box = Box(config, hardware, Random(2))
    task = asyncio.ensure_future(box.run())
    try:
        await eventually(lambda: task.done() or len(box.tcp_ports) == len(config.port))
        assert not task.done(), task
        yield box
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def connect(box: Box, identity: Identity, port: int = 1) -> ClientConnection:
    far_end = Endpoint("127.0.0.1", box.tcp_ports[port])
    return await dial(far_end, client_context(identity), reply_bytes_max=REPLY_BYTES_MAX)


class Executing:
    """An instrument whose commands a function executes, and where the person always consents."""

    def __init__(self, execute: Callable[[Command, bytes], Awaitable[Outcome | bytes]]) -> None:
        self._execute = execute

    async def consent(self, command: Command, content: bytes) -> bool:
        return True

    async def execute(self, command: Command, content: bytes) -> Outcome | bytes:
        return await self._execute(command, content)


@asynccontextmanager
async def running_agent(box: Box | int, identity: Identity, **options: Any) -> AsyncIterator[InstrumentAgent]:
    """Run an instrument's agent at port 1 of `box` (or at a TCP port) within the context."""
    tcp_port = box if isinstance(box, int) else box.tcp_ports[1]
    agent = InstrumentAgent(
        Endpoint("127.0.0.1", tcp_port),
        client_context(identity),
        run_number=1,
        clock=CLOCK,
        random=Random(3),
        **options,
    )
    task = asyncio.ensure_future(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
