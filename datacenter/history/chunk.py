"""A chunk: many statuses of one instrument as compressed columns, without loss.

A column is stored as the differences of its values, taken as often as makes them smallest (0, 1 or 2 times), in units
of their greatest common divisor. Columns with noise are Rice-coded: of each difference the quotient by 2^k in unary,
and the remainder in k bits, stored bit by bit for all differences. Columns that hardly ever change are stored as byte
planes instead, which the general compressor compresses better. Readings that a status lacks are left out of their
column.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from datacenter.extension import extension
from datacenter.history.statuses import Booleans, Integers, Readings, Statuses

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FORM: Final = 1
LEVEL: Final = 9
ORDER_MAX: Final = 2
RICE_MAX: Final = 24
"""Maximum bits of a remainder. Columns whose differences would need more are compressed by zstd."""
UNARY_BITS_MAX: Final = 16
"""The longest mean quotient, in bits: a few extreme values must not make a column large."""
FIXED: Final = ("run", "number", "at_ms", "state", "samples")
_Unsigned: TypeAlias = npt.NDArray[np.uint64]
_SIGNED: Final = np.array([index >> 1 ^ -(index & 1) for index in range(256)], np.int64)
"""The signed number of each byte."""


class ChunkError(ValueError):
    """The bytes are not a chunk."""


class _Column(Struct, frozen=True, array_like=True):
    """The form in which a column is stored. `bits` is the length of a remainder, -1 for byte planes."""

    order: Annotated[int, Meta(ge=0, le=ORDER_MAX)]
    divisor: int
    first: tuple[int, ...]
    """The first `order` values."""
    bits: int
    width: int
    """Bytes of each difference, or the bytes of the quotients."""


class _Chunk(Struct, frozen=True, array_like=True):
    """The content of a chunk; `columns` are FIXED, then those of the channels."""

    form: int
    count: int
    channels: tuple[str, ...]
    partial: dict[int, bytes]
    """The presence bits of channels that not every status has."""
    columns: list[_Column]
    rice: bytes
    plain: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Chunk).decode


def encode_chunk(statuses: Statuses) -> bytes:
    """Encode statuses, at least one."""
    values = [getattr(statuses, name) for name in FIXED]
    partial = {}
    for index, channel in enumerate(statuses.readings.values()):
        if not channel.present.all():
            partial[index] = np.packbits(channel.present).tobytes()
        values.append(channel.values[channel.present])
    columns: list[_Column] = []
    rice: list[bytes] = []
    plain: list[bytes] = []
    for array in values:
        column, data = _encode_column(array)
        columns.append(column)
        (plain if column.bits < 0 else rice).append(data)
    chunk = _Chunk(
        FORM,
        len(statuses),
        tuple(statuses.readings),
        partial,
        columns,
        b"".join(rice),
        zstd.compress(b"".join(plain), LEVEL),
    )
    return _encode(chunk)


def decode_chunk(data: bytes, *, with_numpy: bool = False) -> Statuses:
    """Decode the result of `encode_chunk`; with `with_numpy`, use numpy even if the extension module was built.

    Raises: ChunkError.
    """
    try:
        chunk = _decode(data)
        if chunk.form != FORM:
            raise ChunkError(f"a chunk of form {chunk.form}; this program reads form {FORM}")
        return _statuses(chunk, None if with_numpy else extension("datacenter.history._column"))
    except (msgspec.DecodeError, zstd.ZstdError, IndexError, ValueError) as error:
        raise ChunkError(f"not a chunk: {error}") from error


def chunk_channels(data: bytes) -> tuple[str, ...]:
    """Return the channels of a chunk, without decoding its columns. Raises: ChunkError."""
    try:
        return _decode(data).channels
    except msgspec.DecodeError as error:
        raise ChunkError(f"not a chunk: {error}") from error


def _statuses(chunk: _Chunk, native: Any) -> Statuses:
    rice, plain = memoryview(chunk.rice), memoryview(zstd.decompress(chunk.plain))
    every = np.ones(chunk.count, np.bool_)
    present = [every] * len(FIXED) + [
        _unpacked(chunk.partial[index], chunk.count) if index in chunk.partial else every
        for index in range(len(chunk.channels))
    ]
    arrays: list[Integers] = []
    for column, mask in zip(chunk.columns, present, strict=True):
        count = chunk.count if mask is every else int(np.count_nonzero(mask))
        source = plain if column.bits < 0 else rice
        if native is None:
            used, values = _decode_column(column, count, source)
        else:
            used, values = _decode_natively(native, column, count, source)
        if column.bits < 0:
            plain = plain[used:]
        else:
            rice = rice[used:]
        arrays.append(values if mask is every else _spread(values, mask))
    readings = {
        name: Readings(values, mask)
        for name, values, mask in zip(
            chunk.channels, arrays[len(FIXED) :], present[len(FIXED) :], strict=True
        )
    }
    run, number, at_ms, state, samples = arrays[: len(FIXED)]
    return Statuses(run, number, at_ms, state, samples, readings)


def _spread(values: Integers, present: Booleans) -> Integers:
    """Return an array with the values where they are present, and 0 elsewhere."""
    spread = np.zeros(len(present), np.int64)
    spread[present] = values
    return spread


def _encode_column(values: Integers) -> tuple[_Column, bytes]:
    """Encode a column in the smallest of its forms."""
    differences = [values]
    while len(differences) <= min(ORDER_MAX, len(values) - 1):
        differences.append(np.diff(differences[-1]))
    order, rest = min(enumerate(differences), key=lambda pair: _mean_magnitude(pair[1]))
    first = tuple(int(difference[0]) for difference in differences[:order])
    if not rest.any():
        return _Column(order, 1, first, -1, 0), b""
    divisor = max(1, int(np.gcd.reduce(rest)) if len(rest) else 1)
    unsigned = _without_sign(rest // divisor)
    plain, width = _byte_planes(unsigned)
    bits = _remainder_bits(unsigned)
    if bits is not None:
        data, quotient_bytes = _rice(unsigned, bits)
        if len(data) < len(zstd.compress(plain, LEVEL)):
            return _Column(order, divisor, first, bits, quotient_bytes), data
    return _Column(order, divisor, first, -1, width), plain


def _decode_natively(native: Any, column: _Column, count: int, data: memoryview) -> tuple[int, Integers]:
    """Do the same as `_decode_column` with the extension module (column.c)."""
    if column.bits > RICE_MAX or len(column.first) != column.order or count < column.order:
        raise ChunkError("the description of a column is wrong")
    values = np.empty(count, np.int64)
    ffi = native.ffi
    used = native.lib.decode_column(
        ffi.from_buffer(data),
        len(data),
        column.bits,
        column.width,
        count - column.order,
        column.order,
        column.divisor,
        column.first,
        ffi.from_buffer("int64_t[]", values),
    )
    if used < 0:
        raise ChunkError("a column is shorter than its count")
    return used, values


def _decode_column(column: _Column, count: int, data: memoryview) -> tuple[int, Integers]:
    """Return the number of bytes that the column takes, and its values."""
    rest = count - column.order
    if column.bits < 0:
        used = rest * column.width
        signed = _from_byte_planes(np.frombuffer(data[:used], np.uint8), column.width, rest)
    else:
        used, unsigned = _unrice(column, rest, data)
        signed = (unsigned >> np.uint64(1)).view(np.int64)
        signed ^= -(unsigned & np.uint64(1)).view(np.int64)
    if column.divisor != 1:
        signed = signed * column.divisor
    for first in reversed(column.first):
        values = np.empty(len(signed) + 1, np.int64)
        values[0] = first
        values[1:] = signed
        signed = np.cumsum(values, out=values)
    return used, signed


def _mean_magnitude(differences: Integers) -> float:
    return float(np.abs(differences).astype(np.float64).mean()) if len(differences) else 0.0


def _without_sign(values: Integers) -> _Unsigned:
    """Map 0, -1, 1, -2, … to 0, 1, 2, 3, …"""
    return ((values << 1) ^ (values >> 63)).astype(np.uint64)


def _byte_planes(unsigned: _Unsigned) -> tuple[bytes, int]:
    """Return the byte planes of the values, the lowest bytes first, and the number of planes."""
    width = (int(unsigned.max()).bit_length() + 7) // 8 if len(unsigned) else 0
    octets = unsigned.astype("<u8").view(np.uint8).reshape(len(unsigned), 8)
    return octets[:, :width].T.tobytes(), width


def _from_byte_planes(octets: npt.NDArray[np.uint8], width: int, count: int) -> Integers:
    """Return the numbers of `count` values whose bytes `_byte_planes` returned, with their signs."""
    if width == 0:
        return np.zeros(count, np.int64)
    if width == 1:
        return _SIGNED.take(octets)
    planes = np.zeros((count, 8), np.uint8)
    planes[:, :width] = octets.reshape(width, count).T
    unsigned = planes.view(np.uint64).reshape(count)
    return (unsigned >> np.uint64(1)).view(np.int64) ^ -(unsigned & np.uint64(1)).view(np.int64)


def _remainder_bits(unsigned: _Unsigned) -> int | None:
    """Return the length of the remainders, in bits, that makes the code shortest; None if none is suitable."""
    if not len(unsigned):
        return None
    mean = float(unsigned.mean())
    guess = max(0, int(np.log2(mean + 1)))
    sizes = {
        bits: bits + 1 + float((unsigned >> np.uint64(bits)).mean())
        for bits in range(max(0, guess - 1), min(RICE_MAX, guess + 1) + 1)
    }
    if not sizes:
        return None
    best = min(sizes, key=lambda bits: sizes[bits])
    return best if sizes[best] - best <= UNARY_BITS_MAX else None


def _rice(unsigned: _Unsigned, bits: int) -> tuple[bytes, int]:
    """Return quotients in unary and then remainders, and the number of bytes of the quotients."""
    quotients = (unsigned >> np.uint64(bits)).astype(np.int64)
    ends = np.cumsum(quotients + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, np.bool_)
    unary[ends] = True
    packed = np.packbits(unary).tobytes()
    planes = [
        np.packbits(((unsigned >> np.uint64(bit)) & np.uint64(1)).astype(np.bool_)) for bit in range(bits)
    ]
    return packed + b"".join(plane.tobytes() for plane in planes), len(packed)


def _unrice(column: _Column, count: int, data: memoryview) -> tuple[int, _Unsigned]:
    """Return the number of bytes that were used, and the values."""
    plane_bytes = (count + 7) // 8
    used = column.width + plane_bytes * column.bits
    unary = np.unpackbits(np.frombuffer(data[: column.width], np.uint8))
    ends = np.flatnonzero(unary)[:count]
    if len(ends) < count:
        raise ChunkError("a column is shorter than its count")
    values = np.empty(count, np.int64)
    if count:
        values[0] = ends[0]
        np.subtract(ends[1:], ends[:-1], out=values[1:])
        values[1:] -= 1
    if column.bits:
        values <<= column.bits
        octets = np.frombuffer(data[column.width : used], np.uint8).reshape(column.bits, plane_bytes)
        bits = np.unpackbits(octets, axis=1, count=count)
        for index, part in enumerate(np.packbits(bits, axis=0, bitorder="little")):
            values |= part.astype(np.int64) << (8 * index)
    return used, values.view(np.uint64)


def _unpacked(data: bytes | memoryview, count: int) -> Booleans:
    """Return `count` bits."""
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(np.bool_)
