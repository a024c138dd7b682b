"""An instrument of a lab: the simulated analyzer, its operator, and the computer on which it reports to the box.

It is the same in every world, except for the computer and the speed of SimPy's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sim.engine.layers import End, Layers
from sim.hostile import Access, Attack
from sim.instruments import SimulatedInstrument, load_model
from sim.instruments.field_service import FieldService
from sim.instruments.instrument import FloodReport
from sim.instruments.operator import Operator
from sim.worlds.shared.instruments.agent_reporter import AgentReporter
from sim.worlds.shared.instruments.instrument_display import InstrumentDisplay
from sim.worlds.shared.instruments.reporter import Computer, Execute, Reporter, Workplace
from sim.worlds.shared.instruments.standard_reporter import StandardReporter
from wire.messages import Command, Outcome, Report
from wire.tls.context import client_context


def _reporter(workplace: Workplace, execute: Execute) -> Reporter:
    kind = AgentReporter if workplace.spec.speaks == "agent" else StandardReporter
    return kind(workplace, execute)


class Analyzer:
    """A running instrument."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace, self.spec = workplace, workplace.spec
        self._power_holds = Layers[None](self._follow_power)
        self.programs: dict[_Program, None] = {}
        """Programs of faults that run in addition to the reporter; they run while there is power."""
        self._attacks = 0
        self._display: InstrumentDisplay | None = None
        self.reporter = _reporter(workplace, self._execute)
        self.model = SimulatedInstrument(
            load_model(workplace.spec.model),
            workplace.env,
            workplace.spec.serial,
            workplace.random("model"),
            self._emit,
            workplace.spec.report_every,
            workplace.start_of_day_ns,
        )
        self.operator = Operator(
            workplace.env, self.model, workplace.random("bench"), workplace.start_of_day_ns
        )
        FieldService(workplace.env, self.model, workplace.random("service"))
        self.is_on = False
        """Whether it has power."""
        self._power_on()

    def _power_on(self) -> None:
        self.is_on = True
        self._workplace.computer.power_on()
        self.reporter.start()
        for program in self.programs:
            program.start()

    def _emit(self, kind: type[Report], *fields: object) -> None:
        self.reporter.emit(kind, *fields)

    def _execute(self, command: Command, content: bytes) -> Outcome | bytes:
        return self.model.execute(command, content)

    # -- faults: see `sim.faults.world.InstrumentPart`

    def hold_power(self) -> End:
        """Cut its power until every hold has ended; an agent loses the reports that it has not delivered."""
        return self._power_holds.add(None)

    def _follow_power(self) -> None:
        if self.is_on and self._power_holds:
            self.is_on = False
            self.reporter.stop()
            self.model.power_off()
            self._workplace.computer.power_off()
        elif not self.is_on and not self._power_holds:
            self.model.power_on()
            self._power_on()

    def flood(self, per_second: int, report: FloodReport) -> End:
        """Send `per_second` additional reports of that kind per second."""
        return self.model.flood(per_second, report)

    def run(self, program: Callable[[], Coroutine[Any, Any, None]]) -> End:
        """Run a program on its computer in addition to the reporter, and restart it at each power-on, until its
        `End`."""
        running = _Program(self._workplace.computer, program)
        self.programs[running] = None
        if self.is_on:
            running.start()

        def end() -> None:
            if self.programs.pop(running, running) is None:
                running.end()

        return end

    def show_sessions(self) -> InstrumentDisplay:
        """Return its display, on which its agent shows remote sessions."""
        if self._display is None:
            self._display = InstrumentDisplay(self._workplace)
            self.run(self._display.run)
        return self._display

    def attack(self, attack: Attack) -> End:
        """Run a hostile program on its computer in addition to the reporter, while it has power."""
        self._attacks += 1
        name = f"attack {self._attacks}"
        return self.run(lambda: self._attack(attack, name))

    async def _attack(self, attack: Attack, name: str) -> None:
        workplace = self._workplace
        try:
            await attack(Access(workplace.box, client_context(workplace.identity), workplace.random(name)))
        except Exception as bug:  # reported, since the lab would prove nothing without the attack
            message = {"message": "hostile program failed", "exception": bug}
            asyncio.get_running_loop().call_exception_handler(message)


class _Program:
    """A program that an instrument's computer starts at each power-on."""

    def __init__(self, computer: Computer, program: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._computer, self._program = computer, program
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the program, after power-on."""
        self._task = self._computer.start(self._program())

    def end(self) -> None:
        """End the program."""
        if self._task is not None:
            self._task.cancel()
