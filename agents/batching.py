"""How much to send at once, and when: the forwarder's decisions, without its sockets.

An alert must overtake a backlog of a million routine records on a slow uplink. What has been handed to TCP cannot be
overtaken, so the forwarder keeps at most two routine batches in flight and sizes each to about BATCH_SECONDS of
the link's time: an alert then waits for a second of link time at worst, and the link is never idle while one batch
travels and the next one's answer is under way.

The rate is measured on batches whose answer came while the next was already on its way, since then the time between
two answers is the link's. It is a ratio of decayed sums and not a mean of ratios: a single slow batch, which is what
a link that just became slow shows, outweighs many fast ones at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from wire.messages import BATCH_BODY_BYTES_MAX, RECORDS_PER_BATCH_MAX

BATCH_SECONDS: Final = 0.5
BATCH_RAW_BYTES_MAX: Final = BATCH_BODY_BYTES_MAX - 2048
"""A batch before compression: whatever is in it, it then fits into the body's limit after it, too."""
RECORDS_FIRST: Final = 64
"""The size of a batch as long as nothing has been measured."""
DECAY: Final = 0.75
OVERHEAD_BYTES: Final = 160
"""What HTTP's head and TLS's record add to a batch."""


class Pace:
    """The uplink's measured rate, as a number of records."""

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0
        self._record_bytes = self._records = 0.0

    def sent(self, records: int, body_bytes: int) -> None:
        """A batch of so many records came to so many bytes."""
        self._record_bytes = self._record_bytes * DECAY + body_bytes
        self._records = self._records * DECAY + records

    def answered(self, body_bytes: int, seconds: float, *, link_was_busy: bool) -> None:
        """A batch was answered `seconds` after the one before it, or after it was sent.

        If the link had idled before, the time includes the way there and back, and says only that the rate
        is no lower.
        """
        size = body_bytes + OVERHEAD_BYTES
        seconds = max(seconds, 1e-3)
        if link_was_busy or size * self._seconds > self._bytes * seconds:
            self._bytes = self._bytes * DECAY + size
            self._seconds = self._seconds * DECAY + seconds

    @property
    def bytes_per_second(self) -> float:
        """The rate, 0 while nothing is known."""
        return self._bytes / self._seconds if self._seconds else 0.0

    @property
    def records_max(self) -> int:
        """How many records make a batch."""
        if not self._seconds or not self._records:
            return RECORDS_FIRST
        bytes_each = max(1.0, self._record_bytes / self._records)
        records = (self.bytes_per_second * BATCH_SECONDS - OVERHEAD_BYTES) / bytes_each
        return max(1, min(RECORDS_PER_BATCH_MAX, int(records)))


@dataclass(slots=True)
class Linger:
    """When the routine records that wait must go: together, since a batch of one costs ten times its record."""

    linger_s: float
    records: int = 64
    _since: float = -math.inf

    def due_at(self, waiting: int) -> float:
        """The event loop's time at which `waiting` records have to go; -inf is now, inf never."""
        if waiting >= self.records:
            return -math.inf
        return self._since + self.linger_s if waiting else math.inf

    def arrived(self, now: float) -> None:
        """The first record since the last batch came now."""
        self._since = now

    def backlog(self) -> None:
        """Records wait from before: do not wait any longer."""
        self._since = -math.inf
