"""The transition table: every state is reachable and can end, and no event leaves a final state."""

from __future__ import annotations

from itertools import product

from datacenter.store.command_states import (
    EVENTS,
    FINAL,
    SENT,
    STATES,
    TRANSITIONS,
    WITHDRAWABLE,
    State,
    after,
    quoted,
)


def reachable(start: State) -> set[State]:
    reached, new = {start}, [start]
    while new:
        state = new.pop()
        following = {after(state, event) for event in EVENTS} - reached
        reached |= following
        new += following
    return reached


def test_every_state_is_reachable() -> None:
    assert reachable("waiting for approval") == set(STATES)


def test_exactly_the_final_states_have_no_transition() -> None:
    assert {state for state in STATES if reachable(state) == {state}} == FINAL


def test_every_state_can_end() -> None:
    assert all(reachable(state) & FINAL for state in STATES)


def test_no_event_leads_back() -> None:
    order = {state: rank for rank, state in enumerate(STATES)}
    assert all(order[after(state, event)] >= order[state] for state, event in product(STATES, EVENTS))


def test_nothing_is_sent_before_its_approval_or_after_its_end() -> None:
    assert not set(SENT) & ({"waiting for approval"} | FINAL)


def test_a_command_that_is_being_executed_is_neither_withdrawn_nor_expired() -> None:
    for event in ("withdrawn", "expired"):
        assert "executing" not in TRANSITIONS[event]
    assert set(TRANSITIONS["expired"]) == WITHDRAWABLE


def test_only_the_instrument_makes_a_command_delivered() -> None:
    assert [event for event in EVENTS if "delivered" in TRANSITIONS[event].values()] == ["delivered"]


def test_states_are_quoted_in_their_order() -> None:
    assert quoted(frozenset({"done", "queued"})) == "'queued', 'done'"
