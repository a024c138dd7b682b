"""Independent random streams, each derived from the lab's seed and a name.

Each link, instrument and fault draws from a separate stream, so that adding one does not change the numbers that
another draws. A stream depends only on the seed and the name, not on PYTHONHASHSEED or on the order in which streams
are created.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterator
from functools import cache
from itertools import chain, repeat
from random import Random
from statistics import NormalDist
from typing import Final

_QUANTILES_BITS: Final = 12
_BLOCK: Final = 512
_MASK: Final = int.from_bytes(_BLOCK * ((1 << _QUANTILES_BITS) - 1).to_bytes(2, "little"), "little")


def stream(seed: int, name: str) -> Random:
    """Return a new generator at the start of the stream `name`, which is written like a path ("instrument/CH-1")."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return Random(int.from_bytes(digest, "big"))


def branch(random: Random) -> Random:
    """Return a new generator, seeded by one draw from `random`, for one part of the object that `random` belongs to.

    The numbers that one part draws do not depend on how many the other parts draw.
    """
    return Random(random.getrandbits(128))


@cache
def normal_quantiles() -> tuple[float, ...]:
    """Return the standard normal distribution as 4,096 equally likely values, in ascending order."""
    half = 1 << (_QUANTILES_BITS - 1)
    upper = [NormalDist().inv_cdf(0.5 + (index + 0.5) / (2 * half)) for index in range(half)]
    return (*(-value for value in reversed(upper)), *upper)


def normals(random: Random) -> Iterator[float]:
    """Return standard normal random numbers, without end: six times faster than random.gauss, and within ±3.7.

    They are drawn from `random` in blocks, so it must have no other user. The table is small enough for the
    processor's cache.
    """
    return map(normal_quantiles().__getitem__, chain.from_iterable(map(_indexes, repeat(random))))


def _indexes(random: Random) -> array[int]:
    indexes = array("H", (random.getrandbits(16 * _BLOCK) & _MASK).to_bytes(2 * _BLOCK, "little"))
    if sys.byteorder == "big":
        indexes.byteswap()
    return indexes
