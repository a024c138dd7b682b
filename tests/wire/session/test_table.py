from __future__ import annotations

from itertools import product

import pytest

from wire.session.guards import GUARDS, Facts
from wire.session.step import Refusal, step
from wire.session.table import LIVE, TABLE, Action, Actor, End, Event, Row, SessionState

S = SessionState
FULL = Facts(
    now_ns=1,
    deadline_ns=2,
    audit_written=True,
    request_permitted=True,
    training_valid=True,
    offer_signed=True,
    id_unused=True,
    ways_proved=1,
    offer_hash=b"o",
    evidence_hash=b"o",
    screen_shared=False,
    grant_verified=True,
    certificate_matches=True,
    others_with_tunnel=0,
    path_fenced=True,
    recording_writable=True,
    tunnel_gone=True,
)
"""Facts with which a session opens."""
PATH = {
    End.DATA_CENTER: (
        Event.REQUEST,
        Event.OFFER_SHOWN,
        Event.GRANT_RECEIVED,
        Event.OPEN_REQUESTED,
        Event.TUNNEL_UP,
    ),
    End.BOX: (Event.OFFER_RECEIVED, Event.AUTHORIZE, Event.CERTIFICATE_RECEIVED, Event.TUNNEL_UP),
}


@pytest.mark.parametrize("end", End)
def test_a_session_opens_if_every_guard_holds(end: End) -> None:
    state = S.NEW
    for event in PATH[end]:
        (actor,) = {actor for row in TABLE if row.event is event and end in row.ends for actor in row.actors}
        row = step(end, state, event, actor, FULL)
        assert isinstance(row, Row), row
        state = row.next
    assert state is S.OPEN


@pytest.mark.parametrize("end", End)
def test_without_facts_nothing_leads_towards_a_session(end: End) -> None:
    """A guard whose fact was not collected fails."""
    for state, event, actor in product(S, Event, Actor):
        row = step(end, state, event, actor, Facts())
        assert isinstance(row, Refusal) or row.next in (S.ENDING, S.ENDED) or Action.VIEW_ONLY in row.actions


@pytest.mark.parametrize("end", End)
def test_ended_has_no_transition(end: End) -> None:
    for event, actor in product(Event, Actor):
        assert step(end, S.ENDED, event, actor, FULL) == Refusal(f"{event} has no effect in the state ended")


def test_only_a_person_permits_a_session() -> None:
    rows = [row for row in TABLE if row.next is S.AUTHORIZED and End.BOX in row.ends]
    assert [(row.event, row.actors) for row in rows] == [(Event.AUTHORIZE, (Actor.PERSON,))]
    for actor in set(Actor) - {Actor.PERSON}:
        assert isinstance(step(End.BOX, S.OFFERED, Event.AUTHORIZE, actor, FULL), Refusal)


def test_no_configuration_permits_a_session_without_evidence() -> None:
    unconfigured = FULL._replace(ways_required=0, ways_proved=0)
    refused = step(End.BOX, S.OFFERED, Event.AUTHORIZE, Actor.PERSON, unconfigured)
    assert refused == Refusal("not evidence_complete")


def test_a_refusal_names_every_guard_that_fails() -> None:
    facts = FULL._replace(screen_shared=True, now_ns=2)
    refused = step(End.BOX, S.OFFERED, Event.AUTHORIZE, Actor.PERSON, facts)
    assert refused == Refusal("not screen_not_shared, unexpired")


def test_a_refusal_names_the_actor_who_cannot_cause_the_event() -> None:
    refused = step(End.BOX, S.OFFERED, Event.AUTHORIZE, Actor.CLOCK, FULL)
    assert refused == Refusal("authorize cannot be caused by the clock")


@pytest.mark.parametrize(("counted", "state"), [(0, S.OFFERED), (4, S.OFFERED), (5, S.ENDING)])
def test_the_number_of_wrong_codes_is_limited(counted: int, state: SessionState) -> None:
    facts = FULL._replace(wrong_codes=counted, wrong_codes_max=5)
    row = step(End.BOX, S.OFFERED, Event.WRONG_CODE, Actor.PERSON, facts)
    assert isinstance(row, Row)
    assert row.next is state


def test_the_deadline_is_the_first_instant_that_is_too_late() -> None:
    def authorize(now_ns: int) -> Row | Refusal:
        return step(End.BOX, S.OFFERED, Event.AUTHORIZE, Actor.PERSON, FULL._replace(now_ns=now_ns))

    assert isinstance(authorize(1), Row)
    assert authorize(2) == Refusal("not unexpired")


@pytest.mark.parametrize("state", LIVE)
def test_a_full_disk_ends_a_session_instead_of_keeping_it(state: SessionState) -> None:
    full_disk = FULL._replace(audit_written=False)
    row = step(End.DATA_CENTER, state, Event.AUDIT_FAILS, Actor.DATA_CENTER, full_disk)
    assert isinstance(row, Row)
    assert row.next is S.ENDING


def test_every_guard_is_used() -> None:
    assert {name for row in TABLE for name in row.guards} == set(GUARDS)


def test_every_row_to_ending_has_all_stopping_actions_and_a_cause() -> None:
    for row in TABLE:
        if row.next is S.ENDING:
            assert {Action.CLOSE_PATH, Action.STOP_ENDPOINT, Action.TELL_PEER} == set(row.actions)
            assert row.cause is not None
        else:
            assert row.cause is None
