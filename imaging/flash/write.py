"""Writing a disk: it is made unbootable first, all data is read back, and the first sector is written last.

Several ranges are in progress at a time, each on a separate thread that reads (and decompresses) it, compares it
with the signed hash and writes it; the kernel and hashlib release the interpreter lock. Data is read back only
after all of it was written and flushed: a USB stick with less capacity than it reports overwrites its start when its
end is written, which reading back each range immediately would not detect. `imaging.flash.readback` does the
comparison.

The progress is not stored. With `resume`, each range on the disk is compared with its signed hash and kept if equal,
which is correct after a power cut at any moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Literal

from imaging.flash import identifiers
from imaging.flash.gpt import SECTOR
from imaging.flash.plan import HEAD_BYTES, FlashPlan, Piece
from imaging.flash.readback import ReadbackVerifier
from imaging.flash.source import Image
from imaging.flash.target import DeviceError, FlashTarget, aligned, buffer
from imaging.media.bmap import CELL_BYTES, MappedRange

IN_FLIGHT: Final = 4
"""The number of ranges in progress; more are not faster on SATA, NVMe or USB. Each uses a MiB of memory."""
MARK_OFFSET: Final = 64 * 1024
MARK: Final = b"RAP-FLASH-UNFINISHED\n"
"""Marks a disk whose flash is not complete; `rap flash list` shows it."""


FlashProgress = Callable[[Literal["writing", "reading back"], int], None]
"""Called with the phase of a flash and the number of bytes that it has completed since the last call."""


class ReadbackMismatch(Exception):
    """The disk returned different data than was written to it."""


@dataclass(frozen=True)
class WrittenRange:
    """A range that was written and read back, for the record; `sha256` is hexadecimal."""

    offset: int
    length: int
    sha256: str


def flash(
    plan: FlashPlan,
    image: Image,
    target: FlashTarget,
    *,
    resume: bool = False,
    in_flight: int = IN_FLIGHT,
    progress: FlashProgress = lambda _phase, _bytes: None,
) -> list[WrittenRange]:
    """Write all of `plan`. On return the data is durable and was read back, and the disk can start.

    `progress` is called with the phase and a number of bytes, whose total in each phase is `plan.bulk_bytes`. With
    `resume`, correct data on the disk is not written again. `in_flight` is the number of ranges in progress.

    Raises: ImageError, DeviceError, ReadbackMismatch; the disk then does not start.
    """
    make_unbootable(plan, target, image.path.name)
    verifier = ReadbackVerifier()
    with _Workers(in_flight) as workers:
        written = []
        for span in workers.each(
            lambda span, into: _write(image, target, plan, span, into, verifier, resume), plan.ranges
        ):
            written.append(span)
            progress("writing", span.length)
        for piece in plan.pieces:
            _write_piece(target, piece, verifier)
            progress("writing", len(piece.data))
        target.flush()
        bulk = [*written, *(_range(piece) for piece in plan.pieces)]
        for span in workers.each(lambda span, into: _check(target, span, into, verifier), bulk):
            progress("reading back", span.length)
    rest = Piece(SECTOR, plan.head[SECTOR:])
    for piece in (plan.tail, rest):
        _write_and_verify(target, piece, verifier)
    with _unbootable_on_error(target):
        _write_and_verify(target, Piece(0, plan.head[:SECTOR]), verifier)
    ends = [_range(Piece(0, plan.head)), _range(plan.tail)]
    return [
        WrittenRange(s.offset, s.length, s.sha256.hex()) for s in sorted(bulk + ends, key=lambda s: s.offset)
    ]


def make_unbootable(plan: FlashPlan, target: FlashTarget, name: str) -> None:
    """Erase the partition table and its copy, and write the mark of an unfinished flash with the image's `name`.

    On return this is durable. Raises: DeviceError.
    """
    blank = bytearray(HEAD_BYTES)
    mark = MARK + name.encode() + b"\n"
    blank[MARK_OFFSET : MARK_OFFSET + len(mark)] = mark
    target.write(0, aligned(bytes(blank)))
    target.write(plan.tail.offset, aligned(bytes(len(plan.tail.data))))
    target.flush()


class _Workers:
    """A pool of threads with a buffer for each."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._buffers: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(count):
            self._buffers.put(buffer(CELL_BYTES))

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def each(
        self, work: Callable[[MappedRange, memoryview], MappedRange], spans: Sequence[MappedRange]
    ) -> Iterator[MappedRange]:
        """Run `work` on each range, several at a time. Yields the results in order."""

        def one(span: MappedRange) -> MappedRange:
            into = self._buffers.get()
            try:
                return work(span, into[: span.length])
            finally:
                self._buffers.put(into)

        return self._pool.map(one, spans)


def _write(
    image: Image,
    target: FlashTarget,
    plan: FlashPlan,
    span: MappedRange,
    into: memoryview,
    verifier: ReadbackVerifier,
    resume: bool,
) -> MappedRange:
    """Write a range with its patches, unless the disk already has it; return it with the hash of the written data."""
    if resume:
        target.read(span.offset, into)
        if hashlib.sha256(into).digest() == span.sha256 and not identifiers.apply(
            plan.patches, span.offset, into
        ):
            verifier.remember(span.offset, into)
            return span
    image.read(span, into)
    if identifiers.apply(plan.patches, span.offset, into):
        span = MappedRange(span.offset, span.length, hashlib.sha256(into).digest())
    verifier.remember(span.offset, into)
    target.write(span.offset, into)
    return span


def _write_piece(target: FlashTarget, piece: Piece, verifier: ReadbackVerifier) -> None:
    data = aligned(piece.data)
    verifier.remember(piece.offset, data)
    target.write(piece.offset, data)


def _check(
    target: FlashTarget, span: MappedRange, into: memoryview, verifier: ReadbackVerifier
) -> MappedRange:
    target.read(span.offset, into)
    if not verifier.matches(span.offset, into):
        raise ReadbackMismatch(
            f"bytes {span.offset} to {span.end - 1} differ from the data written there: the disk is faulty, or "
            "smaller than it reports; use another disk"
        )
    return span


def _write_and_verify(target: FlashTarget, piece: Piece, verifier: ReadbackVerifier) -> None:
    _write_piece(target, piece, verifier)
    target.flush()
    _check(target, _range(piece), buffer(len(piece.data)), verifier)


@contextmanager
def _unbootable_on_error(target: FlashTarget) -> Iterator[None]:
    """After an error in the block, erase the first sector if possible: it may have been written unverified."""
    try:
        yield
    except (DeviceError, ReadbackMismatch):
        with suppress(DeviceError):
            target.write(0, aligned(bytes(SECTOR)))
            target.flush()
        raise


def _range(piece: Piece) -> MappedRange:
    return MappedRange(piece.offset, len(piece.data), hashlib.sha256(piece.data).digest())
