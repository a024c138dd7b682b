"""The segments on the disk, in order, and the one place that writes to them.

Segments are used first in, first out: the oldest that holds nothing live is renamed and written again. The
generations in use are therefore consecutive, and each segment's numbers end where the next one's begin.

There is always one free segment that ordinary appends may not take without another becoming free: dropping
something needs room to write down what was dropped.

Files of another size than `segment_bytes` (made under other limits, truncated or extended by an accident) are read
like all others and never written; they are removed when they hold nothing live.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from operator import attrgetter

from agents.spool.disk.group import CURSORS, GroupKind, Heading, encode, measure
from agents.spool.disk.segment import SpoolSegment, segment_name
from agents.spool.disk.summary import SegmentContents, pack_summary
from agents.spool.types import SECTOR_BYTES, SpoolError, SpoolErrorKind, SpoolLimits
from agents.spool.waiting.totals import Totals
from hal.disk import Disk, DiskError, DiskErrorKind

_by_base = attrgetter("base")
_by_generation = attrgetter("generation")


class SegmentLog:
    """Segments oldest first, spare files, and the segment being written (`active`, None if it failed)."""

    def __init__(self, disk: Disk, limits: SpoolLimits, epoch: int) -> None:
        self.disk, self.limits, self.epoch = disk, limits, epoch
        self.segments: list[SpoolSegment] = []  # changed by `take_in` and `leave_out` only
        self.totals = Totals()
        self.spares: list[str] = []
        self.useless: list[str] = []  # spares of another size, to be removed
        self.left_alone = 0  # files of other epochs, or in another format
        self.active: SpoolSegment | None = None
        self.found: SpoolSegment | None = (
            None  # `active` as it was found at opening, until it is written again
        )
        self.generation = 0  # the highest ever used
        self.next_seq = 1  # the number after the last durable record's
        self.skipped = 0  # numbers just before `next_seq` that no record has
        self.room = 0  # bytes that an ordinary commit may still write to the active segment
        self.commits = 1  # groups of writes made durable
        self._head = b""  # encoded groups that go before the next commit, in the same write
        self._unsealed: SpoolSegment | None = (
            None  # the segment before `active`, until that has its first group
        )
        self._spares_made = 0
        self._dead = 0  # the first so many segments are dead, and their `freed_at` is set
        self._dead_fresh = 0  # how many of those may be overwritten only after another commit
        self._misfits = 0  # segments whose files have another size
        self._segment_bytes = 0  # of all segments' files

    # -- the list of segments ---------------------------------------------------------------------------

    def take_in(self, segment: SpoolSegment) -> None:
        """Add the newest segment."""
        self.segments.append(segment)
        self._segment_bytes += segment.size
        self._misfits += not self.fits(segment)

    def leave_out(self, segment: SpoolSegment) -> None:
        """Remove the oldest or the newest segment, which holds nothing live."""
        at = 0 if segment is self.segments[0] else -1
        assert segment is self.segments[at] and segment.is_dead
        if at == 0 and self._dead:
            self._dead -= 1
            self._dead_fresh -= segment.freed_at == self.commits
        del self.segments[at]
        self._segment_bytes -= segment.size
        self._misfits -= not self.fits(segment)

    # -- finding ----------------------------------------------------------------------------------------

    def segment_of(self, seq: int) -> SpoolSegment | None:
        """The segment that would hold the record appended as `seq`; the oldest for older numbers."""
        at = bisect_right(self.segments, seq, key=_by_base) - 1
        return self.segments[max(at, 0)] if self.segments else None

    def after(self, segment: SpoolSegment) -> SpoolSegment | None:
        """The next newer segment."""
        at = bisect_right(self.segments, segment.generation, key=_by_generation)
        return self.segments[at] if at < len(self.segments) else None

    def upper_bound(self, segment: SpoolSegment) -> int:
        """The number after the last one that `segment` holds."""
        after = self.after(segment)
        return after.base - after.skipped if after is not None else self.next_seq - self.skipped

    def of_generation(self, generation: int) -> SpoolSegment:
        """The segment in use with that generation."""
        segment = self.segments[bisect_right(self.segments, generation, key=_by_generation) - 1]
        assert segment.generation == generation
        return segment

    def segments_from(self, seq: int) -> Iterator[SpoolSegment]:
        """The segment that would hold the record appended as `seq`, and all newer ones."""
        return self._from(bisect_right(self.segments, seq, key=_by_base) - 1)

    def generations_from(self, generation: int) -> Iterator[SpoolSegment]:
        """The segments of this generation and all newer ones."""
        return self._from(bisect_left(self.segments, generation, key=_by_generation))

    def _from(self, at: int) -> Iterator[SpoolSegment]:
        return map(self.segments.__getitem__, range(max(at, 0), len(self.segments)))

    # -- what is free -----------------------------------------------------------------------------------

    def free_now(self) -> int:
        """Files that may be overwritten at once: spares, and old segments durably known to be dead."""
        self.find_dead()
        if not self._misfits:
            return len(self.spares) + self._dead - self._dead_fresh
        return len(self.spares) + sum(s.freed_at != self.commits for s in self._reusable())

    def free_soon(self) -> int:
        """Files that may be overwritten after the next commit."""
        self.find_dead()
        if not self._misfits:
            return len(self.spares) + self._dead
        return len(self.spares) + sum(1 for _ in self._reusable())

    def _reusable(self) -> Iterator[SpoolSegment]:
        return takewhile(self.fits, islice(self.segments, self._dead))

    def disk_bytes(self) -> int:
        """The size of all files of the spool."""
        return self._segment_bytes + len(self.spares) * self.limits.segment_bytes

    def live_bytes(self) -> int:
        """The size of the segments that hold something live; of the one being written what is written."""
        active, live = self.active, self.totals.live_bytes
        return live if active is None or active.is_dead else live - active.size + active.end

    def find_dead(self) -> None:
        """Find the oldest segments that hold nothing live. To be called when something was freed."""
        segments = self.segments
        while self._dead < len(segments):
            segment = segments[self._dead]
            if not segment.is_dead or segment is self.active:
                break
            if segment.freed_at is None:
                self._free(segment, self.commits)
            self._dead += 1

    def free_dead(self) -> None:
        """After opening: the segments that hold nothing live may be overwritten, for what says so is durable."""
        self.find_dead()
        for segment in islice(self.segments, self._dead):
            self._free(segment, 0)

    def free(self, segment: SpoolSegment) -> None:
        """What was live in the oldest live segment has been copied or reported, durably."""
        self._free(segment, self.commits - 1)
        self.find_dead()

    def _free(self, segment: SpoolSegment, commits: int) -> None:
        self._dead_fresh += (commits == self.commits) - (segment.freed_at == self.commits)
        segment.freed_at = commits

    def oldest_live(self) -> SpoolSegment | None:
        """The oldest segment that holds something live."""
        self.find_dead()
        return next((s for s in self._from(self._dead) if not s.is_dead), None)

    def first_live(self) -> int:
        """The first number that a segment holds which is not dead; nothing older is missed."""
        oldest = self.oldest_live()
        return oldest.base - oldest.skipped if oldest else self.next_seq

    def fits(self, segment: SpoolSegment) -> bool:
        """Whether the segment's file has the size of those that this program makes."""
        return segment.size == self.limits.segment_bytes

    def hold(self, unreported: Callable[[int, int], bool]) -> None:
        """Dead segments that name a loss nobody has been told of are not free before another commit.

        The reserve is: it was settled before it became the reserve, and without it nothing can be told.
        """
        self.find_dead()
        for segment in islice(self.segments, not self.spares, self._dead):
            if unreported(segment.base - segment.skipped, self.upper_bound(segment) - 1):
                self._free(segment, self.commits)

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
        assert end <= segment.size
        try:
            disk.commit(segment.name, segment.end, head + encoded if head else encoded)
        except DiskError as error:
            self._abandon(segment)
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        segment.end = end
        self.room -= len(encoded)
        self.commits += 1
        self._dead_fresh = 0
        if head:
            self._head = b""
            self._seal()
            self._remove_misfits()
        return start

    def start(self) -> SpoolSegment:
        """Begin a segment in a free file. Errors: SpoolError IO, and nothing has changed."""
        name = self.spares[0] if self.spares else self.segments[0].name
        size = self.limits.segment_bytes
        segment = SpoolSegment(
            self.epoch,
            self.generation + 1,
            self.next_seq,
            self.skipped,
            begin=self.first_live(),
            size=size,
            totals=self.totals,
        )
        segment.contents = SegmentContents()
        try:
            self.disk.rename(name, segment.name)
        except DiskError as error:
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        if self.spares:
            del self.spares[0]
        else:
            self.leave_out(self.segments[0])
        self.generation += 1
        self._unsealed = self.active or self._unsealed
        self.take_in(segment)
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
        size = self.limits.segment_bytes
        if self.disk_bytes() + size > self.limits.spool_bytes_max and not self._converts():
            return False
        self._spares_made += 1
        name = segment_name(self.epoch, 0, self._spares_made)
        while name in self.spares:
            self._spares_made += 1
            name = segment_name(self.epoch, 0, self._spares_made)
        try:
            self.disk.create(name, size)
        except DiskError as error:
            if error.kind is DiskErrorKind.FULL:
                return False
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        self.spares.append(name)
        return True

    def _seal(self) -> None:
        """Write the summary of the segment before `active`, which is durable in part now.

        Without one the segment is read at opening, so an error does no harm; the next commit meets it again.
        """
        segment, self._unsealed = self._unsealed, None
        if segment is None or segment.contents is None or segment not in self.segments:
            return
        contents, segment.contents = segment.contents, None
        if segment.end <= segment.size - SECTOR_BYTES:
            heading = Heading(segment.prefix, self.upper_bound(segment), bytes(CURSORS.size))
            aux = pack_summary(contents, segment.end)
            with contextlib.suppress(DiskError):
                data = encode(GroupKind.SUMMARY, heading, measure(b"", ()), aux)
                self.disk.commit(segment.name, segment.size - SECTOR_BYTES, data)

    def _remove_misfits(self) -> None:
        """Remove dead files of other sizes. An error leaves them, and they are tried again with the next segment."""
        with contextlib.suppress(DiskError):
            for name in list(self.useless):
                self.disk.remove(name)
                self.useless.remove(name)
            self.find_dead()
            while (
                self._dead and not self.fits(oldest := self.segments[0]) and oldest.freed_at != self.commits
            ):
                self.disk.remove(oldest.name)
                self.leave_out(oldest)

    def _converts(self) -> bool:
        """Whether files of another size leave no room for the reserve, without which none of them can be dropped."""
        return not self.free_soon() and any(not self.fits(segment) for segment in self.segments)

    def _abandon(self, segment: SpoolSegment) -> None:
        self.active, self._head, self.room = None, b"", 0
        segment.contents = None
        if not segment.end:  # nothing durable in it: the file is free for another try
            self.leave_out(segment)
            self.spares.append(segment.name)
