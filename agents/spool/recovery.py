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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from agents.spool.checkpoint import unpack_checkpoint, unpack_ranges, unpack_runs
from agents.spool.group import RECORD_BYTES_MIN, Group, Kind
from agents.spool.index import Place, PlaceIndex
from agents.spool.ledger import Ledger
from agents.spool.log import Log
from agents.spool.ranges import RangeSet
from agents.spool.routine import count_group
from agents.spool.segment import Segment, groups, parse_name, read_salvaging
from agents.spool.terms import Gap, GapReason, Priority, SpoolLimits
from hal.disk import Disk, DiskError, DiskErrorKind

Seen = tuple[Group, list[int]]  # and the positions of its unreadable records
PINNED = (Priority.ALERT, Priority.AUDIT)


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


@dataclass(slots=True)
class State:
    """All that a spool knows, rebuilt."""

    log: Log
    ledger: Ledger = field(default_factory=Ledger)
    cursors: list[int] = field(default_factory=lambda: [0, 0, 0])
    indexes: dict[Priority, PlaceIndex] = field(default_factory=lambda: {p: PlaceIndex() for p in PINNED})


class Recovery:
    """What opening found. `records` can be read until the first append."""

    def __init__(self, state: State, newest: dict[int, list[Seen]]) -> None:
        self.snapshot = b""  # the newest one that can be read
        self.salvaged = 0  # readable records that wait for delivery
        self.gaps: tuple[Gap, ...] = ()  # found now; they are reported with the first append
        self.was_closed = False  # in good order
        self.doubtful_from = (
            0  # a number: readable records from there on may never have been acknowledged; 0: none
        )
        self.snapshot_generation = 0
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
                if group.kind is Kind.DATA and group.end <= segment.end:
                    yield from self._records(segment, group, lost)
        self._newest.clear()

    def _records(self, segment: Segment, group: Group, lost: RangeSet) -> Iterator[Recovered]:
        payloads = _payloads(self._state.log.disk, segment, group)
        bad = group.bad(payloads)
        doubt_from = self.doubtful_from
        for at, payload in enumerate(payloads):
            seq = group.first_seq + at
            if at not in bad and seq not in lost:
                certain = not doubt_from or seq < doubt_from
                yield Recovered(seq, Priority(group.priorities[at]), payload, certain)


def recover(disk: Disk, limits: SpoolLimits, random: Random) -> tuple[State, Recovery]:
    """Read everything. Errors: DiskError GONE or IO, if the disk does not even give its directory."""
    state = State(_find_segments(disk, limits, random))
    newest: dict[int, list[Seen]] = {}
    recovery = Recovery(state, newest)
    _read_newest(state, recovery, newest)
    last_group, carried = None, list[tuple[int, int]]()
    for segment in state.log.segments:
        seen = newest.get(segment.generation) or _look_at(state.log, segment)
        last_group = _survey(state, recovery, segment, seen, carried) or last_group
    _lose_the_missing_carried(state, carried)
    _settle_tail(state, recovery, last_group)
    recovery.gaps = tuple(state.ledger.pending(limits.gap_ranges_max))
    return state, recovery


def _find_segments(disk: Disk, limits: SpoolLimits, random: Random) -> Log:
    """The files by their names. Other epochs' (a disk from another box) are left alone."""
    parsed = sorted((fields[1], *fields) for name in disk.names() if (fields := parse_name(name)))
    epoch = parsed[-1][1] if parsed else random.getrandbits(32)
    log = Log(disk, limits, epoch)
    for generation, file_epoch, _, base, skipped, resumed in parsed:
        segment = Segment(file_epoch, generation, base, skipped, resumed)
        if file_epoch != epoch or disk.size(segment.name) != limits.segment_bytes:
            continue
        if generation:
            log.segments.append(segment)
        else:
            log.spares.append(segment.name)
    if log.segments:
        log.generation, log.next_seq = log.segments[-1].generation, log.segments[-1].base
    return log


def _look_at(log: Log, segment: Segment) -> Iterator[Seen]:
    """The groups that can be made out in a segment, each with the positions of its unreadable records."""
    for group in groups(log.disk, segment, 0, log.limits.segment_bytes):
        yield group, group.bad(_payloads(log.disk, segment, group))
    segment.remembered.clear()


def _read_newest(state: State, recovery: Recovery, newest: dict[int, list[Seen]]) -> None:
    """Cursors, snapshot and what has been reported, from the newest segments that have them: usually the last.

    What was seen of these goes to `newest` by generation, so that nothing is read twice.
    """
    log, have_cursors = state.log, False
    for segment in reversed(log.segments):
        seen = newest[segment.generation] = list(_look_at(log, segment))
        for group, bad in seen:
            if group.kind is Kind.DATA and group.last_seq >= _upper(log, segment):
                break
            _read_lost(state, recovery, segment, group, bad)
            # what moves a cursor past dropped records is no more to be believed than its report can be read
            if not have_cursors and not bad:
                state.cursors = [max(pair) for pair in zip(state.cursors, group.cursors, strict=True)]
        have_cursors = have_cursors or any(not bad for _, bad in seen)
        if have_cursors and recovery.snapshot_generation:
            break


def _read_lost(state: State, recovery: Recovery, segment: Segment, group: Group, bad: Sequence[int]) -> None:
    if group.kind is Kind.CHECKPOINT:
        ranges, snapshot = unpack_checkpoint(group.aux)
        if not recovery.snapshot_generation:
            recovery.snapshot, recovery.snapshot_generation = snapshot, segment.generation
    elif group.kind is Kind.DATA and group.aux and not bad:
        ranges = unpack_ranges(group.aux)
    else:
        return
    for first, last in ranges:
        state.ledger.lost.add(first, last)


def _survey(
    state: State,
    recovery: Recovery,
    segment: Segment,
    seen: Iterable[Seen],
    carried: list[tuple[int, int]],
) -> Group | None:
    """Go through one segment; returns the last group of records in it.

    What was carried to it, (number, priority), is added to `carried`: the carried groups say it as well as the
    manifests, and each may be the only one that can still be read.
    """
    log, is_newest = state.log, segment is state.log.segments[-1]
    upper = _upper(log, segment)
    expected, last = segment.base, None
    _lose(state, segment.base - segment.skipped, segment.base - 1, GapReason.UNUSED)
    for group, bad in seen:
        if group.kind is Kind.DATA:
            if group.last_seq >= upper:
                break  # its flush failed, and it was written again in the next segment
            if group.first_seq < expected:
                continue
            _lose(state, expected, group.first_seq - 1)
            _take_data(state, recovery, segment, group, bad)
            expected, last = group.last_seq + 1, group
        elif group.kind in (Kind.CARRIED, Kind.MANIFEST):
            carried += unpack_runs(group.aux)
            if group.kind is Kind.CARRIED:
                _take_carried(state, recovery, segment, group, bad)
        elif group.kind is Kind.CLOSED and expected < group.first_seq < upper:
            _lose(state, expected, group.first_seq - 1)
            expected = group.first_seq
        good_end = group.kind is Kind.CLOSED and group.first_seq > segment.resumed
        recovery.was_closed = is_newest and good_end
        segment.end = group.end
    if is_newest:
        log.next_seq = expected
    else:
        _lose(state, expected, upper - 1)
    return last


def _take_data(state: State, recovery: Recovery, segment: Segment, group: Group, bad: Sequence[int]) -> None:
    for at in bad:
        if group.first_seq + at > state.cursors[group.priorities[at]]:
            state.ledger.find(group.first_seq + at, group.first_seq + at, GapReason.CORRUPT)
    records, size = count_group(group, state.cursors[Priority.ROUTINE], group.last_seq, state.ledger)
    if not records and not segment.routine_records:
        segment.routine_at, segment.routine_seq = group.end, group.last_seq + 1
    segment.routine_records += records
    segment.routine_bytes += size
    recovery.salvaged += records
    if group.priorities.count(Priority.ROUTINE) < group.count:
        seqs = range(group.first_seq, group.last_seq + 1)
        for place, priority in places(segment, group, zip(seqs, group.priorities, strict=True)):
            if place.seq not in state.ledger.lost:
                _index(state, recovery, segment, place, priority)


def _take_carried(
    state: State, recovery: Recovery, segment: Segment, group: Group, bad: Sequence[int]
) -> None:
    for at, (place, priority) in enumerate(places(segment, group, unpack_runs(group.aux))):
        if at not in bad and place.seq not in state.ledger.lost:
            _index(state, recovery, segment, place, priority)


def places(
    segment: Segment, group: Group, numbered: Iterator[tuple[int, int]]
) -> Iterator[tuple[Place, int]]:
    """Where in `segment` the alerts and audit records of `group` are, with their priorities."""
    offset = group.payload_offset
    for (seq, priority), length, crc in zip(numbered, group.lengths, group.crcs, strict=True):
        if priority != Priority.ROUTINE:
            yield Place(seq, segment.generation, offset, length, crc), priority
        offset += length


def _index(state: State, recovery: Recovery, segment: Segment, place: Place, priority: int) -> None:
    if place.seq <= state.cursors[priority]:
        return
    old = state.indexes[Priority(priority)].put(place)
    if old is not None:  # carried, and the segment it came from is still there
        previous = state.log.of_generation(old.generation)
        previous.pinned_records -= 1
        previous.pinned_bytes -= old.length
        recovery.salvaged -= 1
    segment.pinned_records += 1
    segment.pinned_bytes += place.length
    recovery.salvaged += 1


def _lose(state: State, first: int, last: int, reason: GapReason = GapReason.CORRUPT) -> None:
    """Numbers of unknown priority that cannot be made out: lost, unless acknowledged in all priorities."""
    state.ledger.find(max(first, min(state.cursors) + 1), last, reason)


def _upper(log: Log, segment: Segment) -> int:
    """The number from which on `segment` cannot hold any: what its successor begins with."""
    return 1 << 64 if segment is log.segments[-1] else log.upper_bound(segment)


def _lose_the_missing_carried(state: State, carried: list[tuple[int, int]]) -> None:
    """Compare what was carried with what is there."""
    for seq, priority in carried:
        if seq > state.cursors[priority] and seq not in state.indexes[Priority(priority)]:
            state.ledger.find(seq, seq, GapReason.CORRUPT)


def _settle_tail(state: State, recovery: Recovery, last_group: Group | None) -> None:
    """Decide where the sequence goes on, and in which segment."""
    log = state.log
    if not log.segments:
        return
    newest = log.segments[-1]
    if not recovery.was_closed:
        if last_group is not None:
            first, last = last_group.first_seq, last_group.last_seq
            unreadable = state.ledger.reclassify(first, last, GapReason.CORRUPT, GapReason.UNFINISHED)
            recovery.doubtful_from = unreadable
        unseen = (log.limits.segment_bytes - newest.end) // RECORD_BYTES_MIN
        log.skipped = max(newest.resumed - log.next_seq, 0) + unseen
        state.ledger.find(log.next_seq, log.next_seq + log.skipped - 1, GapReason.UNUSED)
        log.next_seq += log.skipped
    if newest.end == 0:  # begun, and nothing in it can be read: free for another try
        log.skipped += newest.skipped
        log.spares.append(log.segments.pop().name)
    elif recovery.was_closed or _made_durable(log.disk, newest, last_group):
        log.active = log.found = newest  # with no room in it until it is resumed
    elif last_group is not None:  # it can be read, but who knows from where
        recovery.doubtful_from = recovery.doubtful_from or last_group.first_seq
    for segment in log.dead():
        segment.freed_at = 0
    log.hold(state.ledger.unreported_in)


def _made_durable(disk: Disk, newest: Segment, last_group: Group | None) -> bool:
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


def _payloads(disk: Disk, segment: Segment, group: Group) -> list[bytes]:
    return group.payloads(read_salvaging(disk, segment.name, group.payload_offset, group.payload_bytes))
