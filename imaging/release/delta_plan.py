"""Converts pieces of a target into the operations of a delta.

A piece states where bytes of the target come from. Adjacent pieces with adjacent sources are joined; long equal
stretches are copied; the others share patches of at most one window, each with the ranges of the source that its
pieces need.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from imaging.release.delta_file import DeltaWriter, PackedPart, PatchControl
from wire.release.delta import BLOCK_BYTES, RANGES_MAX, SOURCE_BYTES_MAX, WINDOW_BYTES, Range, add

COPY_BYTES_MIN: Final = 64 * 1024
"""A shorter copy costs less as a part of a patch than as an operation with its own hash."""
_GAP_BYTES: Final = 4096
"""Source ranges with a smaller gap are joined."""
_NEGATED: Final = bytes(-byte & 255 for byte in range(256))


class FromSource(NamedTuple):
    """`length` bytes that resemble the source at offset `source`."""

    length: int
    source: int


class New(NamedTuple):
    """`length` bytes that resemble nothing."""

    length: int


class Empty(NamedTuple):
    """`length` zeros."""

    length: int


class Again(NamedTuple):
    """`length` bytes that equal those at offset `target` of the target, before this piece."""

    length: int
    target: int


@dataclass(frozen=True)
class PackedRange:
    """`length` bytes that `codec` produces from `data`, which `controls` produce from the decompressed sources."""

    length: int
    sources: tuple[Range, ...]
    source_codec: str
    unpacked_bytes: int
    controls: tuple[PatchControl, ...]
    data: bytes
    codec: str


Piece: TypeAlias = FromSource | New | Empty | Again | PackedRange | PackedPart


def differences(new: bytes, old: bytes) -> bytes:
    """Return the bytes to add to `old` to obtain `new`."""
    return bytes(len(new)) if new == old else add(new, old.translate(_NEGATED))


class Planner:
    """Turns pieces, in the order of the target, into operations."""

    def __init__(self, source: memoryview, target: memoryview, writer: DeltaWriter) -> None:
        self._source = source
        self._target = target
        self._writer = writer
        self._done = 0
        self._window: list[tuple[int, FromSource | New]] = []
        self._window_bytes = 0

    def add_all(self, pieces: Iterable[Piece]) -> None:
        """Add all pieces of the target."""
        for piece in joined(pieces):
            self._add(piece)
        self._flush()

    def _add(self, piece: Piece) -> None:
        start, end = self._done, self._done + piece.length
        data = self._target[start:end]
        match piece:
            case FromSource():
                self._add_from_source(piece, start)
            case Empty(length) if length >= COPY_BYTES_MIN:
                self._flush()
                self._writer.zeros(length)
            case Again(_, target):
                self._flush()
                self._writer.repeat(target, bytes(data))
            case PackedRange():
                self._flush()
                self._writer.repack(
                    piece.sources,
                    self._content(piece.sources),
                    piece.unpacked_bytes,
                    piece.source_codec,
                    piece.controls,
                    piece.data,
                    piece.codec,
                )
            case PackedPart():
                self._flush()
                self._writer.part(piece, self._content(piece.sources), bytes(data))
            case New() | Empty():
                self._add_to_window(New(piece.length), start)
        self._done = end

    def _content(self, sources: Iterable[Range]) -> bytes:
        return b"".join(self._source[one.offset : one.offset + one.length] for one in sources)

    def _add_from_source(self, piece: FromSource, start: int) -> None:
        """Copy the long stretches of whole blocks that are equal, and patch the others."""
        shift = piece.source - start
        for length, is_equal in _stretches(
            self._source[piece.source : piece.source + piece.length],
            self._target[start : start + piece.length],
        ):
            if is_equal:
                self._flush()
                self._writer.copy(start + shift, bytes(self._target[start : start + length]))
            else:
                self._add_to_window(FromSource(length, start + shift), start)
            start += length

    def _add_to_window(self, piece: FromSource | New, start: int) -> None:
        length = piece.length
        while length:
            if self._window_bytes == WINDOW_BYTES:
                self._flush()
            size = min(WINDOW_BYTES - self._window_bytes, length)
            part = (
                FromSource(size, piece.source + piece.length - length)
                if isinstance(piece, FromSource)
                else New(size)
            )
            self._window.append((start, part))
            start, length = start + size, length - size
            self._window_bytes += size

    def _flush(self) -> None:
        window, self._window, self._window_bytes = self._window, [], 0
        if window:
            self._write(window)

    def _write(self, window: Sequence[tuple[int, FromSource | New]]) -> None:
        """Write a window as one operation, or as several if it has too many sources."""
        start, end = window[0][0], window[-1][0] + window[-1][1].length
        data = bytes(self._target[start:end])
        sources = _ranges([piece for _, piece in window if isinstance(piece, FromSource)])
        if len(sources) > RANGES_MAX or sum(one.length for one in sources) > SOURCE_BYTES_MAX:
            middle = len(window) // 2
            self._write(window[:middle])
            self._write(window[middle:])
        elif not sources:
            self._writer.literal(data)
        else:
            source = b"".join(self._source[one.offset : one.offset + one.length] for one in sources)
            self._writer.patch(sources, source, self._controls(window, sources), data)

    def _controls(
        self, window: Sequence[tuple[int, FromSource | New]], sources: Sequence[Range]
    ) -> list[PatchControl]:
        steps: list[tuple[bytes, int | None]] = []
        offsets, starts, end = [one.offset for one in sources], [], 0
        for one in sources:
            starts.append(end)
            end += one.length
        for start, piece in window:
            new = bytes(self._target[start : start + piece.length])
            if isinstance(piece, New):
                steps.append((new, None))
            else:
                number = bisect_right(offsets, piece.source) - 1
                at = starts[number] + piece.source - offsets[number]
                old = bytes(self._source[piece.source : piece.source + piece.length])
                steps.append((differences(new, old), at))
        return controls(steps)


def controls(steps: Iterable[tuple[bytes, int | None]]) -> list[PatchControl]:
    """Return the controls of a patch from its steps: extra bytes (None), or differences to a source offset."""
    result: list[PatchControl] = []
    changed, extra, position = b"", b"", 0
    for data, at in steps:
        if at is None:
            extra += data
            continue
        if changed or extra or at != position:
            result.append(PatchControl(changed, extra, at - position))
        changed, extra, position = data, b"", at + len(data)
    result.append(PatchControl(changed, extra, 0))
    return result


def joined(pieces: Iterable[Piece]) -> Iterable[Piece]:
    """Yield the pieces; adjacent pieces with adjacent sources are joined."""
    last: Piece | None = None
    for piece in pieces:
        match last, piece:
            case FromSource(length, source), FromSource(more, after) if after == source + length:
                last = FromSource(length + more, source)
            case Empty(length), Empty(more):
                last = Empty(length + more)
            case New(length), New(more):
                last = New(length + more)
            case Again(length, target), Again(more, after) if after == target + length:
                last = Again(length + more, target)
            case _:
                if last is not None:
                    yield last
                last = piece
    if last is not None:
        yield last


def _stretches(old: memoryview, new: memoryview) -> Iterator[tuple[int, bool]]:
    """Yield the lengths of stretches, and whether they are equal and at least COPY_BYTES_MIN long."""
    if old == new:
        yield len(new), len(new) >= COPY_BYTES_MIN
        return
    done = equal = (
        0  # offsets in blocks: of the yielded stretches, and of the current stretch of equal blocks
    )
    for at in range(0, len(new) + 1, BLOCK_BYTES):
        if at + BLOCK_BYTES <= len(new) and old[at : at + BLOCK_BYTES] == new[at : at + BLOCK_BYTES]:
            continue
        if at - equal >= COPY_BYTES_MIN:
            if equal > done:
                yield equal - done, False
            yield at - equal, True
            done = at
        equal = at + BLOCK_BYTES
    if done < len(new):
        yield len(new) - done, False


def _ranges(pieces: Iterable[FromSource]) -> list[Range]:
    """Return the ranges of the source that pieces need, in ascending order."""
    ranges: list[Range] = []
    for start, end in sorted((piece.source, piece.source + piece.length) for piece in pieces):
        if ranges and start <= ranges[-1].offset + ranges[-1].length + _GAP_BYTES:
            before = ranges.pop()
            start, end = before.offset, max(end, before.offset + before.length)
        ranges.append(Range(start, end - start))
    return ranges
