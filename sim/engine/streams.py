"""Independent random streams, each derived from the lab's seed and a name.

Each link, instrument and fault draws from a separate stream, so that adding one does not change the numbers that
another draws. A stream depends only on the seed and the name, not on PYTHONHASHSEED or on the order in which streams
are created.
"""

from __future__ import annotations

import hashlib
from random import Random


def stream(seed: int, name: str) -> Random:
    """Return a new generator at the start of the stream `name`, which is written like a path ("instrument/CH-1")."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return Random(int.from_bytes(digest, "big"))


def branch(random: Random) -> Random:
    """Return a new generator, seeded by one draw from `random`, for one part of the object that `random` belongs to.

    The numbers that one part draws do not depend on how many the other parts draw.
    """
    return Random(random.getrandbits(128))
