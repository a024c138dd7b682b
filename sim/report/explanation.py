"""Explanations of failed expectations in plain text, for the terminal and for JUnit's failure text."""

from __future__ import annotations

from typing import Final

from sim.verdict.quantities import clock, count, describe_fault
from sim.verdict.result import ContentComparison, Expectation, Failure, GapFound, Result, TracedReport

SHOWN_REPORTS_MAX: Final = 5
"""Maximum number of reports listed in a text; the HTML page and the JSON document list more."""


def explanation(result: Result, expectation: Expectation) -> list[str]:
    """Return lines about the failure, the preceding fault and the reports concerned; none without evidence."""
    return [
        line
        for failure in result.failures
        if failure.expectation == expectation.name
        for line in _lines(failure)
    ]


def _lines(failure: Failure) -> list[str]:
    lines = [failure.explanation]
    if failure.fault_before is not None:
        lines.append(f"the preceding fault: {describe_fault(failure.fault_before)}")
    shown = failure.reports[:SHOWN_REPORTS_MAX]
    lines += [report_in_words(report) for report in shown]
    if failure.reports_total > len(shown):
        lines.append(f"and {count(failure.reports_total - len(shown))} more reports")
    lines += [gap_in_words(gap) for gap in failure.gaps]
    return lines


def contents_in_words(contents: ContentComparison) -> str:
    """Describe the comparison of contents."""
    return f"{count(contents.compared)} reports compared with those made, {count(contents.altered)} altered"


def report_in_words(report: TracedReport) -> str:
    """Describe a report on one line: its identity, times and outcome."""
    known = "never acknowledged"
    if report.acknowledged_ns is not None:
        known = f"acknowledged {clock(report.acknowledged_ns)}"
    identity = f"{report.instrument} run {report.run} number {report.number} ({report.kind})"
    return f"{identity}: made {clock(report.made_ns)}, {known}, {report.outcome}"


def gap_in_words(gap: GapFound) -> str:
    """Describe a gap record on one line: "gap record of 08:00:42: 5 records, corrupt, sequence 12–15, 18"."""
    ranges = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in gap.ranges)
    records = "1 record" if gap.records == 1 else f"{count(gap.records)} records"
    return f"gap record of {clock(gap.at_ns)}: {records}, {gap.reason}, sequence {ranges}"
