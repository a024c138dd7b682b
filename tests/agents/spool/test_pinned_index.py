"""The index of waiting alerts and audit records has the same content as a dictionary, in bounded memory."""

from __future__ import annotations

from random import Random

import pytest

from agents.spool.disk.segment import SpoolSegment
from agents.spool.disk.summary import Carried
from agents.spool.disk.totals import Totals
from agents.spool.waiting import pinned
from agents.spool.waiting.index import RecordPosition
from agents.spool.waiting.pinned import PinnedIndex

RESIDENT_MAX = 12


class Indexed:
    """An index, and the dictionary it must agree with: the position of each waiting record by its number."""

    def __init__(self) -> None:
        self.index = PinnedIndex()
        self.index.load, self.index.is_kept = self.load, lambda segment: segment is self.segments[-1]
        self.totals = Totals()
        self.segments: list[SpoolSegment] = []
        self.waiting: dict[int, RecordPosition] = {}
        self.loads = 0
        self.next = 1

    def segment(self) -> SpoolSegment:
        segment = SpoolSegment(7, len(self.segments) + 1, self.next, size=1000, totals=self.totals)
        self.segments.append(segment)
        return segment

    def position(self, segment: SpoolSegment, seq: int) -> RecordPosition:
        return RecordPosition(seq, segment.generation, 100 * seq, seq % 7, seq)

    def add(self, segment: SpoolSegment, seq: int) -> None:
        self.waiting[seq] = self.position(segment, seq)
        self.index.add(segment, self.waiting[seq])

    def append(self, segment: SpoolSegment, skip: int = 0) -> None:
        self.next += skip
        self.add(segment, self.next)
        self.next += 1

    def of(self, segment: SpoolSegment) -> list[RecordPosition]:
        positions = [p for p in self.waiting.values() if p.generation == segment.generation]
        return sorted(positions, key=lambda position: position.seq)

    def load(self, segment: SpoolSegment) -> None:
        """Add the positions of a segment again, as if it were read from the disk."""
        self.loads += 1
        self.index.forget(segment)
        for position in self.of(segment):
            self.index.add(segment, position)

    def unread(self, segment: SpoolSegment, own: list[int], carried: list[int] = []) -> None:  # noqa: B006
        """Add a segment as its summary describes it."""
        counts = []
        for seqs in (own, carried):
            count = Carried()
            for seq in seqs:
                self.waiting[seq] = self.position(segment, seq)
                count.add(seq, self.waiting[seq].length)
            counts.append(count)
        self.index.add_unread(segment, *counts)
        self.next = max([self.next, *(seq + 1 for seq in own)])

    def check(self) -> None:
        positions = sorted(self.waiting.values(), key=lambda position: position.seq)
        assert len(self.index) == len(positions) == sum(s.pinned_records for s in self.segments)
        assert self.index.bytes == sum(position.length for position in positions) == self.totals.pinned_bytes
        for segment in self.segments:
            own = self.of(segment)
            assert (segment.pinned_records, segment.pinned_bytes) == (len(own), sum(p.length for p in own))
            assert segment.is_dead is not bool(own)
        live = [segment for segment in self.segments if self.of(segment)]
        assert (self.totals.live_segments, self.totals.live_bytes) == (len(live), 1000 * len(live))

    def in_memory(self) -> int:
        return sum(self.index.resident_generation(seq) > 0 for seq in self.waiting)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "RESIDENT_RECORDS_MAX", RESIDENT_MAX)


@pytest.mark.parametrize("seed", range(12))
def test_the_index_agrees_with_a_dictionary_after_any_operations(seed: int) -> None:
    random, world = Random(seed), Indexed()
    segment = world.segment()
    for _ in range(300):
        waiting = sorted(world.waiting)
        chance = random.random()
        if chance < 0.5 or not waiting:
            world.append(segment, random.choice((0, 0, 3)))
        elif chance < 0.6:
            segment = world.segment()
            if random.random() < 0.5:  # the records of the oldest segment are carried to the new one
                oldest = next(s for s in world.segments if world.of(s) or s is segment)
                moved = world.of(oldest) if oldest is not segment else []
                world.index.forget(oldest)
                for position in moved:
                    world.add(segment, position.seq)
        elif chance < 0.7:
            seq = random.choice(waiting)
            position = world.waiting[seq]
            assert world.index.remove(seq, position.generation) == position
            del world.waiting[seq]
        elif chance < 0.8:
            through = random.choice(waiting[: len(waiting) // 3 + 1])
            for seq in [seq for seq in waiting if seq <= through]:
                del world.waiting[seq]
            world.index.pop_through(through)
        else:
            after, count = random.randrange(world.next + 1), random.randrange(1, 9)
            expected = [world.waiting[seq] for seq in waiting if seq > after][:count]
            assert world.index.after(after, count) == expected
            assert world.index.between(after, after + count) == [
                n for n in waiting if after <= n <= after + count
            ]
            assert world.index.find(after) == world.waiting.get(after)
            queried = random.choice(world.segments)
            assert world.index.of_segment(queried.generation) == world.of(queried)
        world.check()


def test_a_segment_known_by_its_summary_is_read_when_its_records_are_requested() -> None:
    world = Indexed()
    first, second = world.segment(), world.segment()
    world.unread(first, [3, 5, 9])
    world.unread(second, [20, 21], [1, 2])
    world.segment()
    world.check()
    assert world.loads == world.in_memory() == 0
    assert [position.seq for position in world.index.after(0, 3)] == [1, 2, 3]
    assert world.loads == 2
    assert [position.seq for position in world.index.after(3, 9)] == [5, 9, 20, 21]
    assert world.loads == 2 and world.in_memory() == 7
    world.check()


@pytest.mark.parametrize(
    ("own", "carried"), [([20, 21], []), ([], [1, 2]), ([20, 21], [1, 2]), ([20], [1]), ([], [])]
)
def test_records_of_a_summary_are_found_at_both_ends_and_acknowledged(
    own: list[int], carried: list[int]
) -> None:
    for through in (0, 1, 2, 20, 21):
        world = Indexed()
        world.unread(world.segment(), own, carried)
        world.segment()
        seqs = [*carried, *own]
        for seq in seqs:
            position = world.index.find(seq)
            assert position is not None and position.seq == seq
        world.index.pop_through(through)
        world.waiting = {seq: position for seq, position in world.waiting.items() if seq > through}
        world.check()
        assert [position.seq for position in world.index.after(0, 9)] == [
            seq for seq in seqs if seq > through
        ]


def test_a_segment_whose_records_are_all_acknowledged_is_not_read() -> None:
    world = Indexed()
    world.unread(world.segment(), [3, 5, 9])
    world.index.pop_through(9)
    world.waiting.clear()
    world.check()
    assert world.loads == 0


def test_positions_in_memory_are_limited_and_the_least_recently_used_are_dropped() -> None:
    world = Indexed()
    for _ in range(6):
        segment = world.segment()
        for _ in range(5):
            world.append(segment)
        assert world.in_memory() <= RESIDENT_MAX + 5, "not counting the segment being written"
    world.index.of_segment(1)
    assert world.loads == 1 and world.in_memory() <= RESIDENT_MAX
    world.index.of_segment(1)
    assert world.loads == 1, "the segment is still in memory"
    world.index.of_segment(6)
    assert world.loads == 1, "the segment being written stays in memory"
    world.check()


def test_forgotten_and_acknowledged_positions_no_longer_count_as_resident() -> None:
    world = Indexed()
    first, second = world.segment(), world.segment()
    for segment in (first, second):
        for _ in range(6):
            world.append(segment)
    world.index.forget(first)
    world.waiting = {seq: position for seq, position in world.waiting.items() if position.generation == 2}
    third = world.segment()
    for _ in range(6):
        world.append(third)
    world.index.of_segment(2)
    assert world.loads == 0 and world.in_memory() == RESIDENT_MAX
    world.index.pop_through(9)
    for seq in (7, 8, 9):
        del world.waiting[seq]
    world.index.remove(10, 2)
    del world.waiting[10]
    fourth = world.segment()
    for _ in range(4):
        world.append(fourth)
    world.index.of_segment(2)
    world.index.of_segment(3)
    assert world.loads == 0 and world.in_memory() == RESIDENT_MAX
    world.check()
