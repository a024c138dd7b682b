"""The sizes of the data center's benchmarks: `SCALE=0.1 make bench-datacenter` measures a tenth of everything."""

from __future__ import annotations

import os
import sys
from typing import Final

_SCALE: Final = os.environ.get("SCALE", "1")


def scaled(count: int, least: int = 1) -> int:
    """Return `count` times SCALE, at least `least`. Exits with status 2 if SCALE is not a positive number."""
    try:
        scale = float(_SCALE)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 100:
        print(f"SCALE={_SCALE}: give a factor above 0 and up to 100, such as 0.1", file=sys.stderr)
        sys.exit(2)
    return max(least, round(count * scale))
