"""Repairs the source of a delta: blocks of the running slot that are damaged are fetched from its release.

The running slot is mounted and is not written. What is repaired is what the delta reads of it, so that the other slot
gets the release byte for byte; the damaged slot is overwritten by the next update. The blocks are in memory only: a
program that starts again fetches them again.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, TypeAlias

from agents.box.updates.memory import Plan
from agents.box.updates.slot_work import SlotWorker
from hal.disk import DiskError, DiskErrorKind
from hal.partition import Partition
from wire.release.blocks import SLOT_BLOCK_BYTES, BlocksError, SlotBlock, parse
from wire.release.delta import Read

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

REPAIRED_BLOCKS_MAX: Final = 16
"""Blocks that are fetched at most; a slot with more damage is not repaired."""
FetchPart: TypeAlias = Callable[[str, int, int], Awaitable[bytes]]
"""Returns at least one of the next bytes of a target: SHA-256, offset, length."""


class RepairError(Exception):
    """The running slot is not the source of the delta, and cannot be repaired; the message says why."""


class SlotRepair:
    """The source of a delta: the running slot, or what its damaged blocks should be."""

    def __init__(self, work: SlotWorker, fetch: FetchPart) -> None:
        """`fetch` asks the data center, and raises what its caller handles."""
        self._work, self._fetch = work, fetch
        self._prepared: Plan | None = None
        self._blocks: dict[int, bytes] = {}
        """By index, in SLOT_BLOCK_BYTES."""

    @property
    def repaired(self) -> int:
        """The number of blocks that are not read from the slot."""
        return len(self._blocks)

    async def prepare(self, slot: Partition, length: int, plan: Plan) -> None:
        """Compare the first `length` bytes of the slot with the plan's source, and fetch what is damaged.

        Raises: RepairError, DiskError UNAVAILABLE, and what `fetch` raises.
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

    async def _repair(self, slot: Partition, length: int, plan: Plan) -> None:
        file = await self._whole(plan.blocks_sha256, 0, plan.blocks_bytes)
        if sha256(file).hexdigest() != plan.blocks_sha256:
            raise RepairError("its blocks have another SHA-256 than the signed one")
        try:
            blocks = parse(file, length)
        except BlocksError as error:
            raise RepairError(f"its file of blocks {error}") from None
        damaged = []
        for index, block in enumerate(blocks):
            size = min(SLOT_BLOCK_BYTES, length - index * SLOT_BLOCK_BYTES)
            if await self._work.call(lambda: _is_damaged(slot, index, size, block)):  # noqa: B023
                damaged.append((index, size, block))
        if len(damaged) > REPAIRED_BLOCKS_MAX:
            raise RepairError(
                f"{len(damaged)} of {len(blocks)} MiB differ; at most {REPAIRED_BLOCKS_MAX} are fetched"
            )
        found = {}
        for index, size, block in damaged:
            frame = await self._whole(plan.slot_file_sha256, block.frame_offset, block.frame_bytes)
            found[index] = _unpacked(frame, size)
            if sha256(found[index]).digest() != block.sha256:
                raise RepairError(f"block {index} that was fetched has another SHA-256 than the signed one")
        self._blocks = found

    async def _whole(self, of_target: str, offset: int, length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += await self._fetch(of_target, offset + len(data), length - len(data))
        return data


def _is_damaged(slot: Partition, index: int, size: int, block: SlotBlock) -> bool:
    try:
        return sha256(slot.read(index * SLOT_BLOCK_BYTES, size)).digest() != block.sha256
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        return True


def _unpacked(frame: bytes, size: int) -> bytes:
    """Return the content of a frame, at most `size` bytes. Raises: RepairError."""
    if not frame:
        return bytes(size)
    try:
        return zstd.ZstdDecompressor().decompress(frame, size)
    except zstd.ZstdError as error:
        raise RepairError(f"a block that was fetched cannot be decompressed: {error}") from None
