"""Repairs the source of a delta: blocks of the running slot that are damaged are fetched from its release.

The running slot is mounted and is not written. Only the data that the delta reads is repaired, so that the other slot
becomes identical to the release; the next update overwrites the damaged slot. The blocks are kept on the box's disk
until the update ends, so that a program that starts again does not fetch them again.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Final

from agents.box.updates.memory import FetchPlan
from agents.box.updates.parts import TargetParts
from agents.box.updates.slots.slot_work import SlotWorker
from hal.disk import DiskError, DiskErrorKind
from hal.partition import Partition
from wire.release.blocks import SLOT_BLOCK_BYTES, BlocksError, SlotBlock, parse
from wire.release.delta import Read

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

REPAIRED_BLOCKS_MAX: Final = 16
"""Maximum number of fetched blocks; a slot with more damage is not repaired."""


class RepairError(Exception):
    """Blocks of a slot cannot be fetched or used; the message gives the reason."""


class SlotRepair:
    """The source of a delta: the running slot, with replacements for its damaged blocks."""

    def __init__(self, work: SlotWorker, parts: TargetParts) -> None:
        self._work, self._parts = work, parts
        self._prepared: FetchPlan | None = None
        self._blocks: dict[int, bytes] = {}
        """The fetched replacements of damaged blocks, by index."""

    @property
    def repaired(self) -> int:
        """The number of blocks that are not read from the slot."""
        return len(self._blocks)

    async def prepare(self, slot: Partition, length: int, plan: FetchPlan) -> None:
        """Compare the first `length` bytes of the slot with the plan's source, and fetch damaged blocks.

        Raises: RepairError, DiskError.
        """
        if self._prepared == plan:
            return
        self._prepared, self._blocks = None, {}
        if await self._work.hash_if_readable(slot, length) != plan.source_sha256:
            if not plan.blocks_bytes:
                raise RepairError("no signed metadata names its blocks")
            await self._repair(slot, length, plan)
        self._prepared = plan

    def source(self, slot: Partition) -> Read:
        """Return a function that reads the source."""
        if not self._blocks:
            return slot.read

        def read(offset: int, length: int) -> bytes:
            parts, end = [], offset + length
            while offset < end:
                index, start = divmod(offset, SLOT_BLOCK_BYTES)
                taken = min(end - offset, SLOT_BLOCK_BYTES - start)
                block = self._blocks.get(index)
                parts.append(slot.read(offset, taken) if block is None else block[start : start + taken])
                offset += taken
            return b"".join(parts)

        return read

    async def _repair(self, slot: Partition, length: int, plan: FetchPlan) -> None:
        blocks = await fetch_blocks(self._parts, plan, length)
        damaged = []
        for index, block in enumerate(blocks):
            size = min(SLOT_BLOCK_BYTES, length - index * SLOT_BLOCK_BYTES)
            if await self._work.call(lambda: is_damaged(slot, index, size, block)):  # noqa: B023
                damaged.append((index, size, block))
        if len(damaged) > REPAIRED_BLOCKS_MAX:
            raise RepairError(
                f"{len(damaged)} of {len(blocks)} MiB differ; at most {REPAIRED_BLOCKS_MAX} are fetched"
            )
        self._blocks = {
            index: await fetch_block(self._parts, plan, index, size, block) for index, size, block in damaged
        }


async def fetch_blocks(parts: TargetParts, plan: FetchPlan, slot_bytes: int) -> list[SlotBlock]:
    """Return the blocks of the slot that a plan names. Raises: RepairError, DiskError."""
    try:
        file = await parts.fetch(plan.blocks_sha256, 0, plan.blocks_bytes)
    except DiskError as error:
        raise _repair_error(error) from None
    if sha256(file).hexdigest() != plan.blocks_sha256:
        await parts.remove(plan.blocks_sha256, 0)
        raise RepairError("the SHA-256 of its file of blocks is not the signed one")
    try:
        return parse(file, slot_bytes)
    except BlocksError as error:
        raise RepairError(f"its file of blocks {error}") from None


async def fetch_block(parts: TargetParts, plan: FetchPlan, index: int, size: int, block: SlotBlock) -> bytes:
    """Return a block of the slot that a plan names. Raises: RepairError, DiskError."""
    if not block.frame_bytes:
        return bytes(size)
    try:
        frame = await parts.fetch(plan.slot_file_sha256, block.frame_offset, block.frame_bytes)
    except DiskError as error:
        raise _repair_error(error) from None
    content = _unpacked(frame, size)
    if sha256(content).digest() != block.sha256:
        await parts.remove(plan.slot_file_sha256, block.frame_offset)
        raise RepairError(f"the SHA-256 of fetched block {index} is not the signed one")
    return content


def _repair_error(error: DiskError) -> Exception:
    """Return the exception to raise: RepairError if the disk is full, otherwise `error`."""
    return (
        RepairError(f"there is no room for its blocks: {error}")
        if error.kind is DiskErrorKind.FULL
        else error
    )


def is_damaged(slot: Partition, index: int, size: int, block: SlotBlock) -> bool:
    """Return whether a block of a slot differs or cannot be read. Blocks. Raises: DiskError UNAVAILABLE."""
    try:
        return sha256(slot.read(index * SLOT_BLOCK_BYTES, size)).digest() != block.sha256
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        return True


def _unpacked(frame: bytes, size: int) -> bytes:
    """Return the content of a frame, at most `size` bytes. Raises: RepairError."""
    try:
        return zstd.ZstdDecompressor().decompress(frame, size)
    except zstd.ZstdError as error:
        raise RepairError(f"a fetched block cannot be decompressed: {error}") from None
