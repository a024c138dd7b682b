"""The interfaces between the updater and its environment: the machine, the box program and the status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from agents.box.updates.table import UpdatePhase
from hal.machine import Machine
from hal.partition import Partition
from settings.slots import Slot
from wire.messages import UpdateStep
from wire.release.data import DataContent


@dataclass(frozen=True, slots=True)
class UpdateHardware:
    """The machine, as updates use it. `executor` runs the calls of the partitions one at a time."""

    slots: Mapping[Slot, Partition]
    boot_state: Partition
    machine: Machine
    executor: Executor | None = None


class DataUse(Protocol):
    """Applies the content of data releases."""

    def problem(self, content: DataContent) -> str:
        """Return why this box cannot use the content without a restart; empty if it can."""
        ...

    async def use(self, content: DataContent, *, on_trial: bool) -> None:
        """Apply the content instead of the previous one; it is recorded before anything uses it.

        On trial, reports that only the previous content permits are accepted, too. Raises: SpoolError.
        """
        ...

    def refused_by_trial(self) -> str:
        """Return the refusal of a report that the previous content permits; empty if there was none."""
        ...


@dataclass(frozen=True, slots=True)
class UpdateSurroundings:
    """The functions of the box program that the updater uses."""

    now_s: Callable[[], float]
    """The time, in seconds since 1970."""
    time_floor_s: Callable[[], float]
    """A lower bound of the time, for a clock that is behind, in seconds since 1970."""
    health: Callable[[], str]
    """Why the program is not healthy, as a word; empty if it is. This does not depend on the data center."""
    may_restart: Callable[[], bool]
    """Whether no session and no instrument forbids a restart of the machine."""
    record: Callable[[UpdateStep], Awaitable[object]]
    """Records a step durably. Raises: SpoolError."""
    call: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Makes a blocking call on the thread of the disk."""
    needed_files: Callable[[], set[str]]
    """Returns the stems of the files that waiting commands and the updater need."""
    log_message: Callable[[str], object]
    """Receives messages for the operator."""
    data: DataUse
    """Uses the content of data releases."""


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """The state of updates in the box's status."""

    slot: Slot | None
    """The slot that runs; None if the machine has none."""
    release: int
    """The number of the committed release; 0 if unknown."""
    phase: UpdatePhase
    ordered: int = 0
    """The release of the current order; 0 if there is none."""
    problem: str = ""
    """Why updates cannot continue now."""
    data: int = 0
    """The number of the data release that is in force; 0 if there is none."""
