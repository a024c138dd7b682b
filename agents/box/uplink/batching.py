"""How much to send at once, and when: the forwarder's decisions, without its sockets.

An alert must overtake a backlog of a million routine records on a slow uplink. What has been handed to TCP cannot be
overtaken, so a batch is sized to about BATCH_SECONDS of the link's time, and of batches with routine records only so
many are in flight that the link does not idle: one that travels, and what fits into the time there and back. An alert
then waits for about a second of link time at worst.

The rate is that of the link, not that of the exchange: a batch's time on the link begins when the batch before it was
through, or when it was sent, and the way there and back does not count. It is a ratio of decayed sums and not a mean
of ratios, so that a single slow batch, which is what a link that just became slow shows, outweighs many fast ones.

An answer that takes longer than SLOW_SECONDS is slow because of the data center, not of the link. Then more batches
in flight would only make an alert wait for all of them, so there is one; and since such a data center may need as
long for few records as for many, batches grow for as long as that does not make the answers slower. After a time-out,
a single small batch is in flight until there is an answer, so that repetitions cost the line little. Where somebody
between box and data center cuts off what takes too long, batches are halved, and grow again only now and then.
"""

from __future__ import annotations

from math import ceil, inf
from typing import Final

from agents.spool import Priority
from wire.dial.patience import Patience
from wire.http.connection import PIPELINE_MAX
from wire.messages import BATCH_BODY_BYTES_MAX, RECORDS_PER_BATCH_MAX

BATCH_SECONDS: Final = 0.5
BATCH_ENTRIES_BYTES_MAX: Final = BATCH_BODY_BYTES_MAX - 12 * RECORDS_PER_BATCH_MAX
"""A batch's entries before compression: even if nothing could be compressed, the body would be within its limit."""
RECORDS_MIN: Final = 16
"""Fewer would be mostly head."""
RECORDS_FIRST: Final = 64
"""The size of a batch as long as nothing has been measured."""
ROUTINE_IN_FLIGHT_MIN: Final = 2
ROUTINE_IN_FLIGHT_MAX: Final = PIPELINE_MAX - 2
"""Batches with routine records, by how long the way there and back is."""
URGENT_IN_FLIGHT_MAX: Final = 2
"""Batches of alerts and audit records alone."""
ROUTINE_WORTH_A_BATCH: Final = 64
"""So many routine records go at once; fewer wait for company, since a batch of one costs ten times its record."""
DECAY: Final = 0.5
"""A single batch after the link became slow brings the estimate to within a factor of two."""
SLOW_SECONDS: Final = 3.0
"""No link's way there and back takes longer; an answer that does is slow because of the data center."""
SLOWER: Final = 1.5
"""A batch of twice the records that takes so many times as long is not worth its size."""
HAZARD_ANSWERS: Final = 8
"""So many batches are answered before one is tried of the size that was cut off."""
REPLY_PATIENCE_MAX: Final = 30.0
"""Ten minutes for an answer that usually has 20 seconds."""
OVERHEAD_BYTES: Final = 160
"""What HTTP's head and TLS's record add to a batch."""


class LinkEstimator:
    """What is known about the uplink: its rate, and the time there and back. Times are in seconds, the loop's."""

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0
        self._record_bytes = self._records = 0.0
        self._round_trip_s = inf
        self._answered_at = -inf
        self._exchange_s = 0.0  # of the last answer, from the one before it on; inf after a time-out
        self._slow: tuple[int, float] | None = (
            None  # records of the last full batch, and its seconds, if slow
        )
        self._records_cap = RECORDS_PER_BATCH_MAX
        self._too_many = inf  # records of a batch that was cut off
        self._full_answered = 0  # full batches since the cap was last changed
        self.patience = Patience(REPLY_PATIENCE_MAX)
        """With answers to batches."""
        self.one_in_flight = False
        """Whether a batch waits for the answer to the one before. An intermediary that answers one request on each
        connection resets it because of those behind, and that can destroy the answer."""

    def connected(self) -> None:
        """A new connection, whose way may be another."""
        self._round_trip_s = inf

    def sent(self, records: int, body_bytes: int) -> None:
        """A batch of so many records came to so many bytes."""
        self._record_bytes = self._record_bytes * DECAY + body_bytes
        self._records = self._records * DECAY + records

    def answered(
        self, body_bytes: int, sent_at: float, now: float, full_records: int = RECORDS_PER_BATCH_MAX
    ) -> None:
        """A batch that was sent at `sent_at` has been answered.

        `full_records` is how many records it had if no more were allowed, else 0: it says nothing of larger ones.
        """
        self._exchange_s = now - max(sent_at, self._answered_at)
        if full_records:
            self._adapt_cap(full_records)
        if self.is_slow:
            pass  # this was the data center's time
        elif now - sent_at < self._round_trip_s:
            self._round_trip_s = now - sent_at  # a small batch on an idle link: as good as the way alone
        else:
            begun_at = max(sent_at + self._round_trip_s, self._answered_at)
            self._bytes = self._bytes * DECAY + body_bytes + OVERHEAD_BYTES
            self._seconds = self._seconds * DECAY + max(now - begun_at, 1e-3)
        self._answered_at = now

    def unanswered(self) -> None:
        """A batch was not answered in time: send little until there is an answer."""
        self._send_little(RECORDS_MIN)

    def cut_off(self, records: int) -> None:
        """The connection ended while a batch of so many records had been waiting long for its answer."""
        self._too_many = max(2, records)
        self._send_little(self._too_many // 2)

    def _send_little(self, records: int) -> None:
        self._exchange_s, self._slow = inf, None
        self._records_cap, self._full_answered = records, 0

    def _adapt_cap(self, records: int) -> None:
        """Allow more records after a full batch, unless answers are slow and fewer records make them quicker."""
        before, self._slow = self._slow, (records, self._exchange_s) if self.is_slow else None
        if self._slow and (before is None or _is_proportional(before, self._slow)):
            fewer = records // 2 if before else RECORDS_MIN
            self._records_cap, self._full_answered = max(RECORDS_MIN, fewer), 0
            return
        if records >= self._too_many:
            self._too_many = inf  # it is no longer
        self._full_answered += 1
        if self._full_answered >= (HAZARD_ANSWERS if 2 * self._records_cap >= self._too_many else 1):
            self._records_cap = min(2 * self._records_cap, RECORDS_PER_BATCH_MAX)
            self._full_answered = 0

    @property
    def is_slow(self) -> bool:
        """Whether the data center takes long to answer, or did not answer in time."""
        return self._exchange_s > SLOW_SECONDS

    @property
    def bytes_per_second(self) -> float:
        """The rate, 0 while nothing is known."""
        return self._bytes / self._seconds if self._seconds else 0.0

    @property
    def records_max(self) -> int:
        """How many records make a batch."""
        if self.is_slow:
            return self._records_cap
        if not self._seconds or not self._records:
            return min(self._records_cap, RECORDS_FIRST)
        bytes_each = max(1.0, self._record_bytes / self._records)
        records = (self.bytes_per_second * BATCH_SECONDS - OVERHEAD_BYTES) / bytes_each
        return min(self._records_cap, max(RECORDS_MIN, int(records)))

    @property
    def routine_in_flight_max(self) -> int:
        """How many batches with routine records keep the link busy."""
        if self.is_slow:
            return 1
        if self._round_trip_s == inf:
            return ROUTINE_IN_FLIGHT_MIN
        batches = 1 + ceil(self._round_trip_s / BATCH_SECONDS)
        return max(ROUTINE_IN_FLIGHT_MIN, min(ROUTINE_IN_FLIGHT_MAX, batches))

    @property
    def urgent_in_flight_max(self) -> int:
        """How many batches of alerts and audit records alone may be in flight."""
        return 1 if self.is_slow else URGENT_IN_FLIGHT_MAX


def _is_proportional(before: tuple[int, float], now: tuple[int, float]) -> bool:
    """Whether of two batches, each with its records and seconds, the larger one took longer for it."""
    (few, quick), (many, slow) = sorted((before, now))
    return many > few and slow > SLOWER * quick


class SendScheduler:
    """What waits and what is in flight, and from that, what may go next.

    `urgent` says that alerts or audit records may wait. `routine` counts waiting routine records; it may be too
    high, since records can be dropped or reported twice at a stream's beginning, but never too low.
    """

    def __init__(self, pace: LinkEstimator, linger_s: float, routine: int = 0) -> None:
        self._pace = pace
        self._linger_s = linger_s
        self.urgent = True
        self.routine = routine
        self.routine_due_at = -inf
        """The event loop's time at which routine records go, however few they are."""
        self.urgent_in_flight = 0
        """Batches without routine records."""
        self.routine_in_flight = 0
        """Batches with routine records."""
        self.urgent_is_bypassed = False
        """Whether another connection carries alerts and audit records."""

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
        has_room = self._may_fly and self.urgent_in_flight < self._pace.urgent_in_flight_max
        urgent = self.urgent and has_room and not self.urgent_is_bypassed
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
    def _may_fly(self) -> bool:
        return not (self._pace.one_in_flight and self.urgent_in_flight + self.routine_in_flight)

    @property
    def _routine_has_room(self) -> bool:
        if not self._may_fly:
            return False
        if self._pace.is_slow and self.urgent_in_flight:
            return False  # the next alert would wait for both
        return self.routine_in_flight < self._pace.routine_in_flight_max
