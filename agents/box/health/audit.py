"""The box's audit log: short event words, stored in the spool like reports and never dropped from it.

All records are links of one hash chain (`agents.box.audit.chain`).

Events that can occur a thousand times a day (a proxy that refuses, an instrument that sends invalid data) are limited
to a few at once and then one every ten minutes, because audit records are never dropped and must not fill the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from agents.box.audit.chain import AuditChain, AuditHead
from agents.box.audit.log_cursor import LogSource
from agents.box.audit.log_reader import LogPiece
from agents.box.buffer import Buffer
from agents.spool import GapReason, SpoolGap
from hal.clock import WallClock
from settings.profile import Profile
from wire.audit_events import AuditEvent
from wire.messages import (
    INT_MAX,
    Audit,
    Command,
    CommandResult,
    Entry,
    LogLine,
    Outcome,
    ProfileInForce,
    UpdateStep,
    encode,
)
from wire.messages import Gap as GapMessage
from wire.process.ratelimit import TokenBucket

NOTES_BURST: Final = 10
NOTES_PER_SECOND: Final = 1 / 600
"""Limit for each event and port."""
GAP_RANGES_MAX: Final = 64
"""Ranges in one gap message."""


class AuditLog:
    """Records events. `suppressed` counts those over the rate limit, `lost` those that the spool refused."""

    def __init__(self, buffer: Buffer, clock: WallClock, head: AuditHead | None = None) -> None:
        """`head` is the head of the chain of the stored records; it is updated when further records are durable."""
        self.chain, self._clock = AuditChain(buffer, head or AuditHead()), clock
        self._loop = asyncio.get_running_loop()
        self._limits: dict[tuple[AuditEvent, int], TokenBucket] = {}
        self.suppressed = self.lost = self._unreported = 0

    def note(self, event: AuditEvent, value: int = 0, *, port: int = 0, unlimited: bool = False) -> None:
        """Record an event without waiting until it is durable."""
        limit = self._limits.get((event, port))
        if limit is None:
            limit = self._limits[event, port] = TokenBucket(NOTES_PER_SECOND, NOTES_BURST)
        if not unlimited and limit.take(1, self._loop.time()):
            self.suppressed += 1
        else:
            self.record(event, value, port=port).add_done_callback(self._written)

    def record(self, event: AuditEvent, value: int = 0, *, port: int = 0) -> asyncio.Future[range]:
        """Record an event without rate limit; durable when awaited. Raises, when awaited: SpoolError."""
        audit = Audit(now_ms(self._clock), event, port, max(-INT_MAX, min(INT_MAX, value)))
        return self.chain.append([Entry("", 0, audit)])

    def record_result(self, command_id: int, outcome: Outcome, event: AuditEvent) -> asyncio.Future[range]:
        """Record the result of a command that the box itself has ended; durable when awaited.

        The box ends its own commands, and commands to instruments that it withdraws or refuses.

        The result closes the command at the data center; `event` is the entry for readers of the audit log.

        Raises, when awaited: SpoolError.
        """
        at_ms = now_ms(self._clock)
        audit = Audit(at_ms, event, 0, command_id)
        result = CommandResult(command_id, at_ms, command_id, outcome)
        return self.chain.append([Entry("", 0, body) for body in (audit, result)])

    def record_profile(self, instrument: str, profile: Profile, port: int) -> asyncio.Future[range]:
        """Record which profile the reports of the instrument at a port follow; durable when awaited.

        Raises, when awaited: SpoolError.
        """
        body = ProfileInForce(now_ms(self._clock), instrument, profile.model, profile.version, port)
        return self.chain.append([Entry("", 0, body)])

    def record_lines(self, source: LogSource, pieces: Sequence[LogPiece]) -> asyncio.Future[range]:
        """Record lines of a log; durable when awaited. Raises, when awaited: SpoolError."""
        at_ms = now_ms(self._clock)
        return self.chain.append([Entry("", 0, LogLine(at_ms, source, *piece)) for piece in pieces])

    def record_update(self, step: UpdateStep) -> asyncio.Future[range]:
        """Record the progress of an update; durable when awaited. Raises, when awaited: SpoolError."""
        return self.chain.append([Entry("", 0, step)])

    def fullest(self) -> tuple[float, float]:
        """Return the used part of the fullest rate limit, in records, and the limit."""
        now = self._loop.time()
        return max((limit.used(now) for limit in self._limits.values()), default=0.0), NOTES_BURST

    def _written(self, future: asyncio.Future[range]) -> None:
        if future.cancelled() or future.exception() is not None:
            self.lost += 1
            self._unreported += 1
        elif self._unreported:
            unreported, self._unreported = self._unreported, 0
            self.record(AuditEvent.AUDIT_REFUSED, unreported).add_done_callback(self._written)


_GAP_REASONS: Final = {
    GapReason.FULL: "disk-full",
    GapReason.CORRUPT: "corrupt",
    GapReason.UNFINISHED: "unfinished",
    GapReason.UNUSED: "unused",
    GapReason.REFUSED: "refused",
}


def encode_gap(gap: SpoolGap, clock: WallClock) -> bytes:
    """Encode the audit entry that reports a gap."""
    message = GapMessage(now_ms(clock), _GAP_REASONS[gap.reason], gap.records, gap.ranges)
    return encode(Entry("", 0, message))


def now_ms(clock: WallClock) -> int:
    """Return the milliseconds since 1970; 0 if the clock is set to an earlier time."""
    return max(0, clock.now_ns() // 1_000_000)


async def note_backlog(buffer: Buffer, audit: AuditLog, _command: Command) -> Outcome:
    """Execute the command `send-inventory`: write the number of waiting records of each priority to the audit log."""
    for priority, records in (await buffer.status()).records.items():
        audit.note(AuditEvent(f"backlog-{priority.name.lower()}"), records, unlimited=True)
    return "done"
