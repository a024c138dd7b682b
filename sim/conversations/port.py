"""One instrument port of a box on an emulated disk: the store, the intake and the driver of the line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Final, cast

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.health.audit import AuditLog, encode_gap, now_ms
from agents.box.intake.adapter import Adapter
from agents.box.intake.command_results import attend_commands
from agents.box.intake.intake import Intake
from agents.box.intake.observation import ConnectionObservation
from agents.box.intake.roles import PortRole, role_of
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.serial import SerialPort
from settings.adapted import AdaptedPort
from settings.profile import Verb
from sim.conversations.casefile import Conversation
from wire.messages import Command
from wire.profiles import AllowList
from wire.standards.engines import has_commands, make_engine, make_observer

SERIAL: Final = "RECORDED-1"
SPOOL_BYTES_MAX: Final = 16 * 1024 * 1024


class ConversationPort:
    """The port of a recorded conversation's instrument, with the state that its disk holds."""

    def __init__(self, case: Conversation, disk: EmulDisk, clock: EmulClock, random: Random) -> None:
        """Raises: SpoolError if the disk has no power."""
        state, profile = BoxState(), case.profile()
        spool = Spool.open(
            disk,
            SpoolLimits(spool_bytes_max=SPOOL_BYTES_MAX, snapshot_bytes_max=SNAPSHOT_BYTES_MAX),
            random=random,
            encode_gap=partial(encode_gap, clock=clock),
            snapshot=state.snapshot,
        )
        state.restore(spool.recovery, {SERIAL}, frozenset({SERIAL}), {1: SERIAL})
        self._disk = disk
        self._buffer = Buffer(spool)
        audit, clock_ms = AuditLog(self._buffer, clock), partial(now_ms, clock)
        queues = {"": CommandQueue(), SERIAL: CommandQueue(state.history(SERIAL))}
        self._commands = CommandDispatcher(queues, {}, audit)
        allowed = {SERIAL: AllowList(profile)}
        self._intake = Intake(self._buffer, state, self._commands, audit.note, {SERIAL: 1}, allowed, clock_ms)
        self.source = self._intake.sources[SERIAL]
        engine = partial(make_engine, profile, case.config, clock_ms)
        self.adapter = Adapter(self._intake, self.source, engine, audit.note)
        self._profile, self._clock_ms, self._note = profile, clock_ms, audit.note
        self._can_command = has_commands(profile, case.config)
        self._attending: asyncio.Task[None] | None = None
        if self.source.queue.history.started:
            self._attend_commands()

    def observation(self, site: AdaptedPort) -> ConnectionObservation:
        """Return an observation of the instrument's connection to another host."""
        observer = partial(make_observer, self._profile, site)
        return ConnectionObservation(self._intake, self.source, observer, self._note)

    @property
    def has_power(self) -> bool:
        """Whether the box has power. A box without power answers nothing."""
        return self._disk.backend.has_power

    def command(self, number: int, verb: str) -> None:
        """Receive a command of the data center."""
        self._commands.arrived([Command(number, SERIAL, cast(Verb, verb))])
        self._attend_commands()

    def _attend_commands(self) -> None:
        if self._attending is None:
            attend = attend_commands(self._intake, self.source, can_command=self._can_command)
            self._attending = asyncio.ensure_future(attend)

    def role(self, site: AdaptedPort, serial_ports: Mapping[int, SerialPort]) -> PortRole:
        """Return the instrument in the role given by its settings, on these serial ports of the board."""
        return role_of(
            self._intake, self.source, self._profile, site, self._clock_ms, self._note, serial_ports
        )

    async def entries(self) -> list[bytes]:
        """Return all stored records in the order of their arrival."""
        records = [
            record for priority in Priority for record in await self._buffer.read(priority, 1 << 16, 1 << 24)
        ]
        return [payload for _, payload in sorted(records)]

    def abandon(self) -> None:
        """End the program without closing the spool."""
        if self._attending is not None:
            self._attending.cancel()

    async def close(self) -> None:
        """Close the spool. Raises: SpoolError if the disk has no power."""
        self.abandon()
        await self._buffer.close()
