"""The slots of a simulated box, and a boot loader that chooses one of them as GRUB does on a real box."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from agents.box.updates.surroundings import UpdateHardware
from hal.disk import DiskError
from hal.emul.machine import EmulMachine
from hal.emul.partition import EmulPartition
from settings import slots
from settings.slots import Slot, SlotState
from sim.faults.box.update import ReleaseHealth
from sim.updates.releases import SLOT_BYTES, LabReleases
from wire.release.delta import BLOCK_BYTES

_BOTH: Final[tuple[Slot, ...]] = ("a", "b")


class VirtualSlots:
    """The slots; at first both have release 1, and slot a is committed."""

    def __init__(self, releases: LabReleases, random: Callable[[str], Random]) -> None:
        self._releases = releases
        self._partitions = {
            slot: EmulPartition(SLOT_BYTES, random(f"slot {slot}"), releases.slots[1]) for slot in _BOTH
        }
        self._state = EmulPartition(slots.BOOT_STATE_BYTES, random("boot state"))
        for offset in slots.COPY_OFFSETS:
            self._write(offset, slots.encode(SlotState(1, "a")))
        self._running: Slot = "a"
        self._application: Slot | None = None
        self._left: Slot | None = None

    def lose_power(self) -> None:
        """Cut the power and restore it."""
        self._partitions = {slot: each.backend.cut_power() for slot, each in self._partitions.items()}
        self._state = self._state.backend.cut_power()

    def boot(self) -> ReleaseHealth | None:
        """Choose the slot to start; return the health of its release, None if it has no complete release."""
        startable = [slot for slot in _BOTH if any(self._partitions[slot].read(0, BLOCK_BYTES))]
        choice = slots.choose(
            [self._read(offset) for offset in slots.COPY_OFFSETS],
            [self._read(offset) for offset in slots.TRIES_OFFSETS],
            startable,
        )
        if choice.write is not None:
            self._write(slots.TRIES_OFFSETS[choice.write[0]], choice.write[1])
        self._running, self._application, self._left = choice.slot, None, None
        return self._health(choice.slot)

    def switch(self, slot: Slot) -> ReleaseHealth | None:
        """Start the programs from a slot; return the health of its release.

        If they cannot be started, the machine rejects the slot and starts the programs of its own slot.
        """
        self._application, self._left = slot, None
        health = self._health(slot)
        if health == "unstartable":
            self._application, self._left = None, slot
        return health

    def hardware(self, restart: Callable[[], object], switch: Callable[[Slot], object]) -> UpdateHardware:
        """Return the update hardware for a starting box program.

        `restart` restarts the machine, `switch` starts the programs from another slot.
        """
        machine = EmulMachine(
            self._running, restart, application=self._application, on_switch=switch, left=self._left
        )
        return UpdateHardware(self._partitions, self._state, machine)

    def _health(self, slot: Slot) -> ReleaseHealth | None:
        number = self._releases.in_slot(self._partitions[slot].read(0, SLOT_BYTES))
        return None if number is None else self._releases.health[number]

    def _read(self, offset: int) -> bytes:
        try:
            return self._state.read(offset, slots.RECORD_BYTES)
        except DiskError:
            return b""

    def _write(self, offset: int, record: bytes) -> None:
        self._state.write(offset, record)
        self._state.flush()
