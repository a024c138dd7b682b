"""Opening a spool: reconstructs its state from the files, after a clean stop, a crash or damage to the disk.

No content of the files makes opening fail. It writes only one thing: the last commit, once more. The names of a
segment and of its successor say which numbers the segment must hold. Each of these numbers is readable, or below the
cursors (acknowledged), or marked as lost.

**The tail.** Unreadable groups may follow the last readable group: one that was being written when the power failed,
or acknowledged groups that have been damaged. Only the newest segment has such a tail, because the others end where
the next one begins. Each record takes at least RECORD_BYTES_MIN bytes, which bounds how many numbers the tail can
have used. The sequence continues above that bound, so that no number is assigned twice. After a clean close the last
group is a CLOSED group and there is no tail, unless the segment's name says that it was resumed afterwards.

**The last group.** A torn write cannot be distinguished from later damage. Unreadable records of the last group are
therefore reported as "unfinished", and readable records after them are kept but marked as uncertain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from random import Random
from typing import NamedTuple

from agents.spool.disk.checkpoint import unpack_checkpoint, unpack_ranges
from agents.spool.disk.group import RECORD_BYTES_MIN, Group, GroupKind
from agents.spool.disk.log import SegmentLog
from agents.spool.disk.segment import SpoolSegment, groups, parse_name, read_salvaging, read_summary
from agents.spool.disk.summary import SegmentContents
from agents.spool.foreign import foreign_epochs, is_segment_name
from agents.spool.survey import (
    ScannedGroup,
    SpoolState,
    Survey,
    apply_summary,
    mark_lost,
    mark_missing_carried_lost,
    scan_segment,
    survey,
    upper_bound,
)
from agents.spool.types import GapReason, Priority, SpoolGap, SpoolLimits
from hal.disk import Disk, DiskError, DiskErrorKind
from settings.ranges import RangeSet

_SKIPPED_MAX = 2**31  # numbers; half of the range of the field in a file's name


class Recovered(NamedTuple):
    """A record that is readable at opening, delivered or not.

    `certain` is False for records after an unreadable one in the last group, and if the last group could not be made
    durable. Such a record may never have been acknowledged to its source, and earlier records of the same source may
    be missing.
    """

    seq: int
    priority: Priority
    payload: bytes
    certain: bool


class RecoveredSpool:
    """Result of opening. `records` can be read until the first append."""

    def __init__(self, state: SpoolState, newest: dict[int, list[ScannedGroup]]) -> None:
        self.snapshot = b""  # the newest readable one
        self.waiting_records = 0  # number of readable records that wait for delivery
        self.gaps: tuple[SpoolGap, ...] = ()  # detected at opening; reported with the first append
        self.was_closed = False  # whether the last stop was clean
        self.foreign_files = state.log.foreign_files  # number of files of other epochs or in another format
        # readable records from this number on may never have been acknowledged; 0: none
        self.uncertain_from = 0
        self.snapshot_generation = 0
        # the first number that the log must hold, by the newest checkpoint; 0: not known
        self.log_begin = 0
        self._state = state
        self._newest = newest  # groups that opening read, by generation; kept for the first call of `records`

    def records(self) -> Iterator[Recovered]:
        """Yield all readable records appended since `snapshot` was taken, delivered or not, in order."""
        log, lost = self._state.log, self._state.ledger.lost
        for segment in log.segments:
            if segment.generation < self.snapshot_generation:
                continue
            seen = self._newest.pop(segment.generation, None)
            read = (group for group, _ in seen) if seen else groups(log.disk, segment, 0, segment.end)
            for group in read:
                if group.kind is GroupKind.DATA and group.end <= segment.end:
                    yield from self._records(segment, group, lost)
        self._newest.clear()

    def _records(self, segment: SpoolSegment, group: Group, lost: RangeSet) -> Iterator[Recovered]:
        payloads = _payloads(self._state.log.disk, segment, group)
        bad = group.damaged(payloads)
        uncertain_from = self.uncertain_from
        for index, payload in enumerate(payloads):
            seq = group.first_seq + index
            if index not in bad and seq not in lost:
                certain = not uncertain_from or seq < uncertain_from
                yield Recovered(seq, Priority(group.priorities[index]), payload, certain)


def recover(disk: Disk, limits: SpoolLimits, random: Random) -> tuple[SpoolState, RecoveredSpool]:
    """Reconstruct the spool on `disk`. Raises: DiskError UNAVAILABLE or IO, for an unreadable directory."""
    state = SpoolState(_find_segments(disk, limits, random))
    newest: dict[int, list[ScannedGroup]] = {}
    recovery = RecoveredSpool(state, newest)
    _read_newest(state, recovery, newest)
    _mark_missing_oldest_lost(state, recovery)
    result, last_group, carried = Survey(1), None, list[tuple[int, int]]()
    summaries = _read_summaries(state, newest)
    for segment in state.log.segments:
        summary = summaries.get(segment.generation)
        if summary is not None and apply_summary(state, segment, *summary):
            continue
        seen = newest.get(segment.generation)
        result = survey(state, segment, scan_segment(state.log, segment) if seen is None else seen)
        last_group = result.last or last_group
        carried += result.carried
    mark_missing_carried_lost(state, carried)
    _resolve_tail(state, recovery, result, last_group)
    recovery.waiting_records = state.log.totals.routine_records + sum(map(len, state.indexes.values()))
    recovery.gaps = tuple(state.ledger.pending(limits.gap_ranges_max))
    return state, recovery


def _find_segments(disk: Disk, limits: SpoolLimits, random: Random) -> SegmentLog:
    """Find the segments by the names of the files. Files of other epochs (another box, a newer program) are ignored.

    The epoch is the one with the most files, of those that this program can read. Of two files with the same
    generation (a restored copy next to the segment) the one that was resumed last is used.
    """
    names = disk.names()
    foreign = foreign_epochs(disk, names)
    segments = (fields for name in names if (fields := parse_name(name)) and fields[0] not in foreign)
    parsed = sorted((fields[1], fields[4], *fields) for fields in segments)
    files = Counter(fields[2] for fields in parsed)
    newest = {file_epoch: generation for generation, _, file_epoch, *_ in parsed}
    epoch = max(files, key=lambda e: (files[e], newest[e])) if files else _new_epoch(foreign, random)
    log = SegmentLog(disk, limits, epoch)
    log.foreign_files = sum(is_segment_name(name) for name in names) - files[epoch]
    for generation, _, file_epoch, _, base, skipped, resumed, begin in parsed:
        if file_epoch == epoch:
            segment = SpoolSegment(file_epoch, generation, base, skipped, resumed, begin, totals=log.totals)
            segment.size = _size(disk, segment.name)
            if not generation:
                (log.spares if log.has_standard_size(segment) else log.wrong_size_spares).append(segment.name)
            elif log.segments and log.segments[-1].generation == generation:
                log.remove_segment(log.segments[-1])
                log.add_segment(segment)
            else:
                log.add_segment(segment)
    if log.segments:
        log.generation, log.next_seq = log.segments[-1].generation, log.segments[-1].base
    return log


def _new_epoch(taken: Container[int], random: Random) -> int:
    while (epoch := random.getrandbits(32)) in taken:
        pass
    return epoch


def _size(disk: Disk, name: str) -> int:
    """Return the file's size in bytes, 0 if it cannot be read. Raises: DiskError UNAVAILABLE."""
    try:
        return disk.size(name)
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        return 0


def _read_summaries(
    state: SpoolState, newest: dict[int, list[ScannedGroup]]
) -> dict[int, tuple[SegmentContents, int, int]]:
    """Return the summaries of a large spool's sealed segments, by generation, except of those that must be surveyed.

    These are pairs of segments with the same alerts: carried from one to the other, which has not been reused yet.
    """
    log = state.log
    if log.disk_bytes() <= log.limits.verify_bytes_max:
        return {}
    sealed = [segment for segment in log.segments if segment.generation not in newest]
    summaries = {s.generation: summary for s in sealed if (summary := read_summary(log.disk, s)) is not None}
    copies = {generation: contents.carried_from for generation, (contents, _, _) in summaries.items()}
    for generation, seen in newest.items():
        copies[generation] = next(
            (g.first_seq for g, _ in seen if g.kind in (GroupKind.CARRIED, GroupKind.MANIFEST)), 0
        )
    existing = {segment.generation for segment in log.segments}
    for generation, source in copies.items():
        if source in existing:
            summaries.pop(generation, None)
            summaries.pop(source, None)
    return summaries


def _mark_missing_oldest_lost(state: SpoolState, recovery: RecoveredSpool) -> None:
    """Mark numbers as lost that files before the oldest segment held, by the newest checkpoint or name."""
    segments = state.log.segments
    begin = recovery.log_begin or (segments[-1].begin if segments else 0)
    if begin:
        mark_lost(state, begin, segments[0].base - segments[0].skipped - 1)


def _read_newest(state: SpoolState, recovery: RecoveredSpool, newest: dict[int, list[ScannedGroup]]) -> None:
    """Read cursors, snapshot and reported losses from the newest segments that hold them, usually the last one.

    The groups read are kept in `newest`, by generation, so that nothing is read twice.
    """
    log, have_cursors = state.log, False
    for segment in reversed(log.segments):
        seen = newest[segment.generation] = list(scan_segment(log, segment))
        for group, bad in seen:
            if group.kind is GroupKind.DATA and group.last_seq >= upper_bound(log, segment):
                break
            _read_reported_losses(state, recovery, segment, group, bad)
            # cursors that pass dropped records are valid only if the gap record in the same group is readable
            if not have_cursors and not bad:
                state.cursors = [max(pair) for pair in zip(state.cursors, group.cursors, strict=True)]
        have_cursors = have_cursors or any(
            not bad and group.kind is not GroupKind.SUMMARY for group, bad in seen
        )
        if have_cursors and recovery.snapshot_generation:
            break


def _read_reported_losses(
    state: SpoolState, recovery: RecoveredSpool, segment: SpoolSegment, group: Group, bad: Sequence[int]
) -> None:
    if group.kind is GroupKind.CHECKPOINT:
        ranges, snapshot = unpack_checkpoint(group.aux)
        if segment is state.log.segments[-1]:
            recovery.log_begin = group.first_seq
        if not recovery.snapshot_generation:
            recovery.snapshot, recovery.snapshot_generation = snapshot, segment.generation
    elif group.kind is GroupKind.DATA and group.aux and not bad:
        ranges = unpack_ranges(group.aux)
    else:
        return
    for first, last in ranges:
        state.ledger.lost.add(first, last)


def _resolve_tail(
    state: SpoolState, recovery: RecoveredSpool, result: Survey, last_group: Group | None
) -> None:
    """Decide with which number and segment the spool continues. `result` is the survey of the newest segment."""
    log = state.log
    if not log.segments:
        return
    newest = log.segments[-1]
    log.next_seq, recovery.was_closed = result.next_seq, result.was_closed
    if result.successor_seq:
        _skip_missing_newest(state, result.successor_seq)
    elif not recovery.was_closed:
        if last_group is not None:
            first, last = last_group.first_seq, last_group.last_seq
            unreadable = state.ledger.reclassify(first, last, GapReason.CORRUPT, GapReason.UNFINISHED)
            recovery.uncertain_from = unreadable
        unseen = (_largest_segment_bytes(log) - newest.end) // RECORD_BYTES_MIN
        _skip(state, max(newest.resumed - log.next_seq, 0) + unseen, _reason_of_tail(log))
    if (
        newest.end == 0 and log.has_standard_size(newest) and not result.successor_seq
    ):  # begun, but without a readable group: reuse the file
        log.skipped += newest.skipped
        log.remove_segment(newest)
        log.spares.append(newest.name)
    elif not log.has_standard_size(newest) or result.successor_seq:
        newest.contents = None  # it is neither written again nor sealed
    elif recovery.was_closed or _rewrite_last_commit(log.disk, newest, last_group):
        log.active = log.to_resume = newest  # `room` is 0 until it is resumed
    elif last_group is not None:  # readable, but perhaps only from the cache
        recovery.uncertain_from = recovery.uncertain_from or last_group.first_seq
    log.free_dead()
    log.hold_unreported(state.ledger.unreported_in)


def _skip_missing_newest(state: SpoolState, successor_seq: int) -> None:
    """Continue after a sealed newest segment, whose successors are missing.

    It is not known how many numbers the missing segments used, so the sequence continues above their upper bound.
    """
    log = state.log
    mark_lost(state, log.next_seq, successor_seq - 1)
    log.next_seq = successor_seq
    numbers_max = log.limits.segments_max * (_largest_segment_bytes(log) // RECORD_BYTES_MIN)
    _skip(state, min(numbers_max, _SKIPPED_MAX), GapReason.CORRUPT)


def _skip(state: SpoolState, numbers: int, reason: GapReason) -> None:
    """Skip `numbers` sequence numbers that may have been assigned already."""
    log = state.log
    log.skipped = numbers
    state.ledger.mark_lost(log.next_seq, log.next_seq + numbers - 1, reason)
    log.next_seq += numbers


def _reason_of_tail(log: SegmentLog) -> GapReason:
    """Return CORRUPT if the newest segment has certainly lost records, else UNUSED."""
    newest = log.segments[-1]
    before = log.segments[-2] if len(log.segments) > 1 else None
    was_begun = newest.end == 0 and before is not None and read_summary(log.disk, before) is not None
    is_cut = newest.size < log.limits.segment_bytes and newest.size not in {s.size for s in log.segments[:-1]}
    return GapReason.CORRUPT if is_cut or was_begun else GapReason.UNUSED


def _largest_segment_bytes(log: SegmentLog) -> int:
    """Return an upper bound of the size, in bytes, that any segment had before it was damaged."""
    return max(log.limits.segment_bytes, *(segment.size for segment in log.segments))


def _rewrite_last_commit(disk: Disk, newest: SpoolSegment, last_group: Group | None) -> bool:
    """Write the last commit again and flush it; return whether that succeeded.

    Reading it does not prove that it is on the medium: a killed process leaves groups in the page cache that were
    never flushed, or whose flush failed. After a failed flush the kernel considers the pages clean, so another flush
    alone would write nothing. The last commit is the last group of records or, if that is the first one of the
    segment, everything up to its end.
    """
    is_first = last_group is None or last_group.first_seq <= newest.base
    start = 0 if is_first or last_group is None else last_group.offset
    try:
        disk.commit(newest.name, start, disk.read(newest.name, start, newest.end - start))
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        return False
    return True


def _payloads(disk: Disk, segment: SpoolSegment, group: Group) -> list[bytes]:
    return group.payloads(read_salvaging(disk, segment.name, group.payload_offset, group.payload_bytes))
