"""One session at the box: the facts from which `wire.session.executor` decides by the table, and the actions."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agents.box.sessions.certificate import CertificateError, check_certificate
from agents.box.sessions.desktop import Shared
from agents.box.sessions.surroundings import BoxSurroundings
from agents.box.tunnel.tunnel import Credentials, Tunnel, TunnelError
from wire.session.executor import Deadline, SessionExecutor
from wire.session.grant import PresenceEvidence, SessionService, SignedOffer, countersign_offer
from wire.session.guards import Facts
from wire.session.messages import CertificateMessage, EndMessage, GrantMessage, ShownMessage
from wire.session.presence import TRIES
from wire.session.table import WITH_TUNNEL, Action, Actor, End, Event, Row, SessionState

PAGE_LOST_SECONDS: Final = 20.0
"""Time without the person's page after which the session becomes view-only."""
PAGE_OVERDUE_SECONDS: Final = 60.0
"""Time without the person's page after which the session ends."""
SHOWN_SECONDS: Final = 60.0
"""How long a session counts as shown after the page's last request. With scripts, it asks at least every 25 s."""
_SECOND_NS: Final = 1_000_000_000


class BoxSession(SessionExecutor):
    """A session, from its offer to its end."""

    end = End.BOX

    def __init__(
        self,
        signed: SignedOffer,
        surroundings: BoxSurroundings,
        others_with_tunnel: Callable[[BoxSession], int],
    ) -> None:
        """`others_with_tunnel` counts the other sessions that have a tunnel."""
        super().__init__(signed.offer.id, surroundings.audit)
        self.signed, self.offer, self._surroundings = signed, signed.offer, surroundings
        self._others_with_tunnel = others_with_tunnel
        self.view_only = False
        self.reached_s: dict[SessionState, int] = {}
        """The time at which each state was reached first, in seconds since 1970 by the clock of the box."""
        self.evidence: tuple[PresenceEvidence, ...] = ()
        self.wrong_codes = 0
        self.deadline_ns = self.offer.deadline_ns(surroundings.wall_ns(), surroundings.monotonic_ns())
        self._evidence_hash: bytes | None = None
        self._was_screen_shared = False
        self._key = surroundings.make_key()
        self._grant = b""
        self._credentials: Credentials | None = None
        self._tunnel: Tunnel | None = None
        self._desktop: Shared | None = None
        self._deadline = Deadline(self, self.deadline_ns, surroundings.monotonic_ns())
        self._page_timers: list[asyncio.TimerHandle] = []
        self._seen_at = -math.inf

    @property
    def has_tunnel(self) -> bool:
        """Whether the session has a tunnel, or parts of it that are not removed yet."""
        return self.state in (*WITH_TUNNEL, SessionState.ENDING)

    @property
    def left_s(self) -> int:
        """The seconds until the deadline, at least 0."""
        return max(0, (self.deadline_ns - self._surroundings.monotonic_ns()) // _SECOND_NS)

    async def offered(self, *, is_new: bool) -> None:
        """Show the offer; `is_new` if no session of this id was recorded before."""
        await self.event(Event.OFFER_RECEIVED, Actor.DATA_CENTER, id_unused=is_new, offer_signed=True)
        if self.state is SessionState.NEW:
            self._deadline.cancel()

    async def end_after_restart(self, state: SessionState) -> None:
        """End the session, which the log shows in this state after a restart of the program."""
        self._deadline.cancel()
        self.state = state
        if state is SessionState.ENDING:
            await self._surroundings.path.close(self.offer)
            await self.event(Event.CLOSED, Actor.BOX)
        else:
            await self.event(Event.RESTARTED, Actor.BOX)

    async def prove(self, evidence: PresenceEvidence, offer_hash: bytes, *, screen_shared: bool) -> bool:
        """Record one proof of the person's presence for the offer with this hash.

        Return whether it permits the session, which requires all kinds of proof that the site demands. If all are
        given and another guard refuses, for example because a desktop is shared, the evidence is dropped.
        """
        async with self._lock:
            if not self._is(SessionState.OFFERED):
                return False
            kept = tuple(each for each in self.evidence if each.way is not evidence.way)
            self.evidence, self._evidence_hash = (*kept, evidence), offer_hash
            self._was_screen_shared |= screen_shared
            is_complete = self._ways_proved() == len(self._surroundings.ways)
            self._grant = countersign_offer(
                self.signed, self.evidence, self._public_key(), self._surroundings.key()
            )
            await self._step(Event.AUTHORIZE, Actor.PERSON, screen_shared=self._was_screen_shared)
            self._surroundings.changed()
            if self._is(SessionState.OFFERED) and is_complete:
                self.evidence, self._evidence_hash, self._was_screen_shared = (), None, False
            return self._is(SessionState.AUTHORIZED)

    async def certified(self, message: CertificateMessage) -> None:
        """Process the session's certificate, issued by the data center."""
        try:
            self._credentials = check_certificate(message, self.offer, self._key.public_key)
        except CertificateError as error:
            self._audit.refused(self.id, str(error))
            return
        await self.event(Event.CERTIFICATE_RECEIVED, Actor.DATA_CENTER, certificate_matches=True)

    async def page_returned(self) -> None:
        """Record that the person returned to the page and confirmed it by a means that staff cannot use remotely."""
        await self.event(Event.PAGE_RETURNED, Actor.PERSON, screen_shared=False)

    @property
    def is_shown(self) -> bool:
        """Whether a page of the port, or the instrument's own display, shows the session."""
        return asyncio.get_running_loop().time() - self._seen_at <= SHOWN_SECONDS

    def page_seen(self) -> None:
        """Record that the person's page is open, or the instrument's own display shows the session."""
        self._seen_at = asyncio.get_running_loop().time()
        self._start_page_timers()

    def _start_page_timers(self) -> None:
        self._cancel_page_timers()
        if self.state is SessionState.OPEN:
            loop = asyncio.get_running_loop()
            self._page_timers = [
                loop.call_later(seconds, self.later, event, Actor.CLOCK)
                for seconds, event in (
                    (PAGE_LOST_SECONDS, Event.PAGE_LOST),
                    (PAGE_OVERDUE_SECONDS, Event.PAGE_OVERDUE),
                )
            ]

    def _facts(self, **known: Any) -> Facts:
        surroundings = self._surroundings
        values: dict[str, Any] = {
            "now_ns": surroundings.monotonic_ns(),
            "deadline_ns": self.deadline_ns,
            "ways_required": len(surroundings.ways),
            "ways_proved": self._ways_proved(),
            "offer_hash": self.signed.hash,
            "evidence_hash": self._evidence_hash,
            "wrong_codes": self.wrong_codes,
            "wrong_codes_max": TRIES - 1,
            "others_with_tunnel": self._others_with_tunnel(self),
            "path_fenced": surroundings.path.is_fenced,
            "tunnel_gone": self._tunnel is None,
        }
        return Facts(**(values | known))

    def _message(self, row: Row) -> bytes:
        if row.event is Event.OFFER_RECEIVED:
            return self.signed.message
        if row.next is SessionState.ENDING and self._desktop is not None:
            return self._desktop.chain
        return self._grant if row.event is Event.AUTHORIZE else b""

    def _deadline_ns(self, row: Row) -> int:
        return self.deadline_ns if row.event is Event.OFFER_RECEIVED else 0

    def _is(self, state: SessionState) -> bool:
        return self.state is state

    def _ways_proved(self) -> int:
        return len({each.way for each in self.evidence} & set(self._surroundings.ways))

    def _changed(self, row: Row) -> None:
        self.reached_s.setdefault(self.state, self._surroundings.wall_ns() // _SECOND_NS)
        if row.event is Event.TUNNEL_UP:
            self._start_page_timers()
        if self.state is SessionState.ENDING:
            self._cancel_page_timers()
            self._deadline.cancel()
        self._surroundings.changed()

    async def _act(self, action: Action) -> None:
        surroundings = self._surroundings
        match action:
            case Action.CONFIRM_OFFER:
                surroundings.send(ShownMessage(self.id))
            case Action.COUNT_WRONG_CODE:
                self.wrong_codes += 1
            case Action.SEND_GRANT:
                surroundings.send(GrantMessage(self.id, self._grant))
                self._tunnel = surroundings.make_tunnel()
                self._tunnel.prepare(surroundings.endpoint)  # while the data center issues the certificate
            case Action.START_ENDPOINT:
                self._start(self._open())
            case Action.OPEN_PATH:
                await self._start_sharing()
            case Action.VIEW_ONLY | Action.CONTROL:
                self.view_only = action is Action.VIEW_ONLY
                await self._restrict()
            case Action.CLOSE_PATH:
                if self._desktop is not None:
                    await self._desktop.close()
                await surroundings.path.close(self.offer)
            case Action.STOP_ENDPOINT:
                self._key.forget()
                self._start(self._close())
            case Action.TELL_PEER:
                surroundings.send(EndMessage(self.id, str(self.cause)))
            case _:  # SHOW_OFFER: the page shows the session's state; the other actions are the data center's
                pass

    async def _start_sharing(self) -> None:
        """Share the desktop, and open the path to it; if either fails, the session ends."""
        surroundings = self._surroundings
        self._desktop = surroundings.share(self.offer, self._desktop_ended)
        try:
            if self._desktop is not None:
                await self._desktop.start()
        except OSError as error:
            self._desktop_ended(f"the desktop cannot be shared: {error}")
            return
        await self._open_path()

    async def _restrict(self) -> None:
        """Make the session view-only, or give control back. The path of a raw TCP service is closed meanwhile."""
        if self._desktop is not None:
            self._desktop.set_control(has_control=not self.view_only)
        if self.offer.service is SessionService.TCP:
            await (self._surroundings.path.close(self.offer) if self.view_only else self._open_path())

    async def _open_path(self) -> None:
        remaining_s = (self.deadline_ns - self._surroundings.monotonic_ns()) // _SECOND_NS
        if not await self._surroundings.path.open(self.offer, max(1, remaining_s)):
            self.later(Event.FENCE_LOST, Actor.BOX)

    def _desktop_ended(self, reason: str) -> None:
        self._audit.refused(self.id, reason)
        self.later(Event.LINE_LOST, Actor.LINE)

    async def _open(self) -> None:
        """Open the tunnel, and handle its end."""
        tunnel = self._tunnel
        assert self._credentials is not None
        assert tunnel is not None, "created with the grant"
        try:
            await tunnel.open(self._surroundings.endpoint, self._credentials, self._key)
        except TunnelError as error:
            self._audit.refused(self.id, str(error))
            await self.event(Event.LINE_LOST, Actor.LINE)
            return
        await self.event(Event.TUNNEL_UP, Actor.LINE)
        await asyncio.shield(tunnel.ended)
        await self.event(Event.LINE_LOST, Actor.LINE)

    async def _close(self) -> None:
        """Close the existing parts of the tunnel."""
        tunnel = self._tunnel
        if tunnel is not None:
            await tunnel.close()
            self._tunnel = None
        await self.event(Event.CLOSED, Actor.BOX)

    def _cancel_page_timers(self) -> None:
        for timer in self._page_timers:
            timer.cancel()

    def _public_key(self) -> EllipticCurvePublicKey:
        key = load_der_public_key(self._key.public_key)
        assert isinstance(key, EllipticCurvePublicKey)
        return key
