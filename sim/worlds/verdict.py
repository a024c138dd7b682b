"""The end of a virtual lab: what is found at the data center and on the box's disk, and the result of it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agents.accounting import Traffic
from datacenter import queries
from sim.checks import Outcome, as_fault, evaluate
from sim.ledger import NEVER, PRIORITIES
from sim.net.link import Pipe
from sim.report.latency import summarize
from sim.result import (
    NOTES_MAX,
    Bytes,
    Expectation,
    Failure,
    Gap,
    Instrument,
    Latency,
    Note,
    Priority,
    Result,
    Uplink,
)
from sim.units import MILLISECOND_NS, SECOND_NS, format_duration
from wire.messages import Audit, Entry, decode

if TYPE_CHECKING:
    from sim.worlds.virtual import VirtualWorld

_LANES: Final[tuple[Priority, ...]] = ("alert", "audit", "routine")


def conclude(world: VirtualWorld, wall_seconds: float) -> Result:
    """End the lab now: cut the box's power, see what is there, and judge."""
    lab, now = world.lab, world.env.now
    traffic = world.box.traffic()
    sequences, notes = _read_datacenter(world)
    sequences += _read_disk(world)
    gaps = _gaps(world)
    copies = sum(duplicate.copies - 1 for duplicate in queries.duplicates(world.datacenter.store))
    outcome = Outcome(world.ledger, sorted(sequences), gaps, copies)
    expectations, failures = evaluate(lab.expect, outcome, world.happened)
    errors, why = _program_errors(world)
    for note in notes:
        world.trace.add(f"note {note.at_ns} {note.source} {note.text}")
    for entry in world.ledger:
        world.trace.add(" ".join(map(str, entry)))
    return Result(
        lab=lab.name,
        description=lab.about.description,
        world="virtual",
        seed=world.seed,
        expectations=(*expectations, errors),
        failures=(*failures, *why),
        reports=outcome.reports,
        uplink=_uplink(world, traffic),
        faults=tuple(as_fault(event) for event in world.happened),
        sim_seconds=now / SECOND_NS,
        wall_seconds=wall_seconds,
        trace_sha256=world.trace.close(),
        replay=f"rap lab run {lab.path} --world virtual --seed {world.seed}",
        series=world.backlog_meter.series(world.uplink_meter, now),
        latencies=_latencies(world),
        instruments=_instruments(world, outcome),
        notes=tuple(notes[:NOTES_MAX]),
        notes_total=len(notes),
    )


def _read_datacenter(world: VirtualWorld) -> tuple[list[int], list[Note]]:
    """Note in the ledger what is stored; the sequences of all records, and the alerts and audit records."""
    epoch_ms = (world.wall_ns() - world.env.now) // MILLISECOND_NS
    sequences, notes = [], []
    for record in queries.records(world.datacenter.store):
        sequences.append(record.sequence)
        at_ns = (record.at_ms - epoch_ms) * MILLISECOND_NS
        if record.number is None:
            notes.append(Note(at_ns=at_ns, priority="audit", source="box", text=record.kind))
            continue
        stored_ns = (record.stored_at_ms - epoch_ms) * MILLISECOND_NS
        world.ledger.runs[record.instrument, record.run].found(record.number, record.sequence, stored_ns)
        if record.kind == "alert":
            notes.append(Note(at_ns=at_ns, priority="alert", source=record.instrument, text="alert"))
    return sequences, sorted(notes, key=lambda note: note.at_ns)


def _read_disk(world: VirtualWorld) -> list[int]:
    """Note in the ledger what is on the box's disk and has not been stored; their sequences."""
    sequences = []
    for sequence, payload in world.box.remaining():
        sequences.append(sequence)
        entry = decode(Entry, payload)
        if entry.instrument and not isinstance(entry.body, Audit):
            run = world.ledger.runs[entry.instrument, entry.run]
            run.found(entry.body.number, sequence)  # type: ignore[union-attr]
    return sequences


def _gaps(world: VirtualWorld) -> list[Gap]:
    stored = [gap.gap for gap in queries.gaps(world.datacenter.store)]
    epoch_ms = (world.wall_ns() - world.env.now) // MILLISECOND_NS
    return [
        Gap(
            at_ns=(gap.at_ms - epoch_ms) * MILLISECOND_NS,
            reason=gap.reason,
            records=gap.records,
            ranges=gap.ranges,
        )
        for gap in stored
    ]


def _program_errors(world: VirtualWorld) -> tuple[Expectation, tuple[Failure, ...]]:
    """A program that failed in a way nobody handles fails the lab."""
    failures = world.loop.failures
    what = "Errors that no part of the programs handled." + (f" The first: {failures[0]}" if failures else "")
    expectation = Expectation(
        name="program_errors", limit=0, measured=len(failures), holds=not failures, explanation=what
    )
    return expectation, (Failure(expectation="program_errors", explanation=what),) if failures else ()


def _latencies(world: VirtualWorld) -> tuple[Latency, ...]:
    samples: dict[Priority, list[int]] = {lane: [] for lane in _LANES}
    for entry in world.ledger:
        if entry.stored_ns != NEVER:
            samples[entry.priority].append(max(0, entry.stored_ns - entry.made_ns))
    return tuple(summarize(lane, samples[lane]) for lane in _LANES if samples[lane])


def _instruments(world: VirtualWorld, outcome: Outcome) -> tuple[Instrument, ...]:
    return tuple(_instrument(world, outcome, port) for port in sorted(world.analyzers))


def _instrument(world: VirtualWorld, outcome: Outcome, port: int) -> Instrument:
    spec = world.analyzers[port].spec
    entries = [entry for run in world.ledger.runs.values() if run.serial == spec.serial for entry in run]
    return Instrument(
        serial=spec.serial,
        model=spec.model,
        port=port,
        made=len(entries),
        acknowledged=sum(entry.acknowledged_ns != NEVER for entry in entries),
        stored=sum(entry.stored_ns != NEVER for entry in entries),
        lost=sum(entry.serial == spec.serial for entry in outcome.lost),
        dropped=sum(entry.serial == spec.serial for entry in outcome.dropped),
        alerts=sum(PRIORITIES.get(entry.kind) == "alert" for entry in entries),
    )


def _uplink(world: VirtualWorld, traffic: Traffic) -> Uplink:
    link, spec = world.uplink, world.lab.uplink
    up, down = link.forward, link.backward
    return Uplink(
        bytes_up=up.bytes,
        bytes_down=down.bytes,
        seconds_busy=up.busy_ns / SECOND_NS,
        up=_causes(up, traffic.body_bytes_sent, traffic.head_bytes_sent + traffic.proxy_bytes_sent),
        down=_causes(
            down, traffic.body_bytes_received, traffic.head_bytes_received + traffic.proxy_bytes_received
        ),
        rate_bps=spec.rate,
        description=_describe(world),
    )


def _causes(pipe: Pipe, payload: int, http: int) -> Bytes:
    """What TLS added is the rest; bytes that a cut kept from being sent make it no less than nothing."""
    tcpip = pipe.header_bytes + pipe.resent_bytes
    payload = min(payload, pipe.bytes - tcpip)
    http = min(http, pipe.bytes - tcpip - payload)
    return Bytes(payload=payload, http=http, tls=pipe.bytes - tcpip - payload - http, tcpip=tcpip)


def _describe(world: VirtualWorld) -> str:
    spec = world.lab.uplink
    words = [f"{spec.rate / 1000:g} kbit/s", f"{format_duration(spec.delay)} delay"]
    if spec.jitter:
        words.append(f"{format_duration(spec.jitter)} jitter")
    if spec.loss:
        words.append(f"{spec.loss:.2%} loss")
    if spec.proxy:
        words.append(f"{spec.proxy.kind.upper()} proxy")
    return ", ".join(words)
