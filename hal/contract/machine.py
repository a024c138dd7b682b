"""Conformance checks of `hal.machine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, get_args

from hal.machine import Machine, MachineError, MachineErrorKind
from settings.slots import Slot


class MachineBench(Protocol):
    """A machine that can be started from any slot."""

    def started(self, slot: Slot | None) -> Machine:
        """Return the machine as started from a slot; None: not started from a slot."""
        ...

    def restarts(self) -> int:
        """Return how many restarts were requested since the last start."""
        ...

    def switches(self) -> Sequence[Slot]:
        """Return the slots from which a start of the programs was requested since the last start, the latest last."""
        ...

    def refuse_restarts(self) -> None:
        """Make requests for a restart of the machine or of the programs fail."""
        ...


def _kind(call: Callable[[], object]) -> MachineErrorKind | None:
    try:
        call()
    except MachineError as error:
        return error.kind
    return None


def machine_reports_its_slot(bench: MachineBench) -> None:
    """`running_slot` returns the slot that the machine was started from."""
    for slot in get_args(Slot):
        assert bench.started(slot).running_slot() == slot


def machine_reports_missing_slots(bench: MachineBench) -> None:
    """`running_slot` raises NO_SLOTS if the machine was not started from a slot."""
    assert _kind(bench.started(None).running_slot) is MachineErrorKind.NO_SLOTS


def machine_restarts_once(bench: MachineBench) -> None:
    """`restart` requests one restart, however often it is called."""
    machine = bench.started("a")
    assert bench.restarts() == 0
    machine.restart()
    machine.restart()
    assert bench.restarts() == 1


def machine_reports_a_refused_restart(bench: MachineBench) -> None:
    """`restart` raises RESTART if the restart cannot be requested."""
    machine = bench.started("b")
    bench.refuse_restarts()
    assert _kind(machine.restart) is MachineErrorKind.RESTART
    assert bench.restarts() == 0


def machine_starts_its_own_application(bench: MachineBench) -> None:
    """After a start of the machine, the program of its slot runs, and no other."""
    for slot in get_args(Slot):
        machine = bench.started(slot)
        assert machine.application_slot() == slot
        assert machine.rejected_application() is None
    assert _kind(bench.started(None).application_slot) is MachineErrorKind.NO_SLOTS


def machine_starts_the_application_of_another_slot(bench: MachineBench) -> None:
    """`start_application` requests a start of the programs, and the machine still runs from the same slot."""
    machine = bench.started("a")
    machine.start_application("b")
    machine.start_application("b")
    assert bench.switches()[-1] == "b" and set(bench.switches()) == {"b"}
    assert machine.running_slot() == "a" and bench.restarts() == 0


def machine_reports_a_refused_application(bench: MachineBench) -> None:
    """`start_application` raises RESTART if the start cannot be requested."""
    machine = bench.started("b")
    bench.refuse_restarts()
    assert _kind(lambda: machine.start_application("a")) is MachineErrorKind.RESTART
    assert not bench.switches()


MACHINE_CHECKS: tuple[Callable[[MachineBench], None], ...] = (
    machine_reports_its_slot,
    machine_reports_missing_slots,
    machine_restarts_once,
    machine_reports_a_refused_restart,
    machine_starts_its_own_application,
    machine_starts_the_application_of_another_slot,
    machine_reports_a_refused_application,
)
