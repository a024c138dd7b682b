"""A machine with slots, whose restart is a call."""

from __future__ import annotations

from collections.abc import Callable

from hal.machine import MachineError, MachineErrorKind
from settings.slots import Slot


class EmulMachineBackend:
    """Control of an emulated machine. For the simulator and for tests."""

    def __init__(self) -> None:
        self.restart_fails = False
        """Whether requests of a restart are refused."""
        self.is_restarting = False
        """Whether a restart was requested."""


class EmulMachine:
    """`hal.machine.Machine` started from `slot`; `restart` calls `on_restart` once. None: it has no slots."""

    def __init__(self, slot: Slot | None, on_restart: Callable[[], object] = lambda: None) -> None:
        self._slot, self._on_restart = slot, on_restart
        self.backend = EmulMachineBackend()

    def running_slot(self) -> Slot:
        """See `Machine.running_slot`."""
        if self._slot is None:
            raise MachineError(MachineErrorKind.NO_SLOTS, "the machine was not started from a slot")
        return self._slot

    def restart(self) -> None:
        """See `Machine.restart`."""
        if self.backend.restart_fails:
            raise MachineError(MachineErrorKind.RESTART, "the restart was refused")
        if not self.backend.is_restarting:
            self.backend.is_restarting = True
            self._on_restart()
