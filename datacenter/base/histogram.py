"""Exact histograms of readings: how often each value occurred, and with how many instruments.

Readings are integers: a histogram loses only their order, and histograms can be added and subtracted.
Values of magnitude 2^17 and above are rounded down to 17 significant bits, which bounds the number of bins.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Integers: TypeAlias = npt.NDArray[np.int64]
SIGNIFICANT_BITS: Final = 17
VALUE_MAX: Final = 2**31 - 1
"""Maximum magnitude: readings beyond it count as this one, with their sign."""
SPAN_MAX: Final = 2**18
"""Maximum range of values for which sums use an array with an element for each value (4 MiB)."""
LEVEL: Final = 3
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(dict[str, bytes]).decode


@dataclass(frozen=True)
class Histogram:
    """Bins in ascending order of their values; `instruments` had at least one reading in the bin."""

    values: Integers
    readings: Integers
    instruments: Integers

    @classmethod
    def of_instrument(cls, readings: Integers) -> Histogram:
        """Return the histogram of one instrument's readings."""
        values, counts = np.unique(rounded(readings), return_counts=True)
        return cls(values, counts.astype(np.int64), np.ones(len(values), np.int64))

    @property
    def count(self) -> int:
        """The number of readings."""
        return int(self.readings.sum())

    def negative(self) -> Histogram:
        """Return the histogram whose addition subtracts this one."""
        return Histogram(self.values, -self.readings, -self.instruments)

    def percentiles(self, wanted: Sequence[int]) -> list[int]:
        """Return for each p the least value that at least p % of the readings do not exceed; count must be > 0."""
        below = np.cumsum(self.readings)
        ranks = [max(1, -(-p * int(below[-1]) // 100)) for p in wanted]
        values: list[int] = self.values[np.searchsorted(below, ranks)].tolist()
        return values


EMPTY: Final = Histogram(*(np.zeros(0, np.int64) for _ in range(3)))


def rounded(readings: Integers) -> Integers:
    """Return the values of the bins that readings belong to."""
    limited = np.clip(readings, -VALUE_MAX, VALUE_MAX)
    _, bits = np.frexp(limited.astype(np.float64))
    shift = np.maximum(bits.astype(np.int64) - SIGNIFICANT_BITS, 0)
    return (limited >> shift) << shift


def added(parts: Sequence[Histogram], *, with_instruments: bool = True) -> Histogram:
    """Return the sum of histograms, without bins whose sum is 0.

    Percentiles need no instruments; they may be left at 0, which takes less time.
    """
    parts = [part for part in parts if len(part.values)]
    if not parts:
        return EMPTY
    first = min(int(part.values[0]) for part in parts)
    span = max(int(part.values[-1]) for part in parts) - first + 1
    if span <= SPAN_MAX:
        # one element for each possible value: faster than sorting all bins
        sums = np.zeros((2, span), np.int64)
        for part in parts:
            indexes = part.values - first
            sums[0, indexes] += part.readings
            if with_instruments:
                sums[1, indexes] += part.instruments
        kept = np.flatnonzero(sums[0])
        return Histogram(kept + first, sums[0, kept], sums[1, kept])
    values, indexes = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    readings, instruments = np.zeros((2, len(values)), np.int64)
    np.add.at(readings, indexes, np.concatenate([part.readings for part in parts]))
    np.add.at(instruments, indexes, np.concatenate([part.instruments for part in parts]))
    kept = readings != 0
    return Histogram(values[kept], readings[kept], instruments[kept])


def encode_histogram(histogram: Histogram) -> bytes:
    """Encode a histogram."""
    return zstd.compress(_raw(histogram), LEVEL)


def decode_histogram(data: bytes) -> Histogram:
    """Decode the result of `encode_histogram`."""
    return _of_raw(zstd.decompress(data))


def encode_readings(histograms: Mapping[str, Histogram]) -> bytes:
    """Encode the histograms of several readings."""
    return zstd.compress(_encode({name: _raw(histogram) for name, histogram in histograms.items()}), LEVEL)


def decode_readings(data: bytes) -> dict[str, Histogram]:
    """Decode the result of `encode_readings`."""
    return {name: _of_raw(raw) for name, raw in _decode(zstd.decompress(data)).items()}


def _raw(histogram: Histogram) -> bytes:
    """Return 32-bit columns; the differences of the values are modulo 2^32."""
    columns = (np.diff(histogram.values, prepend=0), histogram.readings, histogram.instruments)
    assert all(len(column) == 0 or column.max() < 2**31 for column in columns[1:]), (
        "sums of a day fit 32 bits"
    )
    return b"".join(column.astype("<i4").tobytes() for column in columns)


def _of_raw(raw: bytes) -> Histogram:
    steps, readings, instruments = np.frombuffer(raw, "<i4").reshape(3, -1)
    return Histogram(np.cumsum(steps, dtype=np.int32).astype(np.int64), readings, instruments)
