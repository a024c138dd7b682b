"""The outcome of a lab's run for every report: stored, waiting on the box, dropped with a gap record, or lost.

An acknowledged report that was found neither at the data center nor on the box's disk was **dropped** if a gap
record of the box accounts for it (`sim.verdict.found.gaps`), and is **lost** if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Final

from sim.verdict.found.gaps import Window, classify_missing
from sim.verdict.found.intrusions import Intrusions
from sim.verdict.found.leaks import Leaks
from sim.verdict.found.sessions import SessionFindings
from sim.verdict.found.siem import SiemFindings
from sim.verdict.found.updates import UpdateResult
from sim.verdict.ledger import NEVER, LedgerEntry, ReportLedger, Run
from sim.verdict.result import ContentComparison, GapFound, RaisedAlert, ReportCounts

_LANES: Final = ("alert", "audit", "routine")


@dataclass
class LabOutcome:
    """The outcome for the reports of one run of a lab, which the checks are applied to."""

    ledger: ReportLedger
    stored_sequences: Sequence[int]
    """The sequence numbers of all records at the data center and on the box's disk, sorted."""
    gaps: Sequence[GapFound]
    duplicates: int
    intrusions: Intrusions = field(default_factory=Intrusions)
    false_gaps: Sequence[str] = ()
    """Descriptions of records that arrived after a gap record had named them as lost."""
    own_waiting: Sequence[int] = ()
    """The times of the box's own records that are on its disk and not stored, in nanoseconds of lab time."""
    commands: Sequence[CommandOutcome] = ()
    connections: int | None = None
    """The maximum number of connections with instruments open at once; None if they were not counted."""
    leaks: Leaks = field(default_factory=Leaks)
    alerts: Sequence[RaisedAlert] = ()
    sessions: SessionFindings = field(default_factory=SessionFindings)
    updates: Sequence[UpdateResult] = ()
    siem: SiemFindings | None = None
    """None in a lab without a SIEM."""
    lost: list[LedgerEntry] = field(default_factory=list)
    dropped: list[LedgerEntry] = field(default_factory=list)
    stored: int = 0
    waiting: int = 0
    acknowledged: int = 0
    made: int = 0

    def __post_init__(self) -> None:
        windows = [window for run in self.ledger.runs.values() for window in self._count(run)]
        self.lost, self.dropped = classify_missing(windows, self.stored_sequences, self.gaps)

    def _count(self, run: Run) -> list[Window]:
        """Count the reports of a run; returns the windows of those that are missing."""
        entries = list(run)
        self.made += len(entries)
        missing = 0
        for entry in entries:
            if entry.stored_ns != NEVER:
                self.stored += 1
            if entry.acknowledged_ns != NEVER:
                self.acknowledged += 1
                if entry.sequence == NEVER:
                    missing += 1
                elif entry.stored_ns == NEVER:
                    self.waiting += 1
        return _windows(entries) if missing else []

    @cached_property
    def altered(self) -> int:
        """The number of reports found whose content differs from the instrument's original."""
        return sum(len(run.altered) for run in self.ledger.runs.values())

    @property
    def compared(self) -> int:
        """The number of reports found, each of which was compared with the instrument's original."""
        return sum(run.found_count for run in self.ledger.runs.values())

    @property
    def reports(self) -> ReportCounts:
        """The counts for the result."""
        return ReportCounts(
            made=self.made,
            acknowledged=self.acknowledged,
            stored=self.stored,
            waiting=self.waiting,
            lost=len(self.lost),
            duplicates=self.duplicates,
            dropped=len(self.dropped),
        )

    @property
    def contents(self) -> ContentComparison:
        """The comparison of contents for the result."""
        return ContentComparison(
            compared=self.compared, altered=self.altered, unexpected=len(self.ledger.unexpected)
        )


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """A command that was queued at the data center, and its state."""

    text: str
    queued_ns: int
    closed_ns: int
    """The time at which its result arrived, in nanoseconds of lab time; NEVER if none has."""
    state: str | None
    number: int = 0
    expected: str = "done"
    executions: int = 0
    """The number of times that the instrument executed it, as far as known."""

    @property
    def is_as_expected(self) -> bool:
        """Whether it ended as expected, or has not ended, and was executed at most once."""
        return self.executions <= 1 and (self.closed_ns == NEVER or self.state == self.expected)


def _windows(entries: list[LedgerEntry]) -> list[Window]:
    """Return the windows of the missing reports of one run, between the found reports of the same priority."""
    windows = []
    for lane in _LANES:
        window = Window(0, inf)
        for entry in entries:
            if entry.priority != lane:
                continue
            if entry.sequence != NEVER:
                if window.entries:
                    window.after = entry.sequence
                    windows.append(window)
                window = Window(entry.sequence, inf)
            elif entry.acknowledged_ns != NEVER:
                window.entries.append(entry)
        if window.entries:
            windows.append(window)
    return windows
