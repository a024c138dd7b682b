"""The explored model: two ends that execute the transition table, what connects them, and what disturbs them.

A message that was sent can arrive at any later moment, any number of times, in any order, or never; so that loss,
duplication, reordering and delay need no separate events. Time passes in ticks. A timer that is due fires before
the next tick, unless its program is down. Programs crash and start again, the line is lost and returns, the box's
wall clock jumps back, firewalls, audit logs and the recording fail, approvals and trainings end, viewers are lost.
Each of these costs one of the scope's disturbances, which makes the model finite; what people and staff do with a
session is free.

Besides the states of both ends, the model has variables that neither end can observe (the ground truth): whether a
person has actually permitted a session, and whether the data center has actually decided to open it. The properties
refer to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from wire.session.table import SessionState

DC: Final = 0
BOX: Final = 1

OFFER: Final = 1
SHOWN: Final = 2
GRANT: Final = 4
CERTIFICATE: Final = 8
END_OF_DC: Final = 16
END_OF_BOX: Final = 32

WRONG_CODES_MAX: Final = 1
TIME_MAX: Final = 3
"""The last tick. A deadline is at most 2: 1, and one more tick at a box whose wall clock is behind."""

Pair = tuple[bool, bool]
"""A value of the data center, and of the box."""
NEITHER: Final = (False, False)
BOTH: Final = (True, True)


OCCUPYING: Final = (SessionState.OPENING, SessionState.OPEN, SessionState.ENDING)


class ModelSession(NamedTuple):
    """One session: its state at both ends, and the ground truth."""

    states: tuple[SessionState, SessionState] = (SessionState.NEW, SessionState.NEW)
    sent: int = 0
    """The messages that were ever sent, as bits."""
    deadlines: tuple[int, int] = (0, 0)
    endpoints: Pair = NEITHER
    """Whether the tunnel's process runs."""
    paths: Pair = NEITHER
    """Whether the firewall lets packets pass."""
    asked: bool = False
    """Whether a staff member has requested it; every session is requested once."""
    recorded: bool = False
    """Whether its ID is in the box's audit log."""
    wrong_codes: int = 0
    """The wrong codes that the box has counted."""
    is_permitted: bool = True
    is_trained: bool = True
    is_page_gone: bool = False
    is_view_only: bool = False
    is_viewer_gone: bool = False
    """Whether the staff's viewer is closed, or its connection is dead."""
    has_consent: bool = False
    """Ground truth: whether a person has permitted this session, with all evidence, for this offer."""
    codes_tried: int = 0
    """Ground truth: the wrong codes that were entered."""
    is_decided: bool = False
    """Ground truth: whether the data center has decided to open this session."""
    was_opened: bool = False
    """Ground truth: whether the box has used the grant."""


class Setting(NamedTuple):
    """The surroundings of all sessions: the state that they share at one moment."""

    time: int = 0
    is_line_up: bool = True
    up: Pair = BOTH
    """Whether the programs of both ends run."""
    audits: Pair = BOTH
    """Whether the audit logs of both ends can be written."""
    fences: Pair = BOTH
    """Whether the firewalls of both ends are in force."""
    recording: bool = True
    """Whether recordings can be written."""
    is_clock_behind: bool = False
    """Whether the wall clock of the box was set back."""


class Others(NamedTuple):
    """The state of the other sessions with the same instrument, as a session sees it."""

    endpoints: Pair = NEITHER
    occupied: Pair = NEITHER
    """Whether one of them is between `opening` and `ended`, at each end."""
    is_open: bool = False
    """Whether one of them is open at the box, so that staff operate the instrument's screen."""


def others(rest: Sequence[ModelSession]) -> Others:
    """Return the state of the other sessions, as a session sees it."""
    return Others(
        (any(session.endpoints[DC] for session in rest), any(session.endpoints[BOX] for session in rest)),
        (
            any(session.states[DC] in OCCUPYING for session in rest),
            any(session.states[BOX] in OCCUPYING for session in rest),
        ),
        any(session.states[BOX] is SessionState.OPEN for session in rest),
    )


class Scope(NamedTuple):
    """The bounds of an exploration."""

    sessions: int
    disturbances: int

    def __str__(self) -> str:
        sessions = "1 session" if self.sessions == 1 else f"{self.sessions} sessions of one instrument"
        disturbances = "1 disturbance" if self.disturbances == 1 else f"{self.disturbances} disturbances"
        return f"{sessions}, {disturbances}"


WHOLE: Final = (Scope(1, 3), Scope(2, 2))
"""The scope of `rap session explore`, which takes less than a minute on one core."""
QUICK: Final = (Scope(1, 1), Scope(2, 0))
"""The same properties with fewer disturbances, in a second or two."""


class Assumptions(NamedTuple):
    """Guarantees of the operating system. Without any one of them, some property is violated."""

    dies_with_program: bool = True
    """The tunnel's process ends when the program that manages it ends (OpenVPN: `management-client`)."""
    kernel_timeout: bool = True
    """The firewall's element of a session expires in the kernel (nftables: `timeout`)."""


ALL: Final = Assumptions()


def set_at(pair: tuple[bool, bool], end: int, value: bool) -> Pair:
    """Return the pair with the value of one end replaced."""
    return (value, pair[1]) if end == DC else (pair[0], value)
