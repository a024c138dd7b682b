"""The possible next moves (transitions) of one session: by both ends, people, the line, clocks and its own faults.

`sim.sessions.surroundings` has the changes that affect all sessions at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

from sim.sessions.model import (
    BOTH,
    BOX,
    CERTIFICATE,
    DC,
    END_OF_BOX,
    END_OF_DC,
    GRANT,
    OFFER,
    SHOWN,
    WRONG_CODES_MAX,
    ModelSession,
    Others,
    Setting,
    set_at,
)
from wire.session.guards import Facts
from wire.session.step import Refusal, rows, step
from wire.session.table import LIVE, WITH_TUNNEL, Action, Actor, End, Event, Row, SessionState

S, E = SessionState, Event
ENDS: Final = (End.DATA_CENTER, End.BOX)
PROGRAMS: Final = (Actor.DATA_CENTER, Actor.BOX)
_BEFORE_END: Final = (S.NEW, *LIVE)


class Move(NamedTuple):
    """One move of one session."""

    text: str
    session: ModelSession
    """The session after it."""
    others: Others
    row: Row | None = None
    """The row that was executed, if any."""
    end: int = DC
    is_genuine: bool = True
    """Whether the event is genuine, not forged."""
    is_due: bool = False
    """Whether it happens without a person, the line or the other end: a timer, a check, the exit of a process."""
    cost: int = 0
    """The disturbances that it uses up."""


class Moves:
    """The moves of one session under one table."""

    def __init__(self, table: Sequence[Row]) -> None:
        self._rows = {
            (end, state, event): matching
            for end, state, event in product(End, SessionState, Event)
            if (matching := rows(end, state, event, table))
        }

    def after(
        self, setting: Setting, session: ModelSession, others: Others, can_disturb: bool
    ) -> Iterator[Move]:
        """Yield every move of the session, with disturbances if any may still occur."""
        for end in (DC, BOX):
            if setting.up[end]:
                here = SessionAtEnd(self._rows, setting, session, others, end)
                for move in (*_due(here), *(_at_data_center, _at_box)[end](here), *_at_either(here)):
                    yield move
                    if can_disturb and move.row and "audit_written" in move.row.guards:
                        yield from _recorded_only(here, move)
        if can_disturb:
            yield from _disturbances(session, others)

    def restarted(self, setting: Setting, session: ModelSession, end: int) -> ModelSession:
        """Return a session after the start of an end's program, which ends what its log shows as live."""
        if session.states[end] is S.ENDED:  # the program does not load what has ended
            return session._replace(
                states=(S.NEW, session.states[BOX]) if end == DC else (session.states[DC], S.NEW)
            )
        here = SessionAtEnd(self._rows, setting, session, Others(), end)
        return next((move.session for move in here.attempt(E.RESTARTED, PROGRAMS[end])), session)


class SessionAtEnd:
    """A session at one end, where events are attempted."""

    def __init__(
        self,
        rows: dict[tuple[End, SessionState, Event], list[Row]],
        setting: Setting,
        session: ModelSession,
        others: Others,
        end: int,
    ) -> None:
        self.setting = setting
        self.session = session
        self.others = others
        self.end = end
        self.state = session.states[end]
        self._rows = rows
        self._facts: Facts | None = None

    def with_session(self, session: ModelSession) -> SessionAtEnd:
        """Return the same end with another session."""
        return SessionAtEnd(self._rows, self.setting, session, self.others, self.end)

    def facts(self) -> Facts:
        """Return the facts as this end collects them if nothing is forged."""
        if self._facts is None:
            self._facts = self._collect()
        return self._facts

    def _collect(self) -> Facts:
        setting, session, end = self.setting, self.session, self.end
        return Facts(
            now_ns=setting.time,
            deadline_ns=session.deadlines[end],
            audit_written=setting.audits[end],
            request_permitted=session.is_permitted,
            training_valid=session.is_trained,
            offer_signed=True,
            id_unused=not session.recorded,
            ways_required=2,
            ways_proved=2,
            offer_hash=b"offer",
            evidence_hash=b"offer",
            screen_shared=self.others.is_open or session.states[BOX] is S.OPEN,
            wrong_codes=session.wrong_codes,
            wrong_codes_max=WRONG_CODES_MAX,
            grant_verified=True,
            certificate_matches=True,
            others_with_tunnel=int(self.others.occupied[end]),
            path_fenced=setting.fences[end],
            recording_writable=setting.recording,
            tunnel_gone=not (session.endpoints[end] or session.paths[end]),
        )

    def attempt(self, event: Event, actor: Actor, is_due: bool = False) -> Sequence[Move]:
        """Return the move of a genuine event, if the table accepts it."""
        return self._attempt("", event, actor, {}, True, is_due)

    def forge(self, whose: str, event: Event, actor: Actor, **changed: Any) -> Sequence[Move]:
        """Return the move of an event that only looks genuine, if the table accepts it."""
        return self._attempt(f"{whose} ", event, actor, changed, False, False)

    def _attempt(
        self, whose: str, event: Event, actor: Actor, changed: dict[str, Any], is_genuine: bool, is_due: bool
    ) -> Sequence[Move]:
        candidates = self._rows.get((ENDS[self.end], self.state, event))
        if not candidates:
            return ()
        facts = self.facts()._replace(**changed) if changed else self.facts()
        row = step(ENDS[self.end], self.state, event, actor, facts, candidates)
        if isinstance(row, Refusal):
            return ()
        cause = f" ({row.cause})" if row.cause else ""
        text = f"at the {ENDS[self.end]}: {whose}{event} → {row.next}{cause}"
        session = _execute(row, self.setting, self.session, self.end, is_genuine)
        return (Move(text, session, self.others, row, self.end, is_genuine, is_due),)


def _recorded_only(here: SessionAtEnd, move: Move) -> Iterator[Move]:
    """The record of a row took so long that the row no longer applies when it is durable: the session ends."""
    recorded = here.session._replace(states=move.session.states, recorded=move.session.recorded)
    for ended in here.with_session(recorded).attempt(E.AUDIT_FAILS, PROGRAMS[here.end]):
        yield ended._replace(text=f"{move.text}, but only recorded; {ended.text}", cost=1)


def _due(here: SessionAtEnd) -> Iterator[Move]:
    """Results of timers and checks, which happen before the next tick."""
    session, end, program = here.session, here.end, PROGRAMS[here.end]
    if here.state in LIVE:
        for event, actor in _reasons_to_end(here):
            yield from here.attempt(event, actor, is_due=True)
    elif here.state is S.ENDING and session.endpoints[end]:
        gone = session._replace(endpoints=set_at(session.endpoints, end, False))
        yield Move(f"at the {ENDS[end]}: the tunnel's process exits", gone, here.others, is_due=True)
    elif here.state is S.ENDING:
        yield from here.attempt(E.CLOSED, program, is_due=True)


def _reasons_to_end(here: SessionAtEnd) -> Iterator[tuple[Event, Actor]]:
    setting, session, end = here.setting, here.session, here.end
    program, is_open = PROGRAMS[end], here.state is S.OPEN
    if setting.time >= session.deadlines[end]:
        yield E.DEADLINE, Actor.CLOCK
    if not setting.audits[end]:
        yield E.AUDIT_FAILS, program
    if here.state in WITH_TUNNEL:
        if not setting.is_line_up or (is_open and not session.endpoints[1 - end]):
            yield E.LINE_LOST, Actor.LINE
        if not setting.fences[end]:
            yield E.FENCE_LOST, program
    if end == BOX:
        if is_open and session.is_page_gone:
            yield (E.PAGE_OVERDUE if session.is_view_only else E.PAGE_LOST), Actor.CLOCK
        return
    if not session.is_permitted:
        yield E.APPROVAL_WITHDRAWN, program
    if not session.is_trained:
        yield E.TRAINING_EXPIRES, Actor.CLOCK
    if is_open and session.is_viewer_gone:
        yield E.VIEWER_LOST, Actor.LINE
    if is_open and not setting.recording:
        yield E.RECORDING_FAILS, program


def _at_data_center(here: SessionAtEnd) -> Iterator[Move]:
    program, session = Actor.DATA_CENTER, here.session
    if not session.asked and here.setting.time == 0:
        yield from here.attempt(E.REQUEST, program)
    yield from here.attempt(E.OPEN_REQUESTED, program)
    yield from here.attempt(E.STAFF_ENDS, program)
    yield from _receive(
        here, Actor.BOX, {SHOWN: E.OFFER_SHOWN, GRANT: E.GRANT_RECEIVED, END_OF_BOX: E.PEER_ENDED}
    )
    yield from here.forge("forged", E.GRANT_RECEIVED, Actor.BOX, grant_verified=False)


def _at_box(here: SessionAtEnd) -> Iterator[Move]:
    program, person, session = Actor.DATA_CENTER, Actor.PERSON, here.session
    if here.state is S.NEW:  # the deadline follows from the wall clock, and is at most the lifetime from now
        deadline = min(1 + here.setting.is_clock_behind, here.setting.time + 1)
        here = here.with_session(session._replace(deadlines=(session.deadlines[DC], deadline)))
    yield from _receive(
        here,
        program,
        {OFFER: E.OFFER_RECEIVED, CERTIFICATE: E.CERTIFICATE_RECEIVED, END_OF_DC: E.PEER_ENDED},
    )
    yield from here.forge("forged", E.OFFER_RECEIVED, program, offer_signed=False)
    yield from here.forge("forged", E.CERTIFICATE_RECEIVED, program, certificate_matches=False)
    yield from _consents(here)
    for event in (E.WRONG_CODE, E.REFUSE, E.PERSON_ENDS):
        yield from here.attempt(event, person)
    if here.state is S.OPEN and not session.is_page_gone:
        yield Move("at the box: the person walks away", session._replace(is_page_gone=True), here.others)
    if session.is_page_gone:
        yield from here.forge("staff's", E.PAGE_RETURNED, person)
        yield from here.forge("evidence-free", E.PAGE_RETURNED, person, ways_proved=0, screen_shared=False)
        yield from _return_to_page(here)


def _receive(here: SessionAtEnd, sender: Actor, events: dict[int, Event]) -> Iterator[Move]:
    """Every message that was ever sent can arrive while the line is up."""
    if here.setting.is_line_up:
        for message, event in events.items():
            if here.session.sent & message:
                yield from here.attempt(event, sender)


def _consents(here: SessionAtEnd) -> Iterator[Move]:
    """Everything that can look like consent; only a person's complete evidence for this offer is consent."""
    person, event = Actor.PERSON, E.AUTHORIZE
    if here.facts().screen_shared:
        yield from here.forge("staff's", event, person)
    else:
        yield from here.attempt(event, person)
    yield from here.forge("incomplete", event, person, ways_proved=1)
    yield from here.forge("unconfigured", event, person, ways_proved=0, ways_required=0)
    yield from here.forge("another offer's", event, person, evidence_hash=b"another")
    yield from here.forge("timeout's", event, Actor.CLOCK)
    yield from here.forge("configuration's", event, Actor.BOX)
    yield from here.forge("data center's", event, Actor.DATA_CENTER)
    yield from here.forge("stranger's", event, Actor.LINE)


def _return_to_page(here: SessionAtEnd) -> Iterator[Move]:
    """The person confirms the session elsewhere than on the shared screen."""
    session = here.session._replace(is_page_gone=False)
    for move in here.forge("", E.PAGE_RETURNED, Actor.PERSON, screen_shared=False):
        yield move._replace(
            session=session._replace(is_view_only=move.session.is_view_only),
            is_genuine=True,
            text=move.text.replace(":  ", ": "),
        )


def _at_either(here: SessionAtEnd) -> Iterator[Move]:
    session, end = here.session, here.end
    if here.setting.is_line_up and session.endpoints == BOTH:
        yield from here.attempt(E.TUNNEL_UP, Actor.LINE)
    if session.endpoints[end]:
        yield from here.forge("premature", E.CLOSED, PROGRAMS[end])
    if here.setting.time < session.deadlines[end]:
        yield from here.forge("premature", E.DEADLINE, Actor.CLOCK)


def _disturbances(session: ModelSession, others: Others) -> Iterator[Move]:
    if session.is_permitted and session.states[DC] in _BEFORE_END:
        yield Move("the approval is withdrawn", session._replace(is_permitted=False), others, cost=1)
    if session.is_trained and session.states[DC] in _BEFORE_END:
        yield Move("the training expires", session._replace(is_trained=False), others, cost=1)
    if session.states[DC] is S.OPEN and not session.is_viewer_gone:
        yield Move("the viewer of staff is lost", session._replace(is_viewer_gone=True), others, cost=1)


def _execute(row: Row, setting: Setting, session: ModelSession, end: int, is_genuine: bool) -> ModelSession:
    states = (row.next, session.states[BOX]) if end == DC else (session.states[DC], row.next)
    session = session._replace(states=states)
    if end == BOX and setting.audits[BOX]:
        session = session._replace(recorded=True)
    if row.event is E.AUTHORIZE and is_genuine:
        session = session._replace(has_consent=True)
    elif row.event is E.WRONG_CODE:
        session = session._replace(codes_tried=session.codes_tried + 1)
    for action in row.actions:
        if action in _EFFECTS:
            session = _EFFECTS[action](session, end, setting)
    return _without_past(session, end, row.next)


def _without_past(session: ModelSession, end: int, state: SessionState) -> ModelSession:
    """Return the session without values on which nothing depends any longer, which reduces the number of states."""
    if end == BOX and state is not S.OFFERED and session.codes_tried:
        session = session._replace(wrong_codes=0, codes_tried=0)
    if end == BOX and state is not S.OPEN and (session.is_page_gone or session.is_view_only):
        session = session._replace(is_page_gone=False, is_view_only=False)
    if end == DC and state is not S.OPEN and session.is_viewer_gone:
        session = session._replace(is_viewer_gone=False)
    if state is S.ENDED:
        deadlines = (0, session.deadlines[BOX]) if end == DC else (session.deadlines[DC], 0)
        session = session._replace(deadlines=deadlines)
    return session


def _start_endpoint(session: ModelSession, end: int, _setting: Setting) -> ModelSession:
    session = session._replace(endpoints=set_at(session.endpoints, end, True))
    return session._replace(is_decided=True) if end == DC else session._replace(was_opened=True)


def _send(message_of_dc: int, message_of_box: int) -> Callable[[ModelSession, int, Setting], ModelSession]:
    return lambda session, end, _: session._replace(sent=session.sent | (message_of_dc, message_of_box)[end])


def _set_path(is_open: bool) -> Callable[[ModelSession, int, Setting], ModelSession]:
    return lambda session, end, _: session._replace(paths=set_at(session.paths, end, is_open))


_EFFECTS: Final[dict[Action, Callable[[ModelSession, int, Setting], ModelSession]]] = {
    Action.SEND_OFFER: lambda session, _, setting: session._replace(
        asked=True, sent=session.sent | OFFER, deadlines=(setting.time + 1, 0)
    ),
    Action.CONFIRM_OFFER: _send(0, SHOWN),
    Action.COUNT_WRONG_CODE: lambda session, _end, _: session._replace(wrong_codes=session.wrong_codes + 1),
    Action.SEND_GRANT: _send(0, GRANT),
    Action.START_ENDPOINT: _start_endpoint,
    Action.SEND_CERTIFICATE: _send(CERTIFICATE, 0),
    Action.OPEN_PATH: _set_path(True),
    Action.VIEW_ONLY: lambda session, _end, _: session._replace(is_view_only=True),
    Action.CONTROL: lambda session, _end, _: session._replace(is_view_only=False),
    Action.CLOSE_PATH: _set_path(False),
    Action.TELL_PEER: _send(END_OF_DC, END_OF_BOX),
}
"""Changes by action. SHOW_OFFER changes nothing here; a process that STOP_ENDPOINT ends exits in a later move."""
