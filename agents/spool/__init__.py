"""The box's durable buffer: a segmented log on a `hal.disk.Disk`. Start reading at `spool.py`.

terms       the words: Priority, Gap, SpoolLimits, SpoolError
group       what one write and one flush make durable, byte by byte
segment     one preallocated file, and finding groups in it
log         the segments in order, and the one place that writes
spool       append, read, ack
writer      appending, and what is written besides: checkpoints, gap records, what is carried
holdings    what waits for delivery
routine     reading and counting routine records
pinned      which alerts and audit records wait, by segment, in bounded memory
index       where the alerts or audit records of one segment are
totals      running totals over all segments
summary     what a sealed segment holds, in its last sector
totals      sums over all segments, current at all times
survey      what a segment holds, and what is missing from it
ledger      what is gone, and who has been told
reclaim     making room
foreign     what a newer program wrote, and this one leaves alone
recovery    opening, after whatever happened
"""

from agents.spool.disk.group import Ready, Records, merge
from agents.spool.recovery import Recovered, RecoveredSpool
from agents.spool.spool import Spool
from agents.spool.types import (
    GapReason,
    Priority,
    SpoolError,
    SpoolErrorKind,
    SpoolGap,
    SpoolLimits,
    SpoolStatus,
)
from agents.spool.waiting.routine import Record
from settings.ranges import Range

__all__ = [
    "GapReason",
    "Priority",
    "Range",
    "Ready",
    "Record",
    "Records",
    "Recovered",
    "RecoveredSpool",
    "Spool",
    "SpoolError",
    "SpoolErrorKind",
    "SpoolGap",
    "SpoolLimits",
    "SpoolStatus",
    "merge",
]
