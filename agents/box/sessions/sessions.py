"""All sessions of a box: handles messages of the data center and actions of the person at an instrument."""

from __future__ import annotations

import asyncio
import hmac
from typing import Final

from agents.box.sessions.security_keys import Assertion, SecurityKeyError, SecurityKeys
from agents.box.sessions.session import BoxSession
from agents.box.sessions.surroundings import BoxSurroundings
from wire.session.cose import GrantError
from wire.session.executor import forget_old
from wire.session.grant import PresenceEvidence, PresenceWay, read_offer
from wire.session.log import Unended
from wire.session.messages import (
    CertificateMessage,
    EndMessage,
    HeadMessage,
    OfferMessage,
    ShownMessage,
    ToBox,
)
from wire.session.presence import challenge_of, code_of
from wire.session.table import Actor, Event, SessionState

SESSIONS_MAX: Final = 16
"""Maximum number of sessions that are not over; further offers are refused."""


class BoxSessions:
    """The sessions of a box since its program started; earlier ones are in the audit log."""

    def __init__(self, surroundings: BoxSurroundings) -> None:
        self._surroundings = surroundings
        self._sessions: dict[bytes, BoxSession] = {}

    @property
    def ways(self) -> tuple[PresenceWay, ...]:
        """The ways in which a person must prove presence at the instrument; all are required."""
        return self._surroundings.ways

    def at_port(self, port: int) -> list[BoxSession]:
        """Return the sessions with the instruments of a port, oldest first."""
        return [session for session in self._sessions.values() if session.offer.port == port]

    def is_shared(self, port: int) -> bool:
        """Return whether staff may see or operate the screen of an instrument at this port."""
        return any(session.has_tunnel for session in self.at_port(port))

    @property
    def is_live(self) -> bool:
        """Whether a session is not over."""
        return any(not session.is_over for session in self._sessions.values())

    async def receive(self, message: ToBox) -> None:
        """Handle a message of the data center. A message that does not apply is recorded and changes nothing."""
        if isinstance(message, OfferMessage):
            await self._offered(message.offer)
            return
        if isinstance(message, HeadMessage):
            self._surroundings.audit.peer_head(message.head)
            return
        session = self._sessions.get(message.session)
        if session is None:
            self._surroundings.audit.refused(
                message.session, "a message about a session that is unknown to this box"
            )
        elif isinstance(message, CertificateMessage):
            await session.certified(message)
        else:
            await session.peer_ended(message.cause, Actor.DATA_CENTER)
            self._surroundings.changed()

    async def enter_code(self, session: bytes, port: int, code: str, location: str = "") -> bool:
        """Check the code that the person at a port entered, in a browser or at `location`.

        Return whether it permits the session. For a session of another port, or one that is not offered, this does
        not show whether the code is correct.
        """
        offered = self._offer_at(session, port)
        if offered is None:
            return False
        if not hmac.compare_digest(code.encode(), code_of(offered.signed.hash).encode()):
            await offered.event(Event.WRONG_CODE, Actor.PERSON)
            return False
        return await self._prove(offered, PresenceWay.CODE, location or f"port {port}", port)

    async def press_switch(self, session: bytes, port: int, switch: str) -> bool:
        """Record that a person pressed a switch of the box while this offer was shown; returns like `enter_code`."""
        offered = self._offer_at(session, port)
        if offered is None:
            return False
        return await self._prove(offered, PresenceWay.SWITCH, switch, port)

    async def use_security_key(
        self, session: bytes, port: int, keys: SecurityKeys, assertion: Assertion
    ) -> bool:
        """Verify the security key that the person at a port touched for this offer; returns like `enter_code`."""
        offered = self._offer_at(session, port)
        if offered is None:
            return False
        try:
            key = keys.verify(assertion, challenge_of(offered.signed.hash))
        except SecurityKeyError as error:
            self._surroundings.audit.refused(offered.id, f"a security key: {error}")
            return False
        return await self._prove(offered, PresenceWay.SECURITY_KEY, key, port)

    async def switch_pressed(self, switch: str) -> bool:
        """Handle a press of a switch; return whether it permits a session.

        If the box has exactly one offer and it is shown, the press permits it; otherwise it would be ambiguous. If
        there is none, it lets staff operate the one desktop that became view-only when its page was lost.
        """
        offers = [each for each in self._sessions.values() if each.state is SessionState.OFFERED]
        if not offers:
            restricted = [
                each
                for each in self._sessions.values()
                if each.state is SessionState.OPEN and each.view_only and each.is_shown
            ]
            if len(restricted) == 1:
                await restricted[0].page_returned()
            return False
        if len(offers) == 1 and offers[0].is_shown:
            return await self.press_switch(offers[0].id, offers[0].offer.port, switch)
        for each in offers:
            reason = f"the switch was pressed while {len(offers)} offers waited" if len(offers) > 1 else ""
            self._surroundings.audit.refused(
                each.id, reason or "the switch was pressed while no page showed the offer"
            )
        return False

    async def refuse(self, session: bytes, port: int) -> None:
        """Refuse an offer, for the person at the port."""
        if (offered := self._offer_at(session, port)) is not None:
            await offered.event(Event.REFUSE, Actor.PERSON)

    async def end(self, session: bytes, port: int) -> None:
        """End a session of this port in any state, for the person at the port."""
        known = self._sessions.get(session)
        if known is not None and known.offer.port == port:
            await known.event(Event.PERSON_ENDS, Actor.PERSON)

    async def end_all(self, event: Event = Event.PERSON_ENDS, actor: Actor = Actor.PERSON) -> None:
        """End all sessions, because the switch was held or the program ends."""
        # concurrently: the record of one session could wait for a disk that does not respond
        await asyncio.gather(*(session.event(event, actor) for session in self._sessions.values()))

    def end_soon(self, event: Event, actor: Actor) -> None:
        """Like `end_all`, but after the current event of each session."""
        for session in self._sessions.values():
            session.later(event, actor)

    async def end_unended(self, unended: Unended) -> None:
        """End a session that an earlier run of the program did not end."""
        try:
            signed = read_offer(unended.offer, self._surroundings.datacenter)
        except GrantError as error:
            self._surroundings.audit.refused(
                b"", f"an unended session of an earlier run, whose offer {error}"
            )
            return
        session = self._sessions[signed.offer.id] = BoxSession(
            signed, self._surroundings, self._others_with_tunnel
        )
        await session.end_after_restart(unended.state)

    async def _offered(self, message: bytes) -> None:
        try:
            signed = read_offer(message, self._surroundings.datacenter, self._surroundings.serial)
        except GrantError as error:
            self._surroundings.audit.refused(b"", f"an offer that {error}")
            return
        known = self._sessions.get(signed.offer.id)
        if known is not None:
            if known.offer == signed.offer and known.state is SessionState.OFFERED:
                self._surroundings.send(ShownMessage(known.id))  # the confirmation was lost
            return
        if not self._surroundings.permits(signed.offer):
            self._surroundings.audit.refused(
                signed.offer.id, "an offer for an instrument or port that this box does not have"
            )
            self._surroundings.send(EndMessage(signed.offer.id, "not here"))
            return
        forget_old(self._sessions)
        if sum(not session.is_over for session in self._sessions.values()) >= SESSIONS_MAX:
            self._surroundings.audit.refused(signed.offer.id, f"{SESSIONS_MAX} sessions have not ended yet")
            return
        session = BoxSession(signed, self._surroundings, self._others_with_tunnel)
        is_new = not self._surroundings.audit.knows(session.id)
        await session.offered(is_new=is_new)
        if session.state is not SessionState.NEW:
            self._sessions[session.id] = session
            self._surroundings.changed()

    async def _prove(self, session: BoxSession, way: PresenceWay, observation: str, port: int) -> bool:
        evidence = PresenceEvidence(way, observation, self._surroundings.wall_ns() // 1_000_000_000)
        return await session.prove(evidence, session.signed.hash, screen_shared=self.is_shared(port))

    def _offer_at(self, session: bytes, port: int) -> BoxSession | None:
        known = self._sessions.get(session)
        is_offered = known is not None and known.offer.port == port and known.state is SessionState.OFFERED
        return known if is_offered else None

    def _others_with_tunnel(self, session: BoxSession) -> int:
        return sum(other is not session and other.has_tunnel for other in self._sessions.values())
