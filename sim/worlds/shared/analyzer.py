"""An instrument of a lab: the simulated analyzer, its operator, its agent, and the computer that the agent runs on.

It is the same in every world, except for the computer and the speed of SimPy's time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Final, Protocol, get_args

from agents.instrument.agent import InstrumentAgent
from hal.clock import WallClock
from settings.types import Endpoint
from sim.engine.clock import Environment
from sim.engine.layers import End, Layers
from sim.hostile import Access, Attack
from sim.instruments import SimulatedInstrument, load_model
from sim.instruments.instrument import FloodReport
from sim.instruments.people import Bench
from sim.lab import labfile
from sim.verdict.ledger import ReportLedger, Run, digest_of
from wire.messages import Command, InstrumentReport, Outcome, Report, encode
from wire.tls.context import Identity, client_context

_TAGS: Final = {kind: str(kind.__struct_config__.tag) for kind in get_args(InstrumentReport)}


class Computer(Protocol):
    """The computer of an instrument, on which its agent runs."""

    def power_on(self) -> None:
        """Turn on a computer that is off."""
        ...

    def power_off(self) -> None:
        """Turn it off: its programs end without closing their connections."""
        ...

    def start(self, program: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a program; the computer must be on."""
        ...


class Analyzer:
    """A running instrument; `random` returns the random stream of each of its parts by name."""

    def __init__(
        self,
        env: Environment,
        computer: Computer,
        spec: labfile.LabInstrument,
        box: Endpoint,
        identity: Identity,
        clock: WallClock,
        ledger: ReportLedger,
        random: Callable[[str], Random],
        start_of_day_ns: int,
    ) -> None:
        self.spec = spec
        self._env = env
        self._computer = computer
        self._box = box
        self._identity = identity
        self._clock = clock
        self._ledger = ledger
        self._random = random
        self._last_run = 0
        self._agent: InstrumentAgent | None = None
        self._run: Run | None = None
        self._power_holds = Layers[None](self._follow_power)
        self.programs: dict[_Program, None] = {}
        """Programs of faults beside the agent; they run while there is power."""
        self._attacks = 0
        self.model = SimulatedInstrument(
            load_model(spec.model),
            env,
            spec.serial,
            random("model"),
            self._emit,
            spec.report_every,
            start_of_day_ns,
        )
        self.bench = Bench(env, self.model, random("bench"), start_of_day_ns)
        self._start_agent()

    def _start_agent(self) -> None:
        number = self._last_run = self._last_run + 1
        self._run = self._ledger.begin(self.spec.serial, number)
        self._computer.power_on()
        self._computer.start(self._live(number))
        for program in self.programs:
            program.start()

    async def _live(self, number: int) -> None:
        self._agent = InstrumentAgent(
            self._box,
            client_context(self._identity),
            run_number=number,
            clock=self._clock,
            random=self._random(f"agent{number}"),
            execute=self._execute,
            on_made=self._made,
            on_acknowledged=self._acknowledged,
        )
        await self._agent.run()

    def _emit(self, kind: type[Report], *fields: object) -> None:
        if self._agent is not None:
            self._agent.submit(kind, *fields)  # type: ignore[arg-type]

    def _made(self, report: InstrumentReport) -> None:
        assert self._run is not None
        kind = _TAGS[type(report)]
        self._run.made(kind, self._env.now, digest_of(kind, report.at_ms, encode(report)))

    def _acknowledged(self, reports: list[InstrumentReport]) -> None:
        assert self._run is not None
        self.note_agent()
        for report in reports:
            self._run.acknowledged(report.number, self._env.now)

    def note_agent(self) -> None:
        """Enter into the ledger the reports that the agent dropped, and its run number if that changed."""
        agent, run = self._agent, self._run
        if agent is None or run is None:
            return
        run.given_up = agent.dropped
        if agent.run_number != self._last_run:
            self._ledger.continues(run, agent.run_number)
            self._last_run = agent.run_number

    async def _execute(self, command: Command) -> Outcome:
        return self.model.execute(command)

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._run is not None

    # -- faults: see `sim.faults.world.InstrumentPart`

    def hold_power(self) -> End:
        """Cut its power until every hold has ended; reports that the agent has not delivered are lost."""
        return self._power_holds.add(None)

    def _follow_power(self) -> None:
        if self._run is not None and self._power_holds:
            self.note_agent()
            self._run.ended_ns = self._env.now
            self.model.power_off()
            self._computer.power_off()
            self._agent = self._run = None
        elif not self.is_on and not self._power_holds:
            self.model.power_on()
            self._start_agent()

    def flood(self, per_second: int, report: FloodReport) -> End:
        """Send `per_second` additional reports of that kind per second."""
        return self.model.flood(per_second, report)

    def run(self, program: Callable[[], Coroutine[Any, Any, None]]) -> End:
        """Run a program on its computer, beside the agent, and restart it at each power-on, until its `End`."""
        running = _Program(self._computer, program)
        self.programs[running] = None
        if self.is_on:
            running.start()

        def end() -> None:
            if self.programs.pop(running, running) is None:
                running.end()

        return end

    def attack(self, attack: Attack) -> End:
        """Run a hostile program on its computer, beside the agent, while it has power."""
        self._attacks += 1
        name = f"attack {self._attacks}"
        return self.run(lambda: self._attack(attack, name))

    async def _attack(self, attack: Attack, name: str) -> None:
        try:
            await attack(Access(self._box, client_context(self._identity), self._random(name)))
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
