"""The next moves of one session: by both ends, people, the line, clocks and its own faults.
`sim.sessions.surroundings` has the moves of all sessions at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

from sim.sessions.model import (
    BOX,
    CERTIFICATE,
    DC,
    EITHER,
    END_OF_BOX,
    END_OF_DC,
    GRANT,
    OFFER,
    SHOWN,
    WRONG_CODES_MAX,
    Life,
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

    what: str
    life: Life
    """The session after it."""
    others: Others
    row: Row | None = None
    """The row that was executed, if any."""
    end: int = DC
    is_genuine: bool = True
    """The event is what it claims to be, and not forged."""
    is_due: bool = False
    """It happens sooner or later without a person, the line or the other end: a timer, a check, a process's exit."""
    cost: int = 0
    """The disturbances that it uses up."""


class Moves:
    """The moves of one session under one table."""

    def __init__(self, table: Sequence[Row]) -> None:
        self._rows = {
            (end, state, event): found
            for end, state, event in product(End, SessionState, Event)
            if (found := rows(end, state, event, table))
        }

    def after(self, setting: Setting, life: Life, others: Others, can_disturb: bool) -> Iterator[Move]:
        """Yield every move of the session, with disturbances if any may still occur."""
        for end in (DC, BOX):
            if setting.up[end]:
                here = Here(self._rows, setting, life, others, end)
                for move in (*_due(here), *(_at_data_center, _at_box)[end](here), *_at_either(here)):
                    yield move
                    if can_disturb and move.row and "audit_written" in move.row.guards:
                        yield from _recorded_only(here, move)
        if can_disturb:
            yield from _disturbances(life, others)

    def restarted(self, setting: Setting, life: Life, end: int) -> Life:
        """Return a session after the start of an end's program, which ends what its log shows as live."""
        if life.states[end] is S.ENDED:  # the program does not load what has ended
            return life._replace(states=(S.NEW, life.states[BOX]) if end == DC else (life.states[DC], S.NEW))
        here = Here(self._rows, setting, life, Others(), end)
        return next((move.life for move in here.attempt(E.RESTARTED, PROGRAMS[end])), life)


class Here:
    """A session at one end, where events are attempted."""

    def __init__(
        self,
        rows: dict[tuple[End, SessionState, Event], list[Row]],
        setting: Setting,
        life: Life,
        others: Others,
        end: int,
    ) -> None:
        self.setting = setting
        self.life = life
        self.others = others
        self.end = end
        self.state = life.states[end]
        self._rows = rows
        self._facts: Facts | None = None

    def with_life(self, life: Life) -> Here:
        """Return the same place with another session."""
        return Here(self._rows, self.setting, life, self.others, self.end)

    def facts(self) -> Facts:
        """The facts as an end collects them, if nothing is forged."""
        if self._facts is None:
            self._facts = self._collect()
        return self._facts

    def _collect(self) -> Facts:
        setting, life, end = self.setting, self.life, self.end
        return Facts(
            now_ns=setting.time,
            deadline_ns=life.deadlines[end],
            audit_written=setting.audits[end],
            request_permitted=life.is_permitted,
            training_valid=life.is_trained,
            offer_signed=True,
            id_unused=not life.recorded,
            ways_required=2,
            ways_proved=2,
            offer_hash=b"offer",
            evidence_hash=b"offer",
            screen_shared=self.others.is_open or life.states[BOX] is S.OPEN,
            wrong_codes=life.wrong_codes,
            wrong_codes_max=WRONG_CODES_MAX,
            grant_verified=True,
            certificate_matches=True,
            others_with_tunnel=int(self.others.occupied[end]),
            path_fenced=setting.fences[end],
            recording_writable=setting.recording,
            tunnel_gone=not (life.endpoints[end] or life.paths[end]),
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
        what = f"at the {ENDS[self.end]}: {whose}{event} → {row.next}{cause}"
        life = _execute(row, self.setting, self.life, self.end, is_genuine)
        return (Move(what, life, self.others, row, self.end, is_genuine, is_due),)


def _recorded_only(here: Here, move: Move) -> Iterator[Move]:
    """The record of a row took so long that the row no longer applies when it is durable: the session ends."""
    recorded = here.life._replace(states=move.life.states, recorded=move.life.recorded)
    for ended in here.with_life(recorded).attempt(E.AUDIT_FAILS, PROGRAMS[here.end]):
        yield ended._replace(what=f"{move.what}, but only recorded; {ended.what}", cost=1)


def _due(here: Here) -> Iterator[Move]:
    """Results of timers and checks, which happen before the next tick."""
    life, end, program = here.life, here.end, PROGRAMS[here.end]
    if here.state in LIVE:
        for event, actor in _reasons_to_end(here):
            yield from here.attempt(event, actor, is_due=True)
    elif here.state is S.ENDING and life.endpoints[end]:
        gone = life._replace(endpoints=set_at(life.endpoints, end, False))
        yield Move(f"at the {ENDS[end]}: the tunnel's process exits", gone, here.others, is_due=True)
    elif here.state is S.ENDING:
        yield from here.attempt(E.CLOSED, program, is_due=True)


def _reasons_to_end(here: Here) -> Iterator[tuple[Event, Actor]]:
    setting, life, end = here.setting, here.life, here.end
    program, is_open = PROGRAMS[end], here.state is S.OPEN
    if setting.time >= life.deadlines[end]:
        yield E.DEADLINE, Actor.CLOCK
    if not setting.audits[end]:
        yield E.AUDIT_FAILS, program
    if here.state in WITH_TUNNEL:
        if not setting.is_line_up or (is_open and not life.endpoints[1 - end]):
            yield E.LINE_LOST, Actor.LINE
        if not setting.fences[end]:
            yield E.FENCE_LOST, program
    if end == BOX:
        if is_open and life.is_page_gone:
            yield (E.PAGE_OVERDUE if life.is_view_only else E.PAGE_LOST), Actor.CLOCK
        return
    if not life.is_permitted:
        yield E.APPROVAL_WITHDRAWN, program
    if not life.is_trained:
        yield E.TRAINING_EXPIRES, Actor.CLOCK
    if is_open and life.is_viewer_gone:
        yield E.VIEWER_LOST, Actor.LINE
    if is_open and not setting.recording:
        yield E.RECORDING_FAILS, program


def _at_data_center(here: Here) -> Iterator[Move]:
    program, life = Actor.DATA_CENTER, here.life
    if not life.asked and here.setting.time == 0:
        yield from here.attempt(E.REQUEST, program)
    yield from here.attempt(E.OPEN_REQUESTED, program)
    yield from here.attempt(E.STAFF_ENDS, program)
    yield from _receive(
        here, Actor.BOX, {SHOWN: E.OFFER_SHOWN, GRANT: E.GRANT_RECEIVED, END_OF_BOX: E.PEER_ENDED}
    )
    yield from here.forge("forged", E.GRANT_RECEIVED, Actor.BOX, grant_verified=False)


def _at_box(here: Here) -> Iterator[Move]:
    program, person, life = Actor.DATA_CENTER, Actor.PERSON, here.life
    if here.state is S.NEW:  # the deadline follows from the wall clock, and is at most the lifetime from now
        deadline = min(1 + here.setting.is_clock_behind, here.setting.time + 1)
        here = here.with_life(life._replace(deadlines=(life.deadlines[DC], deadline)))
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
    if here.state is S.OPEN and not life.is_page_gone:
        yield Move("at the box: the person walks away", life._replace(is_page_gone=True), here.others)
    if life.is_page_gone:
        yield from here.forge("staff's", E.PAGE_RETURNED, person)
        yield from here.forge("evidence-free", E.PAGE_RETURNED, person, ways_proved=0, screen_shared=False)
        yield from _return_to_page(here)


def _receive(here: Here, sender: Actor, events: dict[int, Event]) -> Iterator[Move]:
    """Every message that was ever sent can arrive while the line is up."""
    if here.setting.is_line_up:
        for message, event in events.items():
            if here.life.sent & message:
                yield from here.attempt(event, sender)


def _consents(here: Here) -> Iterator[Move]:
    """Everything that can look like a consent; only a person's complete evidence for this offer is one."""
    person, event = Actor.PERSON, E.AUTHORIZE
    if here.facts().screen_shared:
        yield from here.forge("staff's", event, person)
    else:
        yield from here.attempt(event, person)
    yield from here.forge("incomplete", event, person, ways_proved=1)
    yield from here.forge("unconfigured", event, person, ways_proved=0, ways_required=0)
    yield from here.forge("another offer's", event, person, evidence_hash=b"another")
    yield from here.forge("time-out's", event, Actor.CLOCK)
    yield from here.forge("configuration's", event, Actor.BOX)
    yield from here.forge("data center's", event, Actor.DATA_CENTER)
    yield from here.forge("stranger's", event, Actor.LINE)


def _return_to_page(here: Here) -> Iterator[Move]:
    """The person confirms the session elsewhere than on the shared screen."""
    life = here.life._replace(is_page_gone=False)
    for move in here.forge("", E.PAGE_RETURNED, Actor.PERSON, screen_shared=False):
        yield move._replace(
            life=life._replace(is_view_only=move.life.is_view_only),
            is_genuine=True,
            what=move.what.replace(":  ", ": "),
        )


def _at_either(here: Here) -> Iterator[Move]:
    life, end = here.life, here.end
    if here.setting.is_line_up and life.endpoints == EITHER:
        yield from here.attempt(E.TUNNEL_UP, Actor.LINE)
    if life.endpoints[end]:
        yield from here.forge("premature", E.CLOSED, PROGRAMS[end])
    if here.setting.time < life.deadlines[end]:
        yield from here.forge("premature", E.DEADLINE, Actor.CLOCK)


def _disturbances(life: Life, others: Others) -> Iterator[Move]:
    if life.is_permitted and life.states[DC] in _BEFORE_END:
        yield Move("the approval is withdrawn", life._replace(is_permitted=False), others, cost=1)
    if life.is_trained and life.states[DC] in _BEFORE_END:
        yield Move("the training expires", life._replace(is_trained=False), others, cost=1)
    if life.states[DC] is S.OPEN and not life.is_viewer_gone:
        yield Move("the viewer of staff is lost", life._replace(is_viewer_gone=True), others, cost=1)


def _execute(row: Row, setting: Setting, life: Life, end: int, is_genuine: bool) -> Life:
    states = (row.next, life.states[BOX]) if end == DC else (life.states[DC], row.next)
    life = life._replace(states=states)
    if end == BOX and setting.audits[BOX]:
        life = life._replace(recorded=True)
    if row.event is E.AUTHORIZE and is_genuine:
        life = life._replace(has_consent=True)
    elif row.event is E.WRONG_CODE:
        life = life._replace(codes_tried=life.codes_tried + 1)
    for action in row.actions:
        if action in _EFFECTS:
            life = _EFFECTS[action](life, end, setting)
    return _without_past(life, end, row.next)


def _without_past(life: Life, end: int, state: SessionState) -> Life:
    """Return the session without values on which nothing depends any longer, so that fewer states differ."""
    if end == BOX and state is not S.OFFERED and life.codes_tried:
        life = life._replace(wrong_codes=0, codes_tried=0)
    if end == BOX and state is not S.OPEN and (life.is_page_gone or life.is_view_only):
        life = life._replace(is_page_gone=False, is_view_only=False)
    if end == DC and state is not S.OPEN and life.is_viewer_gone:
        life = life._replace(is_viewer_gone=False)
    if state is S.ENDED:
        deadlines = (0, life.deadlines[BOX]) if end == DC else (life.deadlines[DC], 0)
        life = life._replace(deadlines=deadlines)
    return life


def _start_endpoint(life: Life, end: int, _setting: Setting) -> Life:
    life = life._replace(endpoints=set_at(life.endpoints, end, True))
    return life._replace(is_decided=True) if end == DC else life._replace(was_opened=True)


def _send(message_of_dc: int, message_of_box: int) -> Callable[[Life, int, Setting], Life]:
    return lambda life, end, _: life._replace(sent=life.sent | (message_of_dc, message_of_box)[end])


def _set_path(is_open: bool) -> Callable[[Life, int, Setting], Life]:
    return lambda life, end, _: life._replace(paths=set_at(life.paths, end, is_open))


_EFFECTS: Final[dict[Action, Callable[[Life, int, Setting], Life]]] = {
    Action.SEND_OFFER: lambda life, _, setting: life._replace(
        asked=True, sent=life.sent | OFFER, deadlines=(setting.time + 1, 0)
    ),
    Action.CONFIRM_OFFER: _send(0, SHOWN),
    Action.COUNT_WRONG_CODE: lambda life, _end, _: life._replace(wrong_codes=life.wrong_codes + 1),
    Action.SEND_GRANT: _send(0, GRANT),
    Action.START_ENDPOINT: _start_endpoint,
    Action.SEND_CERTIFICATE: _send(CERTIFICATE, 0),
    Action.OPEN_PATH: _set_path(True),
    Action.VIEW_ONLY: lambda life, _end, _: life._replace(is_view_only=True),
    Action.CONTROL: lambda life, _end, _: life._replace(is_view_only=False),
    Action.CLOSE_PATH: _set_path(False),
    Action.TELL_PEER: _send(END_OF_DC, END_OF_BOX),
}
"""Changes by action. SHOW_OFFER changes nothing here; a process that STOP_ENDPOINT ends exits in a later move."""
