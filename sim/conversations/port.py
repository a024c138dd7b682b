"""One instrument port of a box on an emulated disk: the store, the intake and the driver of the line."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Final

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.health.audit import AuditLog, encode_gap, now_ms
from agents.box.intake.adapter import Adapter
from agents.box.intake.intake import Intake
from agents.box.intake.roles import PortRole, role_of
from agents.box.state import SNAPSHOT_BYTES_MAX, BoxState
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from hal.serial import SerialPort
from settings.adapted import AdaptedPort
from sim.conversations.casefile import Conversation
from wire.profiles import AllowList
from wire.standards.engines import make_engine

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
        state.restore(spool.recovery, {SERIAL}, frozenset({SERIAL}))
        self._buffer = Buffer(spool)
        audit, clock_ms = AuditLog(self._buffer, clock), partial(now_ms, clock)
        dispatcher = CommandDispatcher({"": CommandQueue(), SERIAL: CommandQueue()}, {}, audit)
        allowed = {SERIAL: AllowList(profile)}
        self._intake = Intake(self._buffer, state, dispatcher, audit.note, {SERIAL: 1}, allowed, clock_ms)
        self.source = self._intake.sources[SERIAL]
        engine = partial(make_engine, profile, case.config, clock_ms)
        self.adapter = Adapter(self._intake, self.source, engine, audit.note)
        self._profile, self._clock_ms, self._note = profile, clock_ms, audit.note

    def role(self, site: AdaptedPort, serial_ports: Mapping[int, SerialPort]) -> PortRole:
        """The instrument in the role of these settings, on these serial ports of the board."""
        return role_of(
            self._intake, self.source, self._profile, site, self._clock_ms, self._note, serial_ports
        )

    async def entries(self) -> list[bytes]:
        """Return all stored records in the order of their arrival."""
        records = [
            record for priority in Priority for record in await self._buffer.read(priority, 1 << 16, 1 << 24)
        ]
        return [payload for _, payload in sorted(records)]

    async def close(self) -> None:
        """Close the spool. Raises: SpoolError if the disk has no power."""
        await self._buffer.close()
