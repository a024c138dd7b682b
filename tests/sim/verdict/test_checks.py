"""The checks of a lab detect lost, dropped, duplicated and late reports."""

from __future__ import annotations

from sim.faults import fault_kinds
from sim.lab.labfile import Expect, ScheduledFault
from sim.verdict.causes import START_NS, outage_ends
from sim.verdict.checks import evaluate
from sim.verdict.found.siem import SiemFindings
from sim.verdict.ledger import ReportLedger
from sim.verdict.outcome import LabOutcome
from sim.verdict.result import Expectation, GapFound
from tests.support.sim.verdict import limits

SECOND = 1_000_000_000
DOWN = fault_kinds()["link-down"]()
CUT = fault_kinds()["power-cut"]()


def ledger(*states: str, kind: str = "status") -> ReportLedger:
    """Return the ledger of a run with one report per state.

    The states are S (stored), B (on the box), G (acknowledged but missing) and U (not acknowledged).
    """
    result = ReportLedger()
    run = result.begin("CHEM-0001", 1)
    for number, state in enumerate(states, 1):
        run.made(kind, number * SECOND)
        if state != "U":
            run.acknowledged(number, number * SECOND + 1000)
        if state == "S":
            run.found(number, number, number * SECOND + 2 * SECOND)
        elif state == "B":
            run.found(number, number)
    return result


def outcome(book: ReportLedger, *gaps: tuple[int, int], duplicates: int = 0) -> LabOutcome:
    sequences = sorted(entry.sequence for entry in book if entry.sequence > 0)
    named = [GapFound(at_ns=0, reason="disk-full", records=b - a + 1, ranges=((a, b),)) for a, b in gaps]
    return LabOutcome(book, sequences, named, duplicates)


def test_a_report_that_is_stored_or_on_the_box_or_unacknowledged_is_not_lost() -> None:
    result = outcome(ledger(*"SSBBU"))
    assert (result.reports.lost, result.reports.dropped) == (0, 0)
    assert (result.reports.made, result.reports.acknowledged, result.reports.stored) == (5, 4, 2)
    assert result.reports.waiting == 2


def test_every_acknowledged_report_is_stored_waiting_lost_or_dropped() -> None:
    for states in ("SSGGSGBSUB", "UUGSB", "S", ""):
        reports = outcome(ledger(*states), (3, 4)).reports
        assert reports.acknowledged == reports.stored + reports.waiting + reports.lost + reports.dropped


def test_missing_reports_are_lost_and_identified_by_number() -> None:
    for states, lost in (("SSGSGS", [3, 5]), ("SSG", [3]), ("GSS", [1])):
        assert [entry.number for entry in outcome(ledger(*states)).lost] == lost


def test_a_gap_record_accounts_only_for_the_reports_that_it_names() -> None:
    result = outcome(ledger(*"SSGGSGS"), (3, 4))
    assert [entry.number for entry in result.dropped] == [3, 4]
    assert [entry.number for entry in result.lost] == [6]


def test_a_gap_record_that_names_too_few_reports_leaves_the_others_lost() -> None:
    result = outcome(ledger(*"SSGGS"), (3, 3))
    assert [entry.number for entry in result.dropped] == [3]
    assert [entry.number for entry in result.lost] == [4]


def test_numbers_that_were_never_used_account_for_no_report() -> None:
    book = ledger(*"SGS")
    gap = GapFound(at_ns=0, reason="unused", records=0, ranges=((2, 2),))
    sequences = sorted(entry.sequence for entry in book if entry.sequence > 0)
    assert [entry.number for entry in LabOutcome(book, sequences, [gap], 0).lost] == [2]


def test_a_gap_record_that_names_existing_records_accounts_for_no_report() -> None:
    result = outcome(ledger(*"SSGS"), (1, 2))
    assert [entry.number for entry in result.lost] == [3]


def test_every_failed_expectation_shows_its_evidence() -> None:
    book = ledger(*"SGSSB")
    expect = limits(dropped=0, backlog_drained_within=SECOND, latency_p99=SECOND, alert_latency_p99=SECOND)
    events = [ScheduledFault(SECOND // 2, DOWN, "uplink", 3 * SECOND)]
    measured = outcome(book, duplicates=1)
    expectations, failures = evaluate(expect, measured, events, end_ns=6 * SECOND, ports={})
    failed = {expectation.name for expectation in expectations if not expectation.holds}
    assert failed == {"lost", "duplicates", "backlog_drained_within", "latency_p99", "alert_latency_p99"}
    by_name = {failure.expectation: failure for failure in failures}
    assert [report.number for report in by_name["lost"].reports] == [2]
    assert by_name["lost"].fault_before is not None
    assert by_name["lost"].fault_before.kind == "link-down"
    assert [report.outcome for report in by_name["backlog_drained_within"].reports] == [
        "stored 2.000 s after it was made"
    ]


def test_the_backlog_is_measured_from_the_end_of_the_outage() -> None:
    expect = limits(backlog_drained_within=10 * SECOND)
    events = [ScheduledFault(0, DOWN, "uplink", int(2.5 * SECOND))]
    expectations, _ = evaluate(expect, outcome(ledger(*"SSSS")), events, end_ns=6 * SECOND, ports={})
    (drained,) = [e for e in expectations if e.name == "backlog_drained_within"]
    assert drained.measured == 1.5  # report 2, made at 2 s and stored at 4 s
    assert drained.holds


def test_an_outage_that_ends_within_another_one_is_not_over() -> None:
    events = [
        ScheduledFault(0, DOWN, "uplink", 10),
        ScheduledFault(5, CUT, "box", 20),
        ScheduledFault(40, CUT, "box", None),
    ]
    assert outage_ends(events) == [25, 40]


def test_latency_includes_waiting_reports_only_beyond_the_limit() -> None:
    within = limits(latency_p99=3 * SECOND)
    for states, end_s, holds, measured in (
        ("SSSS", 1000, True, 2),
        ("SSSB", 7, True, 2),  # the fourth report has waited exactly as long as the limit
        ("SSSB", 8, False, 4),
        ("SSSU", 1000, True, 2),
    ):
        expectations, _ = evaluate(within, outcome(ledger(*states)), (), end_ns=end_s * SECOND, ports={})
        (latency,) = [e for e in expectations if e.name == "latency_p99"]
        assert (latency.holds, latency.measured) == (holds, measured), (states, end_s)


def test_a_failure_has_the_name_of_its_expectation() -> None:
    expect = limits(connections=1, latency_p99=SECOND)
    _, failures = evaluate(expect, outcome(ledger(*"SG")), (), end_ns=3 * SECOND, ports={})
    assert {failure.expectation for failure in failures} == {"lost", "connections", "latency_p99"}


# -- latency of other ports

FLOOD = ScheduledFault(0, fault_kinds()["instrument-floods"](), "instrument:1", None)
PORTS = {"CHEM-0001": 1, "HEMA-0002": 2}


def neighbours(attacked: str, other: str) -> ReportLedger:
    """Return the ledger of an attacked instrument at port 1 and another one at port 2, by states as in `ledger`."""
    result = ledger(*attacked)
    run = result.begin("HEMA-0002", 1)
    for number, state in enumerate(other, 1):
        run.made("status", number * SECOND)
        if state == "S":
            run.acknowledged(number, number * SECOND + 1000)
            run.found(number, 1000 + number, number * SECOND + SECOND // 2)
    return result


def evaluated(
    expect: Expect, book: ReportLedger, *events: ScheduledFault, connections: int | None = None
) -> Expectation:
    measured = outcome(book)
    measured.connections = connections
    expectations, _ = evaluate(expect, measured, events, end_ns=1000 * SECOND, ports=PORTS)
    return expectations[-1]


def test_the_latency_of_other_ports_excludes_instruments_with_an_event() -> None:
    within = limits(other_ports_latency_p99=SECOND)
    result = evaluated(within, neighbours("SSSS", "SSS"), FLOOD)
    assert result.holds and result.measured == 0.5 and result.name == "other_ports_latency_p99"
    at_port_2 = ScheduledFault(0, FLOOD.fault, "instrument:2", None)
    result = evaluated(within, neighbours("SSSS", "SSS"), at_port_2)
    assert not result.holds and result.measured == 2


def test_unacknowledged_reports_of_other_ports_count_as_late() -> None:
    result = evaluated(limits(other_ports_latency_p99=SECOND), neighbours("SSSS", "SSSU"), FLOOD)
    assert not result.holds and result.measured == 996


def test_the_latency_of_other_ports_needs_an_event_and_reports_of_another_port() -> None:
    within = limits(other_ports_latency_p99=SECOND)
    both = (FLOOD, ScheduledFault(0, FLOOD.fault, "instrument:2", None))
    for book, events in (("SS", ()), ("SS", both), ("UU", (FLOOD,)), ("", (FLOOD,))):
        result = evaluated(within, neighbours("SSSS", book), *events)
        assert not result.holds and result.measured is None, (book, events)
        assert "nothing to check" in result.explanation


def test_the_limit_of_connections_needs_a_count() -> None:
    at_most = limits(connections=10)
    assert evaluated(at_most, neighbours("S", "S"), connections=10).holds
    assert not evaluated(at_most, neighbours("S", "S"), connections=11).holds
    for connections in (None, 0):
        result = evaluated(at_most, neighbours("S", "S"), connections=connections)
        assert not result.holds and result.measured is None


# -- records at the SIEM, refused messages, acknowledgements


def test_audit_records_that_the_siem_lacks_are_counted() -> None:
    book = outcome(ledger("S"))
    for received, missing in (((), 3), (("box/1",), 2), (("box/1", "box/2", "box/3"), 0)):
        book.siem = SiemFindings(("box/1", "box/2", "box/3"), received)
        expectations, failures = evaluate(limits(), book, (), end_ns=60 * SECOND, ports={})
        (siem,) = [e for e in expectations if e.name == "siem"]
        assert (siem.limit, siem.measured, siem.holds) == (0, missing, not missing)
        assert [f.expectation for f in failures if f.expectation == "siem"] == ["siem"] * (missing > 0)


def test_refusals_count_after_the_start_of_the_lab() -> None:
    for at_ns, refused in ((START_NS - 1, 0), (START_NS, 1), (START_NS + 1, 1)):
        book = ledger("S")
        book.begin_adapted("HEMA-0002").refusals.append((at_ns, "a status"))
        expectations, _ = evaluate(limits(refused=0), outcome(book), (), end_ns=60 * SECOND, ports=PORTS)
        (expectation,) = [e for e in expectations if e.name == "refused"]
        assert (expectation.measured, expectation.holds) == (refused, not refused), at_ns - START_NS


def test_a_run_counts_its_acknowledged_and_its_found_reports() -> None:
    run = ledger(*"SBGU").runs["CHEM-0001", 1]
    assert (len(run), run.acknowledgements, run.found_count) == (4, 3, 2)
