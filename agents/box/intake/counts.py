"""Writes to the audit log how often content of instruments' messages was left out, and why."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from agents.box.intake.intake import Note, Source
from wire.audit_events import AuditEvent
from wire.standards.extract import Reason

RECORD_SECONDS: Final = 600.0
"""Interval of the records; the audit log accepts one record per event and port in this time."""


class PortStatus(msgspec.Struct, frozen=True):
    """The state of a port with an instrument that speaks its own standard. Totals count from the program's start."""

    port: int
    instrument: str
    speaks: str
    role: str
    connected: bool
    silent_s: float | None
    """Seconds since the instrument's last byte; None if it has sent nothing yet."""
    message_s: float | None
    """Seconds since the instrument's last message whose reports were stored; None if there was none yet."""
    accepted: int
    """Reports stored."""
    left_out: dict[str, int]
    """Content that was not accepted, by reason."""


def port_status(source: Source, now: float) -> PortStatus:
    """Return the state of a port; `now` is the time of the event loop."""
    last_byte_s = source.last_byte_s
    return PortStatus(
        source.port,
        source.serial,
        source.allowed.profile.speaks,
        source.role,
        source.is_connected,
        None if last_byte_s is None else now - last_byte_s,
        None if source.message_at is None else now - source.message_at,
        source.accepted,
        {reason.value: number for reason, number in sorted(source.counts.items()) if number},
    )


async def record_counts(sources: Iterable[Source], note: Note) -> None:
    """Record new counts periodically, until cancelled."""
    recorded: dict[str, Counter[Reason]] = {source.serial: Counter() for source in sources}
    while True:
        await asyncio.sleep(RECORD_SECONDS)
        for source in sources:
            for reason, number in source.counts.items():
                if new := number - recorded[source.serial][reason]:
                    note(AuditEvent(reason.value), new, port=source.port)
            recorded[source.serial] = source.counts.copy()
