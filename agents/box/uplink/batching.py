"""Batch size and send scheduling: the forwarder's decisions, without sockets.

An alert must overtake a backlog of a million routine records on a slow uplink. Data already passed to TCP cannot be
overtaken. A batch is therefore sized to about BATCH_SECONDS of transmission time, and only as many batches with
routine records are in flight as keep the link busy: one being transmitted, and those that fit into a round trip.
An alert then waits for about one second of transmission time at worst.

The estimated rate is that of the link: a batch's transmission begins when the previous batch was received, or when it
was sent, and does not include the round-trip time. The rate is a ratio of exponentially decayed sums, not a mean of
ratios, so that the first slow batch, which shows that the link has become slow, outweighs many fast ones.

A response that takes longer than SLOW_SECONDS is attributed to the data center, not to the link. More batches in
flight would then only delay alerts, so only one is in flight. Such a data center may need the same time for few
records as for many, so batches grow as long as that does not make the responses slower. After a timeout a single
small batch is in flight until there is a response, so that repetitions use little bandwidth. If an intermediary cuts
off requests that take too long, batches are halved and grow again only occasionally.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from agents.box.configuration.defaults import HEARTBEAT_SECONDS, LINGER_SECONDS
from agents.spool import Priority
from wire.dial.adaptive_timeout import AdaptiveTimeout
from wire.files import RANGE_BYTES_MAX
from wire.http.connection import PIPELINE_MAX
from wire.messages import BATCH_BODY_BYTES_MAX, RECORDS_PER_BATCH_MAX

BATCH_SECONDS: Final = 0.5
RANGE_SECONDS: Final = 1.0
"""Transmission time of a range of a file, for which a report may wait."""
RANGE_INTERVAL_SECONDS: Final = 10.0
"""Shortest interval of ranges while records wait or the data center is slow: they then take about a tenth of the
uplink's rate, and certificates and updates still arrive."""
RANGE_BYTES_MIN: Final = 1024
RANGE_BYTES_FIRST: Final = 4096
"""Size of the first range on a connection."""
BATCH_ENTRIES_BYTES_MAX: Final = BATCH_BODY_BYTES_MAX - 12 * RECORDS_PER_BATCH_MAX
"""Bytes of a batch's entries before compression; an incompressible body still respects its limit."""
RECORDS_MIN: Final = 16
"""Lowest limit of the records of a batch: smaller batches would consist mostly of the HTTP header."""
RECORDS_FIRST: Final = 64
"""Records per batch before anything has been measured."""
ROUTINE_IN_FLIGHT_MIN: Final = 2
ROUTINE_IN_FLIGHT_MAX: Final = PIPELINE_MAX - 2
"""Limits of the batches with routine records in flight; the number depends on the round-trip time."""
URGENT_IN_FLIGHT_MAX: Final = 2
"""Limit of the batches in flight with only alerts and audit records."""
ROUTINE_WORTH_A_BATCH: Final = 64
"""This many routine records are sent without delay; fewer wait for more, because a batch costs as much as ten."""
DECAY: Final = 0.5
"""Weight of the past at each batch; one slow batch brings the estimate to within a factor of two of the new rate."""
SLOW_SECONDS: Final = 3.0
"""Longer than any round-trip time; slower responses are attributed to the data center."""
SLOWDOWN_RATIO: Final = 1.5
"""Batches shrink if a batch of twice the records takes more than this many times as long."""
ANSWERS_BEFORE_LARGER: Final = 8
"""Full batches answered before a batch of the size that was cut off is sent again."""
REPLY_TIMEOUT_FACTOR_MAX: Final = 30.0
"""Largest factor of the response timeout: ten minutes instead of 20 seconds."""
OVERHEAD_BYTES: Final = 160
"""Bytes that HTTP header and TLS record add to a batch."""


class LinkEstimator:
    """Estimates the uplink's rate and round-trip time. Times are in seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._bytes = self._seconds = 0.0
        self._record_bytes = self._records = 0.0
        self._answered_at = -inf
        self._exchange_s = 0.0  # time between the last two responses; inf after a timeout
        self._slow: tuple[int, float] | None = None  # records and seconds of the last full batch, if slow
        self._records_cap = RECORDS_PER_BATCH_MAX
        self._cut_off_records = inf  # records of a batch that was cut off
        self._full_answered = 0  # full batches answered since the cap was changed
        self.range_sent_at = -inf
        """Event loop time at which the last range was sent, on any connection."""
        self.reply_timeout = AdaptiveTimeout(REPLY_TIMEOUT_FACTOR_MAX)
        """Adaptive timeout of responses to batches."""
        self.one_in_flight = False
        """Whether each batch waits for the response to the previous one. An intermediary that serves one request
        per connection resets it if more requests follow, which can destroy the response."""
        self.connected()

    def connected(self) -> None:
        """Reset the round-trip time for a new connection, which may use another route."""
        self._round_trip_s = inf
        self._range_bytes = RANGE_BYTES_FIRST

    def sent(self, records: int, body_bytes: int) -> None:
        """Record that a batch of `records` was sent, with a compressed body of `body_bytes`."""
        self._record_bytes = self._record_bytes * DECAY + body_bytes
        self._records = self._records * DECAY + records

    def answered(
        self, body_bytes: int, sent_at: float, now: float, full_records: int = RECORDS_PER_BATCH_MAX
    ) -> None:
        """Record that a batch sent at `sent_at` has been answered.

        `full_records` is its number of records if it was full, else 0.
        """
        self._exchange_s = now - max(sent_at, self._answered_at)
        if full_records:
            self._adapt_cap(full_records)
        if self.is_slow:
            pass  # the data center was slow, not the link
        elif now - sent_at < self._round_trip_s:
            self._round_trip_s = now - sent_at  # the shortest response approximates the round-trip time
        else:
            begun_at = max(sent_at + self._round_trip_s, self._answered_at)
            self._bytes = self._bytes * DECAY + body_bytes + OVERHEAD_BYTES
            self._seconds = self._seconds * DECAY + max(now - begun_at, 1e-3)
        self._answered_at = now

    def range_answered(self, range_bytes: int, seconds: float) -> None:
        """Record that a range of a file was answered after `seconds`, which include the round-trip time.

        The next range may be twice as large if it would then take RANGE_SECONDS, otherwise it is smaller.
        """
        if range_bytes >= self._range_bytes // 2:  # a short last range says nothing about longer ones
            round_trip_s = 0.0 if self._round_trip_s == inf else self._round_trip_s
            factor = RANGE_SECONDS / max(seconds - round_trip_s, RANGE_SECONDS / 4)
            wanted = int(self._range_bytes * min(2.0, factor))
            self._range_bytes = max(RANGE_BYTES_MIN, min(wanted, RANGE_BYTES_MAX))

    @property
    def range_bytes_max(self) -> int:
        """Maximum size of the next range of a file."""
        return self._range_bytes

    def unanswered(self) -> None:
        """Record a timeout: send small batches until there is a response."""
        self._shrink_batches(RECORDS_MIN)

    def cut_off(self, records: int) -> None:
        """Record that the connection ended while a batch of `records` was waiting long for its response."""
        self._cut_off_records = max(2, records)
        self._shrink_batches(self._cut_off_records // 2)

    def _shrink_batches(self, records: int) -> None:
        self._exchange_s, self._slow = inf, None
        self._records_cap, self._full_answered = records, 0

    def _adapt_cap(self, records: int) -> None:
        """Allow more records after a full batch, unless responses are slow and smaller batches make them faster."""
        before, self._slow = self._slow, (records, self._exchange_s) if self.is_slow else None
        if self._slow and (before is None or _is_proportional(before, self._slow)):
            fewer = records // 2 if before else RECORDS_MIN
            self._records_cap, self._full_answered = max(RECORDS_MIN, fewer), 0
            return
        if records >= self._cut_off_records:
            self._cut_off_records = inf  # it was not cut off this time
        self._full_answered += 1
        if self._full_answered >= (
            ANSWERS_BEFORE_LARGER if 2 * self._records_cap >= self._cut_off_records else 1
        ):
            self._records_cap = min(2 * self._records_cap, RECORDS_PER_BATCH_MAX)
            self._full_answered = 0

    @property
    def is_slow(self) -> bool:
        """Whether the last response was slow or timed out because of the data center."""
        return self._exchange_s > SLOW_SECONDS

    @property
    def bytes_per_second(self) -> float:
        """The estimated rate of the link, 0 before the first measurement."""
        return self._bytes / self._seconds if self._seconds else 0.0

    @property
    def records_max(self) -> int:
        """Maximum number of records in the next batch."""
        if self.is_slow:
            return self._records_cap
        if not self._seconds or not self._records:
            return min(self._records_cap, RECORDS_FIRST)
        bytes_each = max(1.0, self._record_bytes / self._records)
        records = (self.bytes_per_second * BATCH_SECONDS - OVERHEAD_BYTES) / bytes_each
        return min(self._records_cap, max(RECORDS_MIN, int(records)))

    @property
    def routine_in_flight_max(self) -> int:
        """Number of batches with routine records that keep the link busy."""
        if self.is_slow:
            return 1
        if self._round_trip_s == inf:
            return ROUTINE_IN_FLIGHT_MIN
        batches = 1 + ceil(self._round_trip_s / BATCH_SECONDS)
        return max(ROUTINE_IN_FLIGHT_MIN, min(ROUTINE_IN_FLIGHT_MAX, batches))

    @property
    def urgent_in_flight_max(self) -> int:
        """Limit of the batches in flight with only alerts and audit records."""
        return 1 if self.is_slow else URGENT_IN_FLIGHT_MAX


def _is_proportional(before: tuple[int, float], now: tuple[int, float]) -> bool:
    """Return whether the larger of two batches (records, seconds) took more than SLOWDOWN_RATIO times as long."""
    (few, quick), (many, slow) = sorted((before, now))
    return many > few and slow > SLOWDOWN_RATIO * quick


@dataclass(slots=True)
class Timing:
    """Delays of routine records and heartbeats, in seconds. A change takes effect at once."""

    linger_s: float = LINGER_SECONDS
    """Longest time that routine records wait for a fuller batch."""
    heartbeat_s: float = HEARTBEAT_SECONDS
    """Time without a batch after which the stream calls `heartbeat`."""


class SendScheduler:
    """Decides which records to send next, from the waiting records and those in flight.

    `urgent` is True if alerts or audit records may wait. `routine` is an upper bound of the waiting routine records:
    records can be dropped, or counted twice at the beginning of a stream.
    """

    def __init__(self, estimator: LinkEstimator, timing: Timing, routine: int = 0) -> None:
        self._estimator = estimator
        self._timing = timing
        self.urgent = True
        self.routine = routine
        self.routine_due_at = -inf
        """Event loop time at which routine records are sent, however few."""
        self.urgent_in_flight = 0
        """Batches in flight without routine records."""
        self.routine_in_flight = 0
        """Batches in flight with routine records."""
        self.urgent_is_bypassed = False
        """Whether another connection carries alerts and audit records."""

    def arrived(self, priority: Priority, records: int, now: float) -> bool:
        """Count new records; return whether the results of `choose` or `due_at` may have changed."""
        if priority != Priority.ROUTINE:
            self.urgent = True
            return True
        first = self.routine == 0
        if first:
            self.routine_due_at = now + self._timing.linger_s
        self.routine += records
        return first or (self.routine >= ROUTINE_WORTH_A_BATCH and self._routine_has_room)

    def choose(self, now: float) -> tuple[bool, bool]:
        """Return whether the next batch contains (urgent, routine) records; (False, False) means wait."""
        has_room = self._may_send and self.urgent_in_flight < self._estimator.urgent_in_flight_max
        urgent = self.urgent and has_room and not self.urgent_is_bypassed
        if self.routine == 0 or not self._routine_has_room:
            return urgent, False
        if urgent:  # add a few routine records; more would delay the alert
            return True, self.routine < ROUTINE_WORTH_A_BATCH
        return False, self._routine_is_due(now)

    def has_backlog(self, now: float) -> bool:
        """Return whether records are due, even if they must wait for the responses to others."""
        return (self.urgent and not self.urgent_is_bypassed) or self._routine_is_due(now)

    def due_at(self) -> float:
        """Return the event loop time at which the result of `choose` changes without an event; inf if never."""
        return self.routine_due_at if self.routine and self._routine_has_room else inf

    def routine_read(self, expected: int, records: int) -> None:
        """Correct the count after `records` of `expected` waiting ones were read; 0 means that none waited."""
        self.routine -= min(records, expected) or expected
        self.routine_due_at = -inf if self.routine else inf

    def _routine_is_due(self, now: float) -> bool:
        return self.routine >= ROUTINE_WORTH_A_BATCH or (self.routine > 0 and now >= self.routine_due_at)

    @property
    def _may_send(self) -> bool:
        return not (self._estimator.one_in_flight and self.urgent_in_flight + self.routine_in_flight)

    @property
    def _routine_has_room(self) -> bool:
        if not self._may_send:
            return False
        if self._estimator.is_slow and self.urgent_in_flight:
            return False  # the next alert would wait for both batches
        return self.routine_in_flight < self._estimator.routine_in_flight_max
