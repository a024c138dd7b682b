"""Records the end of sessions that an earlier run of the program left live: no session is resumed after a restart."""

from __future__ import annotations

from typing import NamedTuple

from wire.session.cose import Keys
from wire.session.executor import SessionAudit, Transition
from wire.session.grant import read_offer
from wire.session.log import Unended
from wire.session.table import Actor, Cause, Event, SessionState


class InterruptedSession(NamedTuple):
    """A session that the log shows as live."""

    session: bytes
    box: str
    state: SessionState


def read_interrupted(unended: Unended, keys: Keys) -> InterruptedSession:
    """Return the session. Raises: GrantError if its offer was signed with another key."""
    offer = read_offer(unended.offer, keys).offer
    return InterruptedSession(offer.id, offer.box, unended.state)


async def end_interrupted(interrupted: InterruptedSession, audit: SessionAudit) -> None:
    """Record the end of a session; its tunnel has ended with the program."""
    session, own = interrupted.session, Actor.DATA_CENTER
    if interrupted.state is not SessionState.ENDING:
        ending = Transition(session, Event.RESTARTED, own, SessionState.ENDING, Cause.RESTARTED)
        await audit.record(ending)
    await audit.record(Transition(session, Event.CLOSED, own, SessionState.ENDED))
