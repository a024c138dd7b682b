"""Reports through the vendor's agent, which numbers them and repeats them until they are acknowledged."""

from __future__ import annotations

import asyncio
from typing import Final, get_args

from agents.instrument.agent import InstrumentAgent
from agents.instrument.enrolment import InstrumentEnrolment
from hal.emul.disk import EmulDisk
from settings.profile import Verb, load_profile
from sim.verdict.ledger import Run, digest_of
from sim.worlds.shared.instruments.reporter import Execute, Workplace
from wire.messages import Command, InstrumentReport, Outcome, Report, encode
from wire.tls.context import ClientContext, client_context

ANSWER_SECONDS: Final = 40.0
"""The time until the operator answers whether a command may be executed."""
IDENTITY_BYTES: Final = 1 << 20
"""The size of the disk for the instrument's certificate."""
_TAGS: Final = {kind: str(kind.__struct_config__.tag) for kind in get_args(InstrumentReport)}


class AgentReporter:
    """A `sim.worlds.shared.instruments.reporter.Reporter` that runs the agent program; each start is a new run."""

    def __init__(self, workplace: Workplace, execute: Execute) -> None:
        self._workplace, self._execute_command = workplace, execute
        self._last_run = 0
        self.asked: list[Verb] = []
        """The commands that were shown to the operator."""
        self._agent: InstrumentAgent | None = None
        self._run: Run | None = None
        self._disk = EmulDisk(IDENTITY_BYTES, workplace.random("identity"))
        """The disk with the certificate that the agent has requested."""

    def start(self) -> None:
        """See `Reporter`."""
        number = self._last_run = self._last_run + 1
        self._run = self._workplace.ledger.begin(self._workplace.spec.serial, number)
        self._workplace.computer.start(self._live(number))

    def stop(self) -> None:
        """See `Reporter`. Undelivered reports of the agent are lost."""
        self.update_ledger()
        if self._run is not None:
            self._run.ended_ns = self._workplace.env.now
        self._agent = self._run = None
        self._disk = self._disk.backend.cut_power()

    async def _live(self, number: int) -> None:
        workplace = self._workplace
        if workplace.spec.enrolment == "none":
            await self._make_agent(number, client_context(workplace.identity)).run()
            return
        enrolment = InstrumentEnrolment(
            workplace.spec.serial,
            workplace.box,
            workplace.identity,
            self._disk,
            clock=workplace.clock,
            random=workplace.random(f"enrolment{number}"),
            make_key=workplace.make_key,
        )
        try:
            agent = self._make_agent(number, await enrolment.load())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(agent.run())
                tasks.create_task(enrolment.run(agent.use))
        finally:
            enrolment.close()

    def _make_agent(self, number: int, tls: ClientContext) -> InstrumentAgent:
        workplace = self._workplace
        self._agent = InstrumentAgent(
            workplace.box,
            tls,
            run_number=number,
            clock=workplace.clock,
            random=workplace.random(f"agent{number}"),
            instrument=self,
            on_made=self._made,
            on_acknowledged=self._acknowledged,
        )
        return self._agent

    def emit(self, kind: type[Report], *fields: object) -> None:
        """See `Reporter`."""
        if self._agent is not None:
            self._agent.submit(kind, *fields)  # type: ignore[arg-type]

    def _made(self, report: InstrumentReport) -> None:
        assert self._run is not None
        kind = _TAGS[type(report)]
        self._run.made(kind, self._workplace.env.now, digest_of(kind, report.at_ms, encode(report)))

    def _acknowledged(self, reports: list[InstrumentReport]) -> None:
        assert self._run is not None
        self.update_ledger()
        for report in reports:
            self._run.acknowledged(report.number, self._workplace.env.now)

    def update_ledger(self) -> None:
        """Enter into the ledger the reports that the agent dropped, and its run number if that changed."""
        agent, run = self._agent, self._run
        if agent is None or run is None:
            return
        run.given_up = agent.dropped
        if agent.run_number != self._last_run:
            self._workplace.ledger.continues(run, agent.run_number)
            self._last_run = agent.run_number

    # -- commands: see `agents.instrument.command_runner.Instrument`

    async def consent(self, command: Command, _content: bytes) -> bool:
        """Ask the simulated operator."""
        workplace = self._workplace
        if command.verb not in load_profile(workplace.spec.model).consent:
            return True
        self.asked.append(command.verb)
        if workplace.spec.operator == "absent":
            await asyncio.Event().wait()
        await asyncio.sleep(ANSWER_SECONDS)
        return workplace.spec.operator == "consents"

    async def execute(self, command: Command, content: bytes) -> Outcome | bytes:
        """Execute a command on the physical model."""
        return self._execute_command(command, content)
