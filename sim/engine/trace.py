"""The canonical event log of a run, and its hash.

Each event that affects the outcome is one line: a time in nanoseconds and a text that depends only on the lab, the
seed and the program. Lines contain no keys, ciphertext or memory addresses, so equal runs have equal hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

_LINES_HELD_MAX: Final = 4096


class Trace:
    """An event log of which only the hash is kept."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._hash = hashlib.sha256()
        self._lines: list[str] = []

    def add(self, event: str) -> None:
        """Add a line with the current time and `event`."""
        self._lines.append(f"{self._now_ns()} {event}\n")
        if len(self._lines) >= _LINES_HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        self._hash.update("".join(self._lines).encode())
        self._lines.clear()

    def close(self) -> str:
        """End the log; returns the SHA-256 of all lines, in hexadecimal."""
        self._flush()
        return self._hash.hexdigest()
