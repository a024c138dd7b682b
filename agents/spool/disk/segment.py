"""A segment: one preallocated file of the log, its name, and the search for groups in it.

The name is `EPOCH-GENERATION-BASE-SKIPPED.BEGIN.seg`, in hexadecimal, or `…-SKIPPED-RESUMED.seg`. Renaming is atomic
and durable, and file systems protect directories better than file contents, so the most important data is in the
name: the generation, the number of the first record (BASE) and how many numbers before it were skipped. The bases of
two consecutive segments say exactly which numbers the first one held, even if none of its bytes can be read.

BEGIN is the first number that the log must hold at the moment of renaming, so that a missing oldest file is detected
before anything in the new one is durable. Later the segment's checkpoint holds it too, and the name need not.

The newest segment at opening is written again only after a rename to a name with RESUMED, the next number to be
assigned. However much of the segment is damaged later, all lower numbers are known to be used.

A file is reused by renaming it to the next generation. It is not zeroed: groups of earlier generations are not found,
because their prefix differs. Generation 0 is a spare that has never been written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from agents.spool.disk.group import HEADER_BYTES, MAGIC, PREFIX, Group, GroupKind, body_bytes, decode
from agents.spool.disk.summary import SegmentContents, unpack_summary
from agents.spool.disk.totals import Totals
from agents.spool.types import SECTOR_BYTES
from hal.disk import Disk, DiskError, DiskErrorKind

_NAME = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{8})(?:([-.])([0-9a-f]{16}))?\.seg")
_PROBE_BYTES = 1024  # enough for the header and table of a typical group
_SCAN_BYTES = 256 * 1024
_REMEMBERED_RECORDS_MAX = 8  # larger groups are cheap to decode again, per record, and take much memory
_REMEMBERED_GROUPS_MAX = 512  # per segment, 0.5 KB each: about as many as are in flight to the data center


@dataclass(slots=True, eq=False)
class SpoolSegment:
    """One segment in use, with counts of its unacknowledged records.

    The counts are changed only by `count_routine` and `count_pinned`, which also update the log's totals.
    """

    epoch: int
    generation: int
    base: int  # the number of the first record appended to it
    skipped: int = 0  # how many numbers just before `base` were skipped
    resumed: int = 0  # RESUMED of its name, 0 if it has none
    begin: int = 0  # BEGIN of its name, 0 if it has none
    size: int = 0  # bytes of the file, which may differ from `segment_bytes`
    end: int = 0  # offset after the last durable group
    routine_records: int = 0
    routine_bytes: int = 0
    pinned_records: int = 0  # alerts and audit records
    pinned_bytes: int = 0
    freed_at: int | None = None  # `commits` of the log when this and all older segments were dead
    routine_at: int = 0  # offset of the first group that may hold waiting routine records
    routine_seq: int = field(init=False)  # the number after those of the groups before `routine_at`
    # cache of groups that were read and not acknowledged yet, by offset
    remembered: dict[int, Group] = field(default_factory=dict)
    contents: SegmentContents | None = None  # None if the segment cannot be sealed any more
    is_verified: bool = True  # False: only its summary has been read
    is_copied: bool = False  # its records were carried to a newer segment; some may be readable only here
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
        """Whether it holds no unacknowledged record."""
        return not self.routine_records and not self.pinned_records

    def count_routine(self, records: int, size: int) -> None:
        """Add to the count of waiting routine records; negative numbers subtract."""
        was_dead, totals = self.is_dead, self.totals
        self.routine_records += records
        self.routine_bytes += size
        totals.routine_records += records
        totals.routine_bytes += size
        if self.is_dead != was_dead:
            self._count_live(was_dead)

    def clear_routine(self) -> None:
        """Set the count of waiting routine records to zero."""
        if self.routine_records:
            self.count_routine(-self.routine_records, -self.routine_bytes)

    def count_pinned(self, records: int, size: int) -> None:
        """Add to the count of waiting alerts and audit records; negative numbers subtract."""
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
    """Return the file's name, with `resumed` or `begin` but not both: at most 64 characters."""
    name = f"{epoch:08x}-{generation:08x}-{base:016x}-{skipped:08x}"
    if resumed:
        return f"{name}-{resumed:016x}.seg"
    return f"{name}.{begin:016x}.seg" if begin else f"{name}.seg"


def parse_name(name: str) -> tuple[int, int, int, int, int, int] | None:
    """Return (epoch, generation, base, skipped, resumed, begin); None if the name is not a segment's name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    *fields, mark, last = match.groups("0")
    epoch, generation, base, skipped, number = (int(field, 16) for field in (*fields, last))
    return epoch, generation, base, skipped, *((0, number) if mark == "." else (number, 0))


def read_summary(disk: Disk, segment: SpoolSegment) -> tuple[SegmentContents, int, int] | None:
    """Return (contents, end, successor's first number) of a sealed segment; None without a readable summary."""
    offset = segment.size - SECTOR_BYTES
    if offset < 0 or offset % SECTOR_BYTES:
        return None
    sector = read_salvaging(disk, segment.name, offset, SECTOR_BYTES)
    for is_first in (True, False):
        header = sector[:HEADER_BYTES] if is_first else sector[-HEADER_BYTES:]
        body, total = body_bytes(header)
        if header.startswith(segment.prefix) and total == SECTOR_BYTES:
            start = HEADER_BYTES if is_first else SECTOR_BYTES - HEADER_BYTES - body
            group = decode(header, sector[start : start + body], offset, segment.size)
            if group is not None and group.kind is GroupKind.SUMMARY:
                return *unpack_summary(group.aux), group.first_seq
    return None


def read_salvaging(disk: Disk, name: str, offset: int, length: int) -> bytes:
    """Read bytes, with zeros for unreadable sectors, which checksums then detect. Raises: DiskError UNAVAILABLE."""
    try:
        return disk.read(name, offset, length)
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
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
    """Return the first readable group of `segment` at or after `offset` and before `end`."""
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
    """Yield all readable groups from `offset` up to `end`, in order."""
    group = next_group(disk, segment, offset, end)
    while group is not None:
        yield group
        group = next_group(disk, segment, group.end, end)


def _group_at(disk: Disk, segment: SpoolSegment, offset: int, end: int) -> Group | None:
    """Return the group whose first header is at `offset`."""
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
    """Return the group whose second header ends at `stop`, if it begins at or after `start`."""
    header = read_salvaging(disk, segment.name, stop - HEADER_BYTES, HEADER_BYTES)
    body, total = body_bytes(header)
    if total > stop - start:
        return None
    tail = read_salvaging(disk, segment.name, stop - HEADER_BYTES - body, body)
    return decode(header, tail, stop - total, stop)


def _resync(disk: Disk, segment: SpoolSegment, start: int, end: int) -> Group | None:
    """Search sector boundaries for the next group with a valid first or second header."""
    for chunk_offset in range(start, end, _SCAN_BYTES):
        chunk = read_salvaging(disk, segment.name, chunk_offset, min(_SCAN_BYTES, end - chunk_offset))
        for header in _headers(chunk, segment.prefix):
            if header % SECTOR_BYTES == 0:
                group = _group_at(disk, segment, chunk_offset + header, end)
            else:
                group = _group_before(disk, segment, start, chunk_offset + header + HEADER_BYTES)
            if group is not None:
                return group
    return None


def _headers(chunk: bytes, prefix: bytes) -> Iterator[int]:
    """Yield offsets in `chunk` that may be headers: at the beginning or the end of a sector.

    Compares the first byte of these positions first: `bytes.find` would take 2 ms for 256 KB of zeros.
    """
    last = SECTOR_BYTES - HEADER_BYTES
    firsts, lasts = chunk[::SECTOR_BYTES], chunk[last::SECTOR_BYTES]
    if prefix[0] not in firsts and prefix[0] not in lasts:
        return
    for sector in range(0, len(chunk), SECTOR_BYTES):
        for offset in (sector, sector + last):
            if chunk.startswith(prefix, offset):
                yield offset
