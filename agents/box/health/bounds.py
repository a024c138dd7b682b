"""The bounded quantities of a running box, and who hears when one comes near its limit.

| bound | amount | port |
|---|---|---|
| spool | of `spool.bytes_max`, in segments with something that is not acknowledged | |
| file-system | of the room that the spool leaves, taken by other files | |
| descriptors, memory | of the process | |
| connections | of the listener, those without a finished handshake included | yes |
| tls-sessions | kept for resumption by instruments | |
| commands | of one instrument, or of the box, that wait | |
| report-rate | of the reports that one instrument may send at once | yes |
| audit-rate | of the notes that one event may leave at once | |
| given-up | of the records that may be given up | |
| conntrack | connections that the kernel tracks | |
| crl-size, crl-age | of the revocation list: bytes, and time until it should be replaced | |

Not here: certificates, which have an alarm of their own 30 days before their end
(`agents.box.health.certificates`), and limits
that make room by themselves, such as the remembered results of commands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agents.box.health.audit import AuditLog
from agents.spool import SpoolStatus
from hal.indicators import Light
from wire.audit_events import AuditEvent
from wire.process.bounds import Bound, Bounds, Level, Measured

SPOOL_CLEAR_SHARE: Final = 0.5
"""A spool of four segments falls to two thirds each time it drops its oldest one."""


def box_bounds(audit: AuditLog, show: Callable[[Light], None]) -> Bounds:
    """Bounds whose alarms go to the audit log, with the amount in percent of the limit, and to the alarm LED."""

    def report(level: Level) -> None:
        event = AuditEvent(f"{level.name}-{'near' if level.is_near else 'below'}-limit")
        audit.note(event, level.percent, port=level.port)
        show(Light.SLOW if bounds.has_alarm else Light.OFF)

    bounds = Bounds(report)
    bounds.add(Bound("audit-rate", audit.fullest))
    return bounds


@dataclass(slots=True)
class SpoolRoom:
    """What was found last of the spool, and of the file system that it is in; `disk` is used and total bytes."""

    spool: SpoolStatus | None = None
    disk: tuple[int, int] | None = None
    bounds: tuple[Bound, Bound] = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = (
            Bound("spool", self._filled, clear_share=SPOOL_CLEAR_SHARE),
            Bound("file-system", self._taken_by_others),
        )

    def _filled(self) -> Measured | None:
        if self.spool is None:
            return None
        limits = self.spool.limits
        return self.spool.live_bytes, limits.spool_bytes_max - limits.segment_bytes  # less the reserve

    def _taken_by_others(self) -> Measured | None:
        if self.spool is None or self.disk is None:
            return None
        used, total = self.disk
        return max(0, used - self.spool.disk_bytes), total - self.spool.limits.spool_bytes_max
