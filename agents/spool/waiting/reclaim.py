"""Making room when no segment is free: whether, and what has to be saved first. Nothing is written here.

The oldest segment always goes first: its routine records, the oldest there are, are dropped; its alerts and audit
records are carried into the newest segment. That is worth doing as long as something in the spool can go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crc32c import crc32c

from agents.spool.disk.checkpoint import pack_runs
from agents.spool.disk.group import GroupKind, Heading, Records, encode, measure, payload_offset
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment, groups, read_salvaging
from agents.spool.types import Priority, SpoolLimits
from agents.spool.waiting.index import RecordPlace
from agents.spool.waiting.ledger import GapLedger
from agents.spool.waiting.pinned import PinnedIndex
from agents.spool.waiting.routine import routine_positions
from agents.spool.waiting.totals import Totals
from settings.ranges import RangeSet

# Carrying a segment full of alerts forward gains nothing. Without routine records to drop it is only done when at
# least this share of the spool is dead, so that a segment is won by moving at most three.
DEAD_SHARE_MIN = 0.25


def may_reclaim(totals: Totals, limits: SpoolLimits) -> bool:
    """Whether dropping or moving what the oldest segment holds will lead to a free segment.

    The reserve, a dead segment, does not count: each refused append would otherwise move all alerts of a small spool.
    """
    if totals.routine_records:
        return True
    return totals.pinned_bytes < (1 - DEAD_SHARE_MIN) * totals.live_segments * limits.segment_bytes_writable


@dataclass(slots=True)
class Cargo:
    """What has to be done about a segment before its file can be used again."""

    places: list[tuple[Priority, RecordPlace]] = field(default_factory=list)  # to carry, by sequence number
    payloads: list[bytes] = field(default_factory=list)  # of `places`
    unreadable: list[tuple[Priority, RecordPlace]] = field(default_factory=list)
    dropped: RangeSet = field(default_factory=RangeSet)
    missing: RangeSet = field(default_factory=RangeSet)  # beyond the cursor, in no group that can be made out

    @property
    def runs(self) -> bytes:
        """The carried records' numbers and priorities, for an aux."""
        return pack_runs((place.seq, priority) for priority, place in self.places)

    @property
    def payload_offset(self) -> int:
        """Where in `encode` the payloads begin."""
        return payload_offset(self._records, self.runs)

    def encode(self, prefix: bytes, generation: int, cursors: bytes) -> bytes:
        """The records carried from segment `generation` as a group, and a manifest that tells what was in it."""
        if not self.places:
            return b""
        heading, runs = Heading(prefix, generation, cursors), self.runs
        return encode(GroupKind.CARRIED, heading, self._records, runs) + encode(
            GroupKind.MANIFEST, heading, measure(b"", ()), runs
        )

    @property
    def _records(self) -> Records:
        return measure(bytes(priority for priority, _ in self.places), self.payloads)


def load_cargo(
    log: SegmentLog,
    ledger: GapLedger,
    indexes: Mapping[Priority, PinnedIndex],
    victim: SpoolSegment,
    cursors: Sequence[int],
) -> Cargo:
    """Read what `victim` holds that is live. Errors: DiskError GONE."""
    cargo, cursor = Cargo(), cursors[Priority.ROUTINE]
    victim.remembered.clear()  # what counts is what the disk still holds
    found = [(p, place) for p, index in indexes.items() for place in index.of_segment(victim.generation)]
    for priority, place in sorted(found, key=lambda item: item[1].seq):
        payload = read_place(log, place)
        if payload is None:
            cargo.unreadable.append((priority, place))
        else:
            cargo.places.append((priority, place))
            cargo.payloads.append(payload)
    cargo.missing.add(max(victim.base, cursor + 1), log.upper_bound(victim) - 1)
    for group in groups(log.disk, victim, 0, victim.end):
        if group.kind is GroupKind.DATA:
            cargo.missing.remove(group.first_seq, group.last_seq)
            for at in routine_positions(group, cursor, group.last_seq, ledger):
                cargo.dropped.add(group.first_seq + at, group.first_seq + at)
    return cargo


def read_place(log: SegmentLog, place: RecordPlace) -> bytes | None:
    """The payload, or None if it cannot be read any more. Errors: DiskError GONE."""
    name = log.of_generation(place.generation).name
    payload = read_salvaging(log.disk, name, place.offset, place.length)
    return payload if crc32c(payload) == place.crc else None
