"""The expectations `alerts` and `false_alerts`, and the assignment of raised alerts to expected ones."""

from __future__ import annotations

import pytest

from sim.faults import fault_kinds
from sim.lab.labfile import ExpectedAlert, ScheduledFault
from sim.verdict.checks import evaluate
from sim.verdict.found.raised import compare
from sim.verdict.ledger import ReportLedger
from sim.verdict.outcome import LabOutcome
from sim.verdict.result import RaisedAlert
from tests.support.sim.verdict import limits

S = 10**9
DOWN = ScheduledFault(100 * S, fault_kinds()["link-down"](), "uplink", 60 * S)


def raised(trigger: str, at_s: int, source: str = "CHEM-0001") -> RaisedAlert:
    return RaisedAlert(trigger, source, (at_s - 1) * S, at_s * S)


@pytest.mark.parametrize(
    ("alerts", "missing", "false"),
    [
        ([raised("lamp", 110)], 0, 0),
        ([raised("lamp", 111)], 1, 0),  # late, but not false
        ([], 1, 0),
        ([raised("pump", 105)], 1, 1),
        ([raised("lamp", 110), raised("lamp", 111)], 0, 1),
        ([raised("lamp", 300), raised("lamp", 105)], 0, 1),  # the earliest is the expected one
        ([raised("lamp", 50)], 0, 0),
    ],
)
def test_an_expected_alert_is_raised_once_and_in_time(
    alerts: list[RaisedAlert], missing: int, false: int
) -> None:
    compared = compare([ExpectedAlert("lamp", 10 * S)], alerts, 100 * S)
    assert (len(compared.missing), len(compared.false)) == (missing, false)


def test_of_two_expected_alerts_of_a_trigger_the_earlier_is_compared_with_the_shorter_limit() -> None:
    expected = [ExpectedAlert("lamp", 50 * S), ExpectedAlert("lamp", 10 * S)]
    assert compare(expected, [raised("lamp", 40), raised("lamp", 5)], 0) == ([], [])


def test_the_limits_count_from_the_first_event_and_failures_name_the_alerts() -> None:
    ledger = ReportLedger()
    run = ledger.begin("CHEM-0001", 1)
    run.made("status", S)
    run.acknowledged(1, S)
    run.found(1, 1, S)
    alerts = [raised("lamp", 111), raised("pump", 120)]
    outcome = LabOutcome(ledger, [1], (), 0, alerts=alerts)
    expect = limits(alerts=(ExpectedAlert("lamp", 10 * S),), false_alerts=0)
    expectations, failures = evaluate(expect, outcome, [DOWN], end_ns=200 * S, ports={"CHEM-0001": 1})
    measured = {one.name: (one.measured, one.holds) for one in expectations}
    assert measured["alerts"] == measured["false_alerts"] == (1, False)
    texts = {one.expectation: one.explanation for one in failures}
    assert "The first: lamp, expected within 10 s." in texts["alerts"]
    assert "The first: pump of CHEM-0001 at" in texts["false_alerts"]


def test_a_lab_without_expected_alerts_has_none_of_these_expectations() -> None:
    expectations, _ = evaluate(limits(), LabOutcome(ReportLedger(), [], (), 0), [], end_ns=S, ports={})
    assert not {"alerts", "false_alerts"} & {one.name for one in expectations}
    assert not limits().evaluates_triggers
    assert limits(false_alerts=0).evaluates_triggers
