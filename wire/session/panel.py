"""Messages between the box and the agent of an instrument that shows remote sessions to the person in front of it.

The agent sends `POST /v1/sessions`; the response is sent once it differs from the agent's state, or after
HOLD_SECONDS. The person's actions are sent with the next request. The agent has no message that permits a session
without the code that the person was told.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from wire.messages import Message
from wire.session.messages import SessionId

PATH: Final = "/v1/sessions"
HOLD_SECONDS: Final = 5.0
"""Time for which a response without a change is held; a page that is silent for 20 s counts as lost."""
ASK_BYTES_MAX: Final = 1024
SHOWN_MAX: Final = 4
"""Maximum number of shown sessions of one instrument: pending and open sessions, and the last one."""
Text: TypeAlias = Annotated[str, Meta(max_length=64)]


class EnterCode(Message, frozen=True, tag="code"):
    """The person enters the digits that staff gave by telephone."""

    session: SessionId
    code: Annotated[str, Meta(pattern=r"^[0-9]{6}\Z")]


class Refuse(Message, frozen=True, tag="refuse"):
    """The person refuses the request."""

    session: SessionId


class EndSession(Message, frozen=True, tag="end"):
    """The person ends the session."""

    session: SessionId


PersonAction: TypeAlias = EnterCode | Refuse | EndSession


class ShownSession(Message, frozen=True):
    """A session with the instrument, as the person sees it."""

    session: SessionId
    state: Text
    staff: Text
    role: Text
    mode: Literal["view", "control"]
    left_s: Annotated[int, Meta(ge=0)]
    """Seconds until the deadline; 0 when it is over."""
    ways: Annotated[list[Text], Meta(max_length=8)]
    """Required evidence that is missing: "code", "switch", "security key"."""
    is_shared: bool
    """Whether a desktop of this port is shared, so that the person can only end sessions here."""
    is_view_only: bool
    cause: Text
    """Why it ended; empty before."""


class PanelAsk(Message, frozen=True):
    """Box ← instrument: the sessions that it displays, and an action of the person."""

    displayed: Annotated[list[SessionId], Meta(max_length=SHOWN_MAX)]
    """The sessions that a person can see on the instrument; the box treats it as an open page for them."""
    known: Annotated[str, Meta(max_length=64)]
    """The `version` of the last reply; empty at first."""
    action: PersonAction | None = None


class PanelReply(Message, frozen=True):
    """Box → instrument: the sessions with the instrument, newest first."""

    version: Annotated[str, Meta(max_length=64)]
    sessions: Annotated[list[ShownSession], Meta(max_length=SHOWN_MAX)]
