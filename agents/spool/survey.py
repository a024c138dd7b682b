"""Surveying a segment: which records it holds, which of these wait, and which are missing.

Opening surveys the newest segment, and all segments of a small spool. Of a large spool it trusts the summaries of the
other segments. These are surveyed when their records are needed, or in the background; missing records are then
reported by the same gap records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agents.spool.disk.checkpoint import unpack_runs
from agents.spool.disk.group import Group, GroupKind
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment, groups, read_salvaging
from agents.spool.disk.summary import Carried, SegmentContents
from agents.spool.types import GapReason, Priority
from agents.spool.waiting.index import RecordPosition
from agents.spool.waiting.ledger import GapLedger
from agents.spool.waiting.pinned import PinnedIndex
from agents.spool.waiting.routine import count_group

ScannedGroup = tuple[Group, list[int]]  # a group, and the indices of its unreadable records
PINNED = (Priority.ALERT, Priority.AUDIT)
_ROUTINE = Priority.ROUTINE


@dataclass(slots=True)
class SpoolState:
    """The state of a spool: segments, lost numbers, cursors by priority, index of alerts and audit records."""

    log: SegmentLog
    ledger: GapLedger = field(default_factory=GapLedger)
    cursors: list[int] = field(default_factory=lambda: [0, 0, 0])
    indexes: dict[Priority, PinnedIndex] = field(default_factory=lambda: {p: PinnedIndex() for p in PINNED})


@dataclass(slots=True)
class Survey:
    """Result of surveying one segment, in addition to the changes to `SpoolState`."""

    next_seq: int  # the number after the last record found
    last: Group | None = None  # the last group of records
    was_closed: bool = False  # whether the last group is a clean-close marker
    successor_seq: int = 0  # of a SUMMARY: the first number of the next segment; 0 if there is none
    # (number, priority) of the records carried to this segment
    carried: list[tuple[int, int]] = field(default_factory=list)


def scan_segment(log: SegmentLog, segment: SpoolSegment, end: int | None = None) -> Iterator[ScannedGroup]:
    """Yield the readable groups of a segment, each with the indices of its unreadable records.

    Stops at offset `end` if given, so that the unused rest of a segment (up to 64 MiB) is not read.
    """
    for group in groups(log.disk, segment, 0, segment.size if end is None else end):
        data = read_salvaging(log.disk, segment.name, group.payload_offset, group.payload_bytes)
        yield group, group.damaged(group.payloads(data))
    segment.remembered.clear()


def survey(state: SpoolState, segment: SpoolSegment, seen: Iterable[ScannedGroup]) -> Survey:
    """Survey one segment: add lost numbers to the ledger, waiting records to the counts and indexes."""
    upper = upper_bound(state.log, segment)
    result = Survey(segment.base)
    segment.contents, segment.is_verified = SegmentContents(), True
    mark_lost(state, segment.base - segment.skipped, segment.base - 1, GapReason.UNUSED)
    for group, bad in seen:
        if group.kind is GroupKind.SUMMARY:
            result.successor_seq = group.first_seq
            continue
        if group.kind is GroupKind.DATA:
            if group.last_seq >= upper:
                break  # its flush failed, and it was written again to the next segment
            if group.first_seq < result.next_seq:
                continue
            mark_lost(state, result.next_seq, group.first_seq - 1)
            _add_data_group(state, segment, group, bad)
            result.next_seq, result.last = group.last_seq + 1, group
        elif group.kind in (GroupKind.CARRIED, GroupKind.MANIFEST):
            # both groups list the carried records; only one of the two may be readable
            result.carried += unpack_runs(group.aux)
            segment.contents.carried_from = group.first_seq
            if group.kind is GroupKind.CARRIED:
                _add_carried_group(state, segment, group, bad)
        elif group.kind is GroupKind.CLOSED and result.next_seq < group.first_seq < upper:
            mark_lost(state, result.next_seq, group.first_seq - 1)
            result.next_seq = group.first_seq
        result.was_closed = group.kind is GroupKind.CLOSED and group.first_seq > segment.resumed
        segment.end = group.end
    if segment is not state.log.segments[-1]:
        mark_lost(state, result.next_seq, upper - 1)
        segment.contents = None
    return result


def mark_missing_carried_lost(state: SpoolState, carried: Iterable[tuple[int, int]]) -> None:
    """Mark records as lost that were carried to segments just surveyed and were not found there."""
    for seq, priority in carried:
        if seq > state.cursors[priority] and not state.indexes[Priority(priority)].resident_generation(seq):
            state.ledger.mark_lost(seq, seq, GapReason.CORRUPT)


def survey_again(state: SpoolState, segment: SpoolSegment) -> None:
    """Replace the information about a segment, from its summary or an earlier survey, by a new survey."""
    for index in state.indexes.values():
        index.forget(segment)
    segment.clear_routine()
    segment.routine_at, segment.routine_seq = 0, segment.base
    seen = scan_segment(state.log, segment, segment.end)
    mark_missing_carried_lost(state, survey(state, segment, seen).carried)


def _add_data_group(state: SpoolState, segment: SpoolSegment, group: Group, bad: Sequence[int]) -> None:
    for index in bad:
        if group.first_seq + index > state.cursors[group.priorities[index]]:
            state.ledger.mark_lost(group.first_seq + index, group.first_seq + index, GapReason.CORRUPT)
    contents = segment.contents
    assert contents is not None
    last, cursor = group.last_seq, state.cursors[_ROUTINE]
    total, total_bytes = count_group(group, 0, last, state.ledger)
    records, size = 0, 0
    if cursor < group.first_seq:
        records, size = total, total_bytes
    elif cursor < last:
        records, size = count_group(group, cursor, last, state.ledger)
    if not records and not segment.routine_records:
        segment.routine_at, segment.routine_seq = group.end, group.last_seq + 1
    segment.count_routine(records, size)
    contents.records[_ROUTINE] += total
    contents.bytes[_ROUTINE] += total_bytes
    if group.priorities.count(_ROUTINE) < group.count:
        seqs = range(group.first_seq, group.last_seq + 1)
        for position, priority in _positions(segment, group, zip(seqs, group.priorities, strict=True)):
            if position.seq not in state.ledger.lost:
                contents.records[priority] += 1
                contents.bytes[priority] += position.length
                if position.seq > state.cursors[priority]:
                    state.indexes[Priority(priority)].add(segment, position)


def _add_carried_group(state: SpoolState, segment: SpoolSegment, group: Group, bad: Sequence[int]) -> None:
    contents = segment.contents
    assert contents is not None
    for number, (position, priority) in enumerate(_positions(segment, group, unpack_runs(group.aux))):
        if number in bad or position.seq in state.ledger.lost:
            continue
        contents.carried[priority].add(position.seq, position.length)
        if position.seq > state.cursors[priority]:
            index = state.indexes[Priority(priority)]
            if generation := index.resident_generation(position.seq):  # the original segment still exists
                index.remove(position.seq, generation)
                state.log.of_generation(generation).is_copied = True
            index.add(segment, position)


def _positions(
    segment: SpoolSegment, group: Group, numbered: Iterator[tuple[int, int]]
) -> Iterator[tuple[RecordPosition, int]]:
    """Yield the positions of the alerts and audit records of `group` in `segment`, with their priorities."""
    offset = group.payload_offset
    for (seq, priority), length, crc in zip(numbered, group.lengths, group.crcs, strict=True):
        if priority != _ROUTINE:
            yield RecordPosition(seq, segment.generation, offset, length, crc), priority
        offset += length


def mark_lost(state: SpoolState, first: int, last: int, reason: GapReason = GapReason.CORRUPT) -> None:
    """Mark numbers of unknown priority as lost, except those acknowledged in all priorities."""
    state.ledger.mark_lost(max(first, min(state.cursors) + 1), last, reason)


def upper_bound(log: SegmentLog, segment: SpoolSegment) -> int:
    """Return the first number that `segment` cannot hold: the first one of its successor."""
    return 1 << 64 if segment is log.segments[-1] else log.upper_bound(segment)


def apply_summary(
    state: SpoolState, segment: SpoolSegment, contents: SegmentContents, end: int, next_seq: int
) -> bool:
    """Count the waiting records of a sealed segment by its summary.

    Returns False, with nothing changed, if the summary does not suffice.
    """
    upper = upper_bound(state.log, segment)
    last = next_seq - 1
    if next_seq > upper or state.ledger.lost.overlaps(max(segment.base, min(state.cursors) + 1), last):
        return False
    for priority, cursor in enumerate(state.cursors):
        if contents.records[priority] and segment.base <= cursor < last:
            return False
    for priority in PINNED:
        carried = contents.carried[priority]
        if carried.records and carried.first_seq <= state.cursors[priority] < carried.last_seq:
            return False
    mark_lost(state, segment.base - segment.skipped, segment.base - 1, GapReason.UNUSED)
    mark_lost(state, next_seq, upper - 1)
    segment.end, segment.is_verified = end, False
    if state.cursors[_ROUTINE] < segment.base:
        segment.count_routine(contents.records[_ROUTINE], contents.bytes[_ROUTINE])
    else:
        segment.routine_at, segment.routine_seq = end, upper
    for priority in PINNED:
        cursor, carried = state.cursors[priority], contents.carried[priority]
        own = Carried(contents.records[priority], contents.bytes[priority], segment.base, last)
        state.indexes[priority].add_unread(
            segment,
            own if cursor < segment.base else Carried(),
            carried if cursor < carried.first_seq else Carried(),
        )
    return True
