"""The box's own audit log: short words, kept in the spool like reports and never dropped from it.

What can happen a thousand times a day (a proxy that refuses, an instrument that sends garbage) is noted a few times
and then no more than every ten minutes: an audit log that drowns is no audit log, and its records are never dropped.
"""

from __future__ import annotations

import asyncio
from typing import Final

from agents.box.buffer import Buffer
from agents.spool import GapReason, Priority, SpoolGap
from hal.clock import WallClock
from wire.audit_events import AuditEvent
from wire.messages import INT_MAX, Audit, CommandResult, Entry, encode
from wire.messages import Gap as GapMessage
from wire.process.ratelimit import TokenBucket
from wire.vocabulary import Outcome

NOTES_BURST: Final = 10
NOTES_PER_SECOND: Final = 1 / 600
"""For each event and port."""
GAP_RANGES_MAX: Final = 64
"""What one gap message holds."""


class AuditLog:
    """Notes events; `suppressed` counts those beyond the limit, `lost` those the disk would not take."""

    def __init__(self, buffer: Buffer, clock: WallClock) -> None:
        self._buffer, self._clock = buffer, clock
        self._loop = asyncio.get_running_loop()
        self._limits: dict[tuple[AuditEvent, int], TokenBucket] = {}
        self.suppressed = self.lost = 0

    def note(self, event: AuditEvent, value: int = 0, *, port: int = 0, unlimited: bool = False) -> None:
        """Note an event that must not be waited for."""
        limit = self._limits.get((event, port))
        if limit is None:
            limit = self._limits[event, port] = TokenBucket(NOTES_PER_SECOND, NOTES_BURST)
        if not unlimited and limit.take(1, self._loop.time()):
            self.suppressed += 1
        else:
            self.record(event, value, port=port).add_done_callback(self._written)

    def record(self, event: AuditEvent, value: int = 0, *, port: int = 0) -> asyncio.Future[range]:
        """Note an event, unlimited; await the result to have it durable. Raises when awaited: SpoolError."""
        audit = Audit(now_ms(self._clock), event, port, max(-INT_MAX, min(INT_MAX, value)))
        return self._buffer.append(Priority.AUDIT, encode(Entry("", 0, audit)))

    def record_result(self, command_id: int, outcome: Outcome, event: AuditEvent) -> asyncio.Future[range]:
        """Note the result of a command of the box itself; durable when awaited. Raises when awaited: SpoolError.

        The result closes the command at the data center; the audit event is for a person who reads the log.
        """
        at_ms = now_ms(self._clock)
        audit = Audit(at_ms, event, 0, command_id)
        result = CommandResult(command_id, at_ms, command_id, outcome)
        entries = [encode(Entry("", 0, body)) for body in (audit, result)]
        return self._buffer.append_all(bytes([Priority.AUDIT] * 2), entries)

    def fullest(self) -> tuple[float, float]:
        """How many notes the event with the most of them has left of late, and how many it may leave at once."""
        now = self._loop.time()
        return max((limit.used(now) for limit in self._limits.values()), default=0.0), NOTES_BURST

    def _written(self, future: asyncio.Future[range]) -> None:
        if future.cancelled() or future.exception() is not None:
            self.lost += 1


_GAP_REASONS: Final = {
    GapReason.FULL: "disk-full",
    GapReason.CORRUPT: "corrupt",
    GapReason.UNFINISHED: "unfinished",
    GapReason.UNUSED: "unused",
    GapReason.REFUSED: "refused",
}


def encode_gap(gap: SpoolGap, clock: WallClock) -> bytes:
    """The entry that reports a gap."""
    message = GapMessage(now_ms(clock), _GAP_REASONS[gap.reason], gap.records, gap.ranges)
    return encode(Entry("", 0, message))


def now_ms(clock: WallClock) -> int:
    """Milliseconds since 1970, never before it, whatever the clock believes."""
    return max(0, clock.now_ns() // 1_000_000)
