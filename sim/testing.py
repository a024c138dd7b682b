"""The interface of tests to a lab in the virtual world.

    def test_outage(lab):
        lab.uplink.down()
        lab.run_for("3h")
        lab.uplink.up()
        lab.wait_until(lambda: lab.box.backlog == 0, within="10min")
        lab.expect_nothing_lost()

Durations are written as in lab files. Lab time passes only in `run_for` and `wait_until`, and in the methods whose
docstring says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from settings.problems import Problems
from settings.toml import nearest, read_table
from sim.faults import Fault, fault_kinds
from sim.lab.labfile import Lab, ScheduledFault
from sim.units import SECOND_NS, duration_ns, format_duration
from sim.verdict.result import Result
from sim.worlds.virtual.world import VirtualWorld

_T = TypeVar("_T")

FAULT_SECONDS_MAX: Final = 3600.0
"""The longest wait for a fault's trigger, such as a disk operation, in seconds of lab time."""
STEP_NS: Final = SECOND_NS
"""The interval at which `wait_until` checks its condition, in lab time."""


class PartControls:
    """A target of faults, called `target` in lab files."""

    def __init__(self, lab: LabUnderTest, target: str) -> None:
        self._lab = lab
        self.target = target

    def inject(self, fault: str, **parameters: Any) -> Callable[[], None]:
        """Start a fault by its kind, with parameters as in a lab file; call the result to end it.

        Lab time passes if the fault waits for something, such as a disk operation.
        """
        return self._lab.start_fault(fault, self.target, **parameters)


class LinkControls(PartControls):
    """A link: the uplink, or an instrument's."""

    def down(self) -> None:
        """Unplug the cable."""
        self._lab.world.link(self.target).cut()

    def up(self) -> None:
        """Plug the cable in again."""
        self._lab.world.link(self.target).mend()


class BoxControls(PartControls):
    """The box."""

    @property
    def backlog(self) -> int:
        """The number of records that the data center has not acknowledged; 1 while the box program does not run."""
        world = self._lab.world
        backlog = world.loop.run_until_complete(world.backlog())
        return sum(backlog) if backlog is not None else 1

    @property
    def connected(self) -> bool:
        """Whether the box has a connection to the data center."""
        return self._lab.world.box.is_connected

    def cut_power(self) -> None:
        """Cut the power until `restore_power`."""
        self._lab.world.box.cut_power()

    def restore_power(self) -> None:
        """Restore the power, so that the box boots."""
        self._lab.world.box.restore_power()

    def kill(self) -> None:
        """Kill the box program, which the system restarts."""
        self._lab.world.box.end_program()


class LabUnderTest:
    """A running lab."""

    def __init__(self, lab: Lab, seed: int | None = None) -> None:
        self.world = VirtualWorld(lab, seed)
        self.uplink = LinkControls(self, "uplink")
        self.box = BoxControls(self, "box")
        self.proxy, self.datacenter = PartControls(self, "proxy"), PartControls(self, "datacenter")
        self.disk, self.clock = PartControls(self, "disk"), PartControls(self, "clock")
        self._result: Result | None = None

    def instrument(self, port: int) -> LinkControls:
        """Return the instrument at a port, and its cable."""
        return LinkControls(self, f"instrument:{port}")

    @property
    def now(self) -> float:
        """The lab time in seconds."""
        return self.world.env.now / SECOND_NS

    def run_for(self, duration: str) -> None:
        """Run the lab for a duration of lab time, such as "3h"."""
        self.world.loop.run_for(duration_ns(duration))

    def wait_until(self, holds: Callable[[], object], within: str = "1h") -> None:
        """Run the lab until `holds()` is true. Raises: AssertionError if that takes longer than `within`."""
        until = self.world.env.now + duration_ns(within)
        while not holds():
            if self.world.env.now >= until:
                raise AssertionError(f"did not hold within {within} of lab time; {self.describe()}")
            self.world.loop.run_for(STEP_NS)

    def describe(self) -> str:
        """Describe the state of the lab, for messages."""
        state = "connected" if self.box.connected else "not connected"
        now = format_duration(self.world.env.now)
        return f"at {now}: backlog {self.box.backlog}, {state}, seed {self.world.seed}"

    def start_fault(self, kind: str, target: str, **parameters: Any) -> Callable[[], None]:
        """Start a fault; call the result to end it. Raises: ValueError for an unknown kind or invalid parameter."""
        kinds = fault_kinds()
        if kind not in kinds:
            raise ValueError(f"there is no fault {kind!r}; {nearest(kind, list(kinds))}")
        problems = Problems(Path(kind), "")
        fault = read_table(kinds[kind], parameters, ("fault",), problems)
        if not isinstance(fault, Fault):
            raise ValueError("\n".join(f"{problem.key}: {problem.message}" for problem in problems.found))
        faults = self.world.faults
        active = self._do(faults.inject(ScheduledFault(self.world.env.now, fault, target, None)), kind)
        return lambda: self._do(faults.end(active), f"the end of {kind}")

    def _do(self, step: Coroutine[Any, Any, _T], description: str) -> _T:
        async def within_limit() -> _T:
            async with asyncio.timeout(FAULT_SECONDS_MAX):
                return await step

        try:
            return self.world.loop.run_until_complete(within_limit())
        except TimeoutError:
            raise AssertionError(
                f"{description} did not happen within an hour of lab time; {self.describe()}"
            ) from None

    def result(self) -> Result:
        """End the lab: cut the box's power, and evaluate the data center's database and the disk."""
        if self._result is None:
            self._result = self.world.finish()
        return self._result

    def expect(self, name: str) -> None:
        """End the lab, and check one expectation of the lab file. Raises: AssertionError if it does not hold."""
        result = self.result()
        expectations = {expectation.name: expectation for expectation in result.expectations}
        if name not in expectations:
            raise ValueError(f"the lab has no expectation {name!r}; {nearest(name, list(expectations))}")
        expectation = expectations[name]
        assert expectation.holds, (
            f"{name}: limit {expectation.limit}, measured {expectation.measured}; {result.failures}"
        )

    def expect_nothing_lost(self) -> None:
        """End the lab.

        Raises: AssertionError if an acknowledged report is lost or stored twice, or if the box program had an error.
        """
        reports = self.result().reports
        assert reports.lost == 0, f"{reports.lost} reports are lost: {self.result().failures}"
        assert reports.duplicates == 0, f"{reports.duplicates} reports are stored twice"
        self.expect("program_errors")

    def close(self) -> None:
        """End the lab without evaluating it."""
        self.world.close()
