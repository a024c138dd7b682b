"""The blocks of a released slot, which a box compares with its own slots, and downloads to repair one.

`slots/<release>.blocks` has an entry for each MiB of the slot: its SHA-256, and the position of its zstd frame in
`slots/<release>.zst`. A block of zeros has no frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

SLOT_BLOCK_BYTES: Final = 1024 * 1024
_ENTRY: Final = struct.Struct("<32sQI")


class BlocksError(Exception):
    """The file of blocks is refused; the message says why."""


class SlotBlock(NamedTuple):
    """A block of a slot."""

    sha256: bytes
    frame_offset: int
    """The offset of its frame in the compressed slot, in bytes."""
    frame_bytes: int
    """The length of its frame; 0 for a block of zeros."""


def render(blocks: Iterable[SlotBlock]) -> bytes:
    """Return the blocks as a file."""
    return b"".join(_ENTRY.pack(*block) for block in blocks)


def parse(data: bytes, slot_bytes: int) -> list[SlotBlock]:
    """Read the blocks of a slot of `slot_bytes`. Raises: BlocksError."""
    count = -(-slot_bytes // SLOT_BLOCK_BYTES)
    if len(data) != count * _ENTRY.size:
        raise BlocksError(
            f"has {len(data)} bytes; a slot of {slot_bytes} bytes has {count} blocks in {count * _ENTRY.size} bytes"
        )
    blocks = [SlotBlock(*fields) for fields in _ENTRY.iter_unpack(data)]
    if any(block.frame_bytes > 2 * SLOT_BLOCK_BYTES for block in blocks):
        raise BlocksError(f"has a frame of more than {2 * SLOT_BLOCK_BYTES} bytes")
    return blocks
