"""Matches as bsdiff finds them: stretches of new data that resemble a stretch of the old data."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from bsdiff4 import core

STACK_BYTES: Final = 1024 * 1024 * 1024
"""Address space for the recursion of bsdiff4's sorting, which exceeds the usual 8 MiB if the data is a kernel."""
_SIGN: Final = 1 << 63
_lock: Final = threading.Lock()


class Match(NamedTuple):
    """`length` bytes of new data that resemble the old data at offset `old`, or nothing (None)."""

    length: int
    old: int | None


def matches(old: bytes, new: bytes) -> list[Match]:
    """Return the matches that make up `new`, in order. Needs 17 times the memory of `old`; see `deep_stack`."""
    controls, _, _ = core.diff(old, new)
    result, position = [], 0
    for start in range(0, len(controls), 24):
        length, inserted, moving = map(_number, struct.unpack_from("<QQQ", controls, start))
        if length:
            result.append(Match(length, position))
        if inserted:
            result.append(Match(inserted, None))
        position += length + moving
    return result


def _number(value: int) -> int:
    """Return the number that bsdiff stores as sign and magnitude."""
    return -(value & ~_SIGN) if value & _SIGN else value


@contextmanager
def deep_stack() -> Iterator[None]:
    """Give new threads a stack that is large enough for `matches`, until the context ends."""
    with _lock:
        before = threading.stack_size(STACK_BYTES)
        try:
            yield
        finally:
            threading.stack_size(before)
