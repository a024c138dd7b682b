"""Types shared by the spool and its users: priorities, gaps, limits, errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from settings.ranges import Range

SECTOR_BYTES = 512
# the smallest default; bounds the time to fill a new file with zeros and to scan a file
SEGMENT_BYTES_MIN = 4 * 1024 * 1024
SEGMENTS_MAX = 16 * 1024  # of one spool by default; opening lists that many files within a second


class Priority(IntEnum):
    """Delivery priority of a record, most urgent first. Alerts and audit records are never dropped."""

    ALERT = 0
    AUDIT = 1
    ROUTINE = 2


class GapReason(StrEnum):
    """Why sequence numbers will never be delivered."""

    CORRUPT = "corrupt"  # written, acknowledged, and now unreadable
    FULL = "full"  # dropped, oldest first, to make room
    UNFINISHED = "unfinished"  # in the group that was being written at a crash; probably never acknowledged
    REFUSED = "refused"  # discarded, because the data center rejected the record
    UNUSED = "unused"  # skipped after a crash, so that no number is assigned twice


@dataclass(frozen=True, slots=True)
class SpoolGap:
    """Lost sequence numbers. `records` counts the records that are known to have had these numbers."""

    ranges: tuple[Range, ...]
    records: int
    reason: GapReason


class SpoolErrorKind(StrEnum):
    """Kind of a spool error, by the caller's possible reaction."""

    FULL = "full"  # nothing left that may be dropped: refuse new records, and retry after an ack
    IO = "io"  # the disk failed; a retry may succeed


class SpoolError(Exception):
    """An operating error. The failed call stored nothing; records stored earlier are unaffected."""

    def __init__(self, kind: SpoolErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def segment_bytes_for(spool_bytes_max: int) -> int:
    """Return the smallest segment size, in bytes, for which `spool_bytes_max` makes at most SEGMENTS_MAX files."""
    size = SEGMENT_BYTES_MIN
    while size * SEGMENTS_MAX < spool_bytes_max:
        size *= 2
    return size


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Every limit of a spool. Raises: ValueError for limits that contradict each other."""

    segment_bytes: int = 0  # 0: `segment_bytes_for(spool_bytes_max)`
    spool_bytes_max: int = 1024 * 1024 * 1024  # total size of the files, free segments included
    record_bytes_max: int = 64 * 1024  # of one payload
    group_records_max: int = 1024
    group_bytes_max: int = 512 * 1024  # of a group's payloads together
    snapshot_bytes_max: int = 4096
    gap_ranges_max: int = 128  # in one gap record
    lost_ranges_max: int = 128  # kept in checkpoints, so that a restart does not report them again
    # a larger spool is opened from its segment summaries and verified later
    verify_bytes_max: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        if not self.segment_bytes:
            object.__setattr__(self, "segment_bytes", segment_bytes_for(self.spool_bytes_max))
        if self.segment_bytes % SECTOR_BYTES:
            raise ValueError(f"segment_bytes must be a multiple of {SECTOR_BYTES}")
        if self.segments_max < 3:
            raise ValueError("spool_bytes_max must hold three segments: one to write, one older, one spare")
        if self.record_bytes_max > self.group_bytes_max:
            raise ValueError("group_bytes_max must hold a record of record_bytes_max")
        if (
            self.group_bytes_encoded_max + self.checkpoint_bytes_max
            > self.segment_bytes_writable - SECTOR_BYTES
        ):
            raise ValueError("segment_bytes must hold a checkpoint and a group of group_bytes_max")

    @property
    def segments_max(self) -> int:
        """The number of segments that `spool_bytes_max` allows."""
        return self.spool_bytes_max // self.segment_bytes

    @property
    def segment_bytes_usable(self) -> int:
        """Bytes of a segment that groups may fill; the last sector is reserved for the summary."""
        return self.segment_bytes - SECTOR_BYTES

    @property
    def segment_bytes_writable(self) -> int:
        """Bytes of a segment that appended groups may fill; the rest is reserved for reclaiming."""
        return self.segment_bytes - self.segment_bytes // 16

    @property
    def group_bytes_encoded_max(self) -> int:
        """Size of the largest group on the disk: payloads, two tables, two headers, padding."""
        tables = 2 * (64 + 9 * self.group_records_max + 16 * self.gap_ranges_max)
        return self.group_bytes_max + tables + SECTOR_BYTES

    @property
    def checkpoint_bytes_max(self) -> int:
        """Size of the largest checkpoint on the disk."""
        return 2 * (64 + 4 + 16 * self.lost_ranges_max + self.snapshot_bytes_max) + SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """Contents of a spool: unacknowledged `records` and payload `bytes` by priority, in `segments` files."""

    epoch: int
    next_seq: int
    records: dict[Priority, int]
    bytes: dict[Priority, int]
    segments: int
    disk_bytes: int
    live_bytes: int  # of those, in segments with unacknowledged records
    gaps_reported: int
    gaps_pending: int
    limits: SpoolLimits
