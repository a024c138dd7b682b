"""An emulated machine with slots; a restart calls a function."""

from __future__ import annotations

from collections.abc import Callable

from hal.machine import MachineError, MachineErrorKind
from settings.slots import Slot


class EmulMachineBackend:
    """Control of an emulated machine. For the simulator and for tests."""

    def __init__(self) -> None:
        self.restart_fails = False
        """Whether requests for a restart are refused."""
        self.is_restarting = False
        """Whether a restart was requested."""
        self.switch_fails = False
        """Whether requests to start the programs from another slot are refused."""


class EmulMachine:
    """`hal.machine.Machine` started from `slot` (None: it has no slots); `restart` calls `on_restart` once.

    The program runs from the slot `application` (None: `slot`); `start_application` calls `on_switch`. `left` is the
    slot whose programs the machine has rejected.
    """

    def __init__(
        self,
        slot: Slot | None,
        on_restart: Callable[[], object] = lambda: None,
        *,
        application: Slot | None = None,
        on_switch: Callable[[Slot], object] = lambda _slot: None,
        left: Slot | None = None,
    ) -> None:
        self._slot, self._on_restart = slot, on_restart
        self._application, self._on_switch, self._left = application, on_switch, left
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

    def application_slot(self) -> Slot:
        """See `Machine.application_slot`."""
        return self._application or self.running_slot()

    def start_application(self, slot: Slot) -> None:
        """See `Machine.start_application`."""
        if self.backend.switch_fails:
            raise MachineError(MachineErrorKind.RESTART, "the programs are not started from another slot")
        self._on_switch(slot)

    def rejected_application(self) -> Slot | None:
        """See `Machine.rejected_application`."""
        return self._left
