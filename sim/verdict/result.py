"""The result of a lab run, from which every report is rendered.

A world creates a `Result` at the end of its run, and the renderers of `sim.report` read it; neither depends on the
other. All of its parts are frozen. Times are integer nanoseconds of lab time, counted from the start of the run;
sizes are bytes on the uplink's wire.

The size of a result does not grow with the length of the run: a series has at most `sim.worlds.shared.meters.BINS`
bins, a latency consists of quantiles and a histogram, and of failures and notes only the first ones are kept, with
their total number.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from sim.instruments.physics.part_wear import PartWear

FAILED_REPORTS_MAX: Final = 20
"""The maximum number of reports kept for one failure."""
NOTES_MAX: Final = 500
"""The maximum number of alerts and audit records kept for one run."""

Verdict: TypeAlias = Literal["pass", "fail"]
World: TypeAlias = Literal["virtual", "kernel", "image"]
Priority: TypeAlias = Literal["alert", "audit", "routine"]
Quantity: TypeAlias = bool | int | float | str | None
"""A limit or a measurement; None if there was nothing to measure."""
Unit: TypeAlias = Literal["", "s", "B", "bit/s", "%"]
"""The unit of a quantity; empty for a count or a text."""
Interval: TypeAlias = tuple[int, int]
"""(start, end) in nanoseconds of lab time."""


class ResultPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of the parts of a result: frozen, with keyword-only fields."""


class Expectation(ResultPart, frozen=True):
    """One expectation of the lab, its measurement, and whether it holds."""

    name: str
    limit: Quantity
    measured: Quantity
    holds: bool
    relation: Literal["at most", "at least", "exactly"] = "at most"
    unit: Unit = ""
    condition: str = ""
    """A phrase that completes the name: "within 5 min"."""
    explanation: str = ""
    """The meaning of the expectation, in a sentence for a reader who has not seen the lab file."""


class ReportCounts(ResultPart, frozen=True):
    """Counts of the instruments' reports over the whole run."""

    made: int
    acknowledged: int
    """Acknowledged to the instrument by the box, which is responsible for them from then on."""
    stored: int
    """Stored at the data center; each identity is counted once."""
    waiting: int
    """Acknowledged, not stored, and on the box's disk at the end."""
    lost: int
    """Acknowledged, and at the end neither stored, nor on the box's disk, nor named in a gap record."""
    duplicates: int
    """Stored again under the same identity."""
    dropped: int
    """Dropped by the box for lack of room or after a disk failure, and named in a gap record."""


class ContentComparison(ResultPart, frozen=True):
    """The comparison of the reports' contents with the instruments' originals."""

    compared: int
    """Reports found at the data center or on the box's disk, each compared by a digest of its encoded content."""
    altered: int
    """Compared reports that differ; they also count as stored or waiting."""
    unexpected: int = msgspec.field(name="unmade")
    """Reports found that no instrument made."""


class LayerBytes(ResultPart, frozen=True):
    """Bytes of one direction of the uplink by protocol layer; they add up to that direction's total."""

    payload: int
    """Message bodies: the compressed batches and their replies."""
    http: int
    """Request and status lines, header fields, proxy negotiation."""
    tls: int
    """Handshakes, the overhead of records, and the tunnels of remote sessions."""
    tcpip: int
    """Headers, acknowledgements, retransmissions."""


class UplinkResult(ResultPart, frozen=True):
    """The traffic on the uplink."""

    bytes_up: int
    bytes_down: int
    seconds_busy: float
    """The time in which the link was sending towards the data center, in seconds of lab time."""
    up: LayerBytes | None = None
    down: LayerBytes | None = None
    """Bytes by protocol layer; None in a world that does not measure them."""
    rate_bps: int | None = None
    """The rate towards the data center, in bit/s; None where the lab sets none."""
    description: str = ""
    """A description of the link: "128 kbit/s, 40ms delay, 0.50% loss, HTTP proxy"."""


class FaultOccurrence(ResultPart, frozen=True):
    """One fault of the lab, as it was injected."""

    kind: str
    at_ns: int
    target: str
    lasts_ns: int | None = None
    """None for a fault that ends at once, such as a power cut, or that lasted until the end."""


class BacklogSeries(ResultPart, frozen=True):
    """Records on the box that are not yet stored, by priority, sampled once per bin."""

    alert: tuple[int, ...]
    audit: tuple[int, ...]
    routine: tuple[int, ...]


class Series(ResultPart, frozen=True):
    """Measurements over lab time, in bins of equal width; all tuples have one value per bin."""

    bin_ns: int
    bytes_up: tuple[int, ...]
    bytes_down: tuple[int, ...]
    busy: tuple[float, ...]
    """The share of each bin in which the link was sending towards the data center, 0 to 1."""
    backlog: BacklogSeries
    connected: tuple[Interval, ...] = ()
    """The intervals in which the box had a connection to the data center, in order, not overlapping."""


class Latency(ResultPart, frozen=True):
    """The times between a report's creation and its storage at the data center, for the reports of one priority.

    `sim.verdict.latency.summarize` computes it from samples.
    """

    priority: Priority
    count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int
    edges_ns: tuple[int, ...] = ()
    """The edges of the histogram's bins, in equal ratios; one more than there are counts."""
    counts: tuple[int, ...] = ()


class InstrumentResult(ResultPart, frozen=True):
    """One instrument, and the counts of its reports."""

    serial: str
    model: str
    made: int
    acknowledged: int
    stored: int
    lost: int
    dropped: int
    alerts: int
    port: int | None = None
    wear: tuple[PartWear, ...] = ()
    """The actual wear of its degraded parts, in the order in which they began to degrade."""


class TracedReport(ResultPart, frozen=True):
    """One report and its outcome."""

    instrument: str
    run: int
    number: int
    kind: str
    made_ns: int
    acknowledged_ns: int | None
    outcome: str = msgspec.field(name="fate")
    """A description of its outcome."""
    stored_ns: int | None = None


class GapFound(ResultPart, frozen=True):
    """A gap record of the box: the sequence numbers of records that it no longer has."""

    at_ns: int
    reason: str
    records: int
    ranges: tuple[tuple[int, int], ...]
    """Ranges of sequence numbers, each (first, last)."""


class Failure(ResultPart, frozen=True):
    """The evidence for one expectation that does not hold."""

    expectation: str
    explanation: str
    reports: tuple[TracedReport, ...] = ()
    """The first `FAILED_REPORTS_MAX` reports concerned."""
    reports_total: int = 0
    fault_before: FaultOccurrence | None = None
    """The last fault that began before the first report concerned was made; the first fault if none did."""
    gaps: tuple[GapFound, ...] = ()


class AuditNote(ResultPart, frozen=True):
    """An alert or audit record that reached the data center."""

    at_ns: int
    priority: Priority
    source: str
    """The instrument's serial number, or "box"."""
    text: str


class RaisedAlert(ResultPart, frozen=True):
    """An alert of the data center's triggers. Times in nanoseconds of lab time."""

    trigger: str
    source: str
    """The instrument's serial number, or the box's."""
    began_ns: int
    raised_ns: int
    """The time at which the data center stored it."""
    ended_ns: int | None = None


class SessionStep(ResultPart, frozen=True):
    """One record of an audit file about a remote session: a transition, or a refusal that has no `state`."""

    at_ns: int
    """Time in nanoseconds of lab time."""
    end: Literal["data center", "box"]
    event: str
    actor: str
    state: str
    cause: str
    """The cause of the end, or the reason of the refusal."""
    is_sent: bool = False
    """Whether the data center has stored this record of the box as a line of its audit chain."""


class SessionResult(ResultPart, frozen=True):
    """A remote session, from its request to its end. Times in nanoseconds of lab time."""

    instrument: str
    """Its serial number."""
    staff: str
    role: str
    mode: str
    person: str
    """The action of the person at the instrument, as named in the lab file."""
    requested_ns: int
    opened_ns: int | None
    """The time at which both ends had opened it; None if an end has not."""
    ended_ns: int | None
    """The time at which every end that knew it had ended it; None if an end has not."""
    tunnel_seconds: float
    """The maximum time for which packets could pass, in seconds, according to both audit files."""
    causes: tuple[str, ...]
    """Why it ended, according to both audit files. An end (data center or box) that only followed the other adds no
    cause."""
    expected_to_open: bool
    expected_end: str
    problems: tuple[str, ...] = ()
    """Why the audit files do not prove that its tunnel had a valid grant."""
    desktop: tuple[str, ...] = ()
    """Errors of the desktop, such as a key that remained pressed."""
    steps: tuple[SessionStep, ...] = ()

    @property
    def differences(self) -> tuple[str, ...]:
        """How it differs from its lab's expectations, in words."""
        differences = list(self.desktop)
        if (self.opened_ns is not None) is not self.expected_to_open:
            differences.append("it has not opened" if self.expected_to_open else "it has opened")
        if self.ended_ns is None:
            differences.append("it has not ended at both ends")
        elif self.expected_end not in self.causes:
            differences.append(
                f"it ended by {' and '.join(self.causes) or 'nothing'}, not by {self.expected_end}"
            )
        return tuple(differences)


class Result(ResultPart, frozen=True):
    """The result of one run of one lab."""

    lab: str
    world: World
    seed: int
    expectations: tuple[Expectation, ...]
    reports: ReportCounts
    uplink: UplinkResult
    faults: tuple[FaultOccurrence, ...]
    sim_seconds: float
    wall_seconds: float
    trace_sha256: str
    """The hash of the canonical event log, equal for equal lab, seed and commit in the virtual world."""
    replay: str
    """The command that repeats this run."""
    description: str = ""
    contents: ContentComparison | None = None
    commit: str | None = None
    """The program's commit, with "-dirty" if files differ from it; None if it was not run from a checkout."""
    series: Series | None = None
    latencies: tuple[Latency, ...] = ()
    instruments: tuple[InstrumentResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[AuditNote, ...] = ()
    """The first `NOTES_MAX` alerts and audit records, ordered by time."""
    notes_total: int = 0
    alerts: tuple[RaisedAlert, ...] = ()
    """The alerts of the data center's triggers, ordered by time; only if the lab expects alerts."""
    sessions: tuple[SessionResult, ...] = ()
    """The remote sessions that the lab's staff have requested, ordered by time."""

    @property
    def verdict(self) -> Verdict:
        """ "pass" if every expectation holds."""
        return "pass" if all(expectation.holds for expectation in self.expectations) else "fail"

    @property
    def speed_up(self) -> float:
        """Seconds of lab time per second of real time."""
        return self.sim_seconds / max(self.wall_seconds, 1e-9)


def to_document(result: Result, *, with_series: bool = False) -> dict[str, Any]:
    """Convert a result to the document of `rap lab run --json`: dicts and lists.

    `at` and `lasts` of a fault are in seconds of lab time. The series, which only charts need, are left out unless
    `with_series`.
    """
    document = {
        "lab": result.lab,
        "world": result.world,
        "seed": result.seed,
        "verdict": result.verdict,
        **msgspec.to_builtins(result),
        "faults": [_fault(fault) for fault in result.faults],
    }
    if not with_series:
        del document["series"]
    return document


def to_json(result: Result, *, with_series: bool = False) -> str:
    """Convert a result to indented JSON text that ends in a newline: see `to_document`."""
    encoded = msgspec.json.encode(to_document(result, with_series=with_series))
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def _fault(fault: FaultOccurrence) -> dict[str, Any]:
    lasts = None if fault.lasts_ns is None else fault.lasts_ns / 1e9
    return {"kind": fault.kind, "at": fault.at_ns / 1e9, "target": fault.target, "lasts": lasts}
