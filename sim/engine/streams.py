"""Random streams by name: one seed, and as many independent streams as there are names.

A link, an instrument or a fault draws from a stream of its own, so that adding one does not shift the numbers
of another. The stream depends on nothing but the seed and the name: not on PYTHONHASHSEED, not on
the order in which streams are made.
"""

from __future__ import annotations

import hashlib
from random import Random


def stream(seed: int, name: str) -> Random:
    """The stream of that name, from its beginning; `name` reads like a path ("instrument/CH-1")."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return Random(int.from_bytes(digest, "big"))


def branch(random: Random) -> Random:
    """A stream of its own for one part of what `random` belongs to.

    What a part draws then depends on nothing that its siblings do.
    """
    return Random(random.getrandbits(128))
