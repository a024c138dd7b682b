"""How many bytes of one instrument's reports wait for delivery, and how many more it may report meanwhile.

All ports share the line to the data center, and records leave in the order in which they came. An instrument whose
reports come faster than the line carries them would therefore delay those of all others by its whole backlog. So once
WAITING_BYTES_MAX of its reports wait, it may report FAIR_REPORTS_PER_SECOND only, until some have been delivered: the
line itself sets its pace. An outage does not stop other instruments, which report less than that.

Alerts and results are never dropped from the spool; an instrument may fill a share of it with them, and no more.

What waits is known from the records' numbers and from what the data center has acknowledged. Records that a box finds
on its disk at its start are not counted; routine reports that the spool dropped count until a later one is delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from agents.spool import Priority
from wire.process.ratelimit import TokenBucket

WAITING_BYTES_MAX: Final = 64 * 1024
"""More than two batches at the rates for which batches are made; five seconds of a line of 128 kbit/s at most."""
FAIR_REPORTS_PER_SECOND: Final = 5.0
"""Five times what a busy analyzer makes; together at most 10 kbit/s if nothing in the reports can be compressed."""
FAIR_BURST: Final = 64
"""One request."""
PINNED_SHARE: Final = 0.5
"""Of the spool, divided by the number of instruments: how much of it one instrument's alerts and results may take."""
_EXACT_BLOCKS: Final = 256
_RECORDS_EXACT, _RECORDS_COARSE = 64, 4096


class WaitingBytes:
    """The bytes of one instrument's records of one priority that wait."""

    def __init__(self) -> None:
        self._blocks: deque[list[int]] = deque()  # [last sequence number, bytes], of few or of many records
        self.counted = 0
        """Bytes that wait, and those delivered since `bytes` was asked last."""

    def add(self, sequence: int, size: int) -> None:
        """A record has become durable under that number, the highest so far."""
        width = _RECORDS_EXACT if len(self._blocks) < _EXACT_BLOCKS else _RECORDS_COARSE
        if self._blocks and self._blocks[-1][0] // width == sequence // width:
            self._blocks[-1][0] = sequence
            self._blocks[-1][1] += size
        else:
            self._blocks.append([sequence, size])
        self.counted += size

    def bytes(self, delivered: int) -> int:
        """How many wait if all records up to number `delivered` have been delivered; too many rather than too few."""
        while self._blocks and self._blocks[0][0] <= delivered:
            self.counted -= self._blocks.popleft()[1]
        return self.counted


class Backlog:
    """What of one instrument waits. `delivered` are the numbers up to which records have been, by priority."""

    def __init__(self, delivered: Mapping[Priority, int], pinned_bytes_max: float) -> None:
        self._delivered, self._pinned_bytes_max = delivered, pinned_bytes_max
        self._waiting: dict[int, WaitingBytes] = {priority: WaitingBytes() for priority in Priority}
        self._fair = TokenBucket(FAIR_REPORTS_PER_SECOND, FAIR_BURST)

    def add(self, priorities: Iterable[int], sequences: Iterable[int], entries: Iterable[bytes]) -> None:
        """Records have become durable."""
        for priority, sequence, entry in zip(priorities, sequences, entries, strict=True):
            self._waiting[priority].add(sequence, len(entry))

    def take(self, reports: int, now: float) -> float:
        """The seconds until so many reports may be accepted; 0 if they may be now."""
        # what was delivered has to be looked up only if there may be too much: this runs for every request
        alerts, audits, routine = self._waiting.values()
        if alerts.counted + audits.counted + routine.counted <= WAITING_BYTES_MAX:
            return 0.0
        if self.bytes(*Priority) <= WAITING_BYTES_MAX:
            return 0.0
        return self._fair.take(reports, now)

    @property
    def has_its_share(self) -> bool:
        """Whether its alerts and results take as much of the spool as they may."""
        alerts, audits, _ = self._waiting.values()
        if alerts.counted + audits.counted <= self._pinned_bytes_max:
            return False
        return self.bytes(Priority.ALERT, Priority.AUDIT) > self._pinned_bytes_max

    def bytes(self, *priorities: Priority) -> int:
        """How many wait."""
        return sum(self._waiting[priority].bytes(self._delivered[priority]) for priority in priorities)
