"""The segments on the disk, in order. The only module that writes to them.

A segment is *live* while it holds unacknowledged records, else *dead*. Segments are reused first in, first out: the
oldest dead one is renamed and written again. The generations in use are therefore consecutive, and each segment's
numbers end where the next one's begin.

One free segment is always held in reserve. Ordinary appends may use it only if another becomes free, because dropping
records needs space for the gap record.

Files of another size than `segment_bytes` (created under other limits, or truncated or extended by accident) are read
like all others and never written; they are removed when they are dead.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from operator import attrgetter

from agents.spool.disk.group import CURSORS, GroupHeading, GroupKind, encode, measure
from agents.spool.disk.segment import SpoolSegment, segment_name
from agents.spool.disk.summary import SegmentContents, pack_summary
from agents.spool.disk.totals import Totals
from agents.spool.types import SECTOR_BYTES, SpoolError, SpoolErrorKind, SpoolLimits
from hal.disk import Disk, DiskError, DiskErrorKind

_by_base = attrgetter("base")
_by_generation = attrgetter("generation")


class SegmentLog:
    """Segments, oldest first, spare files, and the segment being written (`active`, None after a failed write)."""

    def __init__(self, disk: Disk, limits: SpoolLimits, epoch: int) -> None:
        self.disk, self.limits, self.epoch = disk, limits, epoch
        self.segments: list[SpoolSegment] = []  # changed only by `add_segment` and `remove_segment`
        self.totals = Totals()
        self.spares: list[str] = []
        self.wrong_size_spares: list[str] = []  # to be removed
        self.foreign_files = 0  # number of files of other epochs or in another format
        self.active: SpoolSegment | None = None
        self.to_resume: SpoolSegment | None = None  # `active` as it was at opening, until `resume`
        self.generation = 0  # the highest ever used
        self.next_seq = 1  # the number after the last durable record
        self.skipped = 0  # how many numbers just before `next_seq` were skipped
        self.room = 0  # bytes that appends may still write to the active segment
        self.commits = 1  # number of successful commits, plus one
        self._head = b""  # encoded groups to be written before those of the next commit, in the same write
        # the segment before `active`, until `active` has its first group
        self._unsealed: SpoolSegment | None = None
        self._spares_created = 0
        self._dead = 0  # number of oldest segments that are dead and have `freed_at` set
        self._dead_fresh = 0  # how many of those may be overwritten only after another commit
        self._wrong_size_segments = 0  # number of segments whose files have another size
        self._segment_bytes = 0  # total size of the segments' files

    # -- the list of segments ---------------------------------------------------------------------------

    def add_segment(self, segment: SpoolSegment) -> None:
        """Add the newest segment."""
        self.segments.append(segment)
        self._segment_bytes += segment.size
        self._wrong_size_segments += not self.has_standard_size(segment)

    def remove_segment(self, segment: SpoolSegment) -> None:
        """Remove the oldest or the newest segment, which must be dead."""
        index = 0 if segment is self.segments[0] else -1
        assert segment is self.segments[index] and segment.is_dead
        if index == 0 and self._dead:
            self._dead -= 1
        del self.segments[index]
        self._segment_bytes -= segment.size
        self._wrong_size_segments -= not self.has_standard_size(segment)

    # -- lookup -----------------------------------------------------------------------------------------

    def segment_of(self, seq: int) -> SpoolSegment | None:
        """Return the segment to which record `seq` was appended; the oldest one for older numbers."""
        index = bisect_right(self.segments, seq, key=_by_base) - 1
        return self.segments[max(index, 0)] if self.segments else None

    def after(self, segment: SpoolSegment) -> SpoolSegment | None:
        """Return the next newer segment."""
        index = bisect_right(self.segments, segment.generation, key=_by_generation)
        return self.segments[index] if index < len(self.segments) else None

    def upper_bound(self, segment: SpoolSegment) -> int:
        """Return the number after the last one of `segment`."""
        after = self.after(segment)
        return after.base - after.skipped if after is not None else self.next_seq - self.skipped

    def of_generation(self, generation: int) -> SpoolSegment:
        """Return the segment of that generation, which must be in use."""
        segment = self.segments[bisect_right(self.segments, generation, key=_by_generation) - 1]
        assert segment.generation == generation
        return segment

    def segments_from(self, seq: int) -> Iterator[SpoolSegment]:
        """Return the segment to which record `seq` was appended, and all newer ones."""
        return self._from(bisect_right(self.segments, seq, key=_by_base) - 1)

    def generations_from(self, generation: int) -> Iterator[SpoolSegment]:
        """Return the segments of this generation and all newer ones."""
        return self._from(bisect_left(self.segments, generation, key=_by_generation))

    def _from(self, index: int) -> Iterator[SpoolSegment]:
        return map(self.segments.__getitem__, range(max(index, 0), len(self.segments)))

    # -- free files -------------------------------------------------------------------------------------

    def free_now(self) -> int:
        """Return the number of files that may be overwritten now: spares, and segments that are durably dead."""
        self.find_dead()
        if not self._wrong_size_segments:
            return len(self.spares) + self._dead - self._dead_fresh
        return len(self.spares) + sum(s.freed_at != self.commits for s in self._reusable())

    def free_soon(self) -> int:
        """Return the number of files that may be overwritten after the next commit."""
        self.find_dead()
        if not self._wrong_size_segments:
            return len(self.spares) + self._dead
        return len(self.spares) + sum(1 for _ in self._reusable())

    def _reusable(self) -> Iterator[SpoolSegment]:
        return takewhile(self.has_standard_size, islice(self.segments, self._dead))

    def disk_bytes(self) -> int:
        """Return the total size of the spool's files."""
        return self._segment_bytes + len(self.spares) * self.limits.segment_bytes

    def live_bytes(self) -> int:
        """Return the total size of the live segments; of the active one only the written part counts."""
        active, live = self.active, self.totals.live_bytes
        return live if active is None or active.is_dead else live - active.size + active.end

    def find_dead(self) -> None:
        """Update the number of oldest dead segments. Call it after records were acknowledged or removed."""
        segments = self.segments
        while self._dead < len(segments):
            segment = segments[self._dead]
            if not segment.is_dead or segment is self.active:
                break
            if segment.freed_at is None:
                self._free(segment, self.commits)
            self._dead += 1

    def free_dead(self) -> None:
        """After opening, allow dead segments to be overwritten: the cursors read from the disk are durable."""
        self.find_dead()
        for segment in islice(self.segments, self._dead):
            self._free(segment, 0)

    def free(self, segment: SpoolSegment) -> None:
        """Mark the oldest live segment as dead: its records have been copied or reported durably."""
        self._free(segment, self.commits - 1)
        self.find_dead()

    def _free(self, segment: SpoolSegment, commits: int) -> None:
        self._dead_fresh += (commits == self.commits) - (segment.freed_at == self.commits)
        segment.freed_at = commits

    def oldest_live(self) -> SpoolSegment | None:
        """Return the oldest live segment."""
        self.find_dead()
        return next((s for s in self._from(self._dead) if not s.is_dead), None)

    def first_live(self) -> int:
        """Return the first number of the oldest live segment; older numbers need not be on the disk."""
        oldest = self.oldest_live()
        return oldest.base - oldest.skipped if oldest else self.next_seq

    def has_standard_size(self, segment: SpoolSegment) -> bool:
        """Return whether the segment's file has the size `segment_bytes`."""
        return segment.size == self.limits.segment_bytes

    def hold_unreported(self, unreported: Callable[[int, int], bool]) -> None:
        """Keep dead segments with unreported losses from being overwritten before another commit.

        The reserve is excepted: its losses were reported before it became the reserve, and gap records need it.
        """
        self.find_dead()
        for segment in islice(self.segments, not self.spares, self._dead):
            if unreported(segment.base - segment.skipped, self.upper_bound(segment) - 1):
                self._free(segment, self.commits)

    def has_written(self) -> bool:
        """Return whether anything has become durable since the spool was opened."""
        return self.commits > 1

    # -- writing ----------------------------------------------------------------------------------------

    def commit(self, encoded: bytes) -> int:
        """Write and flush; return the offset at which `encoded` begins. Raises: SpoolError IO.

        After an error the segment is not written again, because a failed flush leaves its last bytes undefined.
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
            self._remove_wrong_size_files()
        return start

    def start(self) -> SpoolSegment:
        """Begin a new segment in a free file. Raises: SpoolError IO, with nothing changed."""
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
            self.remove_segment(self.segments[0])
        self.generation += 1
        self._unsealed = self.active or self._unsealed
        self.add_segment(segment)
        self.active, self._head, self.room = segment, b"", self.limits.segment_bytes_writable
        return segment

    def resume(self) -> bool:
        """Continue the newest segment at opening; return False if there is none or it was resumed already.

        Its new name contains the next number, so that lower numbers are known to be used. Raises: SpoolError IO.
        """
        segment, self.to_resume = self.to_resume, None
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
        """Write `encoded` together with the next commit, before it."""
        self._head += encoded
        self.room -= len(encoded)

    def add_spare(self) -> bool:
        """Create a free file if limits and disk allow it; return whether it was created. Raises: SpoolError IO."""
        size = self.limits.segment_bytes
        if self.disk_bytes() + size > self.limits.spool_bytes_max and not self._may_exceed_limit():
            return False
        self._spares_created += 1
        name = segment_name(self.epoch, 0, self._spares_created)
        while name in self.spares:
            self._spares_created += 1
            name = segment_name(self.epoch, 0, self._spares_created)
        try:
            self.disk.create(name, size)
        except DiskError as error:
            if error.kind is DiskErrorKind.FULL:
                return False
            raise SpoolError(SpoolErrorKind.IO, str(error)) from error
        self.spares.append(name)
        return True

    def _seal(self) -> None:
        """Write the summary of the segment before `active`.

        Errors are ignored: a segment without a summary is read at opening.
        """
        segment, self._unsealed = self._unsealed, None
        if segment is None or segment.contents is None or segment not in self.segments:
            return
        contents, segment.contents = segment.contents, None
        if segment.end <= segment.size - SECTOR_BYTES:
            heading = GroupHeading(segment.prefix, self.upper_bound(segment), bytes(CURSORS.size))
            aux = pack_summary(contents, segment.end)
            with contextlib.suppress(DiskError):
                data = encode(GroupKind.SUMMARY, heading, measure(b"", ()), aux)
                self.disk.commit(segment.name, segment.size - SECTOR_BYTES, data)

    def _remove_wrong_size_files(self) -> None:
        """Remove dead files of another size. After an error the next segment's first commit tries again."""
        with contextlib.suppress(DiskError):
            for name in list(self.wrong_size_spares):
                self.disk.remove(name)
                self.wrong_size_spares.remove(name)
            self.find_dead()
            while (
                self._dead
                and not self.has_standard_size(oldest := self.segments[0])
                and oldest.freed_at != self.commits
            ):
                self.disk.remove(oldest.name)
                self.remove_segment(oldest)

    def _may_exceed_limit(self) -> bool:
        """Return whether files of another size take the space of the reserve, which dropping records needs."""
        return not self.free_soon() and any(not self.has_standard_size(segment) for segment in self.segments)

    def _abandon(self, segment: SpoolSegment) -> None:
        self.active, self._head, self.room = None, b"", 0
        segment.contents = None
        if not segment.end:  # nothing durable in it: the file can be reused
            self.remove_segment(segment)
            self.spares.append(segment.name)
