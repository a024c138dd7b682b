"""Invariants of every reachable world, in terms of the global state that the ends cannot see.

A property is a function that returns whether a move violates it. Its docstring is one sentence, which a
counterexample states.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple, TypeAlias

from sim.sessions.model import (
    BOTH,
    BOX,
    DC,
    END_OF_BOX,
    END_OF_DC,
    NEITHER,
    WRONG_CODES_MAX,
    ModelSession,
    Setting,
)
from sim.sessions.moves import Move
from sim.sessions.surroundings import SettingChange
from wire.session.table import LIVE, WITH_TUNNEL, Action, Cause, Event, Row, SessionState

S = SessionState


class RowExecution(NamedTuple):
    """The execution of a row: the session before and after it, the setting, and the move."""

    setting: Setting
    before: ModelSession
    session: ModelSession
    row: Row
    move: Move

    @property
    def end(self) -> int:
        """The end that executed the row."""
        return self.move.end

    def enters(self, *states: SessionState) -> bool:
        """Return whether the row leads to one of the states from another one."""
        return self.row.next in states and self.before.states[self.end] is not self.row.next


def unrecorded(change: RowExecution) -> bool:
    """An end advanced a session although its audit log could not record it."""
    restricts = change.row.next in (S.ENDING, S.ENDED) or Action.VIEW_ONLY in change.row.actions
    return not restricts and not change.setting.audits[change.end]


def unjustified_offer(change: RowExecution) -> bool:
    """An offer was signed without a valid approval or training."""
    return change.enters(S.REQUESTED) and not (change.session.is_permitted and change.session.is_trained)


def false_offer(change: RowExecution) -> bool:
    """A person was shown an offer that the data center had not signed, or that had expired."""
    if change.end == DC or not change.enters(S.OFFERED):
        return False
    return not change.move.is_genuine or change.setting.time >= change.session.deadlines[BOX]


def used_again(change: RowExecution) -> bool:
    """A session that the box had already recorded began again, so that its grant could be used twice."""
    if change.end == DC:
        return False
    begins = change.before.states[BOX] is S.NEW and change.before.recorded
    return begins or (change.enters(S.OPENING) and change.before.was_opened)


def left_ended(change: RowExecution) -> bool:
    """An event changed a session that had ended."""
    return change.before.states[change.end] is S.ENDED


def no_consent(change: RowExecution) -> bool:
    """A session was authorized without a person's complete evidence for exactly this offer."""
    return change.enters(S.AUTHORIZED) and not change.session.has_consent


def unlimited_codes(change: RowExecution) -> bool:
    """More wrong codes could be entered than the limit permits."""
    return change.row.next is S.OFFERED and change.end == BOX and change.session.codes_tried > WRONG_CODES_MAX


def late(change: RowExecution) -> bool:
    """An end authorized or opened a session after its deadline."""
    advances = change.enters(S.OPENING, S.OPEN) or (change.end == BOX and change.enters(S.AUTHORIZED))
    return advances and change.setting.time >= change.before.deadlines[change.end]


def no_grant(change: RowExecution) -> bool:
    """A tunnel's endpoint was started without a grant, or without the data center's decision."""
    return change.enters(S.OPENING) and not (change.session.has_consent and change.session.is_decided)


def withdrawn(change: RowExecution) -> bool:
    """The data center opened a session after its approval or training had ended."""
    valid = change.session.is_permitted and change.session.is_trained
    return change.end == DC and change.enters(*WITH_TUNNEL) and not valid


def unfenced(change: RowExecution) -> bool:
    """An endpoint was started, or a path opened, while the firewall was not in force."""
    return change.enters(*WITH_TUNNEL) and not change.setting.fences[change.end]


def no_recording(change: RowExecution) -> bool:
    """A session was opened although its recording could not be written."""
    return change.end == DC and change.enters(S.OPEN) and not change.setting.recording


def two_tunnels(change: RowExecution) -> bool:
    """Two sessions of a box had a tunnel at one end."""
    return change.session.endpoints[change.end] and change.move.others.endpoints[change.end]


def false_end(change: RowExecution) -> bool:
    """A session was recorded as ended while its tunnel or path was still there."""
    return change.enters(S.ENDED) and (
        change.session.endpoints[change.end] or change.session.paths[change.end]
    )


def early_end(change: RowExecution) -> bool:
    """A session was ended as expired before its deadline."""
    return change.row.cause is Cause.EXPIRED and change.setting.time < change.before.deadlines[change.end]


def staff_control(change: RowExecution) -> bool:
    """Staff regained control although the person had not returned."""
    return Action.CONTROL in change.row.actions and not change.move.is_genuine


def incomplete_end(change: RowExecution) -> bool:
    """An end did not stop the packets, end the tunnel and notify the other end."""
    needed = {Action.CLOSE_PATH, Action.STOP_ENDPOINT, Action.TELL_PEER}
    return change.enters(S.ENDING) and not needed <= set(change.row.actions)


Property: TypeAlias = Callable[[RowExecution], bool]
PROPERTIES: Final[tuple[Property, ...]] = (
    unrecorded,
    unjustified_offer,
    false_offer,
    used_again,
    left_ended,
    no_consent,
    unlimited_codes,
    late,
    no_grant,
    withdrawn,
    unfenced,
    no_recording,
    two_tunnels,
    false_end,
    early_end,
    staff_control,
    incomplete_end,
)
"""The properties of each row's execution."""


def packets_without_grant(setting: Setting, session: ModelSession) -> bool:
    """Packets can pass although the session is not open at both ends with a grant and the data center's decision."""
    justified = session.has_consent and session.is_decided and session.states == (S.OPEN, S.OPEN)
    return can_pass(setting, session) and not justified


def can_pass(setting: Setting, session: ModelSession) -> bool:
    """Return whether packets can pass between the data center and the instrument."""
    return session.paths == BOTH and session.endpoints == BOTH and setting.is_line_up


def outlives(setting: Setting, session: ModelSession) -> bool:
    """A session or a part of its tunnel was still there when time passed after the reason for its end."""
    return any(_outlives(setting, session, end) for end in (DC, BOX))


def _outlives(setting: Setting, session: ModelSession, end: int) -> bool:
    if session.paths[end] and setting.time > session.deadlines[end]:
        return True  # also if the end's program is down
    state, has_tunnel = session.states[end], session.endpoints[end]
    if not has_tunnel and not (state in LIVE and setting.up[end]):
        return False
    fails = setting.time >= session.deadlines[end] or not setting.audits[end]
    if end == DC:
        fails = fails or not (session.is_permitted and session.is_trained)
        fails = fails or (state is S.OPEN and (session.is_viewer_gone or not setting.recording))
    elif state is S.OPEN:
        fails = fails or session.is_page_gone
    works = setting.up[end] and setting.fences[end] and setting.is_line_up
    return fails or (has_tunnel and (not works or state is S.ENDING))


def unstoppable(setting: Setting, session: ModelSession, moves: Collection[Move]) -> bool:
    """A person, staff or the other end could not end a session, or a refusal or one code too many did not end it."""
    ending = {(move.end, move.row.event) for move in moves if move.row and move.row.next is S.ENDING}
    return not ending.issuperset(_must_end(setting, session))


def _must_end(setting: Setting, session: ModelSession) -> Iterator[tuple[int, Event]]:
    for end, own, message in ((DC, Event.STAFF_ENDS, END_OF_BOX), (BOX, Event.PERSON_ENDS, END_OF_DC)):
        if setting.up[end] and session.states[end] in LIVE:
            yield end, own
            if setting.is_line_up and session.sent & message:
                yield end, Event.PEER_ENDED
    if setting.up[BOX] and session.states[BOX] is S.OFFERED:
        yield BOX, Event.REFUSE
        if session.codes_tried == WRONG_CODES_MAX:
            yield BOX, Event.WRONG_CODE


def revived(before: Setting, setting: Setting, session: ModelSession) -> bool:
    """A session was still live after its end's program had been started again."""
    ends = zip(before.up, setting.up, session.states, strict=True)
    return any(up and not was_up and state in LIVE for was_up, up, state in ends)


def endless(session: ModelSession) -> bool:
    """A session does not end, however long clocks and operating systems run."""
    ended = all(state is S.ENDED or state is S.NEW for state in session.states)
    return not ended or session.endpoints != NEITHER or session.paths != NEITHER


def violation(setting: Setting, before: ModelSession, move: Move) -> str:
    """Return the property that a move of a session violates, or ""."""
    if move.row:
        change = RowExecution(setting, before, move.session, move.row, move)
        for violates in PROPERTIES:
            if violates(change):
                return sentence(violates)
    return sentence(packets_without_grant) if packets_without_grant(setting, move.session) else ""


def shifted_violation(
    before: Setting, session_before: ModelSession, shift: SettingChange, session: ModelSession
) -> str:
    """Return the property that a change of the surroundings violates at one session, or ""."""
    setting = shift.setting
    if shift.is_tick and outlives(before, session_before):
        return sentence(outlives)
    if revived(before, setting, session):
        return sentence(revived)
    return sentence(packets_without_grant) if packets_without_grant(setting, session) else ""


def sentence(violates: Callable[..., bool]) -> str:
    """Return the sentence of a property, without its full stop."""
    return inspect.cleandoc(violates.__doc__ or "").rstrip(".")


_OTHERS: Final[tuple[Callable[..., bool], ...]] = (
    packets_without_grant,
    outlives,
    unstoppable,
    revived,
    endless,
)
SENTENCES: Final = tuple(map(sentence, (*PROPERTIES, *_OTHERS)))
"""Descriptions of what the properties exclude."""
