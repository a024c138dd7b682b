"""Decides whether the oldest segment can be reclaimed when none is free, and which of its records to keep.

The oldest segment is always reclaimed first. Its routine records, the oldest ones of the spool, are dropped; its
alerts and audit records are carried to the newest segment. This module writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crc32c import crc32c

from agents.spool.disk.checkpoint import pack_runs
from agents.spool.disk.group import GroupHeading, GroupKind, Records, encode, measure, payload_offset
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment, groups, read_salvaging
from agents.spool.disk.totals import Totals
from agents.spool.types import Priority, SpoolLimits
from agents.spool.waiting.index import RecordPosition
from agents.spool.waiting.ledger import GapLedger
from agents.spool.waiting.pinned import PinnedIndex
from agents.spool.waiting.routine import routine_indices
from settings.ranges import RangeSet

# Carrying a segment full of alerts frees no space. Without routine records to drop, segments are reclaimed only if at
# least this share of the live segments' bytes is not alerts and audit records: moving at most three frees one.
DEAD_SHARE_MIN = 0.25


def may_reclaim(totals: Totals, limits: SpoolLimits) -> bool:
    """Return whether reclaiming the oldest segments will yield a free segment.

    The reserve, a dead segment, is not counted: each refused append would otherwise move all alerts of a small spool.
    """
    if totals.routine_records:
        return True
    return totals.pinned_bytes < (1 - DEAD_SHARE_MIN) * totals.live_segments * limits.segment_bytes_writable


@dataclass(slots=True)
class ReclaimPlan:
    """The records of a segment that are kept or reported as lost before its file is reused."""

    # to carry, sorted by sequence number
    positions: list[tuple[Priority, RecordPosition]] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)  # of `positions`
    unreadable: list[tuple[Priority, RecordPosition]] = field(default_factory=list)
    dropped: RangeSet = field(default_factory=RangeSet)
    missing: RangeSet = field(default_factory=RangeSet)  # numbers above the cursor in no readable group

    @property
    def runs(self) -> bytes:
        """Numbers and priorities of the carried records, encoded for a group's aux."""
        return pack_runs((position.seq, priority) for priority, position in self.positions)

    @property
    def payload_offset(self) -> int:
        """Offset of the first payload in the result of `encode`."""
        return payload_offset(self._records, self.runs)

    def encode(self, prefix: bytes, generation: int, cursors: bytes) -> bytes:
        """Encode the records carried from segment `generation` as a CARRIED group and its MANIFEST."""
        if not self.positions:
            return b""
        heading, runs = GroupHeading(prefix, generation, cursors), self.runs
        return encode(GroupKind.CARRIED, heading, self._records, runs) + encode(
            GroupKind.MANIFEST, heading, measure(b"", ()), runs
        )

    @property
    def _records(self) -> Records:
        return measure(bytes(priority for priority, _ in self.positions), self.payloads)


def plan_reclaim(
    log: SegmentLog,
    ledger: GapLedger,
    indexes: Mapping[Priority, PinnedIndex],
    victim: SpoolSegment,
    cursors: Sequence[int],
) -> ReclaimPlan:
    """Read the unacknowledged records of `victim`. Raises: DiskError UNAVAILABLE."""
    plan, cursor = ReclaimPlan(), cursors[Priority.ROUTINE]
    victim.remembered.clear()  # read from the disk, which may have lost records since
    waiting = [
        (p, position) for p, index in indexes.items() for position in index.of_segment(victim.generation)
    ]
    for priority, position in sorted(waiting, key=lambda item: item[1].seq):
        payload = read_record(log, position)
        if payload is None:
            plan.unreadable.append((priority, position))
        else:
            plan.positions.append((priority, position))
            plan.payloads.append(payload)
    plan.missing.add(max(victim.base, cursor + 1), log.upper_bound(victim) - 1)
    for group in groups(log.disk, victim, 0, victim.end):
        if group.kind is GroupKind.DATA:
            plan.missing.remove(group.first_seq, group.last_seq)
            for index in routine_indices(group, cursor, group.last_seq, ledger):
                plan.dropped.add(group.first_seq + index, group.first_seq + index)
    return plan


def read_record(log: SegmentLog, position: RecordPosition) -> bytes | None:
    """Return the payload of a record, or None if it is unreadable. Raises: DiskError UNAVAILABLE."""
    name = log.of_generation(position.generation).name
    payload = read_salvaging(log.disk, name, position.offset, position.length)
    return payload if crc32c(payload) == position.crc else None
