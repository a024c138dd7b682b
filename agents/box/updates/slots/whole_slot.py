"""Fetches a whole slot, where the data center permits it because no delta fits: block by block, into the other slot.

A block that the other slot already contains, or the running slot at the same offset, is not fetched. A restarted
program therefore continues with the next block, and an incorrectly written block is fetched again.
"""

from __future__ import annotations

from hashlib import sha256

from agents.box.updates.memory import FetchPlan
from agents.box.updates.parts import TargetParts
from agents.box.updates.slots.repair import fetch_block, fetch_blocks, is_damaged
from agents.box.updates.slots.slot_work import SlotWorker
from hal.disk import DiskError, DiskErrorKind
from hal.partition import Partition
from wire.release.blocks import SLOT_BLOCK_BYTES, SlotBlock
from wire.release.delta import BLOCK_BYTES


class WholeSlot:
    """The other slot, whose missing blocks are fetched. `parts` waits until a range is available."""

    def __init__(self, work: SlotWorker, parts: TargetParts) -> None:
        self._work, self._parts = work, parts

    async def fill(self, plan: FetchPlan, source: Partition, target: Partition) -> None:
        """Write all of the slot except its first bytes, without which it cannot be started; durable on return.

        Raises: RepairError, DiskError.
        """
        await self._work.call(lambda: _write(target, 0, bytes(BLOCK_BYTES)))
        blocks = await fetch_blocks(self._parts, plan, plan.target_bytes)
        for index, block in enumerate(blocks):
            offset = index * SLOT_BLOCK_BYTES
            size = min(SLOT_BLOCK_BYTES, plan.target_bytes - offset)
            if index == 0:
                content = await self._content(plan, index, size, block, source)
                await self._work.call(lambda: _write(target, BLOCK_BYTES, content[BLOCK_BYTES:]))  # noqa: B023
            elif await self._work.call(lambda: is_damaged(target, index, size, block)):  # noqa: B023
                content = await self._content(plan, index, size, block, source)
                await self._work.call(lambda: _write(target, offset, content))  # noqa: B023
                if block.frame_bytes:
                    await self._parts.remove(plan.slot_file_sha256, block.frame_offset)

    async def finish(self, plan: FetchPlan, source: Partition, target: Partition) -> None:
        """Write the slot, its first bytes last; durable on return. Raises: RepairError, DiskError."""
        await self.fill(plan, source, target)
        block = (await fetch_blocks(self._parts, plan, plan.target_bytes))[0]
        size = min(SLOT_BLOCK_BYTES, plan.target_bytes)
        content = await self._content(plan, 0, size, block, source)
        await self._work.call(lambda: _write(target, 0, content[:BLOCK_BYTES]))

    async def _content(
        self, plan: FetchPlan, index: int, size: int, block: SlotBlock, source: Partition
    ) -> bytes:
        """Return a block, read from `source` if that has the same content, else fetched."""
        content = await self._work.call(lambda: _read(source, index * SLOT_BLOCK_BYTES, size))
        if sha256(content).digest() == block.sha256:
            return content
        return await fetch_block(self._parts, plan, index, size, block)


def _read(slot: Partition, offset: int, size: int) -> bytes:
    """Return the data of a slot; empty if it cannot be read. Raises: DiskError UNAVAILABLE."""
    if offset + size > slot.size:
        return b""
    try:
        return slot.read(offset, size)
    except DiskError as error:
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise
        return b""


def _write(slot: Partition, offset: int, data: bytes) -> None:
    if data:
        slot.write(offset, data)
        slot.flush()
