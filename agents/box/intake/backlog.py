"""Per-instrument backlog: how many bytes wait for delivery, and the rate limit that follows from it.

All ports share the uplink, and records are sent in the order of their arrival. An instrument that reports faster than
the uplink can send would therefore delay the reports of all others by its whole backlog. Once WAITING_BYTES_MAX bytes
of its reports wait, it may send only FAIR_REPORTS_PER_SECOND until some are delivered. The limit is above the rate of
normal instruments, so an outage does not affect these.

Alerts and command results are never dropped from the spool; each instrument may fill only its share of it with them.

The backlog is computed from the records' numbers and the acknowledgements of the data center. Records found on the
disk at the start are not counted; routine reports that the spool dropped count until a later one is delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from agents.spool import Priority
from wire.process.ratelimit import TokenBucket

WAITING_BYTES_MAX: Final = 64 * 1024
"""More than two batches of usual size; at most five seconds on a link of 128 kbit/s."""
FAIR_REPORTS_PER_SECOND: Final = 5.0
"""Five times the rate of a busy analyzer; at most 10 kbit/s for incompressible reports."""
FAIR_BURST: Final = 64
"""The maximum number of reports in one request."""
PINNED_SHARE: Final = 0.5
"""Share of the spool, divided among the instruments, for alerts and command results."""
_EXACT_BLOCKS: Final = 256
_RECORDS_EXACT, _RECORDS_COARSE = 64, 4096
"""Sequence numbers per block of `WaitingBytes`: the first _EXACT_BLOCKS blocks are narrow, further ones wide, which
limits the memory."""


class WaitingBytes:
    """Counts the bytes of one instrument's waiting records of one priority."""

    def __init__(self) -> None:
        self._blocks: deque[list[int]] = deque()  # [last sequence number, bytes] of a range of records
        self.counted = 0
        """Waiting bytes, plus those delivered since the last call of `bytes`."""

    def add(self, sequence: int, size: int) -> None:
        """Count a durable record; `sequence` must be higher than in all earlier calls."""
        width = _RECORDS_EXACT if len(self._blocks) < _EXACT_BLOCKS else _RECORDS_COARSE
        if self._blocks and self._blocks[-1][0] // width == sequence // width:
            self._blocks[-1][0] = sequence
            self._blocks[-1][1] += size
        else:
            self._blocks.append([sequence, size])
        self.counted += size

    def bytes(self, delivered: int) -> int:
        """Return waiting bytes if all records up to `delivered` have been delivered; an upper bound."""
        while self._blocks and self._blocks[0][0] <= delivered:
            self.counted -= self._blocks.popleft()[1]
        return self.counted


class Backlog:
    """The backlog of one instrument. `delivered` holds the last delivered number of each priority."""

    def __init__(self, delivered: Mapping[Priority, int], pinned_bytes_max: float) -> None:
        self._delivered, self._pinned_bytes_max = delivered, pinned_bytes_max
        self._waiting: dict[int, WaitingBytes] = {priority: WaitingBytes() for priority in Priority}
        self._fair = TokenBucket(FAIR_REPORTS_PER_SECOND, FAIR_BURST)

    def add(self, priorities: Iterable[int], sequences: Iterable[int], entries: Iterable[bytes]) -> None:
        """Count durable records."""
        for priority, sequence, entry in zip(priorities, sequences, entries, strict=True):
            self._waiting[priority].add(sequence, len(entry))

    def take(self, reports: int, now: float) -> float:
        """Return the seconds until `reports` more may be accepted; 0 if they are accepted now."""
        # this runs for every request: compare with the cheap upper bound first
        alerts, audits, routine = self._waiting.values()
        if alerts.counted + audits.counted + routine.counted <= WAITING_BYTES_MAX:
            return 0.0
        if self.bytes(*Priority) <= WAITING_BYTES_MAX:
            return 0.0
        return self._fair.take(reports, now)

    @property
    def exceeds_share(self) -> bool:
        """Whether the instrument's alerts and command results exceed its share of the spool."""
        alerts, audits, _ = self._waiting.values()
        if alerts.counted + audits.counted <= self._pinned_bytes_max:
            return False
        return self.bytes(Priority.ALERT, Priority.AUDIT) > self._pinned_bytes_max

    def bytes(self, *priorities: Priority) -> int:
        """Return waiting bytes of these priorities."""
        return sum(self._waiting[priority].bytes(self._delivered[priority]) for priority in priorities)
