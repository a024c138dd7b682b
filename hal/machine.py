"""Machine: the slot from which it was started, and restarts of the machine and of its programs."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from settings.slots import Slot


class MachineErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    NO_SLOTS = "no-slots"  # it was not started from a slot: it cannot be updated by slots
    RESTART = "restart"  # the restart (of machine or programs) could not be requested: try again later


class MachineError(Exception):
    """An operating error of a machine; callers branch on `kind` alone."""

    def __init__(self, kind: MachineErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Machine(Protocol):
    """The machine on which the program runs."""

    def running_slot(self) -> Slot:
        """Return the slot whose root file system is mounted. It is constant until the machine restarts.

        Raises: NO_SLOTS.
        """
        ...

    def restart(self) -> None:
        """Request a restart of the machine through its boot loader.

        On return the restart is certain, but programs still run; each is ended as for a shutdown, with time to close
        cleanly. A repeated request changes nothing. Raises: RESTART.
        """
        ...

    def application_slot(self) -> Slot:
        """Return the slot from which this program was started. It is `running_slot` until `start_application`.

        It is constant until the program ends. Raises: NO_SLOTS.
        """
        ...

    def start_application(self, slot: Slot) -> None:
        """Request that the box's programs are ended, and started from the application tree in `slot`.

        On return this program still runs; it is ended as for a shutdown. If the file system of `slot` cannot be
        mounted, the programs are started from `running_slot`. A restart of the machine ends the effect. If the slot
        is not committed in the slot state (`settings.slots`) within a limited time, or its programs end repeatedly,
        the machine starts the programs of `running_slot`. Raises: RESTART.
        """
        ...

    def rejected_application(self) -> Slot | None:
        """Return the slot whose programs the machine has rejected since its start; None if there is none."""
        ...
