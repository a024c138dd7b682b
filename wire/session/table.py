"""The transition table of remote sessions: all states, all events, and every row that changes the state.

Both ends execute this table, each with a separate state: the data center decides who may request sessions, the box
which session the person at the instrument has permitted. A row applies at the ends in `ends`. Rows of the same state
and event are tried in their order. An event without a row that applies changes nothing.

An end has a tunnel from the row to `opening` until `closed`, and lets packets pass only in the state `open`. The row
to `ending` stops the packets; `closed` is recorded once the tunnel is completely removed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class SessionState(StrEnum):
    """The progress of a session at one end."""

    NEW = "new"
    """Unknown at this end."""
    REQUESTED = "requested"
    """The data center has signed the offer and sends it until the box confirms it."""
    OFFERED = "offered"
    """The offer is shown to the person at the instrument."""
    AUTHORIZED = "authorized"
    """A person at the instrument has permitted the session: the grant exists."""
    OPENING = "opening"
    """The tunnel is being established; no packet passes."""
    OPEN = "open"
    """Packets pass between staff and the instrument's one TCP port."""
    ENDING = "ending"
    """No packet passes; the tunnel and the path are being removed."""
    ENDED = "ended"
    """Only the records of the session are left."""


class End(StrEnum):
    """The two ends of a session."""

    DATA_CENTER = "data center"
    BOX = "box"


class Actor(StrEnum):
    """The parties that can cause an event."""

    DATA_CENTER = "data center"
    """The data center's program, for staff or on its own."""
    BOX = "box"
    """The box program."""
    PERSON = "person"
    """The person at the instrument, through the local page, the switch or a security key."""
    CLOCK = "clock"
    """A timer on the monotonic clock."""
    LINE = "line"
    """The connection between the ends."""


class Cause(StrEnum):
    """The cause of a session's end, as known at this end."""

    REFUSED = "refused"
    """The person refused the offer."""
    WRONG_CODES = "wrong codes"
    """Too many wrong codes were entered."""
    EXPIRED = "expired"
    """The deadline of the offer or of the grant was reached."""
    ENDED_BY_PERSON = "ended by the person"
    """The person at the instrument ended it."""
    ENDED_BY_STAFF = "ended by staff"
    """The staff member ended it."""
    WITHDRAWN = "withdrawn"
    """The approval was withdrawn, or the policies no longer permit the session."""
    TRAINING_EXPIRED = "training expired"
    """The staff member's training for the instrument expired."""
    PERSON_ABSENT = "person absent"
    """The person's page was closed for longer than the site permits."""
    LINE_LOST = "line lost"
    """The connection was lost, or the tunnel's process ended."""
    VIEWER_LOST = "viewer lost"
    """The staff member's viewer was closed, or no longer responded."""
    RECORDING_FAILED = "recording failed"
    """The recording could not be written."""
    AUDIT_FAILED = "audit failed"
    """The audit log could not be written."""
    FENCE_LOST = "fence lost"
    """The firewall was no longer in force."""
    RESTARTED = "restarted"
    """The program of this end was started again."""
    PEER_ENDED = "ended by the peer"
    """The other end has ended it; its log has the cause."""


class Event(StrEnum):
    """Events of a session."""

    REQUEST = "request"
    """A staff member requests the session."""
    OFFER_RECEIVED = "offer received"
    """The box receives the signed offer."""
    OFFER_SHOWN = "offer shown"
    """The data center learns that the offer is shown."""
    AUTHORIZE = "authorize"
    """The person permits the session, with evidence of the presence."""
    WRONG_CODE = "wrong code"
    """A code was entered that is not the offer's."""
    REFUSE = "refuse"
    """The person refuses the session."""
    GRANT_RECEIVED = "grant received"
    """The data center receives the offer with the box's countersignature."""
    OPEN_REQUESTED = "open requested"
    """The data center is ready to open the session."""
    CERTIFICATE_RECEIVED = "certificate received"
    """The box receives the session's certificate, with which it can open the tunnel."""
    TUNNEL_UP = "tunnel up"
    """The tunnel is established."""
    PAGE_LOST = "page lost"
    """The page of the person at the instrument has stopped reporting."""
    PAGE_RETURNED = "page returned"
    """The person at the instrument has opened the page again and confirmed the session."""
    PAGE_OVERDUE = "page overdue"
    """The page was closed for longer than the site permits."""
    PERSON_ENDS = "person ends"
    """The person ends the session, on the page, the instrument or the switch."""
    STAFF_ENDS = "staff ends"
    """The staff member ends the session, or withdraws the request."""
    APPROVAL_WITHDRAWN = "approval withdrawn"
    """The access policies no longer permit the session."""
    TRAINING_EXPIRES = "training expires"
    """The training of the staff member expires."""
    DEADLINE = "deadline"
    """The timer of the offer or grant fires."""
    LINE_LOST = "line lost"
    """The tunnel or its connection is dead."""
    VIEWER_LOST = "viewer lost"
    """The viewer of the staff member has closed its connection, or is silent for too long."""
    RECORDING_FAILS = "recording fails"
    """A block of the recording cannot be written."""
    AUDIT_FAILS = "audit fails"
    """An audit record cannot be written, or the recorded transition could no longer be executed."""
    FENCE_LOST = "fence lost"
    """The firewall reports that it is not in force."""
    PEER_ENDED = "peer ended"
    """The other end reports that it has ended the session."""
    RESTARTED = "restarted"
    """The program has started and finds the session in its log."""
    CLOSED = "closed"
    """The tunnel's process has exited, and the path is removed."""


class Action(StrEnum):
    """Actions of an end when it executes a row, in the order of the row."""

    SEND_OFFER = "sign and send the offer"
    SHOW_OFFER = "show the offer"
    CONFIRM_OFFER = "confirm the offer to the data center"
    COUNT_WRONG_CODE = "count the wrong code"
    SEND_GRANT = "countersign the offer and send the grant"
    START_ENDPOINT = "start the tunnel's endpoint"
    SEND_CERTIFICATE = "issue and send the session's certificate"
    OPEN_PATH = "let packets pass until the deadline"
    VIEW_ONLY = "stop keys and pointer of staff"
    CONTROL = "let keys and pointer of staff pass again"
    CLOSE_PATH = "stop the packets"
    STOP_ENDPOINT = "end the tunnel's process and destroy the key"
    TELL_PEER = "report the end to the other end"


S, E, A, C = SessionState, Event, Action, Cause
BOTH: Final = (End.DATA_CENTER, End.BOX)
_DC: Final = (End.DATA_CENTER,)
_BOX: Final = (End.BOX,)
BEFORE_TUNNEL: Final = (S.REQUESTED, S.OFFERED, S.AUTHORIZED)
WITH_TUNNEL: Final = (S.OPENING, S.OPEN)
LIVE: Final = (*BEFORE_TUNNEL, *WITH_TUNNEL)
"""States from which a session can be ended."""
_LIVE_AT_BOX: Final = tuple(state for state in LIVE if state is not S.REQUESTED)


class Row(NamedTuple):
    """One row: in one of `states`, `event` leads to `next` if all guards hold and one of `actors` causes it."""

    ends: tuple[End, ...]
    states: tuple[SessionState, ...]
    event: Event
    actors: tuple[Actor, ...]
    guards: tuple[str, ...]
    next: SessionState
    actions: tuple[Action, ...] = ()
    cause: Cause | None = None
    """The cause of the end, for rows to `ending`."""

    @property
    def name(self) -> str:
        """The row's event, its ends unless both, and the next state, as traces and mutations name it."""
        end = "" if self.ends == BOTH else f" at the {self.ends[0]}"
        return f"{self.event}{end} → {self.next}"


def _end(
    ends: tuple[End, ...], states: tuple[SessionState, ...], event: Event, actor: Actor, cause: Cause
) -> Row:
    guards = ("deadline_reached",) if event is E.DEADLINE else ()
    return Row(
        ends, states, event, (actor,), guards, S.ENDING, (A.CLOSE_PATH, A.STOP_ENDPOINT, A.TELL_PEER), cause
    )


TABLE: Final[tuple[Row, ...]] = (
    # towards a session: each row is recorded first
    Row(
        _DC,
        (S.NEW,),
        E.REQUEST,
        (Actor.DATA_CENTER,),
        ("request_permitted", "training_valid", "audit_written"),
        S.REQUESTED,
        (A.SEND_OFFER,),
    ),
    Row(
        _BOX,
        (S.NEW,),
        E.OFFER_RECEIVED,
        (Actor.DATA_CENTER,),
        ("offer_signed", "id_unused", "unexpired", "audit_written"),
        S.OFFERED,
        (A.SHOW_OFFER, A.CONFIRM_OFFER),
    ),
    Row(_DC, (S.REQUESTED,), E.OFFER_SHOWN, (Actor.BOX,), ("audit_written",), S.OFFERED),
    Row(
        _BOX,
        (S.OFFERED,),
        E.AUTHORIZE,
        (Actor.PERSON,),
        ("evidence_complete", "evidence_matches", "screen_not_shared", "unexpired", "audit_written"),
        S.AUTHORIZED,
        (A.SEND_GRANT,),
    ),
    Row(
        _BOX,
        (S.OFFERED,),
        E.WRONG_CODE,
        (Actor.PERSON,),
        ("tries_left", "audit_written"),
        S.OFFERED,
        (A.COUNT_WRONG_CODE,),
    ),
    _end(_BOX, (S.OFFERED,), E.WRONG_CODE, Actor.PERSON, C.WRONG_CODES),
    _end(_BOX, (S.OFFERED,), E.REFUSE, Actor.PERSON, C.REFUSED),
    Row(
        _DC,
        (S.REQUESTED, S.OFFERED),
        E.GRANT_RECEIVED,
        (Actor.BOX,),
        ("grant_verified", "audit_written"),
        S.AUTHORIZED,
    ),
    Row(
        _DC,
        (S.AUTHORIZED,),
        E.OPEN_REQUESTED,
        (Actor.DATA_CENTER,),
        ("request_permitted", "training_valid", "unexpired", "tunnel_free", "path_fenced", "audit_written"),
        S.OPENING,
        (A.START_ENDPOINT, A.SEND_CERTIFICATE),
    ),
    Row(
        _BOX,
        (S.AUTHORIZED,),
        E.CERTIFICATE_RECEIVED,
        (Actor.DATA_CENTER,),
        ("certificate_matches", "unexpired", "tunnel_free", "path_fenced", "audit_written"),
        S.OPENING,
        (A.START_ENDPOINT,),
    ),
    Row(
        _DC,
        (S.OPENING,),
        E.TUNNEL_UP,
        (Actor.LINE,),
        (
            "request_permitted",
            "training_valid",
            "unexpired",
            "path_fenced",
            "recording_writable",
            "audit_written",
        ),
        S.OPEN,
        (A.OPEN_PATH,),
    ),
    Row(
        _BOX,
        (S.OPENING,),
        E.TUNNEL_UP,
        (Actor.LINE,),
        ("unexpired", "path_fenced", "audit_written"),
        S.OPEN,
        (A.OPEN_PATH,),
    ),
    # an open session without a page is restricted, then ended
    Row(_BOX, (S.OPEN,), E.PAGE_LOST, (Actor.CLOCK,), (), S.OPEN, (A.VIEW_ONLY,)),
    Row(
        _BOX,
        (S.OPEN,),
        E.PAGE_RETURNED,
        (Actor.PERSON,),
        ("evidence_complete", "screen_not_shared", "audit_written"),
        S.OPEN,
        (A.CONTROL,),
    ),
    _end(_BOX, (S.OPEN,), E.PAGE_OVERDUE, Actor.CLOCK, C.PERSON_ABSENT),
    # towards the end: nothing can prevent these rows
    _end(_BOX, _LIVE_AT_BOX, E.PERSON_ENDS, Actor.PERSON, C.ENDED_BY_PERSON),
    _end(_DC, LIVE, E.STAFF_ENDS, Actor.DATA_CENTER, C.ENDED_BY_STAFF),
    _end(_DC, LIVE, E.APPROVAL_WITHDRAWN, Actor.DATA_CENTER, C.WITHDRAWN),
    _end(_DC, LIVE, E.TRAINING_EXPIRES, Actor.CLOCK, C.TRAINING_EXPIRED),
    _end(BOTH, LIVE, E.DEADLINE, Actor.CLOCK, C.EXPIRED),
    _end(BOTH, WITH_TUNNEL, E.LINE_LOST, Actor.LINE, C.LINE_LOST),
    _end(_DC, (S.OPEN,), E.VIEWER_LOST, Actor.LINE, C.VIEWER_LOST),
    _end(_DC, (S.OPEN,), E.RECORDING_FAILS, Actor.DATA_CENTER, C.RECORDING_FAILED),
    _end(_DC, LIVE, E.AUDIT_FAILS, Actor.DATA_CENTER, C.AUDIT_FAILED),
    _end(_BOX, _LIVE_AT_BOX, E.AUDIT_FAILS, Actor.BOX, C.AUDIT_FAILED),
    _end(_DC, WITH_TUNNEL, E.FENCE_LOST, Actor.DATA_CENTER, C.FENCE_LOST),
    _end(_BOX, WITH_TUNNEL, E.FENCE_LOST, Actor.BOX, C.FENCE_LOST),
    _end(_DC, LIVE, E.PEER_ENDED, Actor.BOX, C.PEER_ENDED),
    _end(_BOX, _LIVE_AT_BOX, E.PEER_ENDED, Actor.DATA_CENTER, C.PEER_ENDED),
    _end(_DC, LIVE, E.RESTARTED, Actor.DATA_CENTER, C.RESTARTED),
    _end(_BOX, _LIVE_AT_BOX, E.RESTARTED, Actor.BOX, C.RESTARTED),
    Row(_DC, (S.ENDING,), E.CLOSED, (Actor.DATA_CENTER,), ("tunnel_gone",), S.ENDED),
    Row(_BOX, (S.ENDING,), E.CLOSED, (Actor.BOX,), ("tunnel_gone",), S.ENDED),
)
