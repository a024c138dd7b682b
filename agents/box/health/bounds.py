"""The bounded quantities of a running box, and the alarm when one approaches its limit.

| bound | amount | port |
|---|---|---|
| spool | bytes of segments with unacknowledged records, of `spool.bytes_max` | |
| file-system | bytes used by other files, of the space that the spool leaves | |
| descriptors, memory | of the process | |
| connections | open ones, including unfinished handshakes | yes |
| tls-sessions | stored for resumption by instruments | |
| commands | waiting ones of one instrument, or of the box | |
| report-rate | reports of one instrument, of its burst limit | yes |
| audit-rate | records of one audit event, of its burst limit | |
| given-up | discarded records, of their burst limit | |
| conntrack | connections tracked by the kernel | |
| crl-size, crl-age | of the revocation list: bytes, and share of its validity that has passed | |

Not included: certificates, whose alarm is raised 30 days before they expire (`agents.box.health.certificates`), and
limits beyond which the oldest entry is replaced, such as the limit of remembered commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agents.box.health.audit import AuditLog
from agents.spool import SpoolStatus
from hal.indicators import Light
from wire.audit_events import AuditEvent
from wire.process.bounds import CHECK_SECONDS, STORAGE_ALARM_SHARE, Bound, Bounds, Level, Measured

SPOOL_CLEAR_SHARE: Final = 0.5
"""Less than 2/3, the level to which a spool of four segments falls each time it drops the oldest one."""


def box_bounds(audit: AuditLog, show: Callable[[Light], None]) -> Bounds:
    """Return bounds that report alarms in the audit log, with the percentage of the limit, and on the alarm LED."""

    def report(level: Level) -> None:
        event = AuditEvent(f"{level.name}-{'near' if level.is_near else 'below'}-limit")
        audit.note(event, level.percent, port=level.port)
        show(Light.SLOW if bounds.has_alarm else Light.OFF)

    bounds = Bounds(report)
    bounds.add(Bound("audit-rate", audit.fullest))
    return bounds


@dataclass(slots=True)
class SpoolRoom:
    """Last measurement of the spool and its file system; `disk` is (used, total) bytes."""

    spool: SpoolStatus | None = None
    disk: tuple[int, int] | None = None
    bounds: tuple[Bound, Bound] = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = (
            Bound("spool", self._filled, alarm_share=STORAGE_ALARM_SHARE, clear_share=SPOOL_CLEAR_SHARE),
            Bound("file-system", self._used_by_others, alarm_share=STORAGE_ALARM_SHARE),
        )

    def _filled(self) -> Measured | None:
        if self.spool is None:
            return None
        limits = self.spool.limits
        return self.spool.live_bytes, limits.spool_bytes_max - limits.segment_bytes  # less the reserve

    def _used_by_others(self) -> Measured | None:
        if self.spool is None or self.disk is None:
            return None
        used, total = self.disk
        return max(0, used - self.spool.disk_bytes), total - self.spool.limits.spool_bytes_max


async def watch_bounds(bounds: Bounds) -> None:
    """Check the bounds periodically, until cancelled."""
    while True:
        bounds.check()
        await asyncio.sleep(CHECK_SECONDS)
