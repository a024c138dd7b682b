"""Opening a spool: what the disk holds becomes the state it was left in, whatever happened to it.

Nothing in the files can make it fail, and nothing is written but the last commit, once more. For each segment the
names (its own, its successor's) say which numbers it must hold; each is then found readable, found acknowledged, or
lost.

**The tail.** After the last group that can be made out there may have been others that cannot: one that was being
written when the power went, or acknowledged ones that have rotted beyond recognition. Only the newest segment has
such a tail, since the others end where the next begins. A record takes at least RECORD_BYTES_MIN of it, which
bounds how many numbers it can have used since it was last resumed, which its name tells; the sequence goes on
beyond that bound, and so gives no number twice. Closing in good order leaves a CLOSED group, and then there is no
tail, unless the name says that the segment was resumed after it.

**The last group.** Nothing on a disk tells a torn write from rot. Unreadable records of the last group are
therefore reported as "unfinished", and readable ones after them are kept but marked as uncertain.
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
from agents.spool.foreign import foreign_epochs, like_a_segment
from agents.spool.survey import (
    Seen,
    SpoolState,
    Survey,
    look_at,
    lose,
    lose_the_missing_carried,
    survey,
    take_summary,
    upper_bound,
)
from agents.spool.types import GapReason, Priority, SpoolGap, SpoolLimits
from hal.disk import Disk, DiskError, DiskErrorKind
from settings.ranges import RangeSet

_SKIPPED_MAX = 2**31  # numbers; a file's name has room for twice as many


class Recovered(NamedTuple):
    """A record that was in the spool when it was opened, acknowledged to its source or delivered since or not.

    `certain` is False behind an unreadable record of the last group, or when the last group could not be made
    durable: its source may never have been told, and its being here is no proof that what the source sent before
    is here too.
    """

    seq: int
    priority: Priority
    payload: bytes
    certain: bool


class RecoveredSpool:
    """What opening found. `records` can be read until the first append."""

    def __init__(self, state: SpoolState, newest: dict[int, list[Seen]]) -> None:
        self.snapshot = b""  # the newest one that can be read
        self.salvaged = 0  # readable records that wait for delivery
        self.gaps: tuple[SpoolGap, ...] = ()  # found now; they are reported with the first append
        self.was_closed = False  # in good order
        self.left_alone = state.log.left_alone  # files of other epochs, or in another format
        self.doubtful_from = (
            0  # a number: readable records from there on may never have been acknowledged; 0: none
        )
        self.snapshot_generation = 0
        self.log_begin = (
            0  # by the newest checkpoint: the first number that a segment must hold; 0: not known
        )
        self._state = state
        self._newest = newest  # by generation, what opening read: kept for the first `records`

    def records(self) -> Iterator[Recovered]:
        """Every readable record appended since `snapshot` was taken, in order, delivered ones too."""
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
        bad = group.bad(payloads)
        doubt_from = self.doubtful_from
        for at, payload in enumerate(payloads):
            seq = group.first_seq + at
            if at not in bad and seq not in lost:
                certain = not doubt_from or seq < doubt_from
                yield Recovered(seq, Priority(group.priorities[at]), payload, certain)


def recover(disk: Disk, limits: SpoolLimits, random: Random) -> tuple[SpoolState, RecoveredSpool]:
    """Read what is needed. Errors: DiskError GONE or IO, if the disk does not even give its directory."""
    state = SpoolState(_find_segments(disk, limits, random))
    newest: dict[int, list[Seen]] = {}
    recovery = RecoveredSpool(state, newest)
    _read_newest(state, recovery, newest)
    _lose_the_missing_oldest(state, recovery)
    found, last_group, carried = Survey(1), None, list[tuple[int, int]]()
    summaries = _read_summaries(state, newest)
    for segment in state.log.segments:
        summary = summaries.get(segment.generation)
        if summary is not None and take_summary(state, segment, *summary):
            continue
        seen = newest.get(segment.generation)
        found = survey(state, segment, look_at(state.log, segment) if seen is None else seen)
        last_group = found.last or last_group
        carried += found.carried
    lose_the_missing_carried(state, carried)
    _settle_tail(state, recovery, found, last_group)
    recovery.salvaged = state.log.totals.routine_records + sum(map(len, state.indexes.values()))
    recovery.gaps = tuple(state.ledger.pending(limits.gap_ranges_max))
    return state, recovery


def _find_segments(disk: Disk, limits: SpoolLimits, random: Random) -> SegmentLog:
    """The files by their names. Other epochs' (a disk from another box, a newer program) are left alone.

    The epoch is the one with the most files, of those that this program can read. Of two files with the same
    generation (a restored copy beside the segment) the one that was written last counts.
    """
    names = disk.names()
    foreign = foreign_epochs(disk, names)
    segments = (fields for name in names if (fields := parse_name(name)) and fields[0] not in foreign)
    parsed = sorted((fields[1], fields[4], *fields) for fields in segments)
    files = Counter(fields[2] for fields in parsed)
    newest = {file_epoch: generation for generation, _, file_epoch, *_ in parsed}
    epoch = max(files, key=lambda e: (files[e], newest[e])) if files else _new_epoch(foreign, random)
    log = SegmentLog(disk, limits, epoch)
    log.left_alone = sum(like_a_segment(name) for name in names) - files[epoch]
    for generation, _, file_epoch, _, base, skipped, resumed, begin in parsed:
        if file_epoch == epoch:
            segment = SpoolSegment(file_epoch, generation, base, skipped, resumed, begin, totals=log.totals)
            segment.size = _size(disk, segment.name)
            if not generation:
                (log.spares if log.fits(segment) else log.useless).append(segment.name)
            elif log.segments and log.segments[-1].generation == generation:
                log.leave_out(log.segments[-1])
                log.take_in(segment)
            else:
                log.take_in(segment)
    if log.segments:
        log.generation, log.next_seq = log.segments[-1].generation, log.segments[-1].base
    return log


def _new_epoch(taken: Container[int], random: Random) -> int:
    while (epoch := random.getrandbits(32)) in taken:
        pass
    return epoch


def _size(disk: Disk, name: str) -> int:
    """The file's size, 0 if the disk does not even tell that. Errors: DiskError GONE."""
    try:
        return disk.size(name)
    except DiskError as error:
        if error.kind is DiskErrorKind.GONE:
            raise
        return 0


def _read_summaries(
    state: SpoolState, newest: dict[int, list[Seen]]
) -> dict[int, tuple[SegmentContents, int, int]]:
    """Of a large spool the sealed segments' summaries, by generation, but for those that have to be surveyed.

    These are pairs of segments that hold the same alerts: one was carried to the other, and not written again yet.
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
    there = {segment.generation for segment in log.segments}
    for generation, source in copies.items():
        if source in there:
            summaries.pop(generation, None)
            summaries.pop(source, None)
    return summaries


def _lose_the_missing_oldest(state: SpoolState, recovery: RecoveredSpool) -> None:
    """Files that the newest checkpoint, or the newest name, still expected before the oldest segment are missing."""
    segments = state.log.segments
    begin = recovery.log_begin or (segments[-1].begin if segments else 0)
    if begin:
        lose(state, begin, segments[0].base - segments[0].skipped - 1)


def _read_newest(state: SpoolState, recovery: RecoveredSpool, newest: dict[int, list[Seen]]) -> None:
    """Cursors, snapshot and what has been reported, from the newest segments that have them: usually the last.

    What was seen of these goes to `newest` by generation, so that nothing is read twice.
    """
    log, have_cursors = state.log, False
    for segment in reversed(log.segments):
        seen = newest[segment.generation] = list(look_at(log, segment))
        for group, bad in seen:
            if group.kind is GroupKind.DATA and group.last_seq >= upper_bound(log, segment):
                break
            _read_lost(state, recovery, segment, group, bad)
            # what moves a cursor past dropped records is no more to be believed than its report can be read
            if not have_cursors and not bad:
                state.cursors = [max(pair) for pair in zip(state.cursors, group.cursors, strict=True)]
        have_cursors = have_cursors or any(
            not bad and group.kind is not GroupKind.SUMMARY for group, bad in seen
        )
        if have_cursors and recovery.snapshot_generation:
            break


def _read_lost(
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


def _settle_tail(
    state: SpoolState, recovery: RecoveredSpool, found: Survey, last_group: Group | None
) -> None:
    """Decide where the sequence goes on, and in which segment. `found` is the survey of the newest segment."""
    log = state.log
    if not log.segments:
        return
    newest = log.segments[-1]
    log.next_seq, recovery.was_closed = found.next_seq, found.was_closed
    if found.successor_seq:
        _skip_missing_newest(state, found.successor_seq)
    elif not recovery.was_closed:
        if last_group is not None:
            first, last = last_group.first_seq, last_group.last_seq
            unreadable = state.ledger.reclassify(first, last, GapReason.CORRUPT, GapReason.UNFINISHED)
            recovery.doubtful_from = unreadable
        unseen = (_largest(log) - newest.end) // RECORD_BYTES_MIN
        _skip(state, max(newest.resumed - log.next_seq, 0) + unseen, _reason_of_tail(log))
    if (
        newest.end == 0 and log.fits(newest) and not found.successor_seq
    ):  # begun, and nothing in it can be read: free for another try
        log.skipped += newest.skipped
        log.leave_out(newest)
        log.spares.append(newest.name)
    elif not log.fits(newest) or found.successor_seq:
        newest.contents = None  # it is not written again, nor sealed
    elif recovery.was_closed or _made_durable(log.disk, newest, last_group):
        log.active = log.found = newest  # with no room in it until it is resumed
    elif last_group is not None:  # it can be read, but who knows from where
        recovery.doubtful_from = recovery.doubtful_from or last_group.first_seq
    log.free_dead()
    log.hold(state.ledger.unreported_in)


def _skip_missing_newest(state: SpoolState, successor_seq: int) -> None:
    """The newest segment was sealed: it had a successor, which is missing, and perhaps more.

    How many numbers those had given out is not known, so the sequence goes on beyond what they can have.
    """
    log = state.log
    lose(state, log.next_seq, successor_seq - 1)
    log.next_seq = successor_seq
    most = log.limits.segments_max * (_largest(log) // RECORD_BYTES_MIN)
    _skip(state, min(most, _SKIPPED_MAX), GapReason.CORRUPT)


def _skip(state: SpoolState, numbers: int, reason: GapReason) -> None:
    """Go on beyond `numbers` that may have been given out, and must not be given out again."""
    log = state.log
    log.skipped = numbers
    state.ledger.find(log.next_seq, log.next_seq + numbers - 1, reason)
    log.next_seq += numbers


def _reason_of_tail(log: SegmentLog) -> GapReason:
    """UNUSED, unless it is known that the newest segment has lost something."""
    newest = log.segments[-1]
    before = log.segments[-2] if len(log.segments) > 1 else None
    was_begun = newest.end == 0 and before is not None and read_summary(log.disk, before) is not None
    is_cut = newest.size < log.limits.segment_bytes and newest.size not in {s.size for s in log.segments[:-1]}
    return GapReason.CORRUPT if is_cut or was_begun else GapReason.UNUSED


def _largest(log: SegmentLog) -> int:
    """The size that a segment may have had before an accident."""
    return max(log.limits.segment_bytes, *(segment.size for segment in log.segments))


def _made_durable(disk: Disk, newest: SpoolSegment, last_group: Group | None) -> bool:
    """Write the last commit again, and flush it: reading it is no proof that the media has it.

    A killed process leaves groups in the cache that were never flushed, or whose flush failed; then the cache holds
    them to be clean, and another flush alone would do nothing. The last commit is the last group of records, or,
    if that is the segment's first, all the segment begins with.
    """
    is_first = last_group is None or last_group.first_seq <= newest.base
    start = 0 if is_first or last_group is None else last_group.offset
    try:
        disk.commit(newest.name, start, disk.read(newest.name, start, newest.end - start))
    except DiskError as error:
        if error.kind is DiskErrorKind.GONE:
            raise
        return False
    return True


def _payloads(disk: Disk, segment: SpoolSegment, group: Group) -> list[bytes]:
    return group.payloads(read_salvaging(disk, segment.name, group.payload_offset, group.payload_bytes))
