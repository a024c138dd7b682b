"""Making deltas between two root slots: for each part of the target, the most similar part of the source.

Both images are divided into bodies: the content of each file, and the rest, which is the metadata of the file system.
A body of the target is derived from the body of the source with the same content, at any position; else, if it is
compressed, from the content of the compressed file that it replaces; else from the file with the same path, or the
same path except for numbers (libraries, kernel modules).

An uncompressed initramfs is divided into its files, so that a module that is also in /usr/lib/modules is transferred
once, and compressed modules are patched decompressed.

Parts of an image that are not ext4 are treated as metadata; therefore the result is exact for any two images.
"""

from __future__ import annotations

import mmap
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

from imaging.release import bsdiff, cpio, repack
from imaging.release.bsdiff import Match
from imaging.release.delta_file import DeltaWriter, PackedPart
from imaging.release.delta_plan import (
    Again,
    Empty,
    FromSource,
    New,
    PackedRange,
    Piece,
    Planner,
    controls,
    differences,
)
from imaging.release.ext4 import Ext4, Ext4Error, Extent
from imaging.release.slot_image import find_slot
from wire.release.delta import BLOCK_BYTES, SOURCE_BYTES_MAX, TARGET_BYTES_MAX, WINDOW_BYTES, Range

_ZEROS: Final = bytes(BLOCK_BYTES)
_UNIT_BYTES: Final = 1024
"""The smallest block of ext4."""
_CHUNK_BYTES: Final = 64 * 1024 * 1024
"""The longest part of a body that is compared at once, which limits the memory."""
_AROUND_BYTES: Final = 8 * 1024 * 1024
METADATA: Final = ""


class DeltaInputError(Exception):
    """No delta between the two files is possible; the message states why."""


@dataclass(frozen=True)
class Body:
    """A file of an image, or all its metadata: the extents of its content in whole blocks."""

    path: str
    extents: tuple[Extent, ...]
    image: memoryview
    size: int
    """The length of the content without the bytes after its end in the last block."""

    def content(self) -> bytes:
        """Return the content, including the bytes after the file's end in its last block."""
        return b"".join(self.image[one.offset : one.offset + one.length] for one in self.extents)

    @cached_property
    def sha256(self) -> bytes:
        """The SHA-256 of the content."""
        return sha256(self.content()).digest()

    @cached_property
    def exact_sha256(self) -> bytes:
        """The SHA-256 of the content without the bytes after its end."""
        return sha256(self.content()[: self.size]).digest()

    def part(self, path: str, ranges: Iterable[tuple[int, int]]) -> Body:
        """Return a body that consists of ranges of this one's content; each range has a beginning and an end."""
        extents, length = [], 0
        for start, end in ranges:
            for offset, size in self.spans(start, end - start):
                extents.append(Extent(length, offset, size))
                length += size
        return Body(path, tuple(extents), self.image, length)

    @property
    def length(self) -> int:
        """The length of the content."""
        return sum(one.length for one in self.extents)

    @property
    def kind(self) -> str:
        """The path with each number replaced by 0."""
        return re.sub(r"\d+", "0", self.path)

    def spans(self, start: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the offset in the image and the length of each part of a range of the content."""
        at = 0
        for one in self.extents:
            low, high = max(start, at), min(start + length, at + one.length)
            if low < high:
                yield one.offset + low - at, high - low
            at += one.length


def make_delta(source: Path, target: Path, *, jobs: int = 2) -> bytes:
    """Return the delta between two slots, each in a file of its own or in a disk image of `rap image build`.

    The same slots give the same bytes. Raises: DeltaInputError, SlotImageError, OSError.
    """
    old, new = slot_image(source), slot_image(target)
    writer = DeltaWriter()
    Planner(old, new, writer).add_all(_pieces(old, new, jobs))
    return writer.finish(sha256(old).digest(), len(old), sha256(new).digest(), len(new))


def slot_image(file: Path) -> memoryview:
    """Return a slot that is in a file or in a disk image. Raises: DeltaInputError, SlotImageError, OSError."""
    slot = find_slot(file)
    with file.open("rb") as opened:
        size = slot.length if slot else opened.seek(0, 2)
        if not 0 < size <= TARGET_BYTES_MAX or size % BLOCK_BYTES:
            raise DeltaInputError(
                f"{file}: has {size} bytes; an image of a slot has whole blocks of {BLOCK_BYTES}"
            )
        start = slot.offset if slot else 0
        whole = mmap.mmap(opened.fileno(), start + size, prot=mmap.PROT_READ)
        return memoryview(whole)[start:]


def _pieces(old: memoryview, new: memoryview, jobs: int) -> Iterator[Piece]:
    """Yield the pieces of the target in ascending order."""
    sources, _ = _bodies(old)
    targets, placed = _bodies(new)
    matcher = _Matcher(sources, targets)
    with bsdiff.deep_stack(), ThreadPoolExecutor(jobs) as pool:
        for pieces in pool.map(matcher.pieces, targets):
            placed += pieces
    end = 0
    for offset, piece in sorted(placed, key=lambda one: one[0]):
        assert offset == end, f"pieces overlap at byte {offset}, or leave a gap"
        end += piece.length
        yield piece
    assert end == len(new)


def _bodies(image: memoryview) -> tuple[list[Body], list[tuple[int, Piece]]]:
    """Return the bodies of an image, and the zeros outside of files."""
    try:
        files = Ext4(image).files()
    except Ext4Error:
        files = []
    bodies: list[Body] = []
    used = bytearray(len(image) // _UNIT_BYTES)
    for file in files:
        units = [
            slice(one.offset // _UNIT_BYTES, (one.offset + one.length) // _UNIT_BYTES) for one in file.extents
        ]
        if any(any(used[part]) for part in units):
            continue  # a damaged file system, in which two files share blocks
        for part in units:
            used[part] = b"\1" * (part.stop - part.start)
        bodies += _parts(Body(file.path, file.extents, image, file.size))
    metadata: list[Extent] = []
    zeros: list[tuple[int, Piece]] = []
    length = 0
    for start, end, is_zero in _rest(image, used):
        if is_zero:
            zeros.append((start, Empty(end - start)))
        else:
            metadata.append(Extent(length, start, end - start))
            length += end - start
    return [*bodies, Body(METADATA, tuple(metadata), image, length)], zeros


def _parts(body: Body) -> Iterator[Body]:
    """Yield a file; or the larger files in it and the rest, if it is an uncompressed initramfs."""
    first = body.extents[0]
    if _begins(body.image, first.offset, cpio.MAGIC):
        done, rest = 0, []
        for member in cpio.members(body.content()[: body.size]):
            if member.end - member.start >= BLOCK_BYTES:
                yield body.part(f"{body.path}!/{member.name}", [(member.start, member.end)])
                rest.append((done, member.start))
                done = member.end
        yield body.part(f"{body.path}!", [*rest, (done, body.length)])
    else:
        yield body


def _begins(image: memoryview, offset: int, magic: bytes) -> bool:
    """Return whether the image has the bytes `magic` at the offset."""
    return image[offset : offset + len(magic)] == magic


def _rest(image: memoryview, used: bytearray) -> Iterator[tuple[int, int, bool]]:
    """Yield the beginning and end of each part that no file uses, and whether it contains only zeros."""
    unit = used.find(0)
    while unit >= 0:
        next_used = used.find(1, unit)
        at, end = unit * _UNIT_BYTES, (next_used if next_used >= 0 else len(used)) * _UNIT_BYTES
        begin, was_zero = at, None
        while at < end:
            length = min(BLOCK_BYTES, end - at)
            is_zero = image[at : at + length] == _ZEROS[:length]
            if was_zero not in (None, is_zero):
                yield begin, at, not is_zero
                begin = at
            at, was_zero = at + length, is_zero
        yield begin, end, bool(was_zero)
        unit = used.find(0, next_used) if next_used >= 0 else -1


class _Matcher:
    """Finds the sources for the bodies of the target."""

    def __init__(self, sources: Sequence[Body], targets: Sequence[Body]) -> None:
        self._by_path = {body.path: body for body in sources}
        self._by_content = {body.sha256: body for body in reversed(sources)}
        self._by_kind: dict[str, list[Body]] = defaultdict(list)
        for body in sources:
            self._by_kind[body.kind].append(body)
            self._by_kind[_name(body)].append(body)
        self._first: dict[bytes, Body] = {}
        for body in sorted(
            (body for body in targets if body.extents), key=lambda body: body.extents[0].offset
        ):
            self._first.setdefault(body.exact_sha256, body)

    def pieces(self, target: Body) -> list[tuple[int, Piece]]:
        """Return the pieces of a body of the target, with their offsets in the image."""
        same = self._by_path.get(target.path)
        if same is None or same.sha256 != target.sha256:
            same = self._by_content.get(target.sha256)
        if same is not None:
            return list(_placed(target, 0, target.length, same, 0))
        if (first := self._repeated(target)) is not None:
            again: list[tuple[int, Piece]] = [
                (offset, Again(piece.length, piece.source))
                for offset, piece in _placed(target, 0, target.size, first, 0)
                if isinstance(piece, FromSource)
            ]
            return again + list(_placed(target, target.size, target.length - target.size, None, 0))
        source = self._resembling(target)
        if source is None:
            return list(_placed(target, 0, target.length, None, 0))
        if target.path != METADATA and (found := _repacked(source, target)) is not None:
            return found
        return _compared(source, target, 0, source.length, 0, target.length)

    def _repeated(self, target: Body) -> Body | None:
        """Return a body of the target that has the same content and lies completely before this one, or None."""
        first = self._first.get(target.exact_sha256)
        if first is None or first is target or not target.size:
            return None
        end = max(-(-(one.offset + one.length) // BLOCK_BYTES) * BLOCK_BYTES for one in first.extents)
        return first if all(one.offset >= end for one in target.extents) else None

    def _resembling(self, target: Body) -> Body | None:
        if target.path in self._by_path:
            return self._by_path[target.path]
        candidates = self._by_kind.get(target.kind) or self._by_kind.get(_name(target)) or ()
        return min(candidates, key=lambda body: (abs(body.length - target.length), body.path), default=None)


def _name(body: Body) -> str:
    """Return the last part of a body's kind, marked so that it differs from every path."""
    return "*/" + PurePosixPath(body.kind).name


def _compared(
    source: Body, target: Body, old_start: int, old_end: int, new_start: int, new_end: int
) -> list[tuple[int, Piece]]:
    """Compare parts of two bodies; very long parts in chunks, each with a larger part of the source."""
    old, new = source.content(), target.content()
    pieces: list[tuple[int, Piece]] = []
    for start in range(new_start, new_end, _CHUNK_BYTES):
        end = min(start + _CHUNK_BYTES, new_end)
        shift = old_start - new_start
        low = max(old_start, min(start + shift, old_end) - _AROUND_BYTES)
        high = min(old_end, end + shift + _AROUND_BYTES)
        at = start
        for length, old_at in bsdiff.matches(old[low:high], new[start:end]):
            pieces += _placed(target, at, length, None if old_at is None else source, (old_at or 0) + low)
            at += length
    return pieces


def _placed(
    target: Body, start: int, length: int, source: Body | None, at: int
) -> Iterator[tuple[int, Piece]]:
    """Yield the pieces that produce a range of a body from another body's content at `at`, or from nothing."""
    for offset, size in target.spans(start, length):
        if source is None:
            yield offset, New(size)
            continue
        for source_offset, part in source.spans(at, size):
            yield offset, FromSource(part, source_offset)
            offset += part
        at += size


def _repacked(source: Body, target: Body) -> list[tuple[int, Piece]] | None:
    """Return the pieces of a compressed file, if a box can compress its content to the same bytes."""
    old_file, new_file = source.content(), target.content()
    old, new = repack.find_packed(old_file), repack.find_packed(new_file)
    if old is None or new is None:
        return None
    ranges = tuple(Range(*span) for span in source.spans(old.start, old.end - old.start))
    if sum(one.length for one in ranges) > SOURCE_BYTES_MAX:
        return None
    if new.codec == "gzip":
        return _repacked_whole(source, target, old, new, ranges)
    if (blocks := repack.blocks(new_file, new)) is None:
        return None
    spans = [list(target.spans(block.start, block.end - block.start)) for block in blocks]
    if any(len(span) != 1 for span in spans):
        return None
    pieces = _compared(source, target, 0, old.start, 0, new.start)
    matches = bsdiff.matches(old.content, new.content)
    end = new.start
    for block, [(offset, length)] in zip(blocks, spans, strict=True):
        pieces += _placed(target, end, block.start - end, None, 0)
        steps = _steps(matches, block.content_start, block.content_end, old.content, new.content)
        data = new.content[block.content_start : block.content_end]
        packed = PackedRange(
            length, ranges, old.codec, len(old.content), tuple(controls(steps)), data, block.codec
        )
        pieces.append((offset, packed))
        end = block.end
    pieces += _placed(target, end, new.end - end, None, 0)
    return pieces + _compared(source, target, old.end, source.length, new.end, target.length)


def _repacked_whole(
    source: Body,
    target: Body,
    old: repack.CompressedPart,
    new: repack.CompressedPart,
    ranges: tuple[Range, ...],
) -> list[tuple[int, Piece]] | None:
    """Return the pieces of a file that is compressed as a whole, if a box can reproduce the bytes."""
    codec = repack.whole_codec(target.content(), new)
    if codec is None or new.end - new.start > SOURCE_BYTES_MAX:
        return None
    pieces = _compared(source, target, 0, old.start, 0, new.start)
    matches = bsdiff.matches(old.content, new.content)
    steps = tuple(controls(_steps(matches, 0, len(new.content), old.content, new.content)))
    done = 0
    for offset, size in target.spans(new.start, new.end - new.start):
        for at in range(0, size, WINDOW_BYTES):
            length = min(WINDOW_BYTES, size - at)
            part = PackedPart(
                length, done, ranges, old.codec, len(old.content), steps, len(new.content), codec
            )
            pieces.append((offset + at, part))
            done, steps = done + length, ()
    return pieces + _compared(source, target, old.end, source.length, new.end, target.length)


def _steps(
    matches: Iterable[Match], start: int, end: int, old: bytes, new: bytes
) -> Iterator[tuple[bytes, int | None]]:
    """Yield the steps that produce a range of `new`."""
    at = 0
    for length, old_at in matches:
        low, high = max(start, at), min(end, at + length)
        if low < high:
            part = new[low:high]
            if old_at is None:
                yield part, None
            else:
                begin = old_at + low - at
                yield differences(part, old[begin : begin + high - low]), begin
        at += length
