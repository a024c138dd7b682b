"""Each expectation at its limit, and the evidence that is shown when it fails."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sim.faults import fault_kinds
from sim.lab.labfile import ScheduledFault
from sim.units import HOUR_NS, MINUTE_NS
from sim.verdict.checks import evaluate
from sim.verdict.found.intrusions import Intrusions
from sim.verdict.ledger import NEVER, ReportLedger, Run
from sim.verdict.outcome import CommandOutcome, LabOutcome
from sim.verdict.result import Expectation, Failure, FaultOccurrence, GapFound, ReportCounts
from tests.support.sim.verdict import limits

S = 10**9
DOWN = ScheduledFault(90 * S, fault_kinds()["link-down"](), "uplink", HOUR_NS)
DISK_FULL = fault_kinds()["disk-full"]()
SLOW = fault_kinds()["link-rate"](rate=9600)
INTRUDER = ScheduledFault(S, fault_kinds()["intruder-outside"](), "uplink", None)

CheckedExpectation = tuple[Expectation, Failure | None]


def report(
    run: Run, made_s: float, acknowledged_s: float | None, stored_s: float | None, kind: str = "status"
) -> None:
    """Add a report to the run. Its sequence is its number; unless it is stored, it is missing."""
    run.made(kind, int(made_s * S))
    number = len(run)
    if acknowledged_s is not None:
        run.acknowledged(number, int(acknowledged_s * S))
    if stored_s is not None:
        run.found(number, number, int(stored_s * S))


def book(*times: tuple[float, float | None, float | None], kind: str = "status") -> ReportLedger:
    """Return the ledger of an instrument's reports, by the seconds when each was made, acknowledged and stored."""
    ledger = ReportLedger()
    run = ledger.begin("CHEM-0001", 1)
    for each in times:
        report(run, *each, kind=kind)
    return ledger


def outcome(ledger: ReportLedger, *gaps: GapFound, **more: Any) -> LabOutcome:
    sequences = sorted(entry.sequence for entry in ledger if entry.sequence > 0)
    return LabOutcome(ledger, sequences, gaps, **({"duplicates": 0} | more))


def evaluate_one(
    name: str,
    found: LabOutcome,
    *events: ScheduledFault,
    end_ns: int = 2 * HOUR_NS,
    ports: bool = True,
    **expect: Any,
) -> CheckedExpectation:
    """Return the expectation `name`, evaluated, with its evidence if it fails."""
    expectations, failures = evaluate(
        limits(**expect),
        found,
        events,
        end_ns=end_ns,
        ports={"CHEM-0001": 1, "HEMA-0002": 2} if ports else {},
    )
    (expectation,) = [each for each in expectations if each.name == name]
    evidence = [each for each in failures if each.expectation == name]
    assert len(evidence) == (not expectation.holds)
    return expectation, evidence[0] if evidence else None


def evidence(name: str, found: LabOutcome, *events: ScheduledFault, **more: Any) -> Failure:
    _, failure = evaluate_one(name, found, *events, **more)
    assert failure is not None
    return failure


EVERYTHING = limits(
    backlog_drained_within=S,
    latency_p99=S,
    alert_latency_p99=S,
    other_ports_latency_p99=S,
    connections=3,
)
NAMES = [
    "lost",
    "duplicates",
    "dropped",
    "altered",
    "unacknowledged",
    "undelivered",
    "commands",
    "intrusions",
    "backlog_drained_within",
    "latency_p99",
    "alert_latency_p99",
    "other_ports_latency_p99",
    "connections",
]


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (outcome(ReportLedger(), commands=[CommandOutcome("x", 0, S, "done")]), {"commands"}),
        (outcome(book((100, None, None)), commands=[CommandOutcome("x", 0, S, "failed")]), set()),
        (
            outcome(
                book((100, 100, 101), (100, 100, 101)),
                commands=[CommandOutcome("x", 0, S, "done")],
                intrusions=Intrusions(1),
                connections=3,
            ),
            set(NAMES) - {"backlog_drained_within", "alert_latency_p99", "other_ports_latency_p99"},
        ),
    ],
    ids=["nothing made", "nothing acknowledged", "all stored"],
)
def test_every_expectation_has_a_name_and_an_explanation_and_can_be_serialized(
    found: LabOutcome, holds: set[str]
) -> None:
    evaluated = evaluate(EVERYTHING, found, [INTRUDER], end_ns=2 * HOUR_NS, ports={})
    expectations, failures = evaluated
    assert [each.name for each in expectations] == NAMES
    assert {each.name for each in expectations if each.holds} == holds
    for explanation in [each.explanation for each in expectations] + [each.explanation for each in failures]:
        assert explanation.endswith("."), explanation
        assert not explanation.startswith("None "), explanation
    assert [each.explanation for each in expectations if not each.holds] == [
        each.explanation for each in failures
    ]
    kind = tuple[tuple[Expectation, ...], tuple[Failure, ...]]
    assert msgspec.json.decode(msgspec.json.encode(evaluated), type=kind) == evaluated


def test_the_counts_of_reports_are_those_of_the_ledger() -> None:
    ledger = book((100, 100, 100), (101, 101, None), (102, None, None))
    counts = outcome(ledger, duplicates=4).reports
    assert counts == ReportCounts(
        made=3, acknowledged=2, stored=1, waiting=0, lost=1, duplicates=4, dropped=0
    )


def test_limits_are_shown_with_their_units() -> None:
    ledger = book((100, 100, 101.5))
    expectation, _ = evaluate_one("latency_p99", outcome(ledger), latency_p99=2 * S)
    assert (expectation.limit, expectation.measured, expectation.unit) == (2.0, 1.5, "s")
    for name, within in (("unacknowledged", "5 min"), ("undelivered", "10 min")):
        expectation, _ = evaluate_one(name, outcome(ledger))
        assert (expectation.limit, expectation.measured, expectation.unit) == (0, 0, "")
        assert expectation.condition == f"within {within}"
        assert f"within {within}" in expectation.explanation
    expectation, _ = evaluate_one("lost", outcome(ledger))
    assert expectation.condition == ""
    expectation, _ = evaluate_one("other_ports_latency_p99", outcome(ledger), other_ports_latency_p99=2 * S)
    assert (expectation.limit, expectation.measured, expectation.unit) == (2.0, None, "s")


@pytest.mark.parametrize(
    "name", ["lost", "dropped", "duplicates", "altered", "undelivered", "unacknowledged"]
)
def test_a_lab_allows_exactly_as_many_as_its_limit(name: str) -> None:
    ledger = book((100, 100, 100), (101, 101, None), (102, 102, None), (103, 103, 103))
    run = ledger.runs["CHEM-0001", 1]
    gaps = []
    if name == "dropped":
        gaps = [GapFound(at_ns=S, reason="disk-full", records=2, ranges=((2, 3),))]
    if name == "altered":
        run.altered = {1, 4}
    if name == "undelivered":
        run.found(2, 2)
        run.found(3, 3)
    if name == "unacknowledged":
        report(run, 104, None, None)
        report(run, 105, None, None)
    found = outcome(ledger, *gaps, duplicates=2)
    for allowed, holds in ((2, True), (1, False)):
        limit: dict[str, Any] = {name: allowed}
        expectation, _ = evaluate_one(name, found, **limit)
        assert (expectation.measured, expectation.limit, expectation.holds) == (2, allowed, holds)


# -- altered and missing reports


def test_the_altered_reports_include_unexpected_ones_and_false_gaps() -> None:
    ledger = book((100, 100, 100), (101, 101, 101), (102, 102, 102))
    ledger.runs["CHEM-0001", 1].altered = {2}
    ledger.unexpected += ["unexpected one", "unexpected two"]
    found = outcome(ledger, false_gaps=["came late", "came late, too"])
    expectation, failure = evaluate_one("altered", found)
    assert expectation.measured == 5
    assert failure is not None
    assert [each.number for each in failure.reports] == [2]
    assert "1 differ; 2 others were never made, and 2 arrived" in failure.explanation
    assert failure.explanation.endswith(" For example: unexpected one; came late.")
    expectation, _ = evaluate_one("altered", outcome(book((100, 100, 100))))
    assert expectation.holds and "For example" not in expectation.explanation


def test_a_report_that_was_never_made_counts_as_altered_even_if_no_other_was_found() -> None:
    ledger = book((100, 100, None))
    ledger.unexpected.append("unexpected one")
    expectation, _ = evaluate_one("altered", outcome(ledger), altered=1)
    assert (expectation.measured, expectation.holds) == (1, True)
    expectation, _ = evaluate_one("altered", outcome(book((100, 100, None))))
    assert (expectation.measured, expectation.holds) == (None, False)


def test_lost_and_dropped_reports_are_shown_with_the_first_gap_records() -> None:
    ledger = book((100, 100, 100), *[(101, 101, None)] * 30, (103, 103, 103))
    gaps = [GapFound(at_ns=n, reason="disk-full", records=1, ranges=((n, n),)) for n in range(2, 24)]
    empty = GapFound(at_ns=1, reason="unused", records=0, ranges=((40, 40),))
    for name in ("lost", "dropped"):
        failure = evidence(name, outcome(ledger, empty, *gaps))
        assert failure.gaps == tuple(gaps[:20]), "only the first twenty, and none without numbers"
    assert evidence("unacknowledged", outcome(book((100, None, None)), *gaps)).gaps == ()


# -- acknowledged in time


def test_without_a_report_there_is_no_acknowledgement_to_check() -> None:
    expectation, _ = evaluate_one("unacknowledged", outcome(ReportLedger()))
    assert (expectation.measured, expectation.holds) == (None, False)
    assert expectation.explanation.startswith("No report was made. There is nothing to check")


def test_an_acknowledgement_may_take_as_long_as_the_limit() -> None:
    for took_s, holds in ((300, True), (300.001, False)):
        assert evaluate_one("unacknowledged", outcome(book((100, 100 + took_s, 900))))[0].holds is holds
        end_ns = int((100 + took_s) * S)
        assert (
            evaluate_one("unacknowledged", outcome(book((100, 100, 100), (100, None, None))), end_ns=end_ns)[
                0
            ].holds
            is holds
        )
    assert (
        evaluate_one("unacknowledged", outcome(book((100, 400, 900))), acknowledged_within=299 * S)[0].holds
        is False
    )


def test_a_fault_explains_late_acknowledgements_of_its_own_instrument_only() -> None:
    ledger = ReportLedger()
    for serial in ("CHEM-0001", "HEMA-0002"):
        report(ledger.begin(serial, 1), 100, 100 + 3600, 100 + 3601)
    event = ScheduledFault(90 * S, DOWN.fault, "instrument:2", HOUR_NS)
    failure = evidence("unacknowledged", outcome(ledger), event)
    assert [each.instrument for each in failure.reports] == ["CHEM-0001"]
    failure = evidence("unacknowledged", outcome(ledger), event, ports=False)
    assert failure.reports_total == 2, "without ports a fault explains nothing"


def test_a_slow_instrument_link_explains_waits_only_while_its_reports_are_acknowledged() -> None:
    slow = ScheduledFault(0, SLOW, "instrument:1", None)
    moving = ReportLedger()
    run = moving.begin("CHEM-0001", 1)
    report(run, 100, 2000, 2000)
    for at in range(200, 2000, 200):
        report(run, at, at, at)
    assert evaluate_one("unacknowledged", outcome(moving), slow)[0].holds
    standing = ReportLedger()
    run, other = standing.begin("CHEM-0001", 1), standing.begin("HEMA-0002", 1)
    report(run, 100, 2000, 2000)
    for at in range(200, 2000, 200):
        report(other, at, at, at)
    failure = evidence("unacknowledged", outcome(standing), slow)
    assert [each.instrument for each in failure.reports] == ["CHEM-0001"]


def test_a_report_that_the_agent_gave_up_needs_a_fault_soon_after_it_was_made() -> None:
    def given_up(made_s: float, *events: ScheduledFault) -> bool:
        ledger = book((made_s, None, None), (made_s, None, None))
        for run in ledger.runs.values():
            run.given_up.add(1, 2)
        return evaluate_one("unacknowledged", outcome(ledger), *events)[0].holds

    assert not given_up(1000)
    assert not given_up(0), "the beginning of the lab explains nothing"
    assert given_up(1000, ScheduledFault(1100 * S, DISK_FULL, "disk", S))
    assert not given_up(1000, ScheduledFault(2000 * S, DISK_FULL, "disk", S)), "later than the limit"
    assert not given_up(1000, ScheduledFault(500 * S, DISK_FULL, "disk", S)), "the fault ended long before"


def test_reports_after_one_that_the_agent_gave_up_are_also_checked() -> None:
    ledger = book((1000, None, None), (1001, None, None))
    ledger.runs["CHEM-0001", 1].given_up.add(1, 1)
    failure = evidence("unacknowledged", outcome(ledger))
    assert [each.number for each in failure.reports] == [1, 2]


# -- stored in time


def test_the_boxs_own_records_must_also_be_delivered() -> None:
    found = outcome(book((100, 100, 100)), own_waiting=[100 * S, 101 * S, 5000 * S])
    expectation, failure = evaluate_one("undelivered", found, end_ns=5000 * S)
    assert expectation.measured == 2
    assert failure is not None
    assert failure.explanation.startswith("Acknowledged reports that were not stored within 10 min")
    assert failure.explanation.endswith("2 of them are the box's own records, still on its disk.")
    assert evaluate_one("undelivered", found, end_ns=700 * S)[0].measured == 0
    assert evaluate_one("undelivered", found, ScheduledFault(0, DOWN.fault, "uplink", None), end_ns=5000 * S)[
        0
    ].holds


def test_undelivered_reports_of_the_box_and_of_instruments_are_added() -> None:
    ledger = book((100, 100, 100), (100, None, None), (100, 100, None), (100, 100, 701), (100, 100, 700))
    expectation, failure = evaluate_one("undelivered", outcome(ledger, own_waiting=[100 * S]))
    assert expectation.measured == 2, "unacknowledged and lost reports are counted elsewhere"
    assert failure is not None
    assert [each.number for each in failure.reports] == [4]
    assert failure.reports_total == 1


def test_a_slow_uplink_explains_waits_only_while_reports_are_stored() -> None:
    slow = ScheduledFault(0, SLOW, "uplink", None)
    moving = book((100, 100, 5000), *((at, at, at) for at in range(200, 5000, 300)))
    assert evaluate_one("undelivered", outcome(moving), slow)[0].holds
    standing = book((100, 100, 5000), *((at, at, None) for at in range(200, 5000, 300)))
    assert not evaluate_one("undelivered", outcome(standing), slow)[0].holds


# -- commands


def command(
    closed_s: float | None, outcome: str | None = "done", text: str = "send-inventory"
) -> CommandOutcome:
    return CommandOutcome(text, 100 * S, NEVER if closed_s is None else int(closed_s * S), outcome)


def test_a_command_must_be_done_within_its_limit() -> None:
    ledger = book((100, 100, 100))
    for one, end_s, holds in (
        (command(1900), 7200, True),
        (command(1900.001), 7200, False),
        (command(1900, "failed"), 7200, False),
        (command(None, None), 1900, True),
        (command(None, None), 1901, False),
    ):
        found = outcome(ledger, commands=[one, command(200)])
        assert evaluate_one("commands", found, end_ns=end_s * S)[0].holds is holds, (one, end_s)
    waited = outcome(ledger, commands=[command(None, None), command(100)])
    assert evaluate_one("commands", waited, DOWN, end_ns=90 * S + HOUR_NS)[0].holds
    assert not evaluate_one("commands", outcome(ledger, commands=[command(400)]), commands_within=299 * S)[
        0
    ].holds


def test_a_lab_without_commands_has_no_expectation_of_commands() -> None:
    expectations, _ = evaluate(limits(), outcome(book((1, 1, 1))), [], end_ns=S, ports={})
    assert "commands" not in {each.name for each in expectations}


def test_the_first_command_that_is_not_done_is_named() -> None:
    commands = [command(101), command(None, None, "read-logs"), command(102, "failed", "restart")]
    expectation, failure = evaluate_one("commands", outcome(book((1, 1, 1)), commands=commands), commands=1)
    assert (expectation.limit, expectation.measured) == (1, 2)
    assert expectation.condition == "within 30 min"
    assert failure is not None
    assert failure.explanation.startswith(
        "Those of 3 commands that were executed twice, or did not end as expected"
    )
    assert failure.explanation.endswith(" The first: read-logs.")
    expectation, _ = evaluate_one("commands", outcome(book((1, 1, 1)), commands=commands), commands=2)
    assert expectation.holds
    expectation, _ = evaluate_one("commands", outcome(book((1, 1, 1)), commands=commands[:1]))
    assert "The first" not in expectation.explanation


# -- a backlog after an outage


def drained(ledger: ReportLedger, *events: ScheduledFault, within_s: float = 60) -> CheckedExpectation:
    return evaluate_one(
        "backlog_drained_within", outcome(ledger), *events, backlog_drained_within=int(within_s * S)
    )


def outage(at_s: float, lasts_s: float) -> ScheduledFault:
    return ScheduledFault(int(at_s * S), DOWN.fault, "uplink", int(lasts_s * S))


def test_a_backlog_is_measured_from_the_first_outage_end_at_which_it_waited() -> None:
    ledger = book((100, 100, 260), (200, 200, 250))
    expectation, failure = drained(ledger, outage(90, 60), outage(190, 30))
    assert expectation.measured == 110, "it waited at 150 s, and still at 220 s"
    assert failure is not None
    assert [each.number for each in failure.reports] == [1]
    assert (failure.reports_total, failure.fault_before) == (
        1,
        FaultOccurrence(kind="link-down", at_ns=90 * S, target="uplink", lasts_ns=60 * S),
    )


def test_a_backlog_drains_within_its_limit() -> None:
    for stored_s, holds in ((210, True), (210.001, False)):
        expectation, _ = drained(book((100, 100, stored_s)), outage(90, 60))
        assert (expectation.holds, expectation.measured) == (holds, round(stored_s - 150, 3))
    _, failure = drained(book((100, 100, 210), (100, 100, 211)), outage(90, 60))
    assert failure is not None
    assert [each.number for each in failure.reports] == [2]


def test_a_report_that_still_waits_at_the_end_never_drains() -> None:
    ledger = book((100, 100, 160), (100, 100, None))
    ledger.runs["CHEM-0001", 1].found(2, 2)
    expectation, failure = drained(ledger, outage(90, 60))
    assert (expectation.measured, expectation.holds) == (None, False)
    assert failure is not None
    assert [each.number for each in failure.reports] == [2]


def test_a_report_that_is_stored_at_the_end_of_the_outage_is_no_backlog() -> None:
    for times, waited in (
        ((100, 150, 151), True),
        ((100, 151, 152), False),
        ((100, 100, 150), False),
        ((100, None, 160), False),
        ((100, 100, None), False),  # lost, or dropped: it does not wait
    ):
        expectation, _ = drained(book(times), outage(90, 60))
        assert expectation.holds is waited, times
        assert ("Nothing was waiting when an outage ended" in expectation.explanation) is not waited


def test_without_an_outage_that_ended_there_is_no_backlog_to_check() -> None:
    expectation, _ = drained(book((100, 100, 200)))
    assert (expectation.measured, expectation.holds) == (None, False)
    assert expectation.explanation.endswith("No outage ended in this run, so there is nothing to check.")


# -- latencies


def test_alerts_are_measured_separately_from_other_reports() -> None:
    ledger = book((100, 100, 150))
    for kind, seconds in (("alert", 2), ("alert", 3), ("result", 90)):
        report(ledger.runs["CHEM-0001", 1], 200, 200, 200 + seconds, kind)
    expectation, failure = evaluate_one("alert_latency_p99", outcome(ledger), alert_latency_p99=int(2.5 * S))
    assert expectation.measured == 3
    assert "acknowledged alerts" in expectation.explanation
    assert failure is not None
    assert [each.kind for each in failure.reports] == ["alert"]
    expectation, failure = evaluate_one("latency_p99", outcome(ledger), latency_p99=49 * S)
    assert expectation.measured == 90
    assert "acknowledged reports" in expectation.explanation
    assert failure is not None
    assert [each.number for each in failure.reports] == [1, 4]


def test_one_report_in_a_hundred_may_take_longer() -> None:
    for slow, holds in ((1, True), (2, False)):
        ledger = book(*((n, n, n + 1) for n in range(100 - slow)), *[(500, 500, 800)] * slow)
        assert evaluate_one("latency_p99", outcome(ledger), latency_p99=S)[0].holds is holds


def test_a_latency_may_reach_its_limit_and_counts_acknowledged_reports_only() -> None:
    for stored_s, holds in ((160, True), (160.001, False)):
        ledger = book((100, 100, stored_s), (100, None, None))
        assert evaluate_one("latency_p99", outcome(ledger), latency_p99=MINUTE_NS)[0].holds is holds


def test_without_a_stored_report_there_is_no_latency_to_check() -> None:
    ledger = book((100, 100, None))
    ledger.runs["CHEM-0001", 1].found(1, 1)
    expectation, failure = evaluate_one("latency_p99", outcome(ledger), latency_p99=MINUTE_NS)
    assert (expectation.measured, expectation.holds) == (None, False)
    assert expectation.explanation.endswith("None of these was stored, so there is nothing to check.")
    assert failure is not None
    assert [each.number for each in failure.reports] == [1]


# -- expectations that apply only to some labs


def test_an_expectation_that_a_lab_does_not_have_is_not_checked() -> None:
    expectations, _ = evaluate(
        limits(), outcome(book((1, 1, 1)), connections=3), [DOWN], end_ns=2 * HOUR_NS, ports={}
    )
    assert [each.name for each in expectations] == NAMES[:6]


def test_the_number_of_connections_may_reach_the_limit() -> None:
    for most, holds in ((3, True), (4, False)):
        expectation, _ = evaluate_one(
            "connections", outcome(book((1, 1, 1)), connections=most), connections=3
        )
        assert (expectation.limit, expectation.measured, expectation.holds) == (3, most, holds)
    expectation, _ = evaluate_one("connections", outcome(book((1, 1, 1))), connections=3)
    assert (expectation.limit, expectation.measured, expectation.holds) == (3, None, False)


def test_intruders_must_attempt_connections_and_reach_nothing() -> None:
    for tried, reached, allowed, measured, holds in (
        (0, [], 0, None, False),
        (9, [], 0, 0, True),
        (9, ["box tcp/22", "box tcp/23"], 2, 2, True),
        (9, ["box tcp/22", "box tcp/23"], 1, 2, False),
    ):
        found = outcome(book((1, 1, 1)), intrusions=Intrusions(tried, reached))
        expectation, _ = evaluate_one("intrusions", found, INTRUDER, intrusions=allowed)
        assert (expectation.limit, expectation.measured, expectation.holds) == (allowed, measured, holds)
        assert (" The first: box tcp/22." in expectation.explanation) is bool(reached)
        if tried:
            assert expectation.explanation.startswith("Those of 9 connection attempts of intruders")


# -- evidence


def test_a_report_is_shown_with_its_times_and_its_outcome() -> None:
    ledger = book((100, 100, 1100.25), (101, 102, None), (103, None, None), (104, 105, None))
    run = ledger.runs["CHEM-0001", 1]
    run.found(2, 2)
    failure = evidence("undelivered", outcome(ledger))
    first, second = failure.reports
    assert (first.instrument, first.run, first.number, first.kind) == ("CHEM-0001", 1, 1, "status")
    assert (first.made_ns, first.acknowledged_ns, first.stored_ns) == (100 * S, 100 * S, 1100 * S + S // 4)
    assert first.outcome == "stored 1,000.250 s after it was made"
    assert (second.acknowledged_ns, second.stored_ns) == (102 * S, None)
    assert second.outcome == "still on the box at the end"
    (unacknowledged,) = evidence("unacknowledged", outcome(ledger)).reports
    assert (unacknowledged.number, unacknowledged.acknowledged_ns) == (3, None)
    assert unacknowledged.outcome == "not on the box at the end"
    (lost,) = evidence("lost", outcome(ledger)).reports
    assert lost.outcome == "acknowledged, and neither stored nor on the box at the end"
    gap = GapFound(at_ns=S, reason="disk-full", records=2, ranges=((3, 4),))
    (dropped,) = evidence("dropped", outcome(ledger, gap)).reports
    assert dropped.outcome == "given up by the box, and named in a gap record"


def test_the_evidence_is_the_first_twenty_reports_by_time() -> None:
    ledger = ReportLedger()
    late, early = ledger.begin("CHEM-0001", 1), ledger.begin("HEMA-0002", 1)
    for number in range(15):
        report(late, 1000 + number, None, None)
        report(early, 100 + number, None, None)
    failure = evidence("unacknowledged", outcome(ledger))
    assert failure.reports_total == 30
    assert len(failure.reports) == 20
    times = [each.made_ns for each in failure.reports]
    assert times == sorted(times)
    assert failure.reports[0].instrument == "HEMA-0002"
    assert failure.reports[-1].made_ns == 1004 * S


def test_the_fault_before_a_report_is_the_last_one_that_had_begun() -> None:
    unrelated = [ScheduledFault(at * S, SLOW, "instrument:2", None) for at in (50, 100, 150)]
    for made_s, began_s in ((120, 100), (100, 100), (99, 50), (10, 50)):
        failure = evidence("unacknowledged", outcome(book((made_s, None, None))), *unrelated)
        assert failure.fault_before == FaultOccurrence(
            kind="link-rate", at_ns=began_s * S, target="instrument:2", lasts_ns=None
        )
    assert evidence("unacknowledged", outcome(book((100, None, None)))).fault_before is None
    nothing_to_show = evidence("duplicates", outcome(book((10, 10, 10)), duplicates=1), *unrelated)
    assert nothing_to_show.fault_before is not None
    assert nothing_to_show.fault_before.at_ns == 150 * S
