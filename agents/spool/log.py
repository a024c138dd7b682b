"""The segments on the disk, in order, and the one place that writes to them.

Segments are used first in, first out: the oldest that holds nothing live is renamed and written again. The
generations in use are therefore consecutive, and each segment's numbers end where the next one's begin.

There is always one free segment that ordinary appends may not take without another becoming free: dropping
something needs room to write down what was dropped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter

from agents.spool.segment import Segment, segment_name
from agents.spool.terms import SpoolError, SpoolErrorKind, SpoolLimits
from hal.disk import Disk, DiskError, DiskErrorKind

_by_base = attrgetter("base")
_by_generation = attrgetter("generation")


class Log:
    """Segments oldest first, spare files, and the segment being written (`active`, None if it failed)."""

    def __init__(self, disk: Disk, limits: SpoolLimits, epoch: int) -> None:
        self.disk, self.limits, self.epoch = disk, limits, epoch
        self.segments: list[Segment] = []
        self.spares: list[str] = []
        self.active: Segment | None = None
        self.found: Segment | None = None  # `active` as it was found at opening, until it is written again
        self.generation = 0  # the highest ever used
        self.next_seq = 1  # the number after the last durable record's
        self.skipped = 0  # numbers just before `next_seq` that no record has
        self.room = 0  # bytes that an ordinary commit may still write to the active segment
        self.commits = 1  # groups of writes made durable
        self._head = b""  # encoded groups that go before the next commit, in the same write
        self._spares_made = 0

    # -- finding ----------------------------------------------------------------------------------------

    def segment_of(self, seq: int) -> Segment | None:
        """The segment that would hold the record appended as `seq`; the oldest for older numbers."""
        at = bisect_right(self.segments, seq, key=_by_base) - 1
        return self.segments[max(at, 0)] if self.segments else None

    def after(self, segment: Segment) -> Segment | None:
        """The next newer segment."""
        at = bisect_right(self.segments, segment.generation, key=_by_generation)
        return self.segments[at] if at < len(self.segments) else None

    def upper_bound(self, segment: Segment) -> int:
        """The number after the last one that `segment` holds."""
        after = self.after(segment)
        return after.base - after.skipped if after is not None else self.next_seq - self.skipped

    def of_generation(self, generation: int) -> Segment:
        """The segment in use with that generation."""
        segment = self.segments[bisect_right(self.segments, generation, key=_by_generation) - 1]
        assert segment.generation == generation
        return segment

    def free_now(self) -> int:
        """Files that may be overwritten at once: spares, and old segments durably known to be dead."""
        return len(self.spares) + sum(
            s.freed_at is not None and s.freed_at < self.commits for s in self.dead()
        )

    def free_soon(self) -> int:
        """Files that may be overwritten after the next commit."""
        return len(self.spares) + len(self.dead())

    def disk_bytes(self) -> int:
        """The size of all files of the spool."""
        return (len(self.segments) + len(self.spares)) * self.limits.segment_bytes

    def dead(self) -> list[Segment]:
        """The oldest segments, as long as they hold nothing live. To be called when something was freed."""
        dead = []
        for segment in self.segments:
            if not segment.is_dead or segment is self.active:
                break
            if segment.freed_at is None:
                segment.freed_at = self.commits
            dead.append(segment)
        return dead

    def hold(self, unreported: Callable[[int, int], bool]) -> None:
        """Dead segments that name a loss nobody has been told of are not free before another commit.

        The reserve is: it was settled before it became the reserve, and without it nothing can be told.
        """
        for segment in self.dead()[not self.spares :]:
            if unreported(segment.base - segment.skipped, self.upper_bound(segment) - 1):
                segment.freed_at = self.commits

    def has_written(self) -> bool:
        """Whether anything has become durable since the spool was opened."""
        return self.commits > 1

    # -- writing ----------------------------------------------------------------------------------------

    def commit(self, encoded: bytes) -> int:
        """Write and flush; returns the offset at which `encoded` begins. Errors: SpoolError IO.

        After an error the segment is not written any more: a failed flush leaves its last bytes in doubt.
        """
        segment, disk, head = self.active, self.disk, self._head
        assert segment is not None
        start = segment.end + len(head)
        end = start + len(encoded)
        assert end <= self.limits.segment_bytes
        try:
            disk.commit(segment.name, segment.end, head + encoded if head else encoded)
        except DiskError as error:
            self._abandon(segment)
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        segment.end, self._head = end, b""
        self.room -= len(encoded)
        self.commits += 1
        return start

    def start(self) -> Segment:
        """Begin a segment in a free file. Errors: SpoolError IO, and nothing has changed."""
        name = self.spares[0] if self.spares else self.segments[0].name
        segment = Segment(self.epoch, self.generation + 1, self.next_seq, self.skipped)
        try:
            self.disk.rename(name, segment.name)
        except DiskError as error:
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        del (self.spares if self.spares else self.segments)[0]
        self.generation += 1
        self.segments.append(segment)
        self.active, self._head, self.room = segment, b"", self.limits.segment_bytes_writable
        return segment

    def resume(self) -> bool:
        """Go on in the segment found at opening, if there is one and this is the first time.

        From then on its name says which numbers had been given out. Errors: SpoolError IO.
        """
        segment, self.found = self.found, None
        if segment is None:
            return False
        name = segment_name(self.epoch, segment.generation, segment.base, segment.skipped, self.next_seq)
        try:
            self.disk.rename(segment.name, name)
        except DiskError as error:
            self._abandon(segment)
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        segment.name, segment.resumed = name, self.next_seq
        self.room = self.limits.segment_bytes_writable - segment.end
        return True

    def write_first(self, encoded: bytes) -> None:
        """Put `encoded` before the next commit, to be durable with it."""
        self._head += encoded
        self.room -= len(encoded)

    def add_spare(self) -> bool:
        """Make a new file if limits and disk have room for one. Errors: SpoolError IO."""
        if len(self.segments) + len(self.spares) >= self.limits.segments_max:
            return False
        self._spares_made += 1
        name = segment_name(self.epoch, 0, self._spares_made)
        while name in self.spares:
            self._spares_made += 1
            name = segment_name(self.epoch, 0, self._spares_made)
        try:
            self.disk.create(name, self.limits.segment_bytes)
        except DiskError as error:
            if error.kind is DiskErrorKind.FULL:
                return False
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        self.spares.append(name)
        return True

    def _abandon(self, segment: Segment) -> None:
        self.active, self._head, self.room = None, b"", 0
        if not segment.end:  # nothing durable in it: the file is free for another try
            self.segments.remove(segment)
            self.spares.append(segment.name)
