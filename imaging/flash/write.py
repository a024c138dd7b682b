"""The writing itself: unbootable first, everything read back, the sector that makes it start last.

Several ranges are in flight, each on a thread of its own that reads (and decompresses), compares with the signed
hash and writes; the kernel and hashlib let the threads run side by side. All is read back only after all was written
and flushed: a stick that claims more room than it has overwrites its beginning with its end, and a range that is read
back at once is still right. It is compared with what was in memory then (`imaging.flash.readback`).

There is no journal. What an interrupted flash left is compared range by range with the signed hashes, and what is
right is kept: that cannot be wrong about what a power cut tore.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from imaging.flash.gpt import SECTOR
from imaging.flash.plan import HEAD_BYTES, FlashPlan, Piece
from imaging.flash.readback import ReadbackVerifier
from imaging.flash.source import Image
from imaging.flash.target import DeviceError, FlashTarget, aligned, buffer
from imaging.media.bmap import CELL_BYTES, Range

IN_FLIGHT: Final = 4
"""More gain nothing on SATA, NVMe or USB; each takes a MiB."""
MARK_OFFSET: Final = 64 * 1024
MARK: Final = b"RAP-FLASH-UNFINISHED\n"
"""What stands in the head of a disk that is being written; `rap flash list` shows it."""


class WentWrong(Exception):
    """The disk does not give back what was written to it."""


@dataclass(frozen=True)
class WrittenRange:
    """What a disk holds from `offset` on, for the record."""

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
    progress: Callable[[int], None] = lambda _bytes: None,
) -> list[WrittenRange]:
    """Write all of `plan`; on return it is durable, was read back, and the disk starts.

    `progress` is told bytes, twice those of `plan.bulk_bytes` in all. With `resume`, what is already right is left as
    it is. Raises ImageError, DeviceError, WentWrong; the disk then does not start.
    """
    make_unbootable(plan, target, image.path.name)
    seals = ReadbackVerifier()
    with _Workers(in_flight) as workers:
        for span in workers.each(
            lambda span, into: _write(image, target, span, into, seals, resume), plan.ranges
        ):
            progress(span.length)
        for piece in plan.pieces:
            _write_piece(target, piece, seals)
            progress(len(piece.data))
        target.flush()
        bulk = [*plan.ranges, *(_range(piece) for piece in plan.pieces)]
        for span in workers.each(lambda span, into: _check(target, span, into, seals), bulk):
            progress(span.length)
    rest = Piece(SECTOR, plan.head[SECTOR:])
    for piece in (plan.tail, rest):
        _put(target, piece, seals)
    with _taken_back_on_error(target):
        _put(target, Piece(0, plan.head[:SECTOR]), seals)
    ends = [_range(Piece(0, plan.head)), _range(plan.tail)]
    return [
        WrittenRange(s.offset, s.length, s.sha256.hex()) for s in sorted(bulk + ends, key=lambda s: s.offset)
    ]


def make_unbootable(plan: FlashPlan, target: FlashTarget, name: str) -> None:
    """Take the partition table and its copy away, durably."""
    blank = bytearray(HEAD_BYTES)
    mark = MARK + name.encode() + b"\n"
    blank[MARK_OFFSET : MARK_OFFSET + len(mark)] = mark
    target.write(0, aligned(bytes(blank)))
    target.write(plan.tail.offset, aligned(bytes(len(plan.tail.data))))
    target.flush()


class _Workers:
    """Threads, and a buffer for each."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._buffers: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(count):
            self._buffers.put(buffer(CELL_BYTES))

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[Range, memoryview], None], spans: Sequence[Range]) -> Iterator[Range]:
        """Do `work` on each range, several at a time; yields them in order as they are done."""

        def one(span: Range) -> Range:
            into = self._buffers.get()
            try:
                work(span, into[: span.length])
            finally:
                self._buffers.put(into)
            return span

        return self._pool.map(one, spans)


def _write(
    image: Image, target: FlashTarget, span: Range, into: memoryview, seals: ReadbackVerifier, resume: bool
) -> None:
    if resume:
        target.read(span.offset, into)
        if hashlib.sha256(into).digest() == span.sha256:
            seals.put(span.offset, into)
            return
    image.read(span, into)
    seals.put(span.offset, into)
    target.write(span.offset, into)


def _write_piece(target: FlashTarget, piece: Piece, seals: ReadbackVerifier) -> None:
    data = aligned(piece.data)
    seals.put(piece.offset, data)
    target.write(piece.offset, data)


def _check(target: FlashTarget, span: Range, into: memoryview, seals: ReadbackVerifier) -> None:
    target.read(span.offset, into)
    if not seals.holds(span.offset, into):
        raise WentWrong(
            f"bytes {span.offset} to {span.end - 1} read back differ from what was written there: "
            "the disk is broken, or has less room than it says; take another"
        )


def _put(target: FlashTarget, piece: Piece, seals: ReadbackVerifier) -> None:
    _write_piece(target, piece, seals)
    target.flush()
    _check(target, _range(piece), buffer(len(piece.data)), seals)


@contextmanager
def _taken_back_on_error(target: FlashTarget) -> Iterator[None]:
    """A first sector that was perhaps written, and cannot be vouched for, is taken away again if possible."""
    try:
        yield
    except (DeviceError, WentWrong):
        with suppress(DeviceError):
            target.write(0, aligned(bytes(SECTOR)))
            target.flush()
        raise


def _range(piece: Piece) -> Range:
    return Range(piece.offset, len(piece.data), hashlib.sha256(piece.data).digest())
