"""Coverage: which numbers of a stream are stored. It ensures that each report is stored exactly once.

A stream is numbered without repetition within a *life*: a box numbers its records within an epoch, an instrument its
reports within a run. The table `coverage` has a row for each life of a stream, with the stored numbers as ranges,
usually a single one. A batch is compared with the rows of its streams and changes them in the transaction that stores
its records. Therefore records need no unique key, and one row states the completeness of a life.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from operator import lt
from typing import Final, NamedTuple, TypeAlias

import msgspec

from settings.ranges import Range, RangeSet

BOX_STREAM: Final = ""
"""The stream of a box's own sequence numbers; the others have the serial number of an instrument."""
RANGES_MAX: Final = 65_536
"""Maximum number of ranges of one life. A box that omits every second number must not slow down each batch."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[int]).decode


class Life(NamedTuple):
    """A life of a stream: the epoch of a box or the run of an instrument."""

    stream: str
    number: int


Coverage: TypeAlias = dict[Life, RangeSet]
"""The stored numbers of some lives of one box."""


def encode_ranges(ranges: Iterable[Range]) -> bytes:
    """Encode ranges for the database: first, last, first, last, … in MessagePack."""
    return _encode(list(chain.from_iterable(ranges)))


def decode_ranges(data: bytes) -> RangeSet:
    """Decode the result of `encode_ranges`."""
    ends = iter(_decode(data))
    return RangeSet(zip(ends, ends, strict=True))


def add_new(stored: RangeSet, numbers: list[int]) -> list[bool]:
    """Add numbers to those that are stored; return for each whether it is new. A repeated number is new once."""
    if numbers and _are_beyond(stored, numbers):
        if numbers[-1] - numbers[0] + 1 == len(numbers):
            stored.add(numbers[0], numbers[-1])
        else:
            for number in numbers:
                stored.add(number, number)
        return [True] * len(numbers)
    are_new = []
    for number in numbers:
        is_new = number not in stored
        if is_new:
            stored.add(number, number)
        are_new.append(is_new)
    return are_new


def _are_beyond(stored: RangeSet, numbers: list[int]) -> bool:
    """Return whether the numbers ascend and exceed all stored ones, which is true of most batches."""
    return numbers[0] > stored.last() and all(map(lt, numbers, islice(numbers, 1, None)))
