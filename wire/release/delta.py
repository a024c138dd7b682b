"""Deltas: differences that turn the root slot of one release into another's, byte for byte.

A delta is a list of operations, each of which makes the next bytes of the target, in order and without gaps:

    Copy     a range of the source
    Repeat   an earlier range of the target
    Zeros    zeros
    Bytes    bytes from the delta
    Patch    ranges of the source, changed as bsdiff does: differences are added, extra bytes are inserted
    Repack   a patch of decompressed data, compressed again
    Part     a part of a patch of decompressed data, compressed as a whole

Operations, controls, differences and extra bytes are separate streams, compressed with xz, so that similar data is
adjacent:

    prefix       _PREFIX: magic, and length and CRC-32 of the header
    header       Header in MessagePack
    streams      one after the other, as the header names them

Each operation produces at most WINDOW_BYTES, whose SHA-256 (16 bytes of it) is compared before any of them is
written. The required memory is therefore bounded, and no wrong bytes are written to the target. The signature of a
delta is not checked here: it is a target of the releases' metadata (`wire.release.metadata`).
"""

from __future__ import annotations

import lzma
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from wire.release.codecs import PACK, PACK_WHOLE, UNPACK, CodecError

BLOCK_BYTES: Final = 4096
"""The target is written in multiples of it."""
WINDOW_BYTES: Final = 8 * 1024 * 1024
"""The longest result of an operation, packed and unpacked."""
SOURCE_BYTES_MAX: Final = 32 * 1024 * 1024
"""The longest source of an operation."""
UNPACKED_BYTES_MAX: Final = 80 * 1024 * 1024
"""The longest source of an operation after unpacking it: a kernel."""
PIECE_BYTES: Final = 256 * 1024
"""Maximum number of differences, and of extra bytes, of a control."""
RANGES_MAX: Final = 16384
"""The largest number of ranges of the source for an operation."""
DIGEST_BYTES: Final = 16
HEADER_BYTES_MAX: Final = 4096
OPERATIONS_BYTES_MAX: Final = 8 * 1024 * 1024
OPERATIONS_MAX: Final = 100_000
TARGET_BYTES_MAX: Final = 64 * 1024**3
DECODER_BYTES: Final = {
    "operations": 6 * 1024 * 1024,
    "controls": 6 * 1024 * 1024,
    "differences": 18 * 1024 * 1024,
    "extra": 18 * 1024 * 1024,
}
"""The memory limit of the decoder of each stream: its dictionary and 2 MiB."""
MAGIC: Final = b"RAPDELTA"
_PREFIX: Final = struct.Struct("<8sII")
_CONTROL: Final = struct.Struct("<IIi")
_ADDED_BYTES: Final = 16 * 1024
_EVEN: Final = int.from_bytes(b"\xff\x00" * (_ADDED_BYTES // 2), "little")
_ODD: Final = _EVEN << 8
_ZEROS: Final = bytes(PIECE_BYTES)


class DeltaError(Exception):
    """The delta cannot be applied; the message says why."""


class SourceChanged(DeltaError):
    """The source is not the one that the delta was made for, at least in the range that the message names."""


Offset: TypeAlias = Annotated[int, Meta(ge=0, le=TARGET_BYTES_MAX)]
Window: TypeAlias = Annotated[int, Meta(ge=1, le=WINDOW_BYTES)]
Digest: TypeAlias = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Sha256: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2 * 1024 * 1024)]


class Range(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A range of bytes of the source."""

    offset: Offset
    length: Annotated[int, Meta(ge=1, le=SOURCE_BYTES_MAX)]


class Copy(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="c"):
    """Copies `length` bytes at `offset` of the source."""

    length: Window
    offset: Offset
    digest: Digest


class Repeat(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    """Copies `length` bytes at `offset` of the target, all of them in complete blocks before this operation."""

    length: Window
    offset: Offset
    digest: Digest


class Zeros(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="z"):
    """Writes zeros."""

    length: Window


class Bytes(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    """Takes the next `length` extra bytes."""

    length: Window
    digest: Digest


class Patch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="p"):
    """Applies the next `controls` to `sources`, joined."""

    length: Window
    sources: Annotated[list[Range], Meta(min_length=1, max_length=RANGES_MAX)]
    source_digest: Digest
    controls: Count
    digest: Digest


class Repack(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="k"):
    """Applies the next `controls` to `sources`, joined and decompressed, and compresses the result.

    Consecutive operations with the same sources decompress them once.
    """

    length: Window
    sources: Annotated[list[Range], Meta(min_length=1, max_length=RANGES_MAX)]
    source_digest: Digest
    source_codec: str
    """One of UNPACK."""
    unpacked_bytes: Annotated[int, Meta(ge=0, le=UNPACKED_BYTES_MAX)]
    """The length of the decompressed source."""
    controls: Count
    codec: str
    """One of PACK."""
    patched_bytes: Window
    """The length of the patched data before it is compressed."""
    digest: Digest


class Part(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w"):
    """Takes `length` bytes at `offset` of compressed data, which the first of several parts produces.

    The first part, at offset 0, applies the next `controls` to `sources`, joined and decompressed, and compresses the
    result as a whole. The others take the following bytes, and have the same sources and no controls. Other
    operations may be between them: a file is not always in one piece.
    """

    length: Window
    offset: Annotated[int, Meta(ge=0, le=SOURCE_BYTES_MAX)]
    sources: Annotated[list[Range], Meta(min_length=1, max_length=RANGES_MAX)]
    source_digest: Digest
    source_codec: str
    """One of UNPACK."""
    unpacked_bytes: Annotated[int, Meta(ge=0, le=UNPACKED_BYTES_MAX)]
    """The length of the decompressed source."""
    controls: Count
    codec: str
    """One of PACK_WHOLE."""
    patched_bytes: Annotated[int, Meta(ge=1, le=UNPACKED_BYTES_MAX)]
    """The length of the patched data before it is compressed."""
    digest: Digest


Operation: TypeAlias = Copy | Repeat | Zeros | Bytes | Patch | Repack | Part


class DeltaStream(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A stream: its length in the file, and the length of its content."""

    packed_bytes: Offset
    bytes: Offset


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The source and target of a delta, and the positions of its streams."""

    source_sha256: Sha256
    source_bytes: Offset
    target_sha256: Sha256
    target_bytes: Offset
    operations: DeltaStream
    controls: DeltaStream
    differences: DeltaStream
    extra: DeltaStream

    @property
    def streams(self) -> dict[str, DeltaStream]:
        """The streams by name, in the order of the file."""
        return {name: getattr(self, name) for name in DECODER_BYTES}


Read: TypeAlias = Callable[[int, int], bytes]
"""Reads (offset, length); returns fewer bytes only at the end of its input."""
Write: TypeAlias = Callable[[int, bytes], object]


def digest(data: bytes | memoryview) -> bytes:
    """Return the digest of a range, in the form used by operations."""
    return sha256(data).digest()[:DIGEST_BYTES]


class Delta:
    """An opened delta: everything that can be checked without applying it has been checked."""

    def __init__(
        self, header: Header, operations: Sequence[Operation], streams: dict[str, StreamReader]
    ) -> None:
        self.header = header
        self.operations = operations
        self._controls = streams["controls"]
        self._differences = streams["differences"]
        self._extra = streams["extra"]
        self._unpacked: tuple[bytes, bytes | bytearray] = b"", b""
        """The digest of the source that was decompressed last, and its content."""
        self._compressed_parts = b""
        """The compressed data of the latest parts."""

    @classmethod
    def open(cls, read: Read, size: int) -> Delta:
        """Open the delta of `size` bytes that `read` reads. Raises: DeltaError, and the exceptions of `read`."""
        header, start = _read_header(read, size)
        streams = {}
        for name, stream in header.streams.items():
            streams[name] = StreamReader(name, read, start, stream, DECODER_BYTES[name])
            start += stream.packed_bytes
        if start != size:
            raise DeltaError(f"has {size} bytes, but its header and streams have {start}")
        operations = _read_operations(streams["operations"], header)
        return cls(header, operations, streams)

    def check_source(self, source_sha256: bytes, source_bytes: int) -> None:
        """Check that the delta was made for this source. Raises: SourceChanged."""
        if (source_sha256, source_bytes) != (self.header.source_sha256, self.header.source_bytes):
            raise SourceChanged(
                f"was made for a source of {self.header.source_bytes} bytes with SHA-256 "
                f"{self.header.source_sha256.hex()}; this one has {source_bytes} bytes and {source_sha256.hex()}"
            )

    def apply(self, read_source: Read, write_target: Write, read_target: Read) -> Iterator[int]:
        """Write the target from its beginning; yield the number of bytes produced after each operation.

        `write_target` gets whole blocks of 4 KiB in ascending order without gaps. `read_target` reads the written
        bytes. A delta is applied once; to begin again, open it again.
        Raises: SourceChanged, DeltaError, and the exceptions of the functions. The target is then incomplete, but
        each written block is correct, unless the delta is inconsistent.
        """
        target_hash, rest, written, produced = sha256(), b"", 0, 0
        for operation in self.operations:
            data = self._result(operation, read_source, read_target)
            if not isinstance(operation, Zeros) and digest(data) != operation.digest:
                raise DeltaError(
                    f"its operation at byte {produced} of the target produces other bytes than it should"
                )
            target_hash.update(data)
            produced += len(data)
            if produced == self.header.target_bytes:
                self._check_end(target_hash.digest())
            ready = rest + data if rest else data
            length = len(ready) // BLOCK_BYTES * BLOCK_BYTES
            if length:
                write_target(written, ready if length == len(ready) else ready[:length])
            rest, written = ready[length:], written + length
            del data, ready
            yield produced

    def _check_end(self, target_sha256: bytes) -> None:
        if target_sha256 != self.header.target_sha256:
            raise DeltaError("produces a target with another SHA-256 than its header states")
        for stream in (self._controls, self._differences, self._extra):
            stream.check_end()

    def _result(self, operation: Operation, read_source: Read, read_target: Read) -> bytes:
        match operation:
            case Zeros():
                return bytes(operation.length)
            case Bytes():
                return self._extra.take(operation.length)
            case Copy():
                data = read_source(operation.offset, operation.length)
                if digest(data) != operation.digest:
                    raise _changed([Range(operation.offset, operation.length)])
                return data
            case Repeat():
                return read_target(operation.offset, operation.length)
            case Patch():
                self._unpacked = b"", b""
                old = _joined(operation, read_source)
                return bytes(self._patched(operation.controls, old, operation.length))
            case Repack():
                unpacked = self._unpacked_source(operation, read_source)
                return _pack(operation, self._patched(operation.controls, unpacked, operation.patched_bytes))
            case Part():
                if operation.offset == 0:
                    self._compressed_parts = b""  # frees its memory first
                    self._compressed_parts = self._compressed(operation, read_source)
                return self._compressed_parts[operation.offset : operation.offset + operation.length]

    def _compressed(self, operation: Part, read_source: Read) -> bytes:
        """Return the compressed data of the parts that begin with this one; it is patched in pieces."""
        unpacked = self._unpacked_source(operation, read_source)
        pieces = self._pieces(operation.controls, unpacked, operation.patched_bytes)
        try:
            return PACK_WHOLE[operation.codec](pieces)
        except CodecError as error:
            raise DeltaError(f"cannot compress by {operation.codec}: {error}") from None
        finally:
            self._unpacked = b"", b""

    def _unpacked_source(self, operation: Repack | Part, read_source: Read) -> bytes | bytearray:
        if self._unpacked[0] != operation.source_digest:
            self._unpacked = b"", b""  # frees its memory first
            packed = _joined(operation, read_source)
            try:
                data = UNPACK[operation.source_codec](packed, operation.unpacked_bytes)
            except CodecError as error:
                raise DeltaError(f"cannot decompress a source by {operation.source_codec}: {error}") from None
            self._unpacked = operation.source_digest, data
        return self._unpacked[1]

    def _patched(self, count: int, old: bytes | bytearray, length: int) -> bytearray:
        """Return the result of `length` bytes. Raises: DeltaError."""
        result, position = bytearray(length), 0
        for piece in self._pieces(count, old, length):
            result[position : position + len(piece)] = piece
            position += len(piece)
        return result

    def _pieces(self, count: int, old: bytes | bytearray, length: int) -> Iterator[bytearray]:
        """Yield the result of `length` bytes in pieces. Raises: DeltaError."""
        controls = self._controls.take(count * _CONTROL.size)
        position = produced = 0
        source = memoryview(old)
        for start, end in _batches(controls):
            added, inserted, sources = array("I"), array("I"), []
            for adding, inserting, moving in _CONTROL.iter_unpack(controls[start:end]):
                if position + adding > len(old):
                    raise DeltaError("a patch reads beyond its source")
                sources.append(source[position : position + adding])
                added.append(adding)
                inserted.append(inserting)
                position += adding + moving
                if position < 0:
                    raise DeltaError("a patch reads before its source")
            differences, extra = sum(added), sum(inserted)
            produced += differences + extra
            if produced > length:
                raise DeltaError(f"a patch produces more than the {length} bytes of its operation")
            changed = memoryview(add(b"".join(sources), self._differences.take(differences)))
            insertions = memoryview(self._extra.take(extra))
            piece, change, insertion = bytearray(), 0, 0
            for adding, inserting in zip(added, inserted, strict=True):
                piece += changed[change : change + adding]
                change += adding
                if inserting:
                    piece += insertions[insertion : insertion + inserting]
                    insertion += inserting
            yield piece
        if produced != length:
            raise DeltaError(f"a patch produces {produced} bytes instead of the {length} of its operation")


def _batches(controls: bytes) -> Iterator[tuple[int, int]]:
    """Yield ranges of `controls` that produce PIECE_BYTES (except for the last) to 3 * PIECE_BYTES - 1 bytes."""
    start = total = 0
    for number, (adding, inserting, _) in enumerate(_CONTROL.iter_unpack(controls), 1):
        if max(adding, inserting) > PIECE_BYTES:
            raise DeltaError(
                f"a patch has a piece of {max(adding, inserting)} bytes; at most {PIECE_BYTES} are allowed"
            )
        total += adding + inserting
        if total >= PIECE_BYTES:
            yield start, (start := number * _CONTROL.size)
            total = 0
    if start < len(controls):
        yield start, len(controls)


def add(old: bytes, differences: bytes) -> bytes:
    """Return the sums of the bytes of two equally long values, modulo 256.

    Bytes at even and at odd positions are added separately, as two long integers whose bytes cannot carry into each
    other.
    """
    if differences == _ZEROS[: len(differences)]:
        return old
    sums = []
    for start in range(0, len(old), _ADDED_BYTES):
        left, right = old[start : start + _ADDED_BYTES], differences[start : start + _ADDED_BYTES]
        if right == _ZEROS[: len(right)]:
            sums.append(left)
            continue
        a, b = int.from_bytes(left, "little"), int.from_bytes(right, "little")
        total = ((a & _EVEN) + (b & _EVEN)) & _EVEN | ((a & _ODD) + (b & _ODD)) & _ODD
        sums.append((total & ((1 << 8 * len(left)) - 1)).to_bytes(len(left), "little"))
    return b"".join(sums)


class StreamReader:
    """Decompresses a stream of a delta from its beginning."""

    def __init__(self, name: str, read: Read, start: int, stream: DeltaStream, memory_bytes: int) -> None:
        self.name = name
        self._read = read
        self._next, self._end = start, start + stream.packed_bytes
        self._remaining = stream.bytes
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memory_bytes)

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes. Raises: DeltaError."""
        if length > self._remaining:
            raise DeltaError(f"its {self.name} end too early")
        self._remaining -= length
        pieces = []
        while length:
            piece = self._decompress(length)
            length -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check_end(self) -> None:
        """Check that everything was taken, and that no data follows. Raises: DeltaError."""
        if self._remaining:
            raise DeltaError(f"its {self.name} have {self._remaining} bytes more than its operations use")
        while not self._decoder.eof:
            if self._decompress(1):
                raise DeltaError(f"its {self.name} are longer than its header states")
        if self._decoder.unused_data or self._next < self._end:
            raise DeltaError(f"its {self.name} are followed by other data")

    def _decompress(self, length: int) -> bytes:
        packed = b""
        if self._decoder.eof:
            raise DeltaError(f"its {self.name} end too early")
        if self._decoder.needs_input:
            packed = self._read(self._next, min(64 * 1024, self._end - self._next))
            if not packed:
                raise DeltaError(f"its {self.name} are truncated")
            self._next += len(packed)
        try:
            return self._decoder.decompress(packed, length)
        except lzma.LZMAError as error:
            raise DeltaError(f"its {self.name} are damaged: {error}") from None


def _read_header(read: Read, size: int) -> tuple[Header, int]:
    """Return the header, and where the streams begin. Raises: DeltaError."""
    prefix = read(0, _PREFIX.size)
    if len(prefix) < _PREFIX.size or prefix[:8] != MAGIC:
        raise DeltaError("is not a delta: it does not begin with the magic number")
    _, length, crc = _PREFIX.unpack(prefix)
    if length > min(HEADER_BYTES_MAX, size - _PREFIX.size):
        raise DeltaError(
            f"has a header of {length} bytes; it may have at most {HEADER_BYTES_MAX}, and must fit into the file"
        )
    data = read(_PREFIX.size, length)
    if zlib.crc32(data) != crc:
        raise DeltaError("has a damaged header")
    try:
        header = msgspec.msgpack.decode(data, type=Header)
    except msgspec.MsgspecError as error:
        raise DeltaError(f"has a wrong header: {error}") from None
    if header.target_bytes % BLOCK_BYTES:
        raise DeltaError(f"makes {header.target_bytes} bytes, which are not whole blocks of {BLOCK_BYTES}")
    if header.operations.bytes > OPERATIONS_BYTES_MAX:
        raise DeltaError(
            f"has operations of {header.operations.bytes} bytes; at most {OPERATIONS_BYTES_MAX} are allowed"
        )
    return header, _PREFIX.size + length


def _read_operations(reader: StreamReader, header: Header) -> list[Operation]:
    data = reader.take(header.operations.bytes)
    reader.check_end()
    try:
        operations: list[Operation] = msgspec.msgpack.decode(
            data, type=Annotated[list[Operation], Meta(max_length=OPERATIONS_MAX)]
        )
    except msgspec.MsgspecError as error:
        raise DeltaError(f"has a wrong operation: {error}") from None
    produced, previous = 0, None
    for operation in operations:
        _check(operation, produced, header.source_bytes)
        if isinstance(operation, Part):
            _check_order(previous, operation, produced)
            previous = operation
        produced += operation.length
    if produced != header.target_bytes:
        raise DeltaError(f"has operations for {produced} bytes of a target of {header.target_bytes}")
    return operations


def _check_order(previous: Part | None, part: Part, produced: int) -> None:
    """Check that a part is the first one of its data, or follows `previous`. Raises: DeltaError."""
    if part.offset == 0:
        return
    if part.controls or previous is None or previous.offset + previous.length != part.offset:
        raise DeltaError(f"has an operation at byte {produced} of the target that is not the next part")


def _check(operation: Operation, produced: int, source_bytes: int) -> None:
    """Check the ranges of an operation that begins after `produced` bytes. Raises: DeltaError."""
    ranges: Sequence[Range] = ()
    match operation:
        case Copy():
            ranges = (Range(operation.offset, operation.length),)
        case Repeat() if operation.offset + operation.length > produced // BLOCK_BYTES * BLOCK_BYTES:
            raise DeltaError(f"repeats bytes at {operation.offset} of the target before they are made")
        case Patch() | Repack() | Part():
            ranges = operation.sources
    if any(each.offset + each.length > source_bytes for each in ranges):
        raise DeltaError(f"has an operation at byte {produced} of the target that reads beyond the source")
    if sum(each.length for each in ranges) > SOURCE_BYTES_MAX:
        raise DeltaError(
            f"has an operation at byte {produced} of the target with more than {SOURCE_BYTES_MAX} bytes of source"
        )
    if isinstance(operation, Repack | Part):
        known = PACK if isinstance(operation, Repack) else PACK_WHOLE
        if operation.source_codec not in UNPACK or operation.codec not in known:
            raise DeltaError(
                f"needs compression by {operation.source_codec} and {operation.codec}, which is unknown here"
            )


def _joined(operation: Patch | Repack | Part, read_source: Read) -> bytes:
    data = b"".join(read_source(each.offset, each.length) for each in operation.sources)
    if digest(data) != operation.source_digest:
        raise _changed(operation.sources)
    return data


def _changed(ranges: Sequence[Range]) -> SourceChanged:
    return SourceChanged(
        f"the source has other bytes than the delta was made for, between {min(each.offset for each in ranges)} and "
        f"{max(each.offset + each.length for each in ranges)}"
    )


def _pack(operation: Repack, data: bytes | bytearray) -> bytes:
    try:
        return PACK[operation.codec](data)
    except CodecError as error:
        raise DeltaError(f"cannot compress by {operation.codec}: {error}") from None
