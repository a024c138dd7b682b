"""Encoding of a group's aux bytes: checkpoints, lost ranges, runs of records carried from an older segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

from settings.ranges import Range

_COUNT = Struct("<I")
_RANGE = Struct("<QQ")
_RUN = Struct("<QIB")

Run = tuple[int, int, int]  # first sequence number, records, priority


def pack_ranges(ranges: Iterable[Range]) -> bytes:
    """Encode sequence ranges for the aux of a DATA group."""
    return b"".join(_RANGE.pack(first, last) for first, last in ranges)


def unpack_ranges(aux: bytes) -> list[Range]:
    """Reverse `pack_ranges`."""
    return [(first, last) for first, last in _RANGE.iter_unpack(aux)]


def pack_checkpoint(lost: list[Range], snapshot: bytes) -> bytes:
    """Encode the ranges already reported as lost and the application's snapshot."""
    return _COUNT.pack(len(lost)) + pack_ranges(lost) + snapshot


def unpack_checkpoint(aux: bytes) -> tuple[list[Range], bytes]:
    """Reverse `pack_checkpoint`."""
    (count,) = _COUNT.unpack_from(aux)
    stop = _COUNT.size + count * _RANGE.size
    return unpack_ranges(aux[_COUNT.size : stop]), aux[stop:]


def pack_runs(records: Iterable[tuple[int, int]]) -> bytes:
    """Encode (sequence number, priority) pairs, in ascending order, as runs of consecutive records."""
    runs: list[list[int]] = []
    for seq, priority in records:
        if runs and runs[-1][0] + runs[-1][1] == seq and runs[-1][2] == priority:
            runs[-1][1] += 1
        else:
            runs.append([seq, 1, priority])
    return b"".join(_RUN.pack(*run) for run in runs)


def unpack_runs(aux: bytes) -> Iterator[tuple[int, int]]:
    """Reverse `pack_runs`."""
    for first, count, priority in _RUN.iter_unpack(aux):
        for seq in range(first, first + count):
            yield seq, priority
