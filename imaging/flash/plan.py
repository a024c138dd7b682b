"""Plans a flash: all data and its positions on the disk are determined before the first write.

A disk is written in four parts. Each part is durable and was read back before the next one begins:

1. the ranges of the image's map, copied from the image except for the identifiers drawn for this disk; and pieces
   that are not in the image: the box's identity, and zeros wherever the image has a hole at the start of a partition,
   and at the end of a partition that grew. Without the zeros, the LUKS or RAID header of an earlier system would
   remain, and the first start would use it;
2. the tail, which is the copy of the partition table, at the end of *this* disk;
3. the head, the first MiB, from its second sector on;
4. the first sector of the head. No firmware starts a disk without it, and a single sector is written atomically.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from imaging.flash import gpt, identifiers
from imaging.flash.source import Image
from imaging.media.bmap import CELL_BYTES, MappedRange
from imaging.media.imagefile import ImageError
from settings.identity_archive import LABEL as IDENTITY_LABEL

HEAD_BYTES: Final = CELL_BYTES
BLANK_BYTES: Final = CELL_BYTES


@dataclass(frozen=True)
class Piece:
    """Bytes in memory, in whole sectors, and their offset on the disk."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class FlashPlan:
    """Everything to write to a disk of `disk_bytes`."""

    disk_bytes: int
    ranges: tuple[MappedRange, ...]
    patches: tuple[identifiers.IdentifierPatch, ...]
    pieces: tuple[Piece, ...]
    tail: Piece
    head: bytes
    slices: tuple[gpt.Slice, ...]

    @property
    def bulk_bytes(self) -> int:
        """The number of bytes that the first part writes."""
        return sum(span.length for span in self.ranges) + sum(len(piece.data) for piece in self.pieces)


def make_plan(
    image: Image,
    disk_bytes: int,
    identity: bytes = b"",
    draw: identifiers.Draw = os.urandom,
    encrypted: frozenset[str] = frozenset(),
) -> FlashPlan:
    """Plan writing `image` to a disk of at least its size, with `identity` as the content of the identity partition.

    `draw` returns random bytes for the disk's own identifiers. `encrypted` contains the names of the partitions that
    the box will encrypt at its first start.

    Raises: ImageError, if the image was changed, has no partition table, or has no space for the identity.
    """
    head = image.bytes(0, HEAD_BYTES)
    image_bytes = image.bmap.image_bytes
    try:
        before = gpt.slices(head)
        # the partitions must also leave space for the copy of the table at the end of the image
        gpt.fit(head, image_bytes, draw)
        head, tail = gpt.fit(head, disk_bytes, draw, encrypted)
        slices = gpt.slices(head)
    except gpt.GptError as error:
        raise ImageError(f"{image.path}: {error}") from None
    end = image_bytes - gpt.TAIL_BYTES
    patches = identifiers.patches(image, slices, draw)
    inner = [span for span in image.bmap.ranges if HEAD_BYTES <= span.offset < end]
    pieces = [
        Piece(span.offset, _patched(patches, span.offset, image.bytes(span.offset, end - span.offset)))
        for span in inner
        if span.end > end
    ]
    pieces += _identity(image, slices, identity)
    taken = sorted(
        [(span.offset, span.end) for span in inner]
        + [(piece.offset, piece.offset + len(piece.data)) for piece in pieces]
    )
    for part in slices:
        start = max(part.offset, HEAD_BYTES)
        stop = min(part.offset + part.length, start + BLANK_BYTES)
        pieces += [Piece(first, bytes(last - first)) for first, last in gaps(start, stop, taken)]
    pieces += [
        Piece(part.offset + part.length - BLANK_BYTES, bytes(BLANK_BYTES))
        for part, old in zip(slices, before, strict=True)
        if part.length - old.length >= BLANK_BYTES
    ]
    ranges = tuple(span for span in inner if span.end <= end)
    return FlashPlan(
        disk_bytes, ranges, patches, tuple(pieces), Piece(disk_bytes - len(tail), tail), head, tuple(slices)
    )


def _patched(patches: tuple[identifiers.IdentifierPatch, ...], offset: int, data: bytes) -> bytes:
    identifiers.apply(patches, offset, memoryview(changed := bytearray(data)))
    return bytes(changed)


def identity_slice(slices: Sequence[gpt.Slice]) -> gpt.Slice | None:
    """Return the partition for the identity of the box, or None."""
    return next((part for part in slices if part.label == IDENTITY_LABEL), None)


def gaps(start: int, stop: int, taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of [start, stop) outside `taken`, which are pairs of start and stop in ascending order."""
    for first, last in taken:
        if start < min(first, stop):
            yield start, min(first, stop)
        start = max(start, last)
    if start < stop:
        yield start, stop


def _identity(image: Image, slices: Sequence[gpt.Slice], identity: bytes) -> list[Piece]:
    if not identity:
        return []
    part = identity_slice(slices)
    if part is None:
        raise ImageError(f"{image.path}: has no partition {IDENTITY_LABEL} for a box's identity")
    if len(identity) > min(part.length, CELL_BYTES):
        raise ImageError(
            f"{image.path}: its partition {IDENTITY_LABEL} has {min(part.length, CELL_BYTES)} bytes, but this "
            f"identity has {len(identity)}"
        )
    if any(span.offset < part.offset + part.length and span.end > part.offset for span in image.bmap.ranges):
        raise ImageError(
            f"{image.path}: its partition {IDENTITY_LABEL} is not empty: the image contains the identity of a box"
        )
    return [Piece(part.offset, identity)]
