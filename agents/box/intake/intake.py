"""Accepts the reports of all instruments: durable before they are acknowledged, within limits, and stored once.

The reports of all protocols are stored here. An instrument's agent numbers its reports itself (`keep`); those of an
instrument that speaks its own standard are numbered by the box (`accept`). An instrument is identified by its port
and, if it runs the agent, its certificate, never by a field of a message.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.intake.backlog import FAIR_BURST, PINNED_SHARE, Backlog
from agents.box.intake.high_water_marks import (
    ADAPTED_DIGESTS_MAX,
    AdaptedMark,
    HighWaterMark,
    digest_of,
    stripped_digest,
    untimed_digest,
)
from agents.box.intake.limits import REPORTS_BURST, report_bucket
from agents.spool import Priority, SpoolError
from wire.audit_events import AuditEvent
from wire.messages import (
    INT_MAX,
    RUN_MAX,
    Alert,
    Audit,
    CommandResult,
    CommandStep,
    Entry,
    InstrumentReport,
    State,
    Status,
    encode,
)
from wire.messages import Outcome as CommandOutcome
from wire.process.bounds import Bound
from wire.process.ratelimit import TokenBucket
from wire.profiles import AllowList
from wire.standards.engine import Outcome
from wire.standards.extract import Extract, Finding, Reason

CLOCK_OFF_MS_MAX: Final = 24 * 3600 * 1000
"""A time of an instrument that differs from the box's clock by more than this is replaced by the box's."""
PRIORITIES: Final = {Alert: Priority.ALERT, CommandResult: Priority.AUDIT, CommandStep: Priority.AUDIT}
"""The priority of each kind of report; others are routine."""


class Note(Protocol):
    """Writes an audit record about a port without waiting until it is durable."""

    def __call__(self, event: AuditEvent, value: int = 0, *, port: int) -> object: ...


class RunRefused(Exception):
    """The reports cannot be accepted under their run; the instrument must continue under `next_run`."""

    def __init__(self, event: AuditEvent, message: str, next_run: int) -> None:
        super().__init__(message)
        self.event, self.next_run = event, next_run


@dataclass(slots=True, eq=False)
class Source:
    """An enrolled instrument. If it speaks its own standard, `counts` counts the omitted parts of its messages."""

    serial: str
    port: int
    allowed: AllowList
    marks: list[HighWaterMark]
    adapted: AdaptedMark
    queue: CommandQueue
    backlog: Backlog
    bucket: TokenBucket = field(default_factory=report_bucket)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    counts: Counter[Reason] = field(default_factory=Counter)
    accepted: int = 0
    is_connected: bool = False
    """Whether an instrument that speaks its own standard has a connection or an open serial line."""
    role: str = "receiver"
    """How an instrument that speaks its own standard is connected (`settings.adapted.AdaptedPort`)."""
    message_at: float | None = None
    """The time at which its last message was stored, by the clock of the event loop."""
    last_byte_s: float | None = None
    """The time at which its last byte arrived, by the clock of the event loop."""
    is_first: bool = True
    """Whether no message of an instrument that speaks its own standard was accepted since the program started."""
    awaits_answer: bool = False
    """Whether the last message was stored with the box's time, and is being answered."""
    state: State | None = None
    """Its state, by the last status that was stored since the program started."""
    ended: dict[int, CommandOutcome] = field(default_factory=dict)
    """Outcomes of commands that are not durable yet."""


class Marks(Protocol):
    """The persistent marks of instruments (`agents.box.state.BoxState`)."""

    def marks(self, instrument: str) -> list[HighWaterMark]:
        """Return the high-water marks of an agent's reports by priority."""
        ...

    def adapted_mark(self, instrument: str) -> AdaptedMark:
        """Return the mark of an instrument that speaks its own standard."""
        ...


class Intake:
    """Accepts reports. `accepted` counts stored reports, `repeated` detected duplicates."""

    def __init__(
        self,
        buffer: Buffer,
        state: Marks,
        dispatcher: CommandDispatcher,
        note: Note,
        ports: Mapping[str, int],
        allowed: Mapping[str, AllowList],
        now_ms: Callable[[], int],
    ) -> None:
        """`ports` and `allowed` map instruments to their ports and allow-lists; `now_ms` is the wall clock."""
        self._buffer, self._note, self._now_ms = buffer, note, now_ms
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        pinned_bytes_max = PINNED_SHARE * buffer.limits.spool_bytes_max / max(1, len(ports))
        self.sources = {
            serial: Source(
                serial,
                port,
                allowed[serial],
                state.marks(serial),
                state.adapted_mark(serial),
                dispatcher.queue_of(serial),
                Backlog(buffer.delivered, pinned_bytes_max),
            )
            for serial, port in ports.items()
        }
        self.accepted = self.repeated = 0

    def use(self, serial: str, allowed: AllowList) -> None:
        """Check the next reports of an instrument against another allow-list."""
        self.sources[serial].allowed = allowed

    def forbids_restart(self) -> bool:
        """Return whether an instrument is running samples and its profile forbids a restart of the box meanwhile."""
        return any(
            source.state == "running" and not source.allowed.profile.restart_while_running
            for source in self.sources.values()
        )

    def bounds(self) -> list[Bound]:
        """Return the report rate of each port's busiest instrument."""
        ports = sorted({source.port for source in self.sources.values()})
        return [Bound("report-rate", partial(self._busiest, port), port) for port in ports]

    def _busiest(self, port: int) -> tuple[float, float]:
        now = self._loop.time()
        used = [source.bucket.used(now) for source in self.sources.values() if source.port == port]
        return max(used), REPORTS_BURST

    def limit(self, source: Source, reports: int) -> float | None:
        """Return None if `reports` more are within the limits of the instrument.

        Otherwise, return the seconds until they are, 0 if that is unknown.
        """
        now, seconds = self._loop.time(), 0.0
        if source.backlog.exceeds_share:
            event = AuditEvent.ALERTS_OVER_SHARE
        elif seconds := source.backlog.take(min(reports, FAIR_BURST), now):
            event = AuditEvent.REPORTS_HELD_BACK
        elif seconds := source.bucket.take(reports, now):
            event = AuditEvent.REPORTS_TOO_MANY
        else:
            return None
        self._note(event, port=source.port)
        return seconds

    async def keep(self, source: Source, run: int, reports: list[tuple[int, InstrumentReport]]) -> None:
        """Store an agent's reports durably, except those accepted before; each is given with its priority.

        Raises: SpoolError and RunRefused, with nothing stored.
        """
        async with source.lock:
            new = _new(source, run, reports)
            entries = [entry for _, _, entry in new]
            if new:
                self._begin_commands(source, reports)
                await self._append(source, [priority for priority, _, _ in new], entries)
                for priority, report, entry in new:
                    source.marks[priority].accept(run, report.number, digest_of(entry))
        for priority, report in reports:
            if priority == Priority.AUDIT and isinstance(report, CommandResult):
                source.queue.finished(report.command)
            elif isinstance(report, Status):
                source.state = report.state
        self.repeated += len(reports) - len(new)

    def withdrawn(self, source: Source, reports: Iterable[InstrumentReport]) -> list[int]:
        """Return the commands that an agent is about to execute according to its reports, but must not."""
        steps = [report for report in reports if isinstance(report, CommandStep)]
        executing = {step.command for step in steps if step.step == "executing"}
        return sorted(
            command
            for command in executing.difference(source.queue.history.started)
            if self._dispatcher.is_withdrawn(command)
        )

    def _begin_commands(self, source: Source, reports: list[tuple[int, InstrumentReport]]) -> None:
        """Note the commands that an agent is about to execute; from here on they cannot be withdrawn."""
        for _, report in reports:
            if not isinstance(report, CommandStep) or report.step != "executing":
                continue
            if not self._dispatcher.is_withdrawn(report.command):
                source.queue.history.start(report.command)

    async def accept(self, source: Source, extract: Extract) -> Outcome:
        """Store the findings of a message durably, except those that were stored before.

        Repetitions are recognized by the instrument's times. Without a time, a second alert or measurement with the
        same fields cannot be distinguished from a repetition, and is stored. The exception is the first message since
        the start of the program, if it repeats the last one before the start, which had a control and was possibly
        not answered (`AdaptedMark.answered`). A message with more findings than can be recognized is refused. If the
        caller is cancelled, for example because the instrument connects again, the message is stored nevertheless.
        """
        if len(extract.findings) > ADAPTED_DIGESTS_MAX:
            return Outcome.REFUSED
        return await asyncio.shield(self._accept(source, extract))

    async def _accept(self, source: Source, extract: Extract) -> Outcome:
        findings = _with_times(extract.findings)
        async with source.lock:
            digests = [b"" if finding.at_ms is None else stripped_digest(finding) for finding in findings]
            unknown = source.adapted.unknown(digests)
            now_ms = self._now_ms()
            without_time = all(self._time_of(finding, now_ms) == now_ms for finding in findings)
            if source.is_first and without_time:
                unknown = self._not_repeated(source, findings, unknown)
            new = [findings[index] for index in unknown]
            outcome = (
                await self._store(source, new, [digests[index] for index in unknown])
                if new
                else Outcome.STORED
            )
            if outcome is Outcome.STORED:
                source.is_first, source.message_at = False, self._loop.time()
                if new or not findings:
                    self._note_last(source, new if without_time else [], now_ms)
                source.awaits_answer = not source.adapted.answered
        if outcome is Outcome.STORED:
            is_repeated = bool(findings) and not new
            source.counts += Counter({Reason.MESSAGE_REPEATED: 1}) if is_repeated else extract.counts
            self.repeated += len(findings) - len(new)
        return outcome

    def _not_repeated(self, source: Source, findings: list[Finding], unknown: list[int]) -> list[int]:
        """Return the indices of the findings that are new, if they may repeat the last message before the start."""
        bodies = [finding.kind(1, 0, *finding.fields) for finding in findings]
        indexes = source.adapted.not_repeated([untimed_digest(body) for body in bodies])
        return unknown if indexes is None else indexes

    def _note_last(self, source: Source, stored: list[Finding], now_ms: int) -> None:
        """Record which reports were stored with the box's time, for the next start of the program."""
        source.adapted.store_last([finding.kind(1, now_ms, *finding.fields) for finding in stored])

    def answered(self, source: Source) -> None:
        """Record that the last message was answered: after a restart, an equal message is not a repetition of it."""
        if source.awaits_answer:
            source.awaits_answer = False
            record = Audit(self._now_ms(), AuditEvent.CONTROL_ANSWERED, source.port)
            recorded = self._buffer.append(Priority.AUDIT, encode(Entry("", 0, record)))
            recorded.add_done_callback(partial(_note_answered, source.adapted))

    async def _store(self, source: Source, findings: list[Finding], digests: list[bytes]) -> Outcome:
        run, first = self._next_number(source)
        now_ms = self._now_ms()
        reports = [self._report(first + index, finding, now_ms) for index, finding in enumerate(findings)]
        if any(map(source.allowed.refusal, reports)):
            self._note(AuditEvent.WORDS_REFUSED, port=source.port)
            return Outcome.REFUSED
        if self.limit(source, len(reports)) is not None:
            return Outcome.BUSY
        priorities = [PRIORITIES.get(finding.kind, Priority.ROUTINE) for finding in findings]
        try:
            entries = [encode(Entry(source.serial, run, report)) for report in reports]
            await self._append(source, priorities, entries)
        except SpoolError as error:
            self._note(AuditEvent(f"spool-{error.kind.value}"), port=source.port)
            return Outcome.BUSY
        source.adapted.accept(run, reports[-1].number, digests)
        states = (report.state for report in reversed(reports) if isinstance(report, Status))
        source.state = next(states, source.state)
        return Outcome.STORED

    async def begin_command(self, source: Source, command: int) -> bool:
        """Record durably that a command is sent to an instrument that speaks its own standard.

        Returns False if it was withdrawn, or the spool refuses the record. The command is then dropped; unless it was
        withdrawn, the data center repeats it.
        """
        if self._dispatcher.is_withdrawn(command):
            source.queue.drop(command)
            return False
        source.queue.begin(command)
        started = Audit(self._now_ms(), AuditEvent.COMMAND_STARTED, source.port, command)
        try:
            await self._buffer.append(Priority.AUDIT, encode(Entry("", 0, started)))
        except SpoolError:
            source.queue.history.started.remove(command)
            return False
        return True

    async def store_results(self, source: Source) -> None:
        """Store the outcomes in `source.ended`; those that cannot be stored now remain there."""
        for command in list(source.ended):
            await asyncio.shield(self._store_result(source, command))

    async def _store_result(self, source: Source, command: int) -> None:
        async with source.lock:
            outcome = source.ended.get(command)
            if outcome is None:
                return
            finding = Finding(CommandResult, (command, outcome))
            if await self._store(source, [finding], [stripped_digest(finding)]) is Outcome.STORED:
                del source.ended[command]
                source.queue.finished(command)

    def _next_number(self, source: Source) -> tuple[int, int]:
        """Return the run and number of the next report. A new spool has a new epoch, and therefore a new run."""
        run, mark = self._buffer.epoch, source.adapted
        return run, mark.number + 1 if mark.run == run else 1

    def _report(self, number: int, finding: Finding, now_ms: int) -> Any:
        return finding.kind(number, self._time_of(finding, now_ms), *finding.fields)

    def _time_of(self, finding: Finding, now_ms: int) -> int:
        """Return the instrument's time; the box's if the finding has none, or one that is off by more than a day."""
        at_ms = finding.at_ms
        if at_ms is None or abs(at_ms - now_ms) > CLOCK_OFF_MS_MAX:
            at_ms = now_ms
        return min(at_ms, INT_MAX)

    async def _append(self, source: Source, priorities: Sequence[int], entries: list[bytes]) -> None:
        sequences = await self._buffer.append_all(priorities, entries)
        # the caller updates the marks before the next await: see `agents.box.buffer`
        source.backlog.add(priorities, sequences, entries)
        source.accepted += len(entries)
        self.accepted += len(entries)


def _note_answered(mark: AdaptedMark, recorded: asyncio.Future[range]) -> None:
    if not recorded.cancelled() and recorded.exception() is None:
        mark.answered = True


def _with_times(findings: list[Finding]) -> list[Finding]:
    """Return the findings of a message; those without a time get the latest time of the others, if there is any.

    The box's time would differ in a repetition after a power cut, which could then not be recognized.
    """
    latest = max((finding.at_ms for finding in findings if finding.at_ms is not None), default=None)
    return [finding if finding.at_ms is not None else replace(finding, at_ms=latest) for finding in findings]


def _new(
    source: Source, run: int, reports: list[tuple[int, InstrumentReport]]
) -> list[tuple[int, InstrumentReport, bytes]]:
    """Return the reports that were not accepted before, each with its encoded entry. Raises: RunRefused."""
    highest = max(mark.run for mark in source.marks)
    next_run = highest + 1 if highest < RUN_MAX else (run + 1) % RUN_MAX
    if run < highest < RUN_MAX:
        message = f"run {run} is below run {highest}, which was used before; continue with run {next_run}"
        raise RunRefused(AuditEvent.RUN_TOO_LOW, message, next_run)
    new = []
    for priority, report in reports:
        entry = encode(Entry(source.serial, run, report))
        mark = source.marks[priority]
        if mark.is_above(run, report.number):
            new.append((priority, report, entry))
        elif not mark.contains(digest_of(entry)):
            message = f"a different report was accepted as number {report.number} of run {run}"
            raise RunRefused(AuditEvent.RUN_REPEATED, f"{message}; continue with run {next_run}", next_run)
    return new
