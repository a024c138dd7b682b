"""The checkers: what became of every report, and whether that is what the lab expects.

They look at a world only from outside: at the ledger of what instruments made and were told, at the data center's
database, and at the box's disk as it would be found after a power cut at the very end.

An acknowledged report that is in neither was **dropped** if the box said so by number, and is **lost** if not. The
box names sequences and the ledger names reports; a missing report's sequence lies between those of the reports
of its instrument and lane before and after it, and it is excused only if all sequences missing there are named.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sim.intrusions import Intrusions
from sim.labfile import Event, Expect
from sim.ledger import NEVER, Entry, Ledger
from sim.report.latency import quantile
from sim.result import (
    FAILED_REPORTS_MAX,
    Expectation,
    Failure,
    Fault,
    Gap,
    Reports,
    TracedReport,
)
from sim.units import MILLISECOND_NS, SECOND_NS

_PATH: Final = ("uplink", "proxy", "datacenter", "box", "disk", "dns")
"""Faults of these make a backlog on the box."""
_INTRUDER: Final = "intruder-"
"""How the kinds of those faults begin that make no trouble but try to."""


@dataclass
class Outcome:
    """What became of the reports of one run of a lab."""

    ledger: Ledger
    stored_sequences: Sequence[int]
    """Of every record at the data center and on the box's disk, sorted."""
    gaps: Sequence[Gap]
    duplicates: int
    intrusions: Intrusions = field(default_factory=Intrusions)
    lost: list[Entry] = field(default_factory=list)
    dropped: list[Entry] = field(default_factory=list)
    stored: int = 0
    waiting: int = 0
    acknowledged: int = 0
    made: int = 0
    _judged: dict[tuple[int, int | None], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = _Ranges(r for gap in self.gaps for r in gap.ranges)
        used = _Ranges(r for gap in self.gaps if gap.reason != "unused" for r in gap.ranges)
        for run in self.ledger.runs.values():
            self._judge(list(run), named, used)

    def _judge(self, entries: list[Entry], named: _Ranges, used: _Ranges) -> None:
        self.made += len(entries)
        self.acknowledged += sum(entry.acknowledged_ns != NEVER for entry in entries)
        self.stored += sum(entry.stored_ns != NEVER for entry in entries)
        self.waiting += sum(_waits(entry) for entry in entries)
        for lane in ("alert", "audit", "routine"):
            in_lane = [entry for entry in entries if entry.priority == lane]
            before = 0
            for entry, after in zip(in_lane, _next_sequences(in_lane), strict=True):
                if entry.sequence != NEVER:
                    before = entry.sequence
                elif entry.acknowledged_ns != NEVER:
                    excused = self._excused(before, after, named, used)
                    (self.dropped if excused else self.lost).append(entry)

    def _excused(self, before: int, after: int | None, named: _Ranges, used: _Ranges) -> bool:
        """Whether some sequences between are missing, and the box has named all of those."""
        if (before, after) not in self._judged:
            self._judged[before, after] = self._all_named(before, after, named, used)
        return self._judged[before, after]

    def _all_named(self, before: int, after: int | None, named: _Ranges, used: _Ranges) -> bool:
        stored = self.stored_sequences
        end = after if after is not None else (stored[-1] + 1 if stored else before + 1)
        low, high = bisect_right(stored, before), bisect_left(stored, end)
        missing = end - before - 1 - (high - low)
        unnamed = missing - named.count(before + 1, end - 1) + sum(
            named.count(s, s) for s in stored[low:high]
        )  # fmt: skip
        # numbers that were never given to a record excuse none
        return missing > 0 and unnamed <= 0 and used.count(before + 1, end - 1) > 0

    @property
    def reports(self) -> Reports:
        """The counts."""
        return Reports(
            made=self.made,
            acknowledged=self.acknowledged,
            stored=self.stored,
            waiting=self.waiting,
            lost=len(self.lost),
            duplicates=self.duplicates,
            dropped=len(self.dropped),
        )


def _waits(entry: Entry) -> bool:
    return entry.acknowledged_ns != NEVER and entry.sequence != NEVER and entry.stored_ns == NEVER


def _next_sequences(entries: list[Entry]) -> list[int | None]:
    """For each entry the sequence of the first after it that was found."""
    result: list[int | None] = []
    after: int | None = None
    for entry in reversed(entries):
        result.append(after)
        after = entry.sequence if entry.sequence != NEVER else after
    return result[::-1]


class _Ranges:
    """A set of integers given as ranges that may overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in sorted(ranges):
            if self._ends and first <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], last)
            else:
                self._starts.append(first)
                self._ends.append(last)

    def count(self, first: int, last: int) -> int:
        """How many of first … last are in the set."""
        total, index = 0, bisect_left(self._ends, first)
        while index < len(self._starts) and self._starts[index] <= last:
            total += min(last, self._ends[index]) - max(first, self._starts[index]) + 1
            index += 1
        return total


def evaluate(
    expect: Expect, outcome: Outcome, events: Sequence[Event]
) -> tuple[tuple[Expectation, ...], tuple[Failure, ...]]:
    """Each expectation of the lab with what was measured, and evidence for those that do not hold."""
    judged = [check(expect, outcome, events) for check in _CHECKS]
    pairs = [pair for pair in judged if pair is not None]
    failures = [failure for expectation, failure in pairs if not expectation.holds]
    return tuple(expectation for expectation, _ in pairs), tuple(failures)


_Judged = tuple[Expectation, Failure]
_Check = Callable[[Expect, Outcome, Sequence[Event]], _Judged | None]


def _lost(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged:
    what = "Acknowledged reports that are neither stored, nor on the box, nor named in a gap record."
    return _of_reports("lost", expect.lost, outcome.lost, what, outcome, events)


def _dropped(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged | None:
    what = "Acknowledged reports that the box gave up, saying which, because its disk had no room or failed."
    if expect.dropped is None:
        return None
    return _of_reports("dropped", expect.dropped, outcome.dropped, what, outcome, events)


def _duplicates(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged:
    what = "Reports that are stored more than once."
    expectation = Expectation(
        name="duplicates",
        limit=expect.duplicates,
        measured=outcome.duplicates,
        holds=outcome.duplicates <= expect.duplicates,
        explanation=what,
    )
    return expectation, Failure(expectation="duplicates", explanation=what, fault_before=_last_fault(events))


def _drained(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged | None:
    limit = expect.backlog_drained_within
    if limit is None:
        return None
    slowest, late = 0, list[Entry]()
    for end_ns in outage_ends(events):
        waiting = [entry for entry in outcome.ledger if _waited_at(entry, end_ns)]
        late += [e for e in waiting if e.stored_ns == NEVER or e.stored_ns - end_ns > limit]
        if any(entry.stored_ns == NEVER for entry in waiting):
            slowest = NEVER
        elif waiting and slowest != NEVER:
            slowest = max(slowest, *(entry.stored_ns - end_ns for entry in waiting), 0)
    what = "After each outage, how long until everything that was waiting when it ended is stored."
    return _of_time("backlog_drained_within", limit, slowest, late, what, events)


def _waited_at(entry: Entry, now_ns: int) -> bool:
    """Acknowledged but not stored at that time; what the box gave up by number does not wait."""
    acknowledged = NEVER < entry.acknowledged_ns <= now_ns
    return acknowledged and (
        entry.stored_ns > now_ns or (entry.stored_ns == NEVER and entry.sequence != NEVER)
    )


def _latency(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged | None:
    return _of_latency("latency_p99", expect.latency_p99, list(outcome.ledger), events)


def _alert_latency(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged | None:
    alerts = [entry for entry in outcome.ledger if entry.priority == "alert"]
    return _of_latency("alert_latency_p99", expect.alert_latency_p99, alerts, events)


def _intrusions(expect: Expect, outcome: Outcome, events: Sequence[Event]) -> _Judged | None:
    if not any(event.fault.kind.startswith(_INTRUDER) for event in events):
        return None
    found = outcome.intrusions
    what = f"Attempts of intruders, {found.tried} in all, that reached somebody."
    if not found.tried:
        what = "No intruder had the time to try anything, so this run proves nothing about intrusions."
    elif found.reached:
        what += f" The first: {found.reached[0]}."
    measured = len(found.reached) if found.tried else None
    expectation = Expectation(
        name="intrusions",
        limit=expect.intrusions,
        measured=measured,
        holds=measured is not None and measured <= expect.intrusions,
        explanation=what,
    )
    return expectation, Failure(expectation="intrusions", explanation=what, fault_before=_last_fault(events))


_CHECKS: tuple[_Check, ...] = (
    _lost,
    _duplicates,
    _dropped,
    _intrusions,
    _drained,
    _latency,
    _alert_latency,
)


def _of_latency(
    name: str, limit: int | None, entries: list[Entry], events: Sequence[Event]
) -> _Judged | None:
    if limit is None:
        return None
    stored = [entry for entry in entries if entry.stored_ns != NEVER]
    latencies = sorted(entry.stored_ns - entry.made_ns for entry in stored)
    measured = quantile(latencies, 99) if latencies else NEVER
    late = [entry for entry in stored if entry.stored_ns - entry.made_ns > limit]
    kind = "alerts" if name.startswith("alert") else "reports"
    what = f"99 % of the {kind} are stored within this of being made."
    return _of_time(name, limit, measured, late, what, events)


def outage_ends(events: Sequence[Event]) -> list[int]:
    """When a fault that makes a backlog ended and no other was still under way."""
    spans = [(event.at, event.at + (event.lasts or 0)) for event in events if event.target in _PATH]
    return [end for _, end in spans if not any(start <= end < other for start, other in spans)]


def _of_reports(
    name: str, limit: int, entries: list[Entry], what: str, outcome: Outcome, events: Sequence[Event]
) -> _Judged:
    holds = len(entries) <= limit
    expectation = Expectation(name=name, limit=limit, measured=len(entries), holds=holds, explanation=what)
    return expectation, _failure(
        name, what, entries, events, tuple(gap for gap in outcome.gaps if gap.records)
    )


def _of_time(
    name: str, limit: int, measured: int, late: list[Entry], what: str, events: Sequence[Event]
) -> _Judged:
    expectation = Expectation(
        name=name,
        limit=limit / SECOND_NS,
        measured=None if measured == NEVER else round(measured / SECOND_NS, 3),
        holds=NEVER < measured <= limit,
        unit="s",
        explanation=what,
    )
    return expectation, _failure(name, what, late, events, ())


def _failure(
    name: str, what: str, entries: list[Entry], events: Sequence[Event], gaps: tuple[Gap, ...]
) -> Failure:
    shown = sorted(entries, key=lambda entry: entry.made_ns)[:FAILED_REPORTS_MAX]
    return Failure(
        expectation=name,
        explanation=what,
        reports=tuple(_traced(entry, given_up=name == "dropped") for entry in shown),
        reports_total=len(entries),
        fault_before=_last_fault(events, shown[0].made_ns if shown else None),
        gaps=gaps[:FAILED_REPORTS_MAX],
    )


def _traced(entry: Entry, *, given_up: bool) -> TracedReport:
    return TracedReport(
        instrument=entry.serial,
        run=entry.run,
        number=entry.number,
        kind=entry.kind,
        made_ns=entry.made_ns,
        acknowledged_ns=None if entry.acknowledged_ns == NEVER else entry.acknowledged_ns,
        fate="given up by the box, and named in a gap record" if given_up else _fate(entry),
        stored_ns=None if entry.stored_ns == NEVER else entry.stored_ns,
    )


def _fate(entry: Entry) -> str:
    if entry.stored_ns != NEVER:
        seconds = (entry.stored_ns - entry.made_ns) // MILLISECOND_NS / 1000
        return f"stored {seconds:,.3f} s after it was made"
    if entry.sequence != NEVER:
        return "still on the box at the end"
    return "acknowledged, and gone at the end"


def _last_fault(events: Sequence[Event], before_ns: int | None = None) -> Fault | None:
    """The last fault that began before; the report's own time is when it began to be in danger."""
    earlier = [event for event in events if before_ns is None or event.at <= before_ns] or list(events[:1])
    return as_fault(earlier[-1]) if earlier else None


def as_fault(event: Event) -> Fault:
    """An event of the lab, as results show it."""
    return Fault(kind=event.fault.kind, at_ns=event.at, target=event.target, lasts_ns=event.lasts)
