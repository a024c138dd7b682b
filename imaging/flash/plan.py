"""What goes where on a disk, decided before its first byte is touched.

A disk is written in four parts, of which each is durable and was read back before the next begins:

1. the ranges of the image's map, straight from the image, and the pieces made here: the box's identity, and zeros
   where a partition begins that the image leaves empty. Without these an older system's LUKS header would survive,
   and the first start take the partition for its own;
2. the tail, which is the copy of the partition table, at the end of *this* disk;
3. the head, the first MiB, from its second sector on;
4. the head's first sector. No firmware starts a disk without it, and one sector is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from imaging.flash import gpt
from imaging.flash.source import Image
from imaging.media.bmap import CELL_BYTES, Range
from imaging.media.imagefile import ImageError
from settings.identity_archive import LABEL as IDENTITY_LABEL

HEAD_BYTES: Final = CELL_BYTES
BLANK_BYTES: Final = CELL_BYTES


@dataclass(frozen=True)
class Piece:
    """Bytes in memory, whole sectors of them, and where they go."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class FlashPlan:
    """All that is to be written to a disk of `disk_bytes`."""

    disk_bytes: int
    ranges: tuple[Range, ...]
    pieces: tuple[Piece, ...]
    tail: Piece
    head: bytes
    slices: tuple[gpt.Slice, ...]

    @property
    def bulk_bytes(self) -> int:
        """What the first part writes."""
        return sum(span.length for span in self.ranges) + sum(len(piece.data) for piece in self.pieces)


def make_plan(image: Image, disk_bytes: int, identity: bytes = b"") -> FlashPlan:
    """Plan the writing of `image` to a disk not smaller than it, `identity` being the content of that partition.

    Raises ImageError: tampered, without a partition table, or without room for an identity.
    """
    head = image.bytes(0, HEAD_BYTES)
    image_bytes = image.bmap.image_bytes
    try:
        slices = gpt.slices(head)
        gpt.fit(head, image_bytes)  # its partitions must leave its own end free, too
        head, tail = gpt.fit(head, disk_bytes)
    except gpt.GptError as error:
        raise ImageError(f"{image.path}: {error}") from None
    end = image_bytes - gpt.TAIL_BYTES
    inner = [span for span in image.bmap.ranges if HEAD_BYTES <= span.offset < end]
    pieces = [
        Piece(span.offset, image.bytes(span.offset, end - span.offset)) for span in inner if span.end > end
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
    ranges = tuple(span for span in inner if span.end <= end)
    return FlashPlan(
        disk_bytes, ranges, tuple(pieces), Piece(disk_bytes - len(tail), tail), head, tuple(slices)
    )


def identity_slice(slices: Sequence[gpt.Slice]) -> gpt.Slice | None:
    """The partition that keeps a box's identity until its first start."""
    return next((part for part in slices if part.label == IDENTITY_LABEL), None)


def gaps(start: int, stop: int, taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of start…stop is not taken; `taken` are pairs of start and stop in ascending order."""
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
            f"{image.path}: its partition {IDENTITY_LABEL} has room for {min(part.length, CELL_BYTES)} bytes; "
            f"this identity has {len(identity)}"
        )
    if any(span.offset < part.offset + part.length and span.end > part.offset for span in image.bmap.ranges):
        raise ImageError(f"{image.path}: its partition {IDENTITY_LABEL} is not empty: it is one box's own")
    return [Piece(part.offset, identity)]
