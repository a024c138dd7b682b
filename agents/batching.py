"""How much to send at once, and when: the forwarder's decisions, without its sockets.

An alert must overtake a backlog of a million routine records on a slow uplink. What has been handed to TCP cannot be
overtaken, so the forwarder keeps at most two routine batches in flight and sizes each to about BATCH_SECONDS of
the link's time: an alert then waits for a second of link time at worst, and the link is never idle while one batch
travels and the next one's answer is under way.

The rate is measured on batches whose answer came while the next was already on its way, since then the time between
two answers is the link's. It is a ratio of decayed sums and not a mean of ratios, so that a single slow batch, which
is what a link that just became slow shows, outweighs many fast ones.
"""

from __future__ import annotations

from math import inf
from typing import Final

from agents.spool import Priority
from wire.messages import BATCH_BODY_BYTES_MAX, RECORDS_PER_BATCH_MAX

BATCH_SECONDS: Final = 0.5
BATCH_ENTRIES_BYTES_MAX: Final = BATCH_BODY_BYTES_MAX - 12 * RECORDS_PER_BATCH_MAX
"""A batch's entries before compression: even if nothing could be compressed, the body would be within its limit."""
RECORDS_FIRST: Final = 64
"""The size of a batch as long as nothing has been measured."""
ROUTINE_IN_FLIGHT_MAX: Final = 2
"""Batches with routine records: one travels while the other is answered."""
URGENT_IN_FLIGHT_MAX: Final = 2
"""Batches of alerts and audit records alone."""
ROUTINE_WORTH_A_BATCH: Final = 64
"""So many routine records go at once; fewer wait for company, since a batch of one costs ten times its record."""
DECAY: Final = 0.5
"""A single batch after the link became slow brings the estimate to within a factor of two."""
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


class Flow:
    """What waits and what is in flight, and from that, what may go next.

    `urgent` says that alerts or audit records may wait. `routine` counts waiting routine records; it may be too
    high, since records can be dropped or reported twice at a stream's beginning, but never too low.
    """

    def __init__(self, linger_s: float, routine: int = 0) -> None:
        self._linger_s = linger_s
        self.urgent = True
        self.routine = routine
        self.routine_due_at = -inf
        """The event loop's time at which routine records go, however few they are."""
        self.urgent_in_flight = 0
        """Batches without routine records."""
        self.routine_in_flight = 0
        """Batches with routine records."""

    def arrived(self, priority: Priority, records: int, now: float) -> bool:
        """New records wait. True if that is a reason to look at `choose` or `due_at` again."""
        if priority != Priority.ROUTINE:
            self.urgent = True
            return True
        first = self.routine == 0
        if first:
            self.routine_due_at = now + self._linger_s
        self.routine += records
        return first or (self.routine >= ROUTINE_WORTH_A_BATCH and self._routine_has_room)

    def choose(self, now: float) -> tuple[bool, bool]:
        """Whether the next batch takes (urgent, routine) records; (False, False) is to wait."""
        urgent = self.urgent and self.urgent_in_flight < URGENT_IN_FLIGHT_MAX
        if self.routine == 0 or not self._routine_has_room:
            return urgent, False
        worth_a_batch = self.routine >= ROUTINE_WORTH_A_BATCH
        if urgent:
            return True, not worth_a_batch  # a few ride along, more would delay the alert
        return False, worth_a_batch or now >= self.routine_due_at

    def due_at(self) -> float:
        """When `choose` has another answer by the mere passing of time; inf for never."""
        return self.routine_due_at if self.routine and self._routine_has_room else inf

    def routine_read(self, expected: int, records: int) -> None:
        """Of `expected` waiting records these many were read; none means that there were none."""
        self.routine -= min(records, expected) or expected
        self.routine_due_at = -inf if self.routine else inf

    @property
    def _routine_has_room(self) -> bool:
        return self.routine_in_flight < ROUTINE_IN_FLIGHT_MAX
