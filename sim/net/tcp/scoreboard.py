"""The segments sent and not acknowledged, with selective acknowledgement and RACK loss detection.

RACK (RFC 8985, as in net/ipv4/tcp_recovery.c): a segment is lost when one that was sent later has been delivered and
a reordering window has passed since. Counts are in segments.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import islice
from operator import attrgetter
from typing import Final

from sim.net.segment import MSS, Range

REORDERING: Final = 3
_REORDERING_MAX: Final = 300
_DSACK_PERSISTS: Final = 16
"""The number of recoveries for which a wider reordering window is kept."""
_seq = attrgetter("seq")


class Sent:
    """A segment sent and not acknowledged. A FIN takes one sequence number after the data."""

    __slots__ = ("end", "ever_resent", "lost", "resent", "sacked", "sent_ns", "seq")

    def __init__(self, seq: int, end: int, sent_ns: int) -> None:
        self.seq = seq
        self.end = end
        self.sent_ns = sent_ns
        self.sacked = False
        self.lost = False
        self.resent = False
        """Whether it was retransmitted, and the retransmission is not known to be lost."""
        self.ever_resent = False
        """Whether it was ever retransmitted, so that an acknowledgement is ambiguous (Karn's algorithm)."""


class Scoreboard:
    """The unacknowledged segments of one connection, in the order of their sequence numbers."""

    __slots__ = (
        "_dsack_persists", "_dsack_round", "_dsack_steps", "acked_ns", "delivered", "dsack_seen", "highest_sacked",
        "losses", "lost", "newest_end", "newest_rtt_ns", "newest_sent_ns", "news", "original_acked", "reordering",
        "reordering_seen", "resent", "resent_acked", "sacked", "sacked_ns", "sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.sacked = self.lost = self.resent = 0
        self.highest_sacked = 0
        """The end of the highest segment that was selectively acknowledged."""
        self.delivered = 0
        """The number of segments delivered over the whole connection."""
        self.losses = 0
        """The number of times a segment was found lost."""
        self.reordering = REORDERING
        self.reordering_seen = False
        # RACK: of the delivered segments, the one that was sent last
        self.newest_sent_ns = self.newest_end = self.newest_rtt_ns = 0
        self.news = False
        """Whether segments were delivered since RACK last looked for losses."""
        self.dsack_seen = False
        self._dsack_steps, self._dsack_persists, self._dsack_round = 1, 0, 0
        # for the acknowledgement being processed: when its first and last segments without retransmission were sent
        self.acked_ns: tuple[int, int] | None = None
        self.sacked_ns: tuple[int, int] | None = None
        self.original_acked = self.resent_acked = False

    @property
    def in_flight(self) -> int:
        """The number of segments estimated to be in flight (RFC 8985: not delivered and not lost)."""
        return len(self.sent) - self.sacked - self.lost + self.resent

    def begin(self) -> None:
        """Start to process an acknowledgement, other than one handled by `deliver_in_order`."""
        self.acked_ns = self.sacked_ns = None
        self.original_acked = self.resent_acked = False

    def acknowledge(self, una: int, now: int, min_rtt: int, high: int) -> int:
        """Remove the segments before `una`, which are acknowledged; returns their number.

        `high` is the sequence number at which the current recovery ends.
        """
        done = 0
        reordered = self.highest_sacked
        for segment in self.sent:
            if segment.end > una:
                if segment.seq < una:
                    segment.seq = una
                break
            done += 1
            if segment.ever_resent:
                self.resent_acked = True
            elif not segment.sacked:
                self.acked_ns = (self.acked_ns or (segment.sent_ns,))[0], segment.sent_ns
                reordered = min(reordered, segment.seq)
                if segment.end <= high:
                    self.original_acked = True
            self._settle(segment, now, min_rtt)
        if reordered < self.highest_sacked:
            self._note_reordering(reordered)
        del self.sent[:done]
        return done

    def _settle(self, segment: Sent, now: int, min_rtt: int) -> None:
        """Update the counts for a segment that is removed."""
        if segment.sacked:
            self.sacked -= 1
        else:
            self.delivered += 1
            self._advance(segment, now, min_rtt)
        self.lost -= segment.lost
        self.resent -= segment.resent

    def select(self, blocks: Iterable[Range], now: int, min_rtt: int, high: int) -> int:
        """Mark the segments in `blocks` as selectively acknowledged; returns how many were not marked before."""
        newly_sacked = 0
        before = reordered = self.highest_sacked
        for first, end in blocks:
            start = bisect_left(self.sent, first, key=_seq)
            for segment in islice(self.sent, start, None):
                if segment.end > end:
                    break
                if segment.sacked:
                    continue
                newly_sacked += 1
                if not segment.ever_resent:
                    self.sacked_ns = (self.sacked_ns or (segment.sent_ns,))[0], segment.sent_ns
                    if segment.seq < before:
                        reordered = min(reordered, segment.seq)
                    if segment.end <= high:
                        self.original_acked = True
                self._mark_sacked(segment, now, min_rtt)
        if reordered < before:
            self._note_reordering(reordered)
        return newly_sacked

    def _mark_sacked(self, segment: Sent, now: int, min_rtt: int) -> None:
        if segment.lost:
            self.lost -= 1
            self.resent -= segment.resent
            segment.lost = segment.resent = False
        segment.sacked = True
        self.sacked += 1
        self.delivered += 1
        self.highest_sacked = max(self.highest_sacked, segment.end)
        self._advance(segment, now, min_rtt)

    def _note_reordering(self, low: int) -> None:
        """Adapt the reordering degree to a segment at `low` that was delivered after later ones."""
        degree = -((low - self.highest_sacked) // MSS)
        self.reordering = min(max(self.reordering, degree), _REORDERING_MAX)
        self.reordering_seen = True

    def _advance(self, segment: Sent, now: int, min_rtt: int) -> None:
        rtt = now - segment.sent_ns
        if segment.ever_resent and rtt < min_rtt:
            return  # too early for the retransmission: the original was delivered
        self.news = True
        self.newest_rtt_ns = rtt
        if (segment.sent_ns, segment.end) > (self.newest_sent_ns, self.newest_end):
            self.newest_sent_ns, self.newest_end = segment.sent_ns, segment.end

    def deliver_in_order(self, done: int, now: int) -> None:
        """Remove the first `done` segments. A faster `acknowledge` for connections without losses or SACK."""
        last = self.sent[done - 1]
        self.newest_sent_ns, self.newest_end, self.newest_rtt_ns = last.sent_ns, last.end, now - last.sent_ns
        self.delivered += done
        del self.sent[:done]

    # losses

    def mark_lost(self, segment: Sent) -> None:
        """Mark a segment, or its retransmission, as lost."""
        if not segment.lost:
            segment.lost = True
            self.lost += 1
            self.losses += 1
        elif segment.resent:
            segment.resent = False
            self.resent -= 1
            self.losses += 1

    def mark_timed_out(self, now: int, una: int) -> None:
        """Mark as lost all segments that were not sent within the last round trip, after a retransmission timeout."""
        for segment in self.sent:
            if segment.sacked:
                continue
            if segment.seq > una and self.newest_rtt_ns > now - segment.sent_ns:
                continue
            self.mark_lost(segment)

    def unmark_lost(self) -> None:
        """Clear all marks of loss, after a spurious timeout."""
        for segment in self.sent:
            segment.lost = False
        self.lost = 0

    def note_resent(self, segment: Sent, now: int) -> None:
        """Record that a segment was retransmitted."""
        segment.sent_ns = now
        segment.ever_resent = True
        if not segment.resent:
            segment.resent = True
            self.resent += 1

    def split(self, index: int, size: int) -> None:
        """Split the segment at `index` in two, the first of `size` bytes."""
        segment = self.sent[index]
        rest = Sent(segment.seq + size, segment.end, segment.sent_ns)
        rest.sacked, rest.lost, rest.resent, rest.ever_resent = (
            segment.sacked,
            segment.lost,
            segment.resent,
            segment.ever_resent,
        )
        segment.end = rest.seq
        self.sacked += rest.sacked
        self.lost += rest.lost
        self.resent += rest.resent
        self.sent.insert(index + 1, rest)

    def detect_losses(self, now: int, reordering_window: int) -> int:
        """Mark the segments that RACK finds lost; returns the ns until the next check, 0 if none is due."""
        self.news = False
        again_in = 0
        newest = (self.newest_sent_ns, self.newest_end)
        wait_ns = self.newest_rtt_ns + reordering_window
        for segment in self.sent:
            if segment.sacked or (segment.lost and not segment.resent):
                continue
            if (segment.sent_ns, segment.end) >= newest:
                continue
            left = wait_ns - (now - segment.sent_ns)
            if left <= 0:
                self.mark_lost(segment)
            elif left > again_in:
                again_in = left
        return again_in

    def reordering_window(self, min_rtt: int, smoothed: int, *, in_recovery: bool) -> int:
        """Return how long RACK waits for possibly reordered segments, in nanoseconds (RFC 8985, 6.2 step 4)."""
        if not self.reordering_seen and (in_recovery or self.sacked >= self.reordering):
            return 0
        return min(min_rtt // 4 * self._dsack_steps, smoothed)

    def adapt_window(self, delivered_before: int) -> None:
        """Widen the reordering window if duplicates were reported, at most once per round trip (RFC 8985, 6.2)."""
        if self.dsack_seen and delivered_before >= self._dsack_round:
            self._dsack_steps = min(255, self._dsack_steps + 1)
            self._dsack_round = self.delivered
            self._dsack_persists = _DSACK_PERSISTS
        elif not self._dsack_persists:
            self._dsack_steps = 1
        self.dsack_seen = False

    def recovered(self) -> None:
        """Record that a recovery has ended."""
        self._dsack_persists = max(0, self._dsack_persists - 1)
