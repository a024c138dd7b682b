"""Writing deltas: collects operations and their streams, and compresses them."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from wire.release.codecs import PACK
from wire.release.delta import (
    BLOCK_BYTES,
    DECODER_BYTES,
    MAGIC,
    PIECE_BYTES,
    WINDOW_BYTES,
    Bytes,
    Copy,
    DeltaStream,
    Header,
    Operation,
    Part,
    Patch,
    Range,
    Repack,
    Repeat,
    Zeros,
    digest,
)

_MARGIN_BYTES: Final = 2 * 1024 * 1024
"""The most memory that the decoder of xz needs in addition to its dictionary."""


class PatchControl(NamedTuple):
    """One step of a patch: add `differences` to the source, insert `extra`, then move in the source by `moving`."""

    differences: bytes
    extra: bytes
    moving: int


@dataclass(frozen=True)
class PackedPart:
    """`length` bytes at `offset` of what `codec` produces from the patched sources, which have `patched_bytes`."""

    length: int
    offset: int
    sources: tuple[Range, ...]
    source_codec: str
    unpacked_bytes: int
    controls: tuple[PatchControl, ...]
    """Empty except in the first part."""
    patched_bytes: int
    codec: str


class DeltaWriter:
    """Collects the operations of a delta in the order of the target."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.streams = {name: bytearray() for name in DECODER_BYTES}

    def copy(self, offset: int, data: bytes) -> None:
        """Copy `data`, which is at `offset` of the source."""
        for start in range(0, len(data), WINDOW_BYTES):
            part = data[start : start + WINDOW_BYTES]
            self.operations.append(Copy(len(part), offset + start, digest(part)))

    def repeat(self, offset: int, data: bytes) -> None:
        """Copy `data`, which is at `offset` of the target."""
        for start in range(0, len(data), WINDOW_BYTES):
            part = data[start : start + WINDOW_BYTES]
            self.operations.append(Repeat(len(part), offset + start, digest(part)))

    def zeros(self, length: int) -> None:
        """Write zeros."""
        for start in range(0, length, WINDOW_BYTES):
            self.operations.append(Zeros(min(WINDOW_BYTES, length - start)))

    def literal(self, data: bytes) -> None:
        """Write `data` as bytes of the delta."""
        for start in range(0, len(data), WINDOW_BYTES):
            part = data[start : start + WINDOW_BYTES]
            self.streams["extra"] += part
            self.operations.append(Bytes(len(part), digest(part)))

    def patch(
        self, sources: Sequence[Range], source: bytes, controls: Iterable[PatchControl], data: bytes
    ) -> None:
        """Produce `data`, of one window at most, from the content `source` of the ranges `sources`."""
        count = self._add_controls(controls)
        self.operations.append(Patch(len(data), list(sources), digest(source), count, digest(data)))

    def repack(
        self,
        sources: Sequence[Range],
        source: bytes,
        unpacked_bytes: int,
        source_codec: str,
        controls: Iterable[PatchControl],
        data: bytes,
        codec: str,
    ) -> None:
        """Produce `data`, compressed by `codec`, from `source`, which has `unpacked_bytes` when decompressed."""
        count = self._add_controls(controls)
        packed = PACK[codec](data)
        self.operations.append(
            Repack(
                length=len(packed),
                sources=list(sources),
                source_digest=digest(source),
                source_codec=source_codec,
                unpacked_bytes=unpacked_bytes,
                controls=count,
                codec=codec,
                patched_bytes=len(data),
                digest=digest(packed),
            )
        )

    def part(self, piece: PackedPart, source: bytes, data: bytes) -> None:
        """Produce `data`, a part of compressed data, from the content `source` of the piece's sources."""
        self.operations.append(
            Part(
                length=len(data),
                offset=piece.offset,
                sources=list(piece.sources),
                source_digest=digest(source),
                source_codec=piece.source_codec,
                unpacked_bytes=piece.unpacked_bytes,
                controls=self._add_controls(piece.controls),
                codec=piece.codec,
                patched_bytes=piece.patched_bytes,
                digest=digest(data),
            )
        )

    def _add_controls(self, controls: Iterable[PatchControl]) -> int:
        count = 0
        for control in controls:
            for differences, extra, moving in _pieces(control):
                self.streams["controls"] += struct.pack("<IIi", len(differences), len(extra), moving)
                self.streams["differences"] += differences
                self.streams["extra"] += extra
                count += 1
        return count

    def finish(
        self, source_sha256: bytes, source_bytes: int, target_sha256: bytes, target_bytes: int
    ) -> bytes:
        """Return the content of the delta file. The same calls give the same bytes."""
        self.streams["operations"] += msgspec.msgpack.encode(self.operations)
        packed = {name: _compress(bytes(data), name) for name, data in self.streams.items()}
        streams = {name: DeltaStream(len(packed[name]), len(data)) for name, data in self.streams.items()}
        header = msgspec.msgpack.encode(
            Header(source_sha256, source_bytes, target_sha256, target_bytes, **streams)
        )
        prefix = struct.pack("<8sII", MAGIC, len(header), zlib.crc32(header))
        return b"".join((prefix, header, *packed.values()))


def _pieces(control: PatchControl) -> Iterable[PatchControl]:
    """Split a control into controls of at most `PIECE_BYTES`."""
    differences, extra, moving = control
    while len(differences) > PIECE_BYTES:
        yield PatchControl(differences[:PIECE_BYTES], b"", 0)
        differences = differences[PIECE_BYTES:]
    while len(extra) > PIECE_BYTES:
        yield PatchControl(differences, extra[:PIECE_BYTES], 0)
        differences, extra = b"", extra[PIECE_BYTES:]
    yield PatchControl(differences, extra, moving)


def _compress(data: bytes, name: str) -> bytes:
    dict_bytes = min(DECODER_BYTES[name] - _MARGIN_BYTES, max(4096, len(data)))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dict_bytes}]
    return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)


def block_delta(source: bytes, target: bytes) -> bytes:
    """Return a delta between two small images in whole blocks; it contains the blocks that the source does not have.

    For tests and simulated slots.
    """
    writer = DeltaWriter()
    offsets = {source[start : start + BLOCK_BYTES]: start for start in range(0, len(source), BLOCK_BYTES)}
    for start in range(0, len(target), BLOCK_BYTES):
        block = target[start : start + BLOCK_BYTES]
        if not any(block):
            writer.zeros(len(block))
        elif block in offsets:
            writer.copy(offsets[block], block)
        else:
            writer.literal(block)
    return writer.finish(sha256(source).digest(), len(source), sha256(target).digest(), len(target))
