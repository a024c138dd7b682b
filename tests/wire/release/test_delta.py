"""Deltas: an invalid or damaged delta is refused, and no wrong byte is written."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from hashlib import sha256
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.release.delta_file import DeltaWriter, PatchControl, block_delta
from wire.release.codecs import PACK, UNPACK
from wire.release.delta import (
    BLOCK_BYTES,
    HEADER_BYTES_MAX,
    PIECE_BYTES,
    WINDOW_BYTES,
    Copy,
    Delta,
    DeltaError,
    DeltaStream,
    Header,
    Operation,
    Patch,
    Range,
    Repeat,
    SourceChanged,
    Zeros,
    add,
    digest,
)

RANDOM = Random(7)
SOURCE = b"".join(RANDOM.randbytes(BLOCK_BYTES) for _ in range(8)) + bytes(2 * BLOCK_BYTES)


class Slot:
    """A partition in memory."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = bytearray(data)
        self.writes: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.writes.append((offset, len(data)))
        self.data[offset : offset + len(data)] = data


def open_delta(delta: bytes) -> Delta:
    return Delta.open(Slot(delta).read, len(delta))


def applied(delta: bytes, source: bytes) -> bytes:
    opened = open_delta(delta)
    opened.check_source(sha256(source).digest(), len(source))
    target = Slot(bytes(opened.header.target_bytes))
    progress = list(opened.apply(Slot(source).read, target.write, target.read))
    assert progress[-1] == opened.header.target_bytes
    return bytes(target.data)


def written_before_refusal(delta: bytes, source: bytes, target_bytes: int) -> bytes:
    """Return the bytes written before the delta was refused; fail if it was not refused."""
    target = Slot(b"")
    with pytest.raises(DeltaError):
        opened = open_delta(delta)
        opened.check_source(sha256(source).digest(), len(source))
        for _ in opened.apply(Slot(source).read, target.write, target.read):
            assert len(target.data) <= target_bytes
    return bytes(target.data)


def finished(writer: DeltaWriter, source: bytes, target: bytes) -> bytes:
    return writer.finish(sha256(source).digest(), len(source), sha256(target).digest(), len(target))


def all_operations() -> tuple[bytes, bytes]:
    """Return a delta with each kind of operation except Repack and Part, and its target."""
    changed = bytearray(SOURCE[4096:12288])
    changed[5] ^= 255
    changed[8000] ^= 1
    differences = bytes((new - old) & 255 for new, old in zip(changed, SOURCE[4096:12288], strict=True))
    target = SOURCE[20000:24096] + changed[:8192] + b"inserted" + SOURCE[4200:4300] + bytes(3988)
    target += target[:4096] + RANDOM.randbytes(4096)
    writer = DeltaWriter()
    writer.copy(20000, target[:4096])
    controls = [
        PatchControl(differences, b"inserted", -8192 + 104),
        PatchControl(bytes(100), b"", 0),
    ]
    writer.patch([Range(4096, 4000), Range(8096, 4192)], SOURCE[4096:12288], controls, target[4096:12396])
    writer.zeros(3988)
    writer.repeat(0, target[:4096])
    writer.literal(target[-4096:])
    return finished(writer, SOURCE, target), target


def test_each_operation_produces_its_part_of_the_target() -> None:
    delta, target = all_operations()
    assert applied(delta, SOURCE) == target


def test_the_target_is_written_in_whole_blocks_and_in_order() -> None:
    delta, target = all_operations()
    slot = Slot(bytes(len(target)))
    list(open_delta(delta).apply(Slot(SOURCE).read, slot.write, slot.read))
    end = 0
    for offset, length in slot.writes:
        assert offset == end and length % BLOCK_BYTES == 0
        end += length
    assert end == len(target)


@pytest.mark.parametrize(("codec", "pack"), [("xz", "xz-6"), ("xz", "xz-module"), ("lz4", "lz4hc-9")])
def test_compressed_data_is_patched_unpacked(codec: str, pack: str) -> None:
    old = RANDOM.randbytes(50000) + b"1" * 50000
    new = old[:1000] + b"new" + old[1000:]
    frame = (
        (lambda data: b"\x02\x21\x4c\x18" + struct.pack("<I", len(data)) + data) if codec == "lz4" else bytes
    )
    source = frame(PACK[pack](old))
    packed = PACK[pack](new)
    writer = DeltaWriter()
    controls = [PatchControl(bytes(1000), b"new", 0), PatchControl(bytes(len(old) - 1000), b"", 0)]
    writer.repack([Range(0, len(source))], source, len(old), codec, controls, new, pack)
    pad = -len(packed) % BLOCK_BYTES
    writer.zeros(pad)
    assert UNPACK[codec](source, len(old)) == old
    assert applied(finished(writer, source, packed + bytes(pad)), source) == packed + bytes(pad)


@given(st.binary(max_size=70000), st.integers(0, 2**32))
def test_added_bytes_are_sums_modulo_256(old: bytes, seed: int) -> None:
    differences = Random(seed).randbytes(len(old)) if seed % 2 else bytes(len(old))
    assert add(old, differences) == bytes((a + b) & 255 for a, b in zip(old, differences, strict=True))


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(0, 2**32))
def test_any_two_images_have_a_delta_by_blocks(order: list[int], seed: int) -> None:
    random = Random(seed)
    blocks = [
        *(SOURCE[start : start + 4096] for start in range(0, len(SOURCE), 4096)),
        random.randbytes(4096),
    ]
    target = b"".join(blocks[number % len(blocks)] for number in order) or bytes(4096)
    assert applied(block_delta(SOURCE, target), SOURCE) == target


def test_a_long_target_is_written_in_windows() -> None:
    source = RANDOM.randbytes(1 << 20) * 20
    target = source[12345:] + bytes(12345)
    writer = DeltaWriter()
    writer.copy(12345, source[12345:])
    writer.zeros(12345)
    delta = finished(writer, source, target)
    assert max(operation.length for operation in open_delta(delta).operations) == WINDOW_BYTES
    assert applied(delta, source) == target


def test_a_delta_that_is_cut_at_any_byte_is_refused_before_a_write() -> None:
    delta, target = all_operations()
    for length in range(len(delta)):
        assert written_before_refusal(delta[:length], SOURCE, len(target)) == b""


def test_a_delta_with_bytes_after_it_is_refused_before_a_write() -> None:
    delta, target = all_operations()
    assert written_before_refusal(delta + b"\0", SOURCE, len(target)) == b""


def test_a_delta_with_a_flipped_bit_never_writes_a_wrong_byte() -> None:
    delta, target = all_operations()
    for position in range(min(len(delta), 1200)):
        damaged = bytearray(delta)
        damaged[position] ^= 1 << position % 8
        assert target.startswith(written_before_refusal(bytes(damaged), SOURCE, len(target)))


def test_a_source_with_a_flipped_bit_never_leads_to_a_wrong_byte() -> None:
    delta, target = all_operations()
    for position in (4096, 8191, 12287, 20000, 24095):
        source = Slot(SOURCE)
        source.data[position] ^= 4
        slot = Slot(b"")
        with pytest.raises(SourceChanged):
            list(open_delta(delta).apply(source.read, slot.write, slot.read))
        assert target.startswith(bytes(slot.data))


@pytest.mark.parametrize("source", [SOURCE[:-1], SOURCE + b"1", b"1" + SOURCE[1:]])
def test_another_source_is_refused_before_a_write(source: bytes) -> None:
    delta, _ = all_operations()
    with pytest.raises(SourceChanged, match="was made for a source"):
        open_delta(delta).check_source(sha256(source).digest(), len(source))


def rewritten(delta: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """Return the delta with a changed header."""
    length = int.from_bytes(delta[8:12], "little")
    header = msgspec.msgpack.decode(delta[16 : 16 + length])
    change(header)
    data = msgspec.msgpack.encode(header)
    return delta[:8] + struct.pack("<II", len(data), zlib.crc32(data)) + data + delta[16 + length :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target_bytes": 2**40}, "<= 68719476736"),
        ({"target_bytes": 4096 * 3}, "operations for"),
        ({"target_bytes": 100}, "not whole blocks"),
        ({"source_bytes": 4096}, "beyond the source"),
        ({"source_sha256": b"1"}, "length >= 32"),
        ({"operations": (200, 2**30)}, "at most 8388608"),
        ({"more": 1}, "unknown field"),
        ({"more": "x" * HEADER_BYTES_MAX}, "at most 4096"),
    ],
)
def test_a_header_beyond_a_limit_is_refused(change: dict[str, object], reason: str) -> None:
    delta, _ = all_operations()
    with pytest.raises(DeltaError, match=reason):
        open_delta(rewritten(delta, lambda header: header.update(change)))


def test_a_delta_whose_target_has_another_hash_is_refused() -> None:
    delta, target = all_operations()
    other = rewritten(delta, lambda header: header.update(target_sha256=bytes(32)))
    assert target.startswith(written_before_refusal(other, SOURCE, len(target)))


class Forged(DeltaWriter):
    """Writes operations that a correct builder never writes."""

    def add(self, *operations: Operation) -> Forged:
        self.operations.extend(operations)
        return self


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (Copy(4096, len(SOURCE) - 4095, bytes(16)), "beyond the source"),
        (Copy(WINDOW_BYTES + 4096, 0, bytes(16)), "<= 8388608"),
        (Copy(-4096, 0, bytes(16)), ">= 1"),
        (Copy(4096, -1, bytes(16)), ">= 0"),
        (Copy(4096, 0, bytes(15)), "length >= 16"),
        (Repeat(4096, 0, bytes(16)), "before they are made"),
        (Zeros(4095), "operations for 4095 bytes"),
        (Zeros(8192), "operations for 8192 bytes"),
    ],
)
def test_an_operation_beyond_a_limit_is_refused_before_a_write(operation: Operation, reason: str) -> None:
    delta = finished(Forged().add(operation), SOURCE, bytes(4096))
    with pytest.raises(DeltaError, match=reason):
        open_delta(delta)


@pytest.mark.parametrize(
    ("controls", "reason"),
    [
        ([PatchControl(bytes(4097), b"", 0)], "beyond its source"),
        ([PatchControl(bytes(10), b"", -11), PatchControl(bytes(4086), b"", 0)], "before its source"),
        ([PatchControl(b"", bytes(4095), 0)], "produces 4095 bytes instead of the 4096"),
        ([PatchControl(b"", bytes(4097), 0)], "produces more than the 4096"),
        ([PatchControl(b"", b"1" * 4096, 0)], "other bytes"),
    ],
)
def test_a_patch_outside_its_source_or_target_is_refused(controls: list[PatchControl], reason: str) -> None:
    writer = DeltaWriter()
    writer.patch([Range(0, 4096)], SOURCE[:4096], controls, bytes(4096))
    slot = Slot(b"")
    with pytest.raises(DeltaError, match=reason):
        list(
            open_delta(finished(writer, SOURCE, bytes(4096))).apply(Slot(SOURCE).read, slot.write, slot.read)
        )
    assert slot.writes == []


def test_a_piece_beyond_the_limit_is_refused() -> None:
    target = bytes(PIECE_BYTES + 4096)
    writer = DeltaWriter()
    writer.patch([Range(0, 1)], SOURCE[:1], [PatchControl(b"", target, 0)], target)
    assert applied(finished(writer, SOURCE, target), SOURCE) == target

    class Unsplit(Forged):
        def __init__(self) -> None:
            super().__init__()
            self.streams["controls"] += struct.pack("<IIi", 0, len(target), 0)
            self.streams["extra"] += target

    forged = Unsplit().add(Patch(len(target), [Range(0, 1)], digest(SOURCE[:1]), 1, digest(target)))
    assert written_before_refusal(finished(forged, SOURCE, target), SOURCE, len(target)) == b""


def test_streams_longer_than_their_operations_are_refused() -> None:
    writer = Forged()
    writer.literal(bytes(4096))
    writer.literal(bytes(4096))
    writer.add(Zeros(4096))
    delta = finished(writer, SOURCE, bytes(3 * 4096))
    header = open_delta(delta).header
    assert header.extra == DeltaStream(header.extra.packed_bytes, 8192)
    shorter = Forged()
    shorter.literal(bytes(4096))
    shorter.streams["extra"] += bytes(1)
    assert written_before_refusal(finished(shorter, SOURCE, bytes(4096)), SOURCE, 4096) == b""


def test_the_same_calls_give_the_same_delta() -> None:
    assert block_delta(SOURCE, SOURCE[4096:]) == block_delta(SOURCE, SOURCE[4096:])
    assert isinstance(open_delta(block_delta(SOURCE, SOURCE[4096:])).header, Header)
