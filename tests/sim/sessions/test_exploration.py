"""The exhaustive exploration of the session protocol finds no violation, and a counterexample for each mutant."""

from __future__ import annotations

import pytest

from sim.sessions.explore import explore
from sim.sessions.model import QUICK, Scope
from sim.sessions.mutants import SessionMutant, counterexample, endless_mutants, mutants, without
from wire.session.table import TABLE, Actor, End, Event, SessionState


@pytest.mark.parametrize("scope", QUICK, ids=str)
def test_no_reachable_state_violates_a_property(scope: Scope) -> None:
    explored = explore(scope)
    assert not explored.violation, explored.text()


def test_an_exploration_is_deterministic() -> None:
    scope = Scope(1, 0)
    assert explore(scope) == explore(scope)


def test_every_row_is_reached() -> None:
    """An unreachable row would not be checked. Restarts are excluded: they are moves of all sessions at once."""
    reached = explore(Scope(1, 1)).rows
    assert [row.name for row in TABLE if row not in reached and row.event is not Event.RESTARTED] == []


@pytest.mark.parametrize("mutant", list(mutants()), ids=lambda mutant: mutant.name)
def test_a_missing_guard_has_a_counterexample(mutant: SessionMutant) -> None:
    assert counterexample(mutant), f"{mutant.name}: redundant, or a property is missing"


@pytest.mark.parametrize("mutant", list(endless_mutants())[::4], ids=lambda mutant: mutant.name)
def test_a_missing_way_to_an_end_has_a_counterexample(mutant: SessionMutant) -> None:
    """Every fourth mutant; `make bench-sessions` explores all."""
    assert counterexample(mutant)


def test_a_counterexample_is_a_numbered_trace() -> None:
    explored = explore(Scope(1, 1), without("evidence_complete"))
    assert explored.text().splitlines()[1:] == [
        "   1. session 1 at the data center: request → requested",
        "   2. session 1 at the box: offer received → offered",
        "   3. session 1 at the box: incomplete authorize → authorized",
        "  A session was authorized without a person's complete evidence for exactly this offer.",
    ]


def test_a_table_that_never_opens_a_session_is_a_violation() -> None:
    table = tuple(row for row in TABLE if row.event is not Event.TUNNEL_UP)
    assert explore(Scope(1, 0), table).violation == "Packets can never pass"


def test_a_row_that_leaves_the_ended_state_is_detected() -> None:
    reopened = next(row for row in TABLE if row.event is Event.AUTHORIZE)
    table = (*TABLE, reopened._replace(ends=(End.BOX,), states=(SessionState.ENDED,), guards=()))
    assert "had ended" in explore(Scope(1, 0), table).violation


def test_consent_by_the_clock_is_found() -> None:
    """A timeout that permits a session, as in products that accept an unanswered offer."""
    accepted = next(row for row in TABLE if row.event is Event.AUTHORIZE)
    table = (
        *TABLE,
        accepted._replace(event=Event.DEADLINE, actors=(Actor.CLOCK,), guards=("deadline_reached",)),
    )
    first = tuple(sorted(table, key=lambda row: row.next is not SessionState.AUTHORIZED))
    assert explore(Scope(1, 1), first).violation
