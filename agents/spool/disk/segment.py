"""A segment: one preallocated file of the log, its name, and finding groups in it.

The name says it all: `EPOCH-GENERATION-BASE-SKIPPED.BEGIN.seg`, in hexadecimal, or `…-SKIPPED-RESUMED.seg`. Renaming
is atomic and durable, and file systems guard their directories better than a file's content, so the most important
facts (which life of the file this is, the number its first record has, how many before that were never given out) do
not depend on anything that can rot. Two neighbours' bases say exactly which numbers a segment held, even when not one
byte of it can be read.

BEGIN is the first number that a segment must hold at the moment of renaming: a missing oldest file is noticed before
anything in the new one is durable. From then on its checkpoint says that too, and a name need not.

A segment that was found at opening is written again only under a name with RESUMED, the first number given out
from then on. However much of it rots, the numbers before are known to be used up.

A file is reused by renaming it to the next generation. Nothing is zeroed: groups of earlier lives carry another
generation and are not found. Generation 0 is a spare that has never been written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.spool.disk.group import HEADER_BYTES, MAGIC, PREFIX, Group, GroupKind, body_bytes, decode
from agents.spool.disk.summary import SegmentContents, unpack_summary
from agents.spool.types import SECTOR_BYTES
from agents.spool.waiting.totals import Totals
from hal.disk import Disk, DiskError, DiskErrorKind

_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{8})(?:([-.])([0-9a-f]{16}))?\.seg")
_PROBE_BYTES = 1024  # holds the header and table of a usual group
_SCAN_BYTES = 256 * 1024
_REMEMBERED_RECORDS_MAX = (
    8  # of a larger group each record costs little to decode again, and much to remember
)
_REMEMBERED_GROUPS_MAX = 512  # of one segment, 0.5 KB each: about what is under way to the data center


@dataclass(slots=True, eq=False)
class SpoolSegment:
    """One segment in use. The counts are of records that have not been acknowledged.

    They change by `count_routine` and `count_pinned` only, which keep the log's totals current.
    """

    epoch: int
    generation: int
    base: int  # the number of the first record appended to it
    skipped: int = 0  # numbers just before `base` that no record has
    resumed: int = 0  # numbers below were given out before the last opening that it was written after
    begin: int = 0  # the first number that any segment held when this one was begun; 0: its name does not say
    size: int = 0  # bytes of the file; another program version, or an accident, may have made it another size
    end: int = 0  # bytes holding durable groups
    routine_records: int = 0
    routine_bytes: int = 0
    pinned_records: int = 0  # alerts and audit records
    pinned_bytes: int = 0
    freed_at: int | None = None  # commits made when it was found that it and all older ones hold nothing live
    routine_at: int = 0  # no routine record that waits is in a group before this offset
    routine_seq: int = field(init=False)  # the number after those before it
    remembered: dict[int, Group] = field(default_factory=dict)  # by offset: read, and soon acknowledged
    contents: SegmentContents | None = None  # of a segment that can still be sealed
    is_verified: bool = True  # False: known by its summary only
    is_copied: bool = False  # an older copy of what was carried elsewhere; some of it can be read only here
    totals: Totals = field(default_factory=Totals)  # of the log that the segment belongs to
    name: str = field(init=False)
    prefix: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.name = segment_name(
            self.epoch, self.generation, self.base, self.skipped, self.resumed, self.begin
        )
        self.routine_seq = self.base
        self.prefix = PREFIX.pack(MAGIC, self.epoch, self.generation)

    @property
    def is_dead(self) -> bool:
        """Whether it holds nothing that is still to be delivered."""
        return not self.routine_records and not self.pinned_records

    def count_routine(self, records: int, size: int) -> None:
        """Add to the count of routine records that wait; negative numbers subtract."""
        was_dead, totals = self.is_dead, self.totals
        self.routine_records += records
        self.routine_bytes += size
        totals.routine_records += records
        totals.routine_bytes += size
        if self.is_dead != was_dead:
            self._count_live(was_dead)

    def clear_routine(self) -> None:
        """No routine record waits in the segment any more."""
        if self.routine_records:
            self.count_routine(-self.routine_records, -self.routine_bytes)

    def count_pinned(self, records: int, size: int) -> None:
        """Add to the count of alerts and audit records that wait; negative numbers subtract."""
        was_dead = self.is_dead
        self.pinned_records += records
        self.pinned_bytes += size
        self.totals.pinned_bytes += size
        if self.is_dead != was_dead:
            self._count_live(was_dead)

    def _count_live(self, is_live: bool) -> None:
        sign = 1 if is_live else -1
        self.totals.live_segments += sign
        self.totals.live_bytes += sign * self.size


def segment_name(
    epoch: int, generation: int, base: int, skipped: int = 0, resumed: int = 0, begin: int = 0
) -> str:
    """The file's name. At most 64 characters, so it has either `resumed` or `begin`."""
    name = f"{epoch:08x}-{generation:08x}-{base:016x}-{skipped:08x}"
    if resumed:
        return f"{name}-{resumed:016x}.seg"
    return f"{name}.{begin:016x}.seg" if begin else f"{name}.seg"


def parse_name(name: str) -> tuple[int, int, int, int, int, int] | None:
    """(epoch, generation, base, skipped, resumed, begin), or None for a file that is not a segment."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    *fields, mark, last = match.groups("0")
    epoch, generation, base, skipped, number = (int(field, 16) for field in (*fields, last))
    return epoch, generation, base, skipped, *((0, number) if mark == "." else (number, 0))


def read_summary(disk: Disk, segment: SpoolSegment) -> tuple[SegmentContents, int, int] | None:
    """(contents, end, successor's first number) of a sealed segment; None if it has no readable summary."""
    offset = segment.size - SECTOR_BYTES
    if offset < 0 or offset % SECTOR_BYTES:
        return None
    sector = read_salvaging(disk, segment.name, offset, SECTOR_BYTES)
    for is_first in (True, False):
        header = sector[:HEADER_BYTES] if is_first else sector[-HEADER_BYTES:]
        body, total = body_bytes(header)
        if header.startswith(segment.prefix) and total == SECTOR_BYTES:
            at = HEADER_BYTES if is_first else SECTOR_BYTES - HEADER_BYTES - body
            group = decode(header, sector[at : at + body], offset, segment.size)
            if group is not None and group.kind is GroupKind.SUMMARY:
                return *unpack_summary(group.aux), group.first_seq
    return None


def read_salvaging(disk: Disk, name: str, offset: int, length: int) -> bytes:
    """The bytes, with zeros for sectors that cannot be read (their CRC will tell). Errors: DiskError GONE."""
    try:
        return disk.read(name, offset, length)
    except DiskError as error:
        if error.kind is DiskErrorKind.GONE:
            raise
    if length <= SECTOR_BYTES and offset // SECTOR_BYTES == (offset + length - 1) // SECTOR_BYTES:
        return bytes(length)
    parts, end = [], offset + length
    while offset < end:
        stop = min(end, (offset // SECTOR_BYTES + 1) * SECTOR_BYTES)
        parts.append(read_salvaging(disk, name, offset, stop - offset))
        offset = stop
    return b"".join(parts)


def next_group(disk: Disk, segment: SpoolSegment, offset: int, end: int) -> Group | None:
    """The first group of `segment` that can be made out at or after `offset` and before `end`."""
    if offset >= end:
        return None
    remembered = segment.remembered
    group = remembered.get(offset)
    if group is None or group.end > end:
        group = _group_at(disk, segment, offset, end) or _resync(disk, segment, offset, end)
        if group is not None and group.count <= _REMEMBERED_RECORDS_MAX:
            remembered[group.offset] = group
            if len(remembered) > _REMEMBERED_GROUPS_MAX:
                del remembered[next(iter(remembered))]
    return group


def groups(disk: Disk, segment: SpoolSegment, offset: int, end: int) -> Iterator[Group]:
    """All groups that can be made out from `offset` up to `end`, in order."""
    group = next_group(disk, segment, offset, end)
    while group is not None:
        yield group
        group = next_group(disk, segment, group.end, end)


def _group_at(disk: Disk, segment: SpoolSegment, offset: int, end: int) -> Group | None:
    """The group whose first copy is at `offset`."""
    probe = read_salvaging(disk, segment.name, offset, min(_PROBE_BYTES, end - offset))
    if not probe.startswith(segment.prefix):
        return None
    body, total = body_bytes(probe)
    if total > end - offset:
        return None
    stop = HEADER_BYTES + body
    if stop > len(probe):
        probe += read_salvaging(disk, segment.name, offset + len(probe), stop - len(probe))
    return decode(probe[:HEADER_BYTES], probe[HEADER_BYTES:stop], offset, offset + total)


def _group_before(disk: Disk, segment: SpoolSegment, start: int, stop: int) -> Group | None:
    """The group whose last copy ends at `stop`, if it begins at or after `start`."""
    header = read_salvaging(disk, segment.name, stop - HEADER_BYTES, HEADER_BYTES)
    body, total = body_bytes(header)
    if total > stop - start:
        return None
    tail = read_salvaging(disk, segment.name, stop - HEADER_BYTES - body, body)
    return decode(header, tail, stop - total, stop)


def _resync(disk: Disk, segment: SpoolSegment, start: int, end: int) -> Group | None:
    """Look at sector bounds for the next copy of a header, first or last, that holds."""
    for chunk_at in range(start, end, _SCAN_BYTES):
        chunk = read_salvaging(disk, segment.name, chunk_at, min(_SCAN_BYTES, end - chunk_at))
        for at in _headers(chunk, segment.prefix):
            if at % SECTOR_BYTES == 0:
                group = _group_at(disk, segment, chunk_at + at, end)
            else:
                group = _group_before(disk, segment, start, chunk_at + at + HEADER_BYTES)
            if group is not None:
                return group
    return None


def _headers(chunk: bytes, prefix: bytes) -> Iterator[int]:
    """Where in `chunk` copies of headers may be: at the beginning or the end of a sector.

    The sectors' first bytes are looked at, not all bytes: `bytes.find` takes 2 ms for 256 KB of zeros.
    """
    last_at = SECTOR_BYTES - HEADER_BYTES
    firsts, lasts = chunk[::SECTOR_BYTES], chunk[last_at::SECTOR_BYTES]
    if prefix[0] not in firsts and prefix[0] not in lasts:
        return
    for at in range(0, len(chunk), SECTOR_BYTES):
        for header_at in (at, at + last_at):
            if chunk.startswith(prefix, header_at):
                yield header_at
