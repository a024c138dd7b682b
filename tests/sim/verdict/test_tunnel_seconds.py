"""The expectation `tunnel_seconds_without_grant`: the seconds in which packets could pass without a proven grant."""

from __future__ import annotations

import pytest

from sim.faults import fault_kinds
from sim.lab.labfile import ScheduledFault
from sim.verdict.checks import evaluate
from sim.verdict.found.sessions import SessionFindings
from sim.verdict.ledger import ReportLedger
from sim.verdict.outcome import LabOutcome
from sim.verdict.result import Expectation, Failure, SessionResult, SessionStep
from tests.support.sim.verdict import limits

S = 10**9
NAME = "tunnel_seconds_without_grant"
STEP = SessionStep(5 * S, "box", "offer received", "data center", "offered", "")
DOWN = ScheduledFault(3 * S, fault_kinds()["link-down"](), "uplink", S)


def session(tunnel_seconds: float, *problems: str, steps: tuple[SessionStep, ...] = (STEP,)) -> SessionResult:
    return SessionResult(
        "CHEM-0001",
        "engineer",
        "service",
        "control",
        "permits",
        requested_ns=4 * S,
        opened_ns=None,
        ended_ns=None,
        tunnel_seconds=tunnel_seconds,
        causes=(),
        expected_to_open=True,
        expected_end="",
        problems=problems,
        steps=steps,
    )


def check(
    *sessions: SessionResult, problems: tuple[str, ...] = (), limit: int = 0
) -> tuple[Expectation, Failure | None]:
    """Return the evaluated expectation, and its failure if it does not hold."""
    outcome = LabOutcome(ReportLedger(), [], (), 0, sessions=SessionFindings(sessions, problems))
    expect = limits(tunnel_seconds_without_grant=limit)
    expectations, failures = evaluate(expect, outcome, [DOWN], end_ns=200 * S, ports={"CHEM-0001": 1})
    (expectation,) = (one for one in expectations if one.name == NAME)
    return expectation, next((one for one in failures if one.expectation == NAME), None)


@pytest.mark.parametrize(
    ("sessions", "problems", "measured"),
    [
        ([session(30.0)], (), 0),
        ([session(30.0), session(2.2, "no grant")], (), 3),  # only the session with a problem, rounded up
        ([session(0.0, "no grant")], (), 1),  # a problem counts at least 1 s
        (
            [session(30.0), session(2.2)],
            ("the chain is broken",),
            33,
        ),  # a problem of the files makes every second unproven
    ],
)
def test_each_second_of_a_session_with_problems_counts(
    sessions: list[SessionResult], problems: tuple[str, ...], measured: int
) -> None:
    expectation, failure = check(*sessions, problems=problems)
    assert (expectation.measured, expectation.holds) == (measured, not measured)
    assert (failure is None) is not measured


def test_a_failure_names_the_first_problem_and_the_fault_before() -> None:
    expectation, failure = check(session(2.0, "no grant", "no end"), limit=1)
    assert (expectation.limit, expectation.unit) == (1, "s")
    assert failure is not None and "The first of 2 problems: no grant." in failure.explanation
    assert check(session(2.0, "no grant"), limit=2)[1] is None


def test_requested_sessions_without_a_record_fail() -> None:
    expectation, failure = check(session(0.0, steps=()), limit=7)
    assert (expectation.limit, expectation.measured, expectation.unit) == (7, None, "s")
    assert failure is not None and "No session was recorded." in failure.explanation
