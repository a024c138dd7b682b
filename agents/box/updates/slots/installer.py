"""Writes the release of a plan to the inactive slot, from a delta or as a whole, and reads it back.

Each method is the work of one phase of the table, and returns the event that ends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from agents.box.files.store import FileKey
from agents.box.updates.downloads import Downloads
from agents.box.updates.memory import FetchPlan, Memory, PhaseOutcome
from agents.box.updates.parts import TargetParts
from agents.box.updates.slots.boot_state import BootStatePartition
from agents.box.updates.slots.repair import RepairError, SlotRepair
from agents.box.updates.slots.slot_work import SlotWorker, write_slot
from agents.box.updates.slots.whole_slot import WholeSlot
from agents.box.updates.table import UpdateEvent as E
from hal.disk import DiskError, DiskErrorKind
from hal.partition import Partition
from settings.slots import Slot, other
from wire.release.delta import Delta, DeltaError, SourceChanged

ATTEMPTS_MAX: Final = 3
"""Number of fetches of a delta, and of writes of a slot, after which the update fails."""
WriteWhole: TypeAlias = Callable[[FetchPlan, Partition, Partition], Awaitable[None]]


class SlotInstaller:
    """Writes the other slot. `memory` returns the updater's memory, which has a plan."""

    def __init__(
        self,
        slots: Mapping[Slot, Partition],
        work: SlotWorker,
        boot: BootStatePartition,
        downloads: Downloads,
        parts: TargetParts,
        memory: Callable[[], Memory],
        report_problem: Callable[[str], object],
    ) -> None:
        self._slots, self._work, self._boot, self._downloads = slots, work, boot, downloads
        self._memory, self._report_problem = memory, report_problem
        self._repair = SlotRepair(work, parts)
        self._whole = WholeSlot(work, parts)

    @property
    def _plan(self) -> FetchPlan:
        plan = self._memory().plan
        assert plan is not None, "no phase without a plan leads here"
        return plan

    @property
    def _target_slot(self) -> Slot:
        slot = self._memory().target_slot
        assert slot is not None, "a plan has a slot"
        return slot

    @property
    def _source(self) -> Partition:
        return self._slots[other(self._target_slot)]

    @property
    def _target(self) -> Partition:
        return self._slots[self._target_slot]

    @property
    def _delta(self) -> FileKey:
        return FileKey(self._plan.delta_sha256, self._plan.delta_bytes)

    async def check_delta(self) -> PhaseOutcome:
        """Compare the delta and the running slot with the plan. Raises: DiskError."""
        plan = self._plan
        if (data := await self._downloads.read(self._delta)) is None:
            if self._memory().attempts >= ATTEMPTS_MAX:
                return PhaseOutcome(E.FAILED, "delta-damaged")
            return PhaseOutcome(E.DELTA_LOST, change=count_attempt)
        try:
            header = Delta.open(lambda offset, length: data[offset : offset + length], len(data)).header
        except DeltaError as error:
            self._report_problem(f"the delta {error}")
            return PhaseOutcome(E.FAILED, "delta-damaged")
        if (header.target_sha256.hex(), header.target_bytes) != (plan.target_sha256, plan.target_bytes):
            self._report_problem("the delta does not produce the signed slot")
            return PhaseOutcome(E.FAILED, "delta-damaged")
        if header.source_bytes > self._source.size or header.source_sha256.hex() != plan.source_sha256:
            return PhaseOutcome(E.FAILED, "delta-damaged")
        try:
            await self._prepare_source(data)
        except RepairError as error:
            self._report_problem(f"the running slot was changed: {error}")
            return PhaseOutcome(E.FAILED, "source-changed")
        return PhaseOutcome(E.SOURCE_MATCHES)

    async def fill_whole(self) -> PhaseOutcome:
        """Fetch and write all of a whole slot except its beginning. Raises: DiskError UNAVAILABLE."""
        return await self._write_whole(self._whole.fill, E.DELTA_COMPLETE)

    async def apply(self) -> PhaseOutcome:
        """Write the other slot. Raises: DiskError UNAVAILABLE."""
        if self._plan.is_whole:
            return await self._write_whole(self._whole.finish, E.WRITTEN)
        source, target = self._source, self._target
        if (data := await self._downloads.read(self._delta)) is None:
            return PhaseOutcome(E.FAILED, "delta-damaged")
        try:
            await self._work.call(self._settle)
            await self._prepare_source(data)
            read_delta = lambda offset, length: data[offset : offset + length]  # noqa: E731
            await self._work.run(write_slot(read_delta, len(data), self._repair.source(source), target))
        except RepairError as error:
            self._report_problem(f"the running slot was changed: {error}")
            return PhaseOutcome(E.FAILED, "source-changed")
        except SourceChanged as error:
            self._report_problem(f"the delta {error}")
            return PhaseOutcome(E.FAILED, "source-changed")
        except DeltaError as error:
            self._report_problem(f"the delta {error}")
            return PhaseOutcome(E.FAILED, "delta-damaged")
        except DiskError as error:
            return self.disk_failed(error)
        return PhaseOutcome(E.WRITTEN)

    async def read_back(self) -> PhaseOutcome:
        """Compare the written slot, read from the device, with the plan. Raises: DiskError UNAVAILABLE."""
        plan = self._plan
        try:
            digest = await self._work.hash(self._target, plan.target_bytes)
        except DiskError as error:
            return self.disk_failed(error)
        if digest == plan.target_sha256:
            return PhaseOutcome(E.EQUAL)
        self._report_problem("the content read back from the slot differs from what was written")
        if self._memory().attempts >= ATTEMPTS_MAX - 1:
            return PhaseOutcome(E.FAILED, "read-back-differs")
        return PhaseOutcome(E.DIFFERS, change=count_attempt)

    def disk_failed(self, error: DiskError) -> PhaseOutcome:
        """Return the outcome of an error of a slot. Raises: DiskError UNAVAILABLE unchanged."""
        if error.kind is DiskErrorKind.UNAVAILABLE:
            raise error
        self._report_problem(f"a slot cannot be used: {error}")
        return PhaseOutcome(E.FAILED, "disk-failed")

    def _settle(self) -> None:
        """Commit the running slot, because the slot to be written must not be the committed one."""
        self._boot.settle(other(self._target_slot))

    async def _write_whole(self, write: WriteWhole, done: E) -> PhaseOutcome:
        try:
            await self._work.call(self._settle)
            await write(self._plan, self._source, self._target)
        except RepairError as error:
            self._report_problem(f"the whole slot: {error}")
            return PhaseOutcome(E.FAILED, "blocks-damaged")
        except DiskError as error:
            return self.disk_failed(error)
        return PhaseOutcome(done)

    async def _prepare_source(self, delta: bytes) -> None:
        """Compare the running slot with the plan, and fetch damaged parts. Raises: RepairError, DiskError."""
        header = Delta.open(lambda offset, length: delta[offset : offset + length], len(delta)).header
        await self._repair.prepare(self._source, header.source_bytes, self._plan)
        if self._repair.repaired:
            self._report_problem(
                f"{self._repair.repaired} MiB of the running slot are damaged; they were fetched"
            )


def count_attempt(memory: Memory) -> None:
    """Count a further fetch of a delta or write of a slot."""
    memory.attempts += 1
