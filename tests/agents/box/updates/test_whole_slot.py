"""Whole slots, fetched only if the order permits it, and repair of parts: a power cut costs at most one range."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, get_args

import pytest

from agents.box.updates.memory import FetchPlan
from agents.box.updates.parts import TargetParts
from agents.box.updates.slots.repair import RepairError
from agents.box.updates.slots.slot_work import SlotWorker
from agents.box.updates.slots.whole_slot import WholeSlot
from agents.box.updates.table import UpdatePhase
from hal.disk import DiskError
from hal.emul.disk import EmulDisk, Moment
from hal.emul.partition import EmulPartition
from imaging.release.slots import pack_slot
from tests.support.agents.update_box import (
    RANGE_BYTES,
    UpdateBox,
    UpdateCenter,
    operations_of,
    slot_content,
    update_center,
)
from wire.release.blocks import SLOT_BLOCK_BYTES
from wire.release.delta import BLOCK_BYTES
from wire.release.messages import UpdateOrder

MIB = SLOT_BLOCK_BYTES
LINE_BYTES = 256 * 1024
"""Bytes of one range that the simulated line delivers."""


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> UpdateCenter:
    return update_center(tmp_path_factory.mktemp("releases"), (1, 2), (2, 3))


def ordered(center: UpdateCenter, order: UpdateOrder) -> UpdateCenter:
    """Return a data center with this order, which has received no state of the box."""
    return UpdateCenter(center.root, center.metadata, dict(center.targets), order)


def test_the_whole_slot_is_fetched_if_no_delta_fits_and_the_order_permits_it(center: UpdateCenter) -> None:
    box = UpdateBox(ordered(center, UpdateOrder(7, 2, may_fetch_slot=True)), running=4)
    box.run()
    assert box.center.outcomes == [(2, "committed", "")]
    assert (box.release_in("a"), box.release_in("b"), box.started) == (4, 2, [4, 2])
    assert "update: no delta fits; the whole slot is fetched" in box.messages
    assert not [name for name in box.disk.names() if name.startswith("update-part")]


def test_a_delta_that_fits_is_preferred(center: UpdateCenter) -> None:
    box = UpdateBox(ordered(center, UpdateOrder(7, 2, may_fetch_slot=True)))
    box.run()
    assert box.center.outcomes == [(2, "committed", "")]
    assert box.center.delta_bytes_sent < len(slot_content(2)) // 2


def test_a_slot_that_is_not_released_is_refused(center: UpdateCenter) -> None:
    box = UpdateBox(ordered(center, UpdateOrder(7, 5, may_fetch_slot=True)), running=4)
    box.run()
    assert box.center.outcomes == [(5, "refused", "not-released")]


def test_blocks_that_arrive_damaged_leave_the_running_slot(center: UpdateCenter) -> None:
    changed = ordered(center, UpdateOrder(7, 2, may_fetch_slot=True))
    packed = next(data for data in changed.targets.values() if len(data) > len(slot_content(2)) * 3 // 4)
    changed.targets = {
        digest: bytes(len(data)) if len(data) > len(packed) // 2 else data
        for digest, data in changed.targets.items()
    }
    box = UpdateBox(changed, running=4)
    box.run()
    assert changed.outcomes == [(2, "failed", "blocks-damaged")]
    assert box.started == [4] and box.state.trial is None


@pytest.mark.slow("an update for each operation of the disk")
@pytest.mark.parametrize("moment", get_args(Moment))
def test_a_cut_while_a_running_slot_is_repaired_costs_one_range(center: UpdateCenter, moment: Moment) -> None:
    """The disk keeps the ranges that were fetched, so none of them is requested again."""

    def damaged(seed: int) -> UpdateBox:
        box = UpdateBox(ordered(center, UpdateOrder(7, 2)), seed)
        box.run(
            until=lambda: box.phase is UpdatePhase.METADATA
        )  # the metadata with the expected content is known
        box.slots["a"].backend.flip_bits(3 * BLOCK_BYTES)
        box.damaged = {"a": 1}
        box.center.bytes_sent = box.center.delta_bytes_sent = 0
        return box

    uninterrupted = damaged(0)
    operations = operations_of(uninterrupted)[0]
    assert uninterrupted.center.delta_bytes_sent > len(slot_content(1)) * 3 // 4, "nothing was repaired"
    for operation in range(1, operations + 1):
        box = damaged(operation)
        box.cut_power_at(0, operation, moment)
        box.run()
        cut = f"{moment} operation {operation}"
        assert box.center.outcomes == [(2, "committed", "")], cut
        assert box.content("b") == slot_content(2), cut
        assert box.center.delta_bytes_sent <= uninterrupted.center.delta_bytes_sent + RANGE_BYTES, cut


@pytest.mark.slow("an update for each call of the program")
def test_a_kill_at_any_step_of_a_whole_slot_continues(center: UpdateCenter) -> None:
    order = UpdateOrder(7, 2, may_fetch_slot=True)
    uninterrupted = UpdateBox(ordered(center, order), running=4)
    uninterrupted.run()
    for call in range(1, uninterrupted.calls + 1):
        box = UpdateBox(ordered(center, order), running=4)
        box.kill_at = call
        box.run()
        assert box.center.outcomes == [(2, "committed", "")], f"killed at call {call}"
        assert box.center.delta_bytes_sent <= uninterrupted.center.delta_bytes_sent + RANGE_BYTES, (
            f"call {call}"
        )


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """Return a slot of four blocks (the second zero, the last short), its block list and its compressed file."""
    random, folder = Random(9), tmp_path_factory.mktemp("slot")
    slot = random.randbytes(MIB) + bytes(MIB) + random.randbytes(MIB + MIB // 2)
    (image := folder / "slot").write_bytes(slot)
    return slot, pack_slot(image, packed := folder / "slot.zst"), packed.read_bytes()


@dataclass
class Machine:
    """A disk, two slots of 4 MiB, and a line that counts the fetched bytes."""

    released: tuple[bytes, bytes, bytes]
    seed: int = 0
    sent: int = 0
    fetched: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wanted, listed, packed = self.released
        running = Random(8).randbytes(2 * MIB) + self.wanted[2 * MIB : 3 * MIB] + bytes(MIB)
        self.targets = {sha256(data).hexdigest(): data for data in (listed, packed)}
        blocks_sha256, file_sha256 = self.targets
        self.plan = FetchPlan(
            "",
            0,
            "",
            sha256(self.wanted).hexdigest(),
            len(self.wanted),
            0,
            blocks_sha256,
            len(listed),
            file_sha256,
        )
        devices = Random(self.seed)
        self.disk = EmulDisk(8 * MIB, devices)
        self.source = EmulPartition(4 * MIB, devices, running)
        self.target = EmulPartition(4 * MIB, devices, Random(7).randbytes(4 * MIB))

    def write(self) -> None:
        """Fetch and write the slot. Raises: `DiskError` when the power is lost."""

        async def fetch(digest: str, offset: int, length: int) -> bytes:
            body = self.targets[digest][offset : offset + min(length, LINE_BYTES)]
            self.sent += len(body)
            self.fetched.append(offset)
            return body

        async def call(blocking: Callable[[], Any]) -> Any:
            return blocking()

        async def run() -> None:
            whole = WholeSlot(SlotWorker(None), TargetParts(self.disk, call, fetch))
            await whole.fill(self.plan, self.source, self.target)
            assert not any(self.target.read(0, BLOCK_BYTES)), "the incomplete slot could be started"
            await whole.finish(self.plan, self.source, self.target)

        asyncio.run(run())

    def cut(self) -> None:
        """Switch the power off and on."""
        for device in (self.disk, self.target):
            device.backend.lose_power()
        self.disk, self.target = self.disk.backend.reboot(), self.target.backend.cut_power()

    def is_startable(self) -> bool:
        return any(self.target.read(0, BLOCK_BYTES))

    @property
    def content(self) -> bytes:
        return self.target.read(0, len(self.wanted))


def test_only_blocks_that_neither_slot_has_are_fetched(released: tuple[bytes, bytes, bytes]) -> None:
    machine = Machine(released)
    machine.target.write(3 * MIB, machine.wanted[3 * MIB :])
    machine.target.flush()
    machine.write()
    assert machine.content == machine.wanted
    assert machine.sent < 1.1 * MIB, "of four blocks, one is zero, and each slot has one"


@pytest.mark.slow("a slot for each operation of its devices")
@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize("device", ["disk", "target"])
def test_a_cut_at_every_write_of_a_whole_slot_costs_one_range(
    released: tuple[bytes, bytes, bytes], device: str, moment: Moment
) -> None:
    never, first = 1_000_000, Machine(released)
    getattr(first, device).backend.cut_power_at(never)
    first.write()
    operations = never - getattr(first, device).backend.operations_until_cut
    assert operations >= 8
    for operation in range(1, operations + 1):
        machine = Machine(released, operation)
        before = machine.content
        getattr(machine, device).backend.cut_power_at(operation, moment)
        with suppress(DiskError):  # after its last operation, the disk is not needed any more
            machine.write()
        machine.cut()
        cut = f"{moment} operation {operation}"
        rests = (before[BLOCK_BYTES:], machine.wanted[BLOCK_BYTES:])
        assert not machine.is_startable() or machine.content[BLOCK_BYTES:] in rests, cut
        machine.write()
        assert machine.content == machine.wanted, cut
        assert machine.sent <= first.sent + LINE_BYTES, cut


def test_without_room_for_a_block_the_slot_is_not_written(released: tuple[bytes, bytes, bytes]) -> None:
    machine = Machine(released)
    machine.disk.backend.set_capacity(64 * 1024)
    with pytest.raises(RepairError, match="no room for its blocks"):
        machine.write()
    assert not machine.is_startable()
