"""Machine: the slot of the operating system that it has started from, and its restart."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from settings.slots import Slot


class MachineErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    NO_SLOTS = "no-slots"  # it was not started from a slot: it cannot be updated by slots
    RESTART = "restart"  # the restart could not be requested: try again later


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
