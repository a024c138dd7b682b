"""The checks of a lab's expectations against the outcome of its run.

They use only data from outside the programs under test: the ledger of the reports that instruments made and of their
acknowledgements, the data center's database, and the box's disk after a power cut at the end.

Delivery is expected of every lab: reports are acknowledged and, once acknowledged, stored with unchanged content, in
time unless a fault explains the delay (`sim.verdict.causes`). An expectation with nothing to check does not hold,
since the run proves nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf
from typing import Final

import msgspec

from sim.faults import port_of
from sim.lab.labfile import Expect, ScheduledFault
from sim.units import SECOND_NS
from sim.verdict.causes import (
    START_NS,
    Causes,
    explains_acknowledgement,
    explains_delivery,
    outage_ends,
)
from sim.verdict.evidence import failure
from sim.verdict.found.raised import AlertComparison, compare
from sim.verdict.latency import quantile
from sim.verdict.ledger import NEVER, LedgerEntry, Run
from sim.verdict.outcome import LabOutcome
from sim.verdict.quantities import clock, duration
from sim.verdict.result import FAILED_REPORTS_MAX, Expectation, Failure, Unit

_NOTHING: Final = "there is nothing to check"
_NONE_STORED: Final = "No report was stored."

_Checked = tuple[Expectation, Failure]


@dataclass(frozen=True)
class _Case:
    """The input of the checks. Times in nanoseconds of lab time; `ports` maps serial numbers to ports."""

    expect: Expect
    outcome: LabOutcome
    events: Sequence[ScheduledFault]
    end_ns: int
    ports: Mapping[str, int]

    @property
    def delivered_within(self) -> int:
        return _given(self.expect.delivered_within)

    @property
    def acknowledged_within(self) -> int:
        return _given(self.expect.acknowledged_within)

    @property
    def commands_within(self) -> int:
        return _given(self.expect.commands_within)

    @cached_property
    def entries(self) -> list[LedgerEntry]:
        return list(self.outcome.ledger)

    @cached_property
    def anything_stored(self) -> bool:
        """Whether the data center has at least one report."""
        return any(entry.stored_ns != NEVER for entry in self.entries)

    @cached_property
    def stored_late(self) -> Causes:
        """The causes that explain why acknowledged reports are not stored yet."""
        events = [event for event in self.events if explains_delivery(event)]
        progress = (entry.stored_ns for entry in self.entries if entry.stored_ns != NEVER)
        return Causes(events, progress, self.delivered_within)

    @cached_property
    def compared_alerts(self) -> AlertComparison:
        """The expected alerts, compared with those that were raised."""
        first_ns = min((event.at for event in self.events), default=0)
        return compare(self.expect.alerts, self.outcome.alerts, first_ns)

    def acknowledged_late(self, serial: str) -> Causes:
        """Return the causes that explain why reports of an instrument are not acknowledged yet."""
        port = self.ports.get(serial)
        events = [event for event in self.events if explains_acknowledgement(event, port)]
        times = (entry.acknowledged_ns for entry in self.entries if entry.serial == serial)
        return Causes(events, (time for time in times if time != NEVER), self.acknowledged_within)


def _given(limit: int | None) -> int:
    assert limit is not None, "Lab.limits has every time limit"
    return limit


_Check = Callable[[_Case], _Checked | None]


def evaluate(
    expect: Expect,
    outcome: LabOutcome,
    events: Sequence[ScheduledFault],
    *,
    end_ns: int,
    ports: Mapping[str, int],
) -> tuple[tuple[Expectation, ...], tuple[Failure, ...]]:
    """Evaluate each expectation; returns (expectations with measurements, evidence for those that do not hold).

    `expect` has every time limit, as `Lab.limits`. `end_ns` is the end of the lab in ns. `ports` maps serial numbers
    to ports; for an instrument without a port, no fault of an instrument explains a delay.
    """
    case = _Case(expect, outcome, events, end_ns, ports)
    pairs = [pair for pair in (check(case) for check in _CHECKS) if pair is not None]
    failures = [evidence for expectation, evidence in pairs if not expectation.holds]
    return tuple(expectation for expectation, _ in pairs), tuple(failures)


# -- losses, duplicates and alterations


def _lost(case: _Case) -> _Checked:
    explanation = (
        "Acknowledged reports that are neither stored, nor on the box, nor accounted for in a gap record."
    )
    return _count(case, "lost", case.expect.lost, case.outcome.lost, explanation)


def _dropped(case: _Case) -> _Checked:
    explanation = "Acknowledged reports that the box dropped (full or failed disk) and named in a gap record."
    return _count(case, "dropped", case.expect.dropped, case.outcome.dropped, explanation)


def _duplicates(case: _Case) -> _Checked:
    explanation = "Reports that are stored more than once."
    if not case.outcome.duplicates and not case.anything_stored:
        return _nothing(case, "duplicates", case.expect.duplicates, _NONE_STORED)
    return _count_limit(case, "duplicates", case.expect.duplicates, case.outcome.duplicates, explanation)


def _altered(case: _Case) -> _Checked:
    outcome = case.outcome
    unexpected, false_gaps = outcome.ledger.unexpected, outcome.false_gaps
    explanation = (
        f"Of {outcome.compared:,} reports found at the data center or on the box's disk, each compared with the "
        f"instrument's original by a 64-bit digest of the encoded content, {outcome.altered:,} differ; "
        f"{len(unexpected):,} "
        f"others were never made, and {len(false_gaps):,} arrived after a gap record had named them as lost."
    )
    if firsts := (*unexpected[:1], *false_gaps[:1]):
        explanation += f" For example: {'; '.join(firsts)}."
    runs = [run for run in outcome.ledger.runs.values() if run.altered]
    entries = [entry for run in runs for entry in run if entry.number in run.altered]
    measured = outcome.altered + len(unexpected) + len(false_gaps)
    if not outcome.compared and not measured:
        return _nothing(case, "altered", case.expect.altered, "No report was found that could be compared.")
    return _count_limit(case, "altered", case.expect.altered, measured, explanation, entries)


# -- reports and commands in time


def _unacknowledged(case: _Case) -> _Checked:
    limit = case.acknowledged_within
    late: list[LedgerEntry] = []
    causes: dict[str, Causes] = {}
    for run in case.outcome.ledger.runs.values():
        if run.serial not in causes:
            causes[run.serial] = case.acknowledged_late(run.serial)
        late += _late_to_acknowledge(run, causes[run.serial], limit, case.end_ns)
    explanation = (
        f"Reports that an instrument made and the box did not acknowledge {_within(limit)}, not counting the time "
        "that a fault of the instrument, its cable, the box or its disk explains."
    )
    allowed = case.expect.unacknowledged
    if not case.outcome.made:
        return _nothing(case, "unacknowledged", allowed, "No report was made.")
    if not late and (serial := _unacknowledged_instrument(case, causes)):
        why = f"No report of {serial} was acknowledged, and the lab ended before the time limit."
        return _nothing(case, "unacknowledged", allowed, why)
    return _form("unacknowledged", allowed, len(late), explanation, case.events, late, _within(limit))


def _unacknowledged_instrument(case: _Case, causes: Mapping[str, Causes]) -> str:
    """Return the serial number of an instrument none of whose reports was acknowledged, although faults explain only
    a part of the time; "" if there is none.
    """
    least = case.acknowledged_within // 10
    for serial, instrument_causes in causes.items():
        runs = [run for run in case.outcome.ledger.runs.values() if run.serial == serial]
        entries = [entry for run in runs for entry in run if entry.number not in run.given_up]
        if not entries or any(entry.acknowledged_ns != NEVER for entry in entries):
            continue
        if instrument_causes.unexplained(min(entry.made_ns for entry in entries), case.end_ns) > least:
            return serial
    return ""


def _late_to_acknowledge(run: Run, causes: Causes, limit: int, end_ns: int) -> Iterator[LedgerEntry]:
    last_ns = end_ns if run.ended_ns is None else run.ended_ns
    for entry in run:
        until = entry.acknowledged_ns
        if until == NEVER:
            if entry.number in run.given_up:
                # dropped at an unknown time: only a fault soon after it was made explains it, not the lab's start
                if causes.unexplained(entry.made_ns, entry.made_ns + limit) >= limit - START_NS:
                    yield entry
                continue
            until = last_ns
        if until - entry.made_ns > limit and causes.unexplained(entry.made_ns, until) > limit:
            yield entry


def _refused(case: _Case) -> _Checked | None:
    adapted = case.outcome.ledger.adapted
    if not adapted:
        return None
    refusals = sorted(
        (at_ns, f"{serial}: {refusal}")
        for serial, reports in adapted.items()
        for at_ns, refusal in reports.refusals
        if case.acknowledged_late(serial).unexplained(at_ns, at_ns + 1) > 0
    )
    explanation = "Valid messages in an instrument's own standard that the box refused."
    if refusals:
        explanation += f" The first, at {clock(refusals[0][0])}: {refusals[0][1]}."
    return _count_limit(case, "refused", case.expect.refused, len(refusals), explanation)


def _patient_texts(case: _Case) -> _Checked | None:
    if not case.outcome.ledger.adapted:
        return None
    leaks, limit = case.outcome.leaks, case.expect.patient_texts
    if not leaks.patients or not any(leaks.searched.values()):
        return _nothing(case, "patient_texts", limit, "No patient results were sent.")
    searched = ", ".join(f"{size:,} bytes of the {source}" for source, size in sorted(leaks.searched.items()))
    explanation = f"Texts about {leaks.patients:,} patients were searched for in {searched}."
    if leaks.found:
        explanation += f" The first: {leaks.found[0]}."
    return _form("patient_texts", limit, len(leaks.found), explanation, case.events)


def _undelivered(case: _Case) -> _Checked:
    limit, causes, outcome = case.delivered_within, case.stored_late, case.outcome
    late: list[LedgerEntry] = []
    for entry in case.entries:
        since, until = entry.acknowledged_ns, entry.stored_ns
        if since == NEVER or entry.sequence == NEVER:
            continue
        if until == NEVER:
            until = case.end_ns
        if until - since > limit and causes.unexplained(since, until) > limit:
            late.append(entry)
    own = sum(causes.unexplained(at_ns, case.end_ns) > limit for at_ns in outcome.own_waiting)
    explanation = (
        f"Acknowledged reports that were not stored {_within(limit)}, not counting the time that a fault of the "
        "uplink, proxy, data center, box or disk explains."
    )
    if not late and not own and not case.anything_stored:
        return _nothing(case, "undelivered", case.expect.undelivered, _NONE_STORED)
    if own:
        explanation += f" {own:,} of them are the box's own records, still on its disk."
    return _count_limit(
        case, "undelivered", case.expect.undelivered, len(late) + own, explanation, late, _within(limit)
    )


def _commands(case: _Case) -> _Checked | None:
    commands, limit = case.outcome.commands, case.commands_within
    if not commands:
        return None
    late = []
    for command in commands:
        until = case.end_ns if command.closed_ns == NEVER else command.closed_ns
        if not command.is_as_expected or case.stored_late.unexplained(command.queued_ns, until) > limit:
            late.append(command.text)
    explanation = (
        f"Those of {len(commands)} commands that were executed twice, or did not end as expected {_within(limit)}, "
        "not counting the time that a fault between data center and recipient explains."
    )
    if not late and all(command.closed_ns == NEVER for command in commands):
        why = "The lab ended before any command had a result or was late."
        return _nothing(case, "commands", case.expect.commands, why)
    if late:
        explanation += f" The first: {late[0]}."
    return _form(
        "commands", case.expect.commands, len(late), explanation, case.events, condition=_within(limit)
    )


def _drained(case: _Case) -> _Checked | None:
    limit = case.expect.backlog_drained_within
    if limit is None:
        return None
    explanation = (
        "The longest time from the end of an outage until all reports that were waiting then are stored."
    )
    ends = outage_ends(case.events)
    delays = {
        entry: inf if entry.stored_ns == NEVER else entry.stored_ns - end_ns
        # the first end at which a report was waiting overwrites later ones
        for end_ns in sorted(ends, reverse=True)
        for entry in case.entries
        if _waited_at(entry, end_ns)
    }
    if not ends:
        explanation += f" No outage ended in this run, so {_NOTHING}."
    elif not delays:
        explanation += f" Nothing was waiting when an outage ended, so {_NOTHING}."
    late = [entry for entry, delay in delays.items() if delay > limit]
    return _time(case, "backlog_drained_within", limit, max(delays.values(), default=inf), late, explanation)


def _waited_at(entry: LedgerEntry, now_ns: int) -> bool:
    """Return whether a report was acknowledged but not stored at that time, and not dropped by the box."""
    acknowledged = NEVER < entry.acknowledged_ns <= now_ns
    return acknowledged and (
        entry.stored_ns > now_ns or (entry.stored_ns == NEVER and entry.sequence != NEVER)
    )


def _latency(case: _Case) -> _Checked | None:
    return _of_acknowledged(case, "latency_p99", case.expect.latency_p99, "reports", case.entries)


def _alert_latency(case: _Case) -> _Checked | None:
    alerts = (entry for entry in case.entries if entry.priority == "alert")
    return _of_acknowledged(case, "alert_latency_p99", case.expect.alert_latency_p99, "alerts", alerts)


def _of_acknowledged(
    case: _Case, name: str, limit: int | None, kind: str, entries: Iterable[LedgerEntry]
) -> _Checked | None:
    if limit is None:
        return None
    acknowledged = [entry for entry in entries if entry.acknowledged_ns != NEVER]
    return _of_latency(case, name, limit, f"acknowledged {kind}", acknowledged)


def _other_ports_latency(case: _Case) -> _Checked | None:
    limit, name = case.expect.other_ports_latency_p99, "other_ports_latency_p99"
    if limit is None:
        return None
    targets = {port_of(event.target) for event in case.events} - {None}
    kind = "reports of instruments that no event targets"
    if not targets:
        return _nothing(case, name, limit / SECOND_NS, "No event targeted an instrument.", "s")
    # unlike for `latency_p99`, unacknowledged reports count too: the targeted port may be the reason
    others = [entry for entry in case.entries if case.ports.get(entry.serial) not in targets]
    return _of_latency(case, name, limit, kind, others)


def _of_latency(case: _Case, name: str, limit: int, kind: str, entries: list[LedgerEntry]) -> _Checked:
    ages = [(_age(entry, case.end_ns), entry) for entry in entries]
    # a report that still waits counts once it has waited longer than the limit
    counted = [(age, entry) for age, entry in ages if entry.stored_ns != NEVER or age > limit]
    late = [entry for age, entry in counted if age > limit]
    explanation = f"99 % of the {kind} are stored within this time of their creation."
    if not any(entry.stored_ns != NEVER for entry in entries):
        return _time(case, name, limit, inf, late, f"{explanation} None of these was stored, so {_NOTHING}.")
    return _time(case, name, limit, quantile(sorted(age for age, _ in counted), 99), late, explanation)


def _age(entry: LedgerEntry, end_ns: int) -> int:
    return (end_ns if entry.stored_ns == NEVER else entry.stored_ns) - entry.made_ns


def _connections(case: _Case) -> _Checked | None:
    limit, measured = case.expect.connections, case.outcome.connections
    if limit is None:
        return None
    if not measured:
        return _nothing(case, "connections", limit, "No instrument was seen to be connected.")
    explanation = (
        "The maximum number of connections with instruments open on the box at once, at the samples taken."
    )
    return _form("connections", limit, measured, explanation, case.events)


# -- remote sessions, updates, audit records


def _sessions(case: _Case) -> _Checked | None:
    sessions = case.outcome.sessions.sessions
    if not sessions:
        return None
    differing = [(session, difference) for session in sessions for difference in session.differences[:1]]
    explanation = f"Those of {len(sessions)} remote sessions that did not open, or did not end, as expected."
    if differing:
        first, difference = differing[0]
        explanation += (
            f" The first, with {first.instrument}, requested at {clock(first.requested_ns)}: {difference}."
        )
    return _form("sessions", case.expect.sessions, len(differing), explanation, case.events)


def _updates(case: _Case) -> _Checked | None:
    updates = case.outcome.updates
    if not updates:
        return None
    differing = [update for update in updates if not update.is_right]
    explanation = f"Those of {len(updates)} updates that did not end as their releases require."
    if differing:
        explanation += f" The first, {differing[0].release}: {differing[0].step or 'nothing was reported'}."
    return _form("updates", 0, len(differing), explanation, case.events)


def _siem(case: _Case) -> _Checked | None:
    records = case.outcome.siem
    if records is None:
        return None
    if not records.due:
        return _nothing(case, "siem", 0, "No audit record had to arrive at the SIEM before the lab ended.")
    problems = records.problems
    explanation = (
        f"Those of {len(records.due)} audit records that have not arrived at the SIEM exactly once, in order."
    )
    if problems:
        explanation += f" The first: {problems[0]}."
    return _form("siem", 0, len(problems), explanation, case.events)


def _tunnel_seconds(case: _Case) -> _Checked | None:
    sessions_result, name = case.outcome.sessions, "tunnel_seconds_without_grant"
    limit = case.expect.tunnel_seconds_without_grant
    if not sessions_result.sessions and not sessions_result.problems:
        return None
    problems = [
        *sessions_result.problems,
        *(problem for session in sessions_result.sessions for problem in session.problems),
    ]
    if not problems and not any(session.steps for session in sessions_result.sessions):
        return _nothing(case, name, limit, "No session was recorded.", "s")
    tunnel = sum(session.tunnel_seconds for session in sessions_result.sessions)
    doubtful = (
        tunnel
        if sessions_result.problems
        else sum(session.tunnel_seconds for session in sessions_result.sessions if session.problems)
    )
    explanation = (
        f"Seconds in which packets of a remote session could pass without a valid grant, of {tunnel:.0f} s of "
        "tunnel, according to the audit files of both ends."
    )
    if problems:
        explanation += f" The first of {len(problems)} problems: {problems[0]}."
    measured = max(ceil(doubtful), 1) if problems else 0
    expectation, evidence = _form(name, limit, measured, explanation, case.events)
    return msgspec.structs.replace(expectation, unit="s"), evidence


# -- intruders and alerts


def _intrusions(case: _Case) -> _Checked | None:
    if not any(event.fault.kind.startswith("intruder-") for event in case.events):
        return None
    intrusions = case.outcome.intrusions
    explanation = f"Those of {intrusions.tried} connection attempts of intruders that were not blocked."
    if not intrusions.tried:
        return _nothing(
            case, "intrusions", case.expect.intrusions, "No intruder made an attempt before the lab ended."
        )
    if intrusions.reached:
        explanation += f" The first: {intrusions.reached[0]}."
    return _form("intrusions", case.expect.intrusions, len(intrusions.reached), explanation, case.events)


def _alerts(case: _Case) -> _Checked | None:
    expected = case.expect.alerts
    if not expected:
        return None
    missing = case.compared_alerts.missing
    explanation = (
        f"Those of {len(expected)} expected alerts that the data center's triggers did not raise in time."
    )
    if missing:
        explanation += f" The first: {missing[0].trigger}, expected {_within(missing[0].within)}."
    return _form("alerts", 0, len(missing), explanation, case.events)


def _false_alerts(case: _Case) -> _Checked | None:
    limit = case.expect.false_alerts
    if limit is None:
        return None
    unexpected_alerts = case.compared_alerts.false
    explanation = "Alerts that the data center's triggers raised although the lab does not expect them."
    if unexpected_alerts:
        first = unexpected_alerts[0]
        explanation += f" The first: {first.trigger} of {first.source} at {clock(first.raised_ns)}."
    return _count_limit(case, "false_alerts", limit, len(unexpected_alerts), explanation)


_CHECKS: tuple[_Check, ...] = (
    _lost,
    _duplicates,
    _dropped,
    _altered,
    _unacknowledged,
    _refused,
    _patient_texts,
    _undelivered,
    _commands,
    _sessions,
    _updates,
    _siem,
    _tunnel_seconds,
    _intrusions,
    _drained,
    _latency,
    _alert_latency,
    _other_ports_latency,
    _connections,
    _alerts,
    _false_alerts,
)


# -- results of checks


def _count(case: _Case, name: str, limit: int, entries: list[LedgerEntry], explanation: str) -> _Checked:
    expectation, evidence = _count_limit(case, name, limit, len(entries), explanation, entries)
    gaps = tuple(gap for gap in case.outcome.gaps if gap.records)[:FAILED_REPORTS_MAX]
    return expectation, msgspec.structs.replace(evidence, gaps=gaps)


def _count_limit(
    case: _Case,
    name: str,
    limit: int,
    count: int,
    explanation: str,
    entries: Sequence[LedgerEntry] = (),
    condition: str = "",
) -> _Checked:
    """Expect a `count` of at most `limit`; there is nothing to check if no report was acknowledged."""
    if not count and not case.outcome.acknowledged:
        return _nothing(case, name, limit, "No report was acknowledged.")
    return _form(name, limit, count, explanation, case.events, entries, condition)


def _form(
    name: str,
    limit: int,
    count: int,
    explanation: str,
    events: Sequence[ScheduledFault],
    entries: Sequence[LedgerEntry] = (),
    condition: str = "",
) -> _Checked:
    expectation = Expectation(
        name=name,
        limit=limit,
        measured=count,
        holds=count <= limit,
        condition=condition,
        explanation=explanation,
    )
    return expectation, failure(name, explanation, entries, events)


def _nothing(case: _Case, name: str, limit: float, why: str, unit: Unit = "") -> _Checked:
    """Return an expectation that does not hold because there is nothing to check."""
    explanation = f"{why} There is nothing to check, so this run proves nothing about it."
    expectation = Expectation(
        name=name, limit=limit, measured=None, holds=False, unit=unit, explanation=explanation
    )
    return expectation, failure(name, explanation, (), case.events)


def _within(limit: int) -> str:
    return f"within {duration(limit)}"


def _time(
    case: _Case, name: str, limit: int, measured: float, late: list[LedgerEntry], explanation: str
) -> _Checked:
    """Expect a time of at most `limit` ns; `measured` is infinite if the event never occurred."""
    expectation = Expectation(
        name=name,
        limit=limit / SECOND_NS,
        measured=None if measured == inf else round(measured / SECOND_NS, 3),
        holds=measured <= limit,
        unit="s",
        explanation=explanation,
    )
    return expectation, failure(name, explanation, late, case.events)
