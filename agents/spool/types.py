"""The words the spool and its users share: priorities, gaps, limits, errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from settings.ranges import Range

SECTOR_BYTES = 512
SEGMENT_BYTES_MIN = (
    4 * 1024 * 1024
)  # the smallest default: the time to fill a new file with zeros, and to scan one
SEGMENTS_MAX = (
    16 * 1024
)  # files of one spool by default: what a directory lists, and opening asks for, within a second


class Priority(IntEnum):
    """What overtakes what. Alerts and audit records are never dropped."""

    ALERT = 0
    AUDIT = 1
    ROUTINE = 2


class GapReason(StrEnum):
    """Why numbers of the sequence will never be delivered."""

    CORRUPT = "corrupt"  # written, acknowledged, and now unreadable
    FULL = "full"  # dropped, oldest first, to make room
    UNFINISHED = "unfinished"  # in the group being written at a crash: probably never acknowledged
    REFUSED = "refused"  # given up, because who it is for will never take it
    UNUSED = "unused"  # skipped after a crash, so that no number is ever given out twice


@dataclass(frozen=True, slots=True)
class SpoolGap:
    """Sequence numbers that are gone. `records` counts the records known to have had them."""

    ranges: tuple[Range, ...]
    records: int
    reason: GapReason


class SpoolErrorKind(StrEnum):
    """What the caller can do about it."""

    FULL = "full"  # nothing left that may be dropped: refuse the source, and try again after an ack
    IO = "io"  # the disk failed: nothing was acknowledged; a later try may succeed


class SpoolError(Exception):
    """An operating error. Nothing of the call was acknowledged, nothing acknowledged earlier was lost."""

    def __init__(self, kind: SpoolErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def segment_bytes_for(spool_bytes_max: int) -> int:
    """A segment size that keeps a spool of `spool_bytes_max` below SEGMENTS_MAX files."""
    size = SEGMENT_BYTES_MIN
    while size * SEGMENTS_MAX < spool_bytes_max:
        size *= 2
    return size


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Every limit of a spool. Raises ValueError for limits that contradict each other."""

    segment_bytes: int = 0  # 0: `segment_bytes_for(spool_bytes_max)`
    spool_bytes_max: int = 1024 * 1024 * 1024  # of files on the disk, free segments included
    record_bytes_max: int = 64 * 1024  # of one payload
    group_records_max: int = 1024
    group_bytes_max: int = 512 * 1024  # of a group's payloads together
    snapshot_bytes_max: int = 4096
    gap_ranges_max: int = 128  # in one gap record
    lost_ranges_max: int = 128  # remembered as reported, so that a restart does not report them again
    verify_bytes_max: int = (
        32 * 1024 * 1024
    )  # a larger spool is opened by its segments' summaries, and verified later

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
        """How many segments spool_bytes_max allows."""
        return self.spool_bytes_max // self.segment_bytes

    @property
    def segment_bytes_usable(self) -> int:
        """What groups may fill of a segment; the last sector is for its summary."""
        return self.segment_bytes - SECTOR_BYTES

    @property
    def segment_bytes_writable(self) -> int:
        """What appended groups may fill of a segment; the rest is for what reclaiming has to add."""
        return self.segment_bytes - self.segment_bytes // 16

    @property
    def group_bytes_encoded_max(self) -> int:
        """The largest group on the disk: payloads, two tables, two headers, padding."""
        tables = 2 * (64 + 9 * self.group_records_max + 16 * self.gap_ranges_max)
        return self.group_bytes_max + tables + SECTOR_BYTES

    @property
    def checkpoint_bytes_max(self) -> int:
        """The largest checkpoint on the disk."""
        return 2 * (64 + 4 + 16 * self.lost_ranges_max + self.snapshot_bytes_max) + SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What a spool holds: `records` and `bytes` not yet acknowledged, by priority, in `segments` files."""

    epoch: int
    next_seq: int
    records: dict[Priority, int]
    bytes: dict[Priority, int]
    segments: int
    disk_bytes: int
    live_bytes: int  # of those, in segments that hold something not yet acknowledged
    gaps_reported: int
    gaps_pending: int
    limits: SpoolLimits
