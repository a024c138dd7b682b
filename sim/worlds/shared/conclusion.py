"""The end of a lab in any world: reading the data center's database and the box's disk, and making the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from datacenter.store.store import Store
from sim.engine.clock import Environment
from sim.engine.trace import Trace
from sim.lab.labfile import Lab
from sim.net.link import Link, Pipe
from sim.units import MILLISECOND_NS, SECOND_NS, format_duration
from sim.verdict import result
from sim.verdict.checks import evaluate
from sim.verdict.evidence import as_fault
from sim.verdict.findings import Findings, SpoolContent, find
from sim.verdict.found.leaks import Leaks, search
from sim.verdict.found.sessions import SessionFindings
from sim.verdict.found.siem import SiemFindings, siem_findings
from sim.verdict.found.updates import update_results
from sim.verdict.latency import summarize
from sim.verdict.ledger import NEVER, PRIORITIES, ReportLedger
from sim.verdict.outcome import CommandOutcome, LabOutcome
from sim.verdict.result import (
    NOTES_MAX,
    Expectation,
    Failure,
    InstrumentResult,
    Latency,
    LayerBytes,
    Priority,
    Result,
    UplinkResult,
)
from sim.worlds.shared.alerts import raised_alerts
from sim.worlds.shared.fault_runner import FaultRunner
from sim.worlds.shared.instruments.analyzer import Analyzer
from sim.worlds.shared.instruments.standard_reporter import StandardReporter
from sim.worlds.shared.intruders import Intruders
from sim.worlds.shared.meters import BacklogMeter, ConnectionMeter, UplinkMeter
from sim.worlds.shared.site.policy import NOT_IN_FORCE
from wire.dial.traffic import Traffic


class InspectedBox(Protocol):
    """The interface to the box at the end of a lab."""

    def traffic(self) -> Traffic:
        """Return the box program's traffic on the uplink, over all its starts."""
        ...

    def remaining(self) -> SpoolContent:
        """Cut the power for the last time, and read the disk."""
        ...

    def refused(self) -> Mapping[str, int]:
        """Return the numbers of packets that its firewall refused, by cause."""
        ...


class DataCenter(Protocol):
    """The interface to the data center at the end of a lab."""

    @property
    def store(self) -> Store:
        """Its database."""
        ...


class ConcludedWorld(Protocol):
    """A world at the end of its lab."""

    name: result.World
    replay_options: str
    """The options of `rap lab run` that repeat this run, besides the world and the seed."""
    lab: Lab
    seed: int
    ledger: ReportLedger
    faults: FaultRunner
    trace: Trace
    analyzers: dict[int, Analyzer]
    intruders: Intruders
    uplink_meter: UplinkMeter
    backlog_meter: BacklogMeter
    connection_meter: ConnectionMeter

    @property
    def env(self) -> Environment:
        """The clock: `now` is lab time in nanoseconds."""
        ...

    @property
    def box(self) -> InspectedBox:
        """The box."""
        ...

    @property
    def datacenter(self) -> DataCenter:
        """The data center."""
        ...

    @property
    def uplink(self) -> Link:
        """The uplink; `forward` is the direction to the data center."""
        ...

    @property
    def failures(self) -> list[str]:
        """Descriptions of the exceptions that no program handled."""
        ...

    def outgoing(self) -> Iterable[tuple[str, bytes]]:
        """Return the data that left the box, or could leave it: the name of each location, and its bytes."""
        ...

    def session_findings(self) -> SessionFindings:
        """Return the remote sessions, after the power of the box was cut."""
        ...

    def siem_received(self) -> Sequence[str]:
        """Return the IDs of the audit records that the lab's SIEM has received, in the order of arrival."""
        ...

    def wall_ns(self) -> int:
        """Return the true wall-clock time, in nanoseconds since 1970."""
        ...


_LANES: Final[tuple[Priority, ...]] = ("alert", "audit", "routine")


def conclude(world: ConcludedWorld, wall_seconds: float) -> Result:
    """End the lab now: cut the box's power, read the disk and the database, and evaluate the expectations."""
    lab, now = world.lab, world.env.now
    traffic, refused = world.box.traffic(), world.box.refused()
    for analyzer in world.analyzers.values():
        analyzer.reporter.update_ledger()
    on_disk = world.box.remaining()
    findings = find(world.datacenter.store, on_disk, world.ledger, _epoch_ms(world), now)
    notes = findings.notes
    outcome = _outcome(world, findings)
    ports = {analyzer.spec.serial: port for port, analyzer in world.analyzers.items()}
    expectations, failures = evaluate(lab.limits, outcome, world.faults.injected, end_ns=now, ports=ports)
    errors, error_failures = _program_errors(world)
    for note in notes:
        world.trace.add(f"note {note.at_ns} {note.source} {note.text}")
    for entry in world.ledger:
        world.trace.add(" ".join(map(str, entry)))
    for session in outcome.sessions.sessions:
        world.trace.add(
            f"session {session.instrument} {session.opened_ns} {session.ended_ns} {session.causes}"
        )
    for update in outcome.updates:
        world.trace.add(f"update {update.release} {update.step}")
    if outcome.siem is not None:
        world.trace.add(f"siem {len(outcome.siem.due)} {' '.join(outcome.siem.received)}")
    for alert in outcome.alerts:
        world.trace.add(f"raised {alert.trigger} {alert.source} {alert.began_ns} {alert.raised_ns}")
    result = Result(
        lab=lab.name,
        description=lab.about.description,
        world=world.name,
        seed=world.seed,
        expectations=(*expectations, errors),
        failures=tuple(_with_refused(failure, refused) for failure in (*failures, *error_failures)),
        reports=outcome.reports,
        contents=outcome.contents,
        uplink=_uplink(world, traffic),
        faults=tuple(as_fault(event) for event in world.faults.injected),
        sim_seconds=now / SECOND_NS,
        wall_seconds=wall_seconds,
        trace_sha256=world.trace.close(),
        replay=_replay(world, str(lab.path)),
        series=world.backlog_meter.series(world.uplink_meter, now),
        latencies=_latencies(world),
        instruments=_instruments(world, outcome),
        notes=tuple(notes[:NOTES_MAX]),
        notes_total=len(notes),
        alerts=tuple(outcome.alerts),
        sessions=tuple(outcome.sessions.sessions),
    )
    if result.verdict == "pass":
        return result
    # the replay command contains the whole lab: its file may be missing or changed
    return msgspec.structs.replace(result, replay=_replay(world, lab.packed()))


def _replay(world: ConcludedWorld, lab: str) -> str:
    command = f"rap lab run {lab} --world {world.name} --seed {world.seed}"
    return f"{command} {world.replay_options}".rstrip()


def _with_refused(failure: Failure, refused: Mapping[str, int]) -> Failure:
    """Add the packets that the firewall refused while in force: an incomplete policy may be the reason."""
    shown = sorted((cause, count) for cause, count in refused.items() if count and cause != NOT_IN_FORCE)
    counts = ", ".join(f"{count} {cause}" for cause, count in shown)
    if not counts:
        return failure
    return msgspec.structs.replace(
        failure, explanation=f"{failure.explanation} Packets that the firewall refused: {counts}."
    )


def _outcome(world: ConcludedWorld, findings: Findings) -> LabOutcome:
    own_clock_is_right = all(event.target != "clock" for event in world.faults.injected)
    return LabOutcome(
        world.ledger,
        findings.sequences,
        findings.gaps,
        sum(run.copies for run in world.ledger.runs.values()),
        world.intruders.found,
        findings.false_gaps,
        findings.own_waiting if own_clock_is_right else (),
        [_with_order(world, command) for command in findings.commands],
        world.connection_meter.most,
        _leaks(world),
        raised_alerts(world.datacenter.store, _epoch_ms(world))
        if world.lab.expect.evaluates_triggers
        else (),
        world.session_findings(),
        update_results(world.datacenter.store, world.faults.injected),
        _siem(world),
    )


def _with_order(world: ConcludedWorld, command: CommandOutcome) -> CommandOutcome:
    """Add the expected end of a command, and the number of its executions."""
    order = world.faults.ordered.get(command.number)
    executions = sum(analyzer.model.executed.count(command.number) for analyzer in world.analyzers.values())
    return replace(command, expected=order.ends if order else "done", executions=executions)


def _leaks(world: ConcludedWorld) -> Leaks:
    """Search for the patients of all instruments that speak their own standard."""
    reporters = [
        analyzer.reporter
        for analyzer in world.analyzers.values()
        if isinstance(analyzer.reporter, StandardReporter)
    ]
    if not reporters:
        return Leaks()
    patients = [patient for reporter in reporters for patient in reporter.instrument.patients]
    return search((patient.secrets() for patient in patients), world.outgoing())


def _siem(world: ConcludedWorld) -> SiemFindings | None:
    if all(event.target != "siem" for event in world.lab.events):
        return None
    return siem_findings(
        world.datacenter.store,
        world.siem_received(),
        world.faults.injected,
        _epoch_ms(world),
        world.env.now,
    )


def _epoch_ms(world: ConcludedWorld) -> int:
    """Return the start of the lab, in milliseconds since 1970."""
    return (world.wall_ns() - world.env.now) // MILLISECOND_NS


def _program_errors(world: ConcludedWorld) -> tuple[Expectation, tuple[Failure, ...]]:
    """Return the expectation that no program raises an unhandled exception."""
    failures = world.failures
    explanation = "Errors that no part of the programs handled." + (
        f" The first: {failures[0]}" if failures else ""
    )
    expectation = Expectation(
        name="program_errors", limit=0, measured=len(failures), holds=not failures, explanation=explanation
    )
    return expectation, (Failure(expectation="program_errors", explanation=explanation),) if failures else ()


def _latencies(world: ConcludedWorld) -> tuple[Latency, ...]:
    samples: dict[Priority, list[int]] = {lane: [] for lane in _LANES}
    for entry in world.ledger:
        if entry.stored_ns != NEVER:
            samples[entry.priority].append(max(0, entry.stored_ns - entry.made_ns))
    return tuple(summarize(lane, samples[lane]) for lane in _LANES if samples[lane])


def _instruments(world: ConcludedWorld, outcome: LabOutcome) -> tuple[InstrumentResult, ...]:
    return tuple(_instrument(world, outcome, port) for port in sorted(world.analyzers))


def _instrument(world: ConcludedWorld, outcome: LabOutcome, port: int) -> InstrumentResult:
    spec = world.analyzers[port].spec
    entries = [entry for run in world.ledger.runs.values() if run.serial == spec.serial for entry in run]
    return InstrumentResult(
        serial=spec.serial,
        model=spec.model,
        port=port,
        made=len(entries),
        acknowledged=sum(entry.acknowledged_ns != NEVER for entry in entries),
        stored=sum(entry.stored_ns != NEVER for entry in entries),
        lost=sum(entry.serial == spec.serial for entry in outcome.lost),
        dropped=sum(entry.serial == spec.serial for entry in outcome.dropped),
        alerts=sum(PRIORITIES.get(entry.kind) == "alert" for entry in entries),
        wear=world.analyzers[port].model.wear_truth(),
    )


def _uplink(world: ConcludedWorld, traffic: Traffic) -> UplinkResult:
    link, spec = world.uplink, world.lab.uplink
    up, down = link.forward, link.backward
    return UplinkResult(
        bytes_up=up.bytes,
        bytes_down=down.bytes,
        seconds_busy=up.busy_ns / SECOND_NS,
        up=_by_layer(up, traffic.body_bytes_sent, traffic.head_bytes_sent + traffic.proxy_bytes_sent),
        down=_by_layer(
            down, traffic.body_bytes_received, traffic.head_bytes_received + traffic.proxy_bytes_received
        ),
        rate_bps=spec.rate,
        description=_describe(world),
    )


def _by_layer(pipe: Pipe, payload: int, http: int) -> LayerBytes:
    """Return the bytes of a pipe by layer. TLS is the rest, at least 0: the box program's counts, `payload` and
    `http`, include bytes that were discarded when the link was cut.
    """
    tcpip = pipe.header_bytes + pipe.resent_bytes
    payload = min(payload, pipe.bytes - tcpip)
    http = min(http, pipe.bytes - tcpip - payload)
    return LayerBytes(payload=payload, http=http, tls=pipe.bytes - tcpip - payload - http, tcpip=tcpip)


def _describe(world: ConcludedWorld) -> str:
    spec = world.lab.uplink
    parts = [f"{spec.rate / 1000:g} kbit/s", f"{format_duration(spec.delay)} delay"]
    if spec.jitter:
        parts.append(f"{format_duration(spec.jitter)} jitter")
    if spec.loss:
        parts.append(f"{spec.loss:.2%} loss")
    if spec.proxy:
        parts.append(f"{spec.proxy.kind.upper()} proxy")
    return ", ".join(parts)
