"""Single parts of the spool: position indexes, the gap ledger, limits, file names, encodings."""

from __future__ import annotations

from random import Random

import pytest

from agents.spool import GapReason, Priority, Spool, SpoolLimits
from agents.spool.disk.checkpoint import (
    pack_checkpoint,
    pack_ranges,
    pack_runs,
    unpack_checkpoint,
    unpack_ranges,
    unpack_runs,
)
from agents.spool.disk.group import (
    CURSORS,
    HEADER_BYTES,
    MAGIC,
    PREFIX,
    RECORD_BYTES_MIN,
    GroupHeading,
    GroupKind,
    body_bytes,
    decode,
    encode,
    measure,
    merge,
    payload_offset,
)
from agents.spool.disk.segment import parse_name, segment_name
from agents.spool.disk.summary import Carried, SegmentContents, pack_summary, unpack_summary
from agents.spool.types import (
    SECTOR_BYTES,
    SEGMENT_BYTES_MIN,
    SEGMENTS_MAX,
    SpoolGap,
    segment_bytes_for,
)
from agents.spool.waiting.index import PositionIndex, RecordPosition
from agents.spool.waiting.ledger import GapLedger
from hal.emul.disk import EmulDisk
from tests.support.agents.spool.model import encode_gap

# -- the index of one segment


def position(seq: int, length: int = 10) -> RecordPosition:
    return RecordPosition(seq, 0xFFFF_FFFF - seq, 0xFFFF_0000 + seq, length, 0xF000_0000 + seq)


def index_of(*seqs: int) -> PositionIndex:
    index = PositionIndex()
    for seq in seqs:
        assert index.put(position(seq)) is None
    return index


def seqs_of(positions: list[RecordPosition]) -> list[int]:
    return [position.seq for position in positions]


def test_an_index_is_sorted_whatever_the_order_of_its_records() -> None:
    index = index_of(5, 9, 7, 1)
    assert index.all() == [position(1), position(5), position(7), position(9)]
    assert (len(index), index.bytes, index.last_seq) == (4, 40, 9)
    assert [seq in index for seq in (0, 1, 2, 5, 9, 10)] == [False, True, False, True, True, False]


def test_an_empty_index_finds_nothing() -> None:
    index = PositionIndex()
    assert (len(index), index.bytes, index.last_seq, index.all()) == (0, 0, 0, [])
    assert index.after(0, 10) == [] and index.between(0, 10) == [] and index.pop_through(10) == []
    assert index.remove(1) is None and 1 not in index


def test_a_record_that_has_moved_replaces_its_old_position() -> None:
    index = index_of(5, 7, 9)
    for seq in (5, 7, 9):
        moved = position(seq)._replace(generation=1, offset=2)
        assert index.put(moved) == position(seq)
        assert index.after(seq - 1, 1) == [moved]
    assert (len(index), index.bytes) == (3, 30)


def test_positions_after_a_number_are_returned_in_order() -> None:
    index = index_of(5, 7, 9)
    assert seqs_of(index.after(0, 2)) == [5, 7]
    assert seqs_of(index.after(5, 2)) == [7, 9]
    assert seqs_of(index.after(6, 5)) == [7, 9]
    assert index.after(9, 5) == []
    assert index.between(5, 9) == [5, 7, 9]
    assert index.between(6, 8) == [7]
    assert index.between(10, 20) == []


def test_acknowledged_positions_are_no_longer_found() -> None:
    index = index_of(5, 7, 9)
    assert seqs_of(index.pop_through(7)) == [5, 7]
    assert (len(index), index.bytes, index.last_seq) == (1, 10, 9)
    assert 7 not in index and index.remove(5) is None
    assert seqs_of(index.after(0, 9)) == [9] and index.between(0, 99) == [9] and seqs_of(index.all()) == [9]
    assert index.put(position(8)) is None
    assert seqs_of(index.all()) == [8, 9]
    assert seqs_of(index.pop_through(9)) == [8, 9]
    assert index.last_seq == 0


def test_removing_a_position_keeps_the_others() -> None:
    index = index_of(5, 7, 9)
    assert index.remove(6) is None and index.remove(10) is None
    assert index.remove(7) == position(7)
    assert (seqs_of(index.all()), index.bytes) == ([5, 9], 20)


def test_an_index_keeps_the_unacknowledged_positions() -> None:
    index = index_of(*range(1, 5001))
    for through in range(100, 5001, 100):
        index.pop_through(through)
        assert len(index) == 5000 - through
        assert seqs_of(index.after(0, 2)) == [n for n in (through + 1, through + 2) if n <= 5000]


# -- gaps


def test_each_number_is_lost_once_and_reported_once() -> None:
    ledger = GapLedger()
    ledger.mark_lost(5, 9, GapReason.CORRUPT)
    ledger.mark_lost(6, 9, GapReason.FULL)
    ledger.mark_lost(9, 10, GapReason.FULL)
    ledger.mark_lost(20, 25, GapReason.UNUSED)
    assert ledger.pending(10) == [
        SpoolGap(((5, 9),), 5, GapReason.CORRUPT),
        SpoolGap(((10, 10),), 1, GapReason.FULL),
        SpoolGap(((20, 25),), 0, GapReason.UNUSED),
    ]
    assert ledger.unreported_count() == 3
    for gap in ledger.pending(10):
        ledger.mark_reported(gap)
    assert ledger.pending(10) == [] and ledger.unreported_count() == 0
    ledger.mark_lost(5, 10, GapReason.CORRUPT)
    assert ledger.pending(10) == []


def test_a_gap_has_a_limited_number_of_ranges_in_ascending_order() -> None:
    ledger = GapLedger()
    for first in (1, 5, 9, 13):
        ledger.mark_lost(first, first, GapReason.CORRUPT)
    ledger.mark_lost(7, 7, GapReason.FULL)
    assert [gap.ranges for gap in ledger.pending(3)] == [((1, 1), (5, 5), (9, 9)), ((7, 7),), ((13, 13),)]
    ledger.mark_reported(ledger.pending(3)[0])
    assert [gap.ranges for gap in ledger.pending(3)] == [((7, 7),), ((13, 13),)]


def test_unreported_losses_are_found_at_both_ends_of_a_range() -> None:
    ledger = GapLedger()
    ledger.mark_lost(5, 9, GapReason.CORRUPT)
    assert [ledger.unreported_in(*ends) for ends in ((1, 4), (1, 5), (6, 7), (9, 12), (10, 12))] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_only_losses_within_the_range_are_reclassified() -> None:
    ledger = GapLedger()
    ledger.mark_lost(1, 2, GapReason.CORRUPT)
    ledger.mark_lost(4, 10, GapReason.CORRUPT)
    ledger.mark_lost(12, 12, GapReason.UNUSED)
    assert ledger.reclassify(6, 20, GapReason.CORRUPT, GapReason.UNFINISHED) == 6
    assert ledger.pending(9) == [
        SpoolGap(((1, 2), (4, 5)), 4, GapReason.CORRUPT),
        SpoolGap(((6, 10),), 5, GapReason.UNFINISHED),
        SpoolGap(((12, 12),), 0, GapReason.UNUSED),
    ]
    assert ledger.reclassify(6, 20, GapReason.CORRUPT, GapReason.UNFINISHED) == 0
    assert ledger.reclassify(1, 5, GapReason.CORRUPT, GapReason.UNFINISHED) == 1
    assert GapReason.CORRUPT not in ledger.unreported
    assert ledger.reclassify(1, 5, GapReason.FULL, GapReason.UNFINISHED) == 0


def test_the_newest_reported_losses_are_kept() -> None:
    ledger = GapLedger()
    for first in (1, 5, 9, 13):
        ledger.mark_lost(first, first + 1, GapReason.CORRUPT)
    for gap in ledger.pending(9):
        ledger.mark_reported(gap)
    ledger.mark_lost(17, 18, GapReason.CORRUPT)
    assert ledger.reported_ranges(0, 9) == [(1, 2), (5, 6), (9, 10), (13, 14)]
    assert ledger.reported_ranges(5, 2) == [(9, 10), (13, 14)]
    assert ledger.reported_ranges(5, 9) == [(6, 6), (9, 10), (13, 14)]
    assert ledger.reported_ranges(14, 9) == []


# -- limits


def limits_of(**changes: int) -> SpoolLimits:
    values = {
        "segment_bytes": 8192,
        "spool_bytes_max": 3 * 8192,
        "record_bytes_max": 100,
        "group_records_max": 10,
        "group_bytes_max": 1000,
        "snapshot_bytes_max": 100,
        "gap_ranges_max": 4,
        "lost_ranges_max": 4,
    }
    return SpoolLimits(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_bytes": 8191, "spool_bytes_max": 1 << 20}, "multiple of 512"),
        ({"spool_bytes_max": 3 * 8192 - 1}, "three segments"),
        ({"record_bytes_max": 1001}, "group_bytes_max must hold"),
        ({"group_bytes_max": 7000}, "segment_bytes must hold"),
        ({"snapshot_bytes_max": 3000}, "segment_bytes must hold"),
        ({"group_records_max": 300}, "segment_bytes must hold"),
        ({"gap_ranges_max": 200}, "segment_bytes must hold"),
        ({"lost_ranges_max": 200}, "segment_bytes must hold"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        limits_of(**changes)


def test_limits_at_their_bounds_are_accepted() -> None:
    assert limits_of().segments_max == 3
    assert limits_of(spool_bytes_max=4 * 8192 - 1).segments_max == 3
    assert limits_of(record_bytes_max=1000).record_bytes_max == 1000


def test_the_largest_group_and_checkpoint_fit_into_their_reserved_bytes() -> None:
    limits = limits_of()
    heading = GroupHeading(PREFIX.pack(MAGIC, 1, 1), 1, bytes(CURSORS.size))
    payloads = [bytes(limits.record_bytes_max)] * limits.group_records_max
    records = measure(bytes(len(payloads)), payloads)
    group = encode(GroupKind.DATA, heading, records, pack_ranges([(1, 2)] * limits.gap_ranges_max))
    assert limits.group_bytes_encoded_max - 2 * SECTOR_BYTES <= len(group) <= limits.group_bytes_encoded_max
    aux = pack_checkpoint([(1, 2)] * limits.lost_ranges_max, bytes(limits.snapshot_bytes_max))
    checkpoint = encode(GroupKind.CHECKPOINT, heading, measure(b"", ()), aux)
    assert limits.checkpoint_bytes_max - 2 * SECTOR_BYTES <= len(checkpoint) <= limits.checkpoint_bytes_max


def test_a_segment_keeps_its_last_sector_for_the_summary_and_a_sixteenth_for_reclaiming() -> None:
    limits = limits_of()
    assert (limits.segment_bytes_usable, limits.segment_bytes_writable) == (8192 - 512, 8192 - 512)
    assert limits_of(segment_bytes=16384, spool_bytes_max=1 << 20).segment_bytes_writable == 15360


@pytest.mark.parametrize(
    ("spool", "segment"),
    [
        (1, SEGMENT_BYTES_MIN),
        (SEGMENTS_MAX * SEGMENT_BYTES_MIN, SEGMENT_BYTES_MIN),
        (SEGMENTS_MAX * SEGMENT_BYTES_MIN + 1, 2 * SEGMENT_BYTES_MIN),
        (8 * SEGMENTS_MAX * SEGMENT_BYTES_MIN, 8 * SEGMENT_BYTES_MIN),
    ],
)
def test_segments_are_as_small_as_the_maximum_number_of_files_allows(spool: int, segment: int) -> None:
    assert segment_bytes_for(spool) == segment
    if spool > 1:
        assert SpoolLimits(spool_bytes_max=spool).segment_bytes == segment


# -- encodings


def test_a_group_is_read_back_from_either_copy_of_its_table() -> None:
    heading = GroupHeading(PREFIX.pack(MAGIC, 7, 8), 40, CURSORS.pack(1, 2, 3))
    records = measure(bytes((2, 0, 1)), [b"routine", b"", b"audit"])
    data = encode(GroupKind.DATA, heading, records, b"aux")
    assert len(data) % SECTOR_BYTES == 0
    body, total = body_bytes(data[:HEADER_BYTES])
    assert (total, body) == (len(data), 3 + 27)
    first = decode(data[:HEADER_BYTES], data[HEADER_BYTES : HEADER_BYTES + body], 512, 512 + total)
    last = decode(data[-HEADER_BYTES:], data[-HEADER_BYTES - body : -HEADER_BYTES], 512, 512 + total)
    assert first is not None and first == last
    assert (first.offset, first.end, first.kind) == (512, 512 + total, GroupKind.DATA)
    assert (first.first_seq, first.last_seq, first.count) == (40, 42, 3)
    assert (first.cursors, first.aux) == ((1, 2, 3), b"aux")
    assert (first.lengths, first.priorities, first.payload_bytes) == ((7, 0, 5), bytes((2, 0, 1)), 12)
    assert first.payload_offset == 512 + payload_offset(records, b"aux") == 512 + HEADER_BYTES + 30
    payloads = data[payload_offset(records, b"aux") :][:12]
    assert first.payloads(payloads) == [b"routine", b"", b"audit"]
    assert first.damaged(first.payloads(payloads)) == []
    assert first.damaged([b"Routine", b"", b"audit"]) == [0]
    assert first.damaged([b"routine", b"", b"audio"]) == [2]


@pytest.mark.parametrize("offset", [0, 5, 12, 16, 30, HEADER_BYTES - 1])
def test_a_changed_byte_of_the_header_makes_it_unreadable(offset: int) -> None:
    heading = GroupHeading(PREFIX.pack(MAGIC, 7, 8), 40, CURSORS.pack(1, 2, 3))
    data = bytearray(encode(GroupKind.CLOSED, heading, measure(b"", ())))
    data[offset] ^= 1
    assert decode(bytes(data[:HEADER_BYTES]), b"", 0, SECTOR_BYTES) is None


@pytest.mark.parametrize(("size", "sectors"), [(0, 1), (512 - 2 * HEADER_BYTES - RECORD_BYTES_MIN, 1)])
def test_a_group_has_the_smallest_number_of_sectors(size: int, sectors: int) -> None:
    heading = GroupHeading(PREFIX.pack(MAGIC, 7, 8), 1, bytes(CURSORS.size))
    for more in (0, 1):
        data = encode(GroupKind.DATA, heading, measure(b"\x02", [bytes(size + more)]))
        assert len(data) == SECTOR_BYTES * (sectors + (more if size else 0))


def test_merging_records_equals_measuring_them_together() -> None:
    first, second = measure(b"\x00\x02", [b"a", b"bc"]), measure(b"\x01", [b"def"])
    assert merge([first]) is first
    together = measure(b"\x00\x02\x01", [b"a", b"bc", b"def"])
    assert merge([first, second])._replace(payloads=[]) == together._replace(payloads=[])
    assert list(merge([first, second]).payloads) == list(together.payloads)


def test_ranges_runs_and_checkpoints_are_read_back() -> None:
    ranges = [(1, 4), (7, 7), (2**40, 2**41)]
    assert unpack_ranges(pack_ranges(ranges)) == ranges
    assert unpack_checkpoint(pack_checkpoint(ranges, b"state")) == (ranges, b"state")
    assert unpack_checkpoint(pack_checkpoint([], b"")) == ([], b"")
    records = [(1, 0), (2, 0), (3, 1), (4, 0), (6, 0), (7, 0)]
    assert list(unpack_runs(pack_runs(records))) == records
    assert len(pack_runs(records)) == 4 * len(pack_runs(records[:1])), "1-2, 3, 4, 6-7"
    assert pack_runs([]) == b""


def test_a_summary_is_read_back() -> None:
    carried = [Carried(), Carried()]
    for seq, size in ((9, 100), (12, 0), (30, 7)):
        carried[1].add(seq, size)
    assert carried[1] == Carried(3, 107, 9, 30)
    contents = SegmentContents([1, 2, 3], [4, 5, 6], carried, 77)
    assert unpack_summary(pack_summary(contents, 4096)) == (contents, 4096)


@pytest.mark.parametrize(
    "fields",
    [(1, 2, 3, 4, 0, 0), (1, 2, 3, 4, 5, 0), (1, 2, 3, 4, 0, 6), (2**32 - 1, 2**32 - 1, 2**63, 9, 0, 1)],
)
def test_a_segment_name_round_trips(fields: tuple[int, int, int, int, int, int]) -> None:
    epoch, generation, base, skipped, resumed, begin = fields
    name = segment_name(epoch, generation, base, skipped, resumed, begin)
    assert parse_name(name) == fields
    assert len(name) <= 64
    assert parse_name(name + "x") is None and parse_name(name.upper()) is None


# -- a summary with one damaged copy


@pytest.mark.parametrize(("damaged", "is_read"), [((), False), ((0,), False), ((1,), False), ((0, 1), True)])
def test_opening_reads_a_sealed_segment_only_if_both_copies_of_its_summary_are_damaged(
    damaged: tuple[int, ...], is_read: bool
) -> None:
    limits = limits_of(verify_bytes_max=0, spool_bytes_max=8 * 8192)
    disk = EmulDisk(1 << 20, Random(1))
    spool = Spool.open(disk, limits, random=Random(1), encode_gap=encode_gap)
    while len(disk.names()) < 4:
        spool.append([Priority.ROUTINE] * 10, [bytes(100)] * 10)
    spool.close()
    used = sorted(name for name in disk.names() if (parse_name(name) or (0, 0))[1] > 0)
    for copy in damaged:
        name = used[0]
        offset = limits.segment_bytes - SECTOR_BYTES + (20 if copy == 0 else SECTOR_BYTES - 20)
        data = bytearray(disk.read(name, offset, 1))
        disk.commit(name, offset, bytes((data[0] ^ 1,)))
    again = Spool.open(disk, limits, random=Random(1), encode_gap=encode_gap)
    unread = 0
    while again.verify_next():
        unread += 1
    assert unread == len(used) - 1 - is_read
    assert again.recovery.gaps == ()
