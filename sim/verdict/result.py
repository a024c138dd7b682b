"""What a lab run ends in: the one value from which every report is rendered.

A world fills a `Result` when its run is over, and knows nothing about how it will be shown; the renderers of
`sim.report` read it, and know nothing about how it came to be. All of it is frozen data. Times are integer
nanoseconds of lab time, counted from the start of the run; sizes are bytes on the uplink's wire.

Everything that could grow with the length of the run is bounded by whoever fills it: a series has at most
`sim.worlds.shared.meters.BINS` bins, a latency is kept as quantiles and a histogram, and of failures and notes
the first few are kept together with how many there were.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

FAILED_REPORTS_MAX: Final = 20
"""The most reports shown of one failure."""
NOTES_MAX: Final = 500
"""The most alerts and audit notes of one run."""

Verdict: TypeAlias = Literal["pass", "fail"]
World: TypeAlias = Literal["virtual", "kernel", "image"]
Priority: TypeAlias = Literal["alert", "audit", "routine"]
Quantity: TypeAlias = bool | int | float | str | None
"""A limit or what was measured against it; None where nothing could be measured (it never happened)."""
Unit: TypeAlias = Literal["", "s", "B", "bit/s", "%"]
"""The unit of a quantity; empty for a count or a word."""
Interval: TypeAlias = tuple[int, int]
"""From and until, in nanoseconds of lab time."""


class ResultPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common form of everything here: frozen, and every field named where it is made."""


class Expectation(ResultPart, frozen=True):
    """One line of the lab's `[expect]`, and whether it holds."""

    name: str
    limit: Quantity
    measured: Quantity
    holds: bool
    relation: Literal["at most", "at least", "exactly"] = "at most"
    unit: Unit = ""
    condition: str = ""
    """Words that complete the name: "within 5 min"."""
    explanation: str = ""
    """What the expectation means, in one sentence for a reader who has not seen the lab file."""


class ReportCounts(ResultPart, frozen=True):
    """Where the instruments' reports went, counted over the whole run."""

    made: int
    acknowledged: int
    """The box said it has them: from then on they are its responsibility."""
    stored: int
    """Identities at the data center, each counted once."""
    waiting: int
    """Acknowledged, not stored, and at the end on the box's disk."""
    lost: int
    """Acknowledged, and at the end neither stored, nor on the box's disk, nor in a gap record."""
    duplicates: int
    """Stored a second time under the same identity."""
    dropped: int
    """Given up by the box for want of room, with a gap record that says so."""


class ContentComparison(ResultPart, frozen=True):
    """How the contents of the reports were compared with what the instruments made."""

    compared: int
    """Reports found at the data center or on the box's disk, each compared by a digest of its encoded content."""
    altered: int
    """Those of them that differ; they count as stored or waiting as well."""
    unmade: int
    """Reports found that no instrument made."""


class Bytes(ResultPart, frozen=True):
    """Bytes of one direction of the uplink by what caused them; they add up to that direction's total."""

    payload: int
    """Message bodies: the compressed batches and their replies."""
    http: int
    """Request and status lines, header fields, proxy negotiation."""
    tls: int
    """Handshakes and what records add to what they carry."""
    tcpip: int
    """Headers, acknowledgements, retransmissions."""


class UplinkResult(ResultPart, frozen=True):
    """What crossed the uplink."""

    bytes_up: int
    bytes_down: int
    seconds_busy: float
    """How long the link was sending towards the data center, in seconds of lab time."""
    up: Bytes | None = None
    down: Bytes | None = None
    """Bytes by cause; None in a world that cannot tell."""
    rate_bps: int | None = None
    """The rate towards the data center, in bit/s; None where the lab sets none."""
    description: str = ""
    """The link in words: "128 kbit/s, 40 ms ± 10 ms, 0.5 % loss, HTTP proxy"."""


class FaultOccurrence(ResultPart, frozen=True):
    """One event of the lab, as it was applied."""

    kind: str
    at_ns: int
    target: str
    lasts_ns: int | None = None
    """None for a fault that is over at once, such as a power cut."""


class BacklogDrain(ResultPart, frozen=True):
    """Records acknowledged but not yet stored, sampled at the end of each bin."""

    alert: tuple[int, ...]
    audit: tuple[int, ...]
    routine: tuple[int, ...]


class Series(ResultPart, frozen=True):
    """What is plotted over lab time, in bins of one width; all tuples are as long as the run has bins."""

    bin_ns: int
    bytes_up: tuple[int, ...]
    bytes_down: tuple[int, ...]
    busy: tuple[float, ...]
    """The share of each bin in which the link was sending towards the data center, 0 to 1."""
    backlog: BacklogDrain
    connected: tuple[Interval, ...] = ()
    """When the box had a connection to the data center, by rising time, not overlapping."""


class Latency(ResultPart, frozen=True):
    """From made at the instrument to stored at the data center, for the reports of one priority.

    `sim.verdict.latency.summarize` makes one of a list of samples.
    """

    priority: Priority
    count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    max_ns: int
    edges_ns: tuple[int, ...] = ()
    """Edges of the histogram's bins, rising in equal ratios; one more than there are counts."""
    counts: tuple[int, ...] = ()


class InstrumentResult(ResultPart, frozen=True):
    """One instrument, and where its reports went."""

    serial: str
    model: str
    made: int
    acknowledged: int
    stored: int
    lost: int
    dropped: int
    alerts: int
    port: int | None = None


class TracedReport(ResultPart, frozen=True):
    """One report and what became of it."""

    instrument: str
    run: int
    number: int
    kind: str
    made_ns: int
    acknowledged_ns: int | None
    fate: str
    """What happened to it, in words."""
    stored_ns: int | None = None


class GapFound(ResultPart, frozen=True):
    """A gap record of the box: records that it knows it no longer has."""

    at_ns: int
    reason: str
    records: int
    ranges: tuple[tuple[int, int], ...]
    """Sequence numbers, first and last of each range."""


class Failure(ResultPart, frozen=True):
    """Why one expectation does not hold, with evidence."""

    expectation: str
    explanation: str
    reports: tuple[TracedReport, ...] = ()
    """The first `FAILED_REPORTS_MAX` reports concerned."""
    reports_total: int = 0
    fault_before: FaultOccurrence | None = None
    """The last fault before it went wrong."""
    gaps: tuple[GapFound, ...] = ()


class AuditNote(ResultPart, frozen=True):
    """An alert or audit record that reached the data center."""

    at_ns: int
    priority: Priority
    source: str
    """The instrument's serial number, or the box's."""
    text: str


class Result(ResultPart, frozen=True):
    """One run of one lab."""

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
    """Of the canonical event log; equal for equal lab, seed and commit in the virtual world."""
    replay: str
    """The one command that runs this again."""
    description: str = ""
    contents: ContentComparison | None = None
    commit: str | None = None
    """Of the program, with "-dirty" if its files differ from it; None if it was not run from a checkout."""
    series: Series | None = None
    latencies: tuple[Latency, ...] = ()
    instruments: tuple[InstrumentResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[AuditNote, ...] = ()
    """The first `NOTES_MAX`, by rising time."""
    notes_total: int = 0

    @property
    def verdict(self) -> Verdict:
        """Pass if every expectation holds."""
        return "pass" if all(expectation.holds for expectation in self.expectations) else "fail"

    @property
    def speed_up(self) -> float:
        """Seconds of lab time a second of real time."""
        return self.sim_seconds / max(self.wall_seconds, 1e-9)


def to_document(result: Result, *, with_series: bool = False) -> dict[str, Any]:
    """The document of `rap lab run --json`, as plain dicts and lists.

    Times are seconds of lab time: `at` and `lasts` of a fault count like `sim_seconds`. The series, long and
    of use only to draw with, are left out unless asked for.
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
    """`to_document` as JSON text, indented, ending in a newline."""
    encoded = msgspec.json.encode(to_document(result, with_series=with_series))
    return msgspec.json.format(encoded, indent=2).decode() + "\n"


def _fault(fault: FaultOccurrence) -> dict[str, Any]:
    lasts = None if fault.lasts_ns is None else fault.lasts_ns / 1e9
    return {"kind": fault.kind, "at": fault.at_ns / 1e9, "target": fault.target, "lasts": lasts}
