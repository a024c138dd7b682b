"""The box's durable record queue: a segmented log on a `hal.disk.Disk`. Start reading at `spool.py`.

types       priorities, gaps, limits, errors
spool       the public class: append, read, ack
writer      appending records, checkpoints, gap records and carried records
recovery    opening a spool after a clean stop or a crash
survey      scanning one segment: which records it holds, which are missing
foreign     detecting segments in the format of a newer program
holdings    cursors, and counts of the waiting records
disk/       the on-disk format
  group       the unit of one write and one flush
  segment     one preallocated file: its name, the search for groups in it
  log         the segments in order; the only module that writes to the disk
  summary     the contents of a sealed segment, in its last sector
  checkpoint  the aux bytes of a group
  totals      sums over all segments
waiting/    the records that wait for delivery
  routine     reading and counting routine records
  pinned      index of alerts and audit records over all segments, in bounded memory
  index       index of the alerts or audit records of one segment
  ledger      lost sequence numbers, and which of them have been reported
  reclaim     what to keep of the oldest segment when the spool is full
"""

from agents.spool.disk.group import PreparedGroup, Records, merge
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
    "PreparedGroup",
    "Priority",
    "Range",
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
