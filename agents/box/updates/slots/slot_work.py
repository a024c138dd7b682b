"""The work on whole slots: hashing a slot, or writing it from a delta, by generators that pause often.

A slot that is being written cannot be started: its first block, without which no file system is recognized, is
cleared before everything else and written after everything else is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from hashlib import sha256
from typing import Final, TypeVar

from hal.disk import DiskError, DiskErrorKind
from hal.partition import Partition
from wire.release.delta import BLOCK_BYTES, Delta, DeltaError, Read

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Bytes that are hashed between two pauses."""
_SUPERBLOCK: Final = 1024
_EXT4_MAGIC: Final = b"\x53\xef"
_IS_64BIT: Final = 0x80
T = TypeVar("T")
UNFLUSHED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that are written between two flushes, so that no flush takes long."""


def slot_bytes(slot: Partition) -> int:
    """Return the length of a slot's content: its ext4 file system, else the whole partition.

    Data after the file system is from before the disk was flashed, and is not part of a release. Raises: DiskError.
    """
    block = slot.read(0, min(BLOCK_BYTES, slot.size))
    if block[_SUPERBLOCK + 0x38 : _SUPERBLOCK + 0x3A] != _EXT4_MAGIC:
        return slot.size
    low, log_block = (int.from_bytes(block[_SUPERBLOCK + field :][:4], "little") for field in (0x4, 0x18))
    wide = int.from_bytes(block[_SUPERBLOCK + 0x60 :][:4], "little") & _IS_64BIT
    high = int.from_bytes(block[_SUPERBLOCK + 0x150 :][:4], "little") if wide else 0
    length = (low | high << 32) << (10 + log_block)
    return length if 0 < length <= slot.size else slot.size


def hash_slot(slot: Partition, length: int) -> Iterator[str]:
    """Yield "" at each pause, and at last the SHA-256 of the first `length` bytes. Raises: DiskError."""
    digest = sha256()
    for offset in range(0, length, CHUNK_BYTES):
        digest.update(slot.read(offset, min(CHUNK_BYTES, length - offset)))
        yield ""
    yield digest.hexdigest()


def write_slot(read_delta: Read, delta_bytes: int, read_source: Read, slot: Partition) -> Iterator[int]:
    """Write a slot from a delta; yield the bytes written so far at each pause. The slot is durable at the end.

    Raises: DeltaError, before the first write if the delta cannot be for this slot; DiskError.
    """
    delta = Delta.open(read_delta, delta_bytes)
    if not 0 < delta.header.target_bytes <= slot.size:
        raise DeltaError(f"makes {delta.header.target_bytes} bytes; the slot has {slot.size}")
    first = bytes(BLOCK_BYTES)
    slot.write(0, first)
    slot.flush()
    unflushed = 0

    def write(offset: int, data: bytes) -> None:
        nonlocal first, unflushed
        if offset == 0:
            first, data, offset = data[:BLOCK_BYTES], data[BLOCK_BYTES:], BLOCK_BYTES
        if data:
            slot.write(offset, data)
        unflushed += len(data)

    def read(offset: int, length: int) -> bytes:
        kept = first[offset : offset + length]
        return kept + slot.read(offset + len(kept), length - len(kept))

    for written in delta.apply(read_source, write, read):
        if unflushed >= UNFLUSHED_BYTES_MAX:
            slot.flush()
            unflushed = 0
        yield written
    slot.flush()
    slot.write(0, first)
    slot.flush()


class SlotWorker:
    """Does the work on partitions, on one thread, in short pieces."""

    def __init__(self, executor: Executor | None) -> None:
        """`executor`: None for the event loop's default executor."""
        self._executor = executor

    async def call(self, call: Callable[[], T]) -> T:
        """Run a blocking call of a partition on the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def run(self, work: Iterator[T]) -> T:
        """Run a generator to its end, step by step; return its last value."""
        last = None
        while (step := await self.call(lambda: next(work, None))) is not None:
            last = step
        assert last is not None, "it yields at least once"
        return last

    async def length(self, slot: Partition) -> int:
        """Return the length of a slot's content; of the partition if it cannot be read.

        Raises: DiskError UNAVAILABLE.
        """
        try:
            return await self.call(lambda: slot_bytes(slot))
        except DiskError as error:
            if error.kind is DiskErrorKind.UNAVAILABLE:
                raise
            return slot.size

    async def hash(self, slot: Partition, length: int) -> str:
        """Return the SHA-256 of the first `length` bytes of a slot. Raises: DiskError."""
        return await self.run(hash_slot(slot, length))

    async def hash_if_readable(self, slot: Partition, length: int) -> str | None:
        """Return the hash; None if a sector cannot be read. Raises: DiskError UNAVAILABLE."""
        try:
            return await self.hash(slot, length)
        except DiskError as error:
            if error.kind is DiskErrorKind.UNAVAILABLE:
                raise
            return None
