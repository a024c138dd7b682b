"""A release that differs only in the application is tried and committed without a restart of the machine.

The other slot contains the complete release, as for a restart. The machine mounts it, and starts the box's programs
from its application tree (`hal.machine`). The slot state is not changed before the commit: a machine that restarts
during the trial starts the previous release as a whole, and after the commit the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agents.box.updates.memory import Memory, PhaseOutcome
from agents.box.updates.table import UpdateEvent, UpdatePhase
from hal.machine import Machine, MachineError
from settings.slots import Slot, other

SWITCHES_MAX: Final = 3
"""Maximum number of starts of the programs from the application tree of one release."""
SWITCH_SECONDS_MAX: Final = 300.0
"""Time after which the switch is requested again if this program still runs."""
IN_APPLICATION: Final = (UpdatePhase.SWITCHING, UpdatePhase.APPLICATION_TRIAL, UpdatePhase.SWITCHING_BACK)
"""Phases in which the outcome depends on the running application tree."""
P, E = UpdatePhase, UpdateEvent


def after_switch(phase: UpdatePhase, memory: Memory, machine: Machine) -> UpdateEvent | None:
    """Return the event for a program that starts in a phase of IN_APPLICATION, by the application tree that runs.

    None: the phase continues. Raises: MachineError.
    """
    target = memory.target_slot
    if machine.application_slot() == target:
        return E.STARTED_NEW if phase is P.SWITCHING else None
    if phase is P.SWITCHING_BACK or machine.rejected_application() == target:
        return E.STARTED_OLD
    if phase is P.SWITCHING:
        return None
    # the machine has restarted in the trial: a power cut, or the release crashes the machine
    return E.NOT_BEGUN if memory.switches < SWITCHES_MAX else E.STARTED_OLD


class ApplicationSwitch:
    """The phases in which the box's programs are started from another slot. `change` changes the memory durably."""

    def __init__(
        self,
        machine: Machine,
        memory: Callable[[], Memory],
        change: Callable[[Callable[[Memory], object]], Awaitable[object]],
        report_problem: Callable[[str], object],
    ) -> None:
        self._machine, self._memory, self._change = machine, memory, change
        self._report_problem = report_problem

    async def switch(self) -> PhaseOutcome:
        """Start the programs of the new release, which ends this program. Raises: DiskError."""
        if self._memory().switches >= SWITCHES_MAX:
            self._report_problem("the application is not started from the other slot; the machine restarts")
            return PhaseOutcome(E.CANNOT_SWITCH)
        await self._change(_count_switch)
        await self._start(self._target)
        return PhaseOutcome(E.NOT_RESTARTED)

    async def switch_back(self) -> PhaseOutcome:
        """Start the programs of the previous release, repeatedly until that has ended this program."""
        while True:
            await self._start(other(self._target))

    @property
    def _target(self) -> Slot:
        slot = self._memory().target_slot
        assert slot is not None, "a plan has a slot"
        return slot

    async def _start(self, slot: Slot) -> None:
        try:
            self._machine.start_application(slot)
        except MachineError as error:
            self._report_problem(f"the application is not started from the other slot: {error}")
        await asyncio.sleep(SWITCH_SECONDS_MAX)


def forget_starts(memory: Memory) -> None:
    """Reset the number of starts in the trial, because the trial has ended or another one begins."""
    memory.trial_starts = 0


def _count_switch(memory: Memory) -> None:
    memory.switches += 1
