"""The canonical event log of a run, and its hash.

Whatever matters to the outcome is one line: a time in nanoseconds and words that do not depend on anything but
the lab, the seed and the program. No keys, no ciphertext, no memory addresses. Two runs that are the same have the
same hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

_LINES_HELD_MAX: Final = 4096


class Trace:
    """An event log that is hashed as it grows."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._hash = hashlib.sha256()
        self._lines: list[str] = []

    def add(self, event: str) -> None:
        """Note that `event` happened now."""
        self._lines.append(f"{self._now_ns()} {event}\n")
        if len(self._lines) >= _LINES_HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        self._hash.update("".join(self._lines).encode())
        self._lines.clear()

    def close(self) -> str:
        """End the log; the SHA-256 of all of it, in hexadecimal."""
        self._flush()
        return self._hash.hexdigest()
