"""The canonical event log of a run, and its hash.

Whatever matters to the outcome is one line: a time in nanoseconds and words that do not depend on anything but
the lab, the seed and the program. No keys, no ciphertext, no memory addresses. Two runs that are the same have the
same hash; where two runs differ, the first differing line of their logs says where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LINES_HELD_MAX: Final = 4096


class Trace:
    """An event log that is hashed as it grows; it is kept in `file` as well if one is given."""

    def __init__(self, now_ns: Callable[[], int], file: Path | None = None) -> None:
        self._now_ns = now_ns
        self._hash = hashlib.sha256()
        self._lines: list[str] = []
        self._file = file.open("w", encoding="utf-8") if file else None

    def add(self, event: str) -> None:
        """Note that `event` happened now."""
        self._lines.append(f"{self._now_ns()} {event}\n")
        if len(self._lines) >= _LINES_HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        self._hash.update(text.encode())
        if self._file is not None:
            self._file.write(text)

    def close(self) -> str:
        """End the log; the SHA-256 of all of it, in hexadecimal."""
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        return self._hash.hexdigest()
