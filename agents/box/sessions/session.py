"""One session at the box: collects the facts, asks the table, and executes the actions of its rows.

Events of a session are handled one after the other. A row towards a session is executed after its audit record is
durable; a row to the end is executed first and recorded afterwards, because nothing may prevent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agents.box.sessions.certificate import CertificateError, check_certificate
from agents.box.sessions.surroundings import Surroundings
from agents.box.tunnel.tunnel import Credentials, SessionKey, Tunnel, TunnelError
from wire.session.grant import Evidence, SignedOffer, countersign_offer
from wire.session.guards import Facts
from wire.session.messages import CertificateMessage, EndMessage, GrantMessage, ShownMessage
from wire.session.presence import TRIES
from wire.session.step import Refusal, rows, step
from wire.session.table import LIVE, WITH_TUNNEL, Action, Actor, Cause, End, Event, Row, SessionState

PAGE_LOST_SECONDS: Final = 20.0
"""Without the page of the person for this time, staff may only look."""
PAGE_OVERDUE_SECONDS: Final = 60.0
"""Without it for this time, the session ends."""
_SECOND_NS: Final = 1_000_000_000
_AUDITED: Final = "audit_written"


class BoxSession:
    """A session, from its offer to its end."""

    def __init__(
        self, signed: SignedOffer, surroundings: Surroundings, others_at_port: Callable[[BoxSession], int]
    ) -> None:
        """`others_at_port` counts the other sessions with this instrument that have a tunnel."""
        self.signed, self.offer, self._around = signed, signed.offer, surroundings
        self._others_at_port = others_at_port
        self.state = SessionState.NEW
        self.cause: Cause | None = None
        self.view_only = False
        self.evidence: tuple[Evidence, ...] = ()
        self.wrong_codes = 0
        self.deadline_ns = self.offer.deadline_ns(surroundings.wall_ns(), surroundings.monotonic_ns())
        self._evidence_hash: bytes | None = None
        self._was_screen_shared = False
        self._key = SessionKey()
        self._grant = b""
        self._credentials: Credentials | None = None
        self._tunnel: Tunnel | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._page_timers: list[asyncio.TimerHandle] = []

    @property
    def id(self) -> bytes:
        """The session's identifier."""
        return self.offer.id

    @property
    def has_tunnel(self) -> bool:
        """Whether anything of a tunnel may be left."""
        return self.state in (*WITH_TUNNEL, SessionState.ENDING)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self.state is SessionState.ENDED

    async def offered(self, *, is_new: bool) -> None:
        """Show the offer; `is_new` if no session of this id was recorded before."""
        await self._handle(Event.OFFER_RECEIVED, Actor.DATA_CENTER, id_unused=is_new, offer_signed=True)
        if self.state is not SessionState.NEW:
            self._set_timer()

    async def prove(self, evidence: Evidence, offer_hash: bytes, *, screen_shared: bool) -> bool:
        """The person has proved the presence in one way, for the offer with this hash; return whether that permits
        the session, which takes all ways that the site requires.

        Evidence that does not permit it, because the offer has changed its state meanwhile, is dropped.
        """
        async with self._lock:
            if not self._is(SessionState.OFFERED):
                return False
            kept = tuple(each for each in self.evidence if each.way is not evidence.way)
            self.evidence, self._evidence_hash = (*kept, evidence), offer_hash
            self._was_screen_shared |= screen_shared
            is_complete = self._ways_proved() == len(self._around.ways)
            await self._step(Event.AUTHORIZE, Actor.PERSON, screen_shared=self._was_screen_shared)
            self._around.changed()
            if self._is(SessionState.OFFERED) and is_complete:
                self.evidence, self._evidence_hash, self._was_screen_shared = (), None, False
            return self._is(SessionState.AUTHORIZED)

    async def certified(self, message: CertificateMessage) -> None:
        """The data center has issued the session's certificate."""
        try:
            check_certificate(message, self.offer, self._key.public_key)
        except CertificateError as error:
            self._around.audit.refused(self.id, str(error))
            return
        self._credentials = Credentials(
            self.id.hex(), message.certificate, message.authority, message.tls_crypt
        )
        await self._handle(Event.CERTIFICATE_RECEIVED, Actor.DATA_CENTER, certificate_matches=True)

    async def event(self, event: Event, actor: Actor, *, screen_shared: bool = True) -> None:
        """Handle an event without further facts."""
        await self._handle(event, actor, screen_shared=screen_shared)

    def page_seen(self) -> None:
        """The page of the person at the instrument is there."""
        self._cancel_page_timers()
        if self.state is SessionState.OPEN:
            loop = asyncio.get_running_loop()
            self._page_timers = [
                loop.call_later(seconds, self._later, event, Actor.CLOCK)
                for seconds, event in (
                    (PAGE_LOST_SECONDS, Event.PAGE_LOST),
                    (PAGE_OVERDUE_SECONDS, Event.PAGE_OVERDUE),
                )
            ]

    async def _handle(self, event: Event, actor: Actor, **facts: Any) -> None:
        async with self._lock:
            await self._step(event, actor, **facts)

    async def _step(self, event: Event, actor: Actor, **facts: Any) -> None:
        row = step(End.BOX, self.state, event, actor, self._facts(audit_written=True, **facts))
        if isinstance(row, Refusal):
            if rows(End.BOX, self.state, event):
                self._around.audit.refused(self.id, row.reason)
            return
        if _AUDITED in row.guards:
            await self._towards(row, event, actor, facts)
        else:
            await self._execute(row)
            await self._around.audit.record(self.id, row)

    async def _towards(self, row: Row, event: Event, actor: Actor, facts: dict[str, Any]) -> None:
        """Record a row towards a session, then execute it if it still applies."""
        if Action.SEND_GRANT in row.actions:
            self._grant = countersign_offer(self.signed, self.evidence, self._public_key(), self._around.key)
        is_written = await self._around.audit.record(self.id, row, self._grant)
        again = step(End.BOX, self.state, event, actor, self._facts(audit_written=is_written, **facts))
        if isinstance(again, Row):
            await self._execute(again)
        elif not is_written:
            await self._step(Event.AUDIT_FAILS, Actor.BOX)
        else:
            self._around.audit.refused(self.id, again.reason)
            if self.deadline_ns <= self._around.monotonic_ns():
                await self._step(Event.DEADLINE, Actor.CLOCK)

    def _facts(self, **known: Any) -> Facts:
        around = self._around
        values: dict[str, Any] = {
            "now_ns": around.monotonic_ns(),
            "deadline_ns": self.deadline_ns,
            "ways_required": len(around.ways),
            "ways_proved": self._ways_proved(),
            "offer_hash": self.signed.hash,
            "evidence_hash": self._evidence_hash,
            "wrong_codes": self.wrong_codes,
            "wrong_codes_max": TRIES - 1,
            "others_at_port": self._others_at_port(self),
            "path_fenced": around.path.is_fenced,
            "tunnel_gone": self._tunnel is None,
        }
        return Facts(**(values | known))

    def _is(self, state: SessionState) -> bool:
        return self.state is state

    def _ways_proved(self) -> int:
        return len({each.way for each in self.evidence} & set(self._around.ways))

    async def _execute(self, row: Row) -> None:
        self.state = row.next
        if row.cause is not None:
            self.cause = row.cause
        for action in row.actions:
            await self._act(action)
        if row.event is Event.TUNNEL_UP:
            self.page_seen()
        if self.state is SessionState.ENDING:
            self._cancel_timers()
        self._around.changed()

    async def _act(self, action: Action) -> None:
        around = self._around
        match action:
            case Action.CONFIRM_OFFER:
                around.send(ShownMessage(self.id))
            case Action.COUNT_WRONG_CODE:
                self.wrong_codes += 1
            case Action.SEND_GRANT:
                around.send(GrantMessage(self.id, self._grant))
            case Action.START_ENDPOINT:
                self._start(self._open())
            case Action.OPEN_PATH:
                left = (self.deadline_ns - around.monotonic_ns()) // _SECOND_NS
                if not await around.path.open(self.offer, max(1, left)):
                    self._later(Event.FENCE_LOST, Actor.BOX)
            case Action.VIEW_ONLY | Action.CONTROL:
                self.view_only = action is Action.VIEW_ONLY
            case Action.CLOSE_PATH:
                await around.path.close(self.offer)
            case Action.STOP_ENDPOINT:
                self._key.forget()
                self._start(self._close())
            case Action.TELL_PEER:
                around.send(EndMessage(self.id, str(self.cause)))
            case _:  # SHOW_OFFER: the state is what is shown; the others are the data center's
                pass

    async def _open(self) -> None:
        """Open the tunnel, and handle its end."""
        assert self._credentials is not None
        self._tunnel = tunnel = self._around.make_tunnel()
        try:
            await tunnel.open(self._around.endpoint, self._credentials, self._key)
        except TunnelError as error:
            self._around.audit.refused(self.id, str(error))
            self._later(Event.LINE_LOST, Actor.LINE)
            return
        await self._handle(Event.TUNNEL_UP, Actor.LINE)
        await asyncio.shield(tunnel.ended)
        await self._handle(Event.LINE_LOST, Actor.LINE)

    async def _close(self) -> None:
        """Close what there is of the tunnel."""
        tunnel = self._tunnel
        if tunnel is not None:
            await tunnel.close()
            self._tunnel = None
        await self._handle(Event.CLOSED, Actor.BOX)

    def _later(self, event: Event, actor: Actor) -> None:
        """Handle an event after the present one."""
        self._start(self._handle(event, actor))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _set_timer(self) -> None:
        """Handle the deadline when it is reached."""
        if self.state not in LIVE:
            return
        left = (self.deadline_ns - self._around.monotonic_ns()) / _SECOND_NS
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self._overdue)

    def _overdue(self) -> None:
        self._later(Event.DEADLINE, Actor.CLOCK)
        self._timer = asyncio.get_running_loop().call_later(1.0, self._set_timer)  # if the clocks differ

    def _cancel_timers(self) -> None:
        self._cancel_page_timers()
        if self._timer is not None:
            self._timer.cancel()

    def _cancel_page_timers(self) -> None:
        for timer in self._page_timers:
            timer.cancel()

    def _public_key(self) -> EllipticCurvePublicKey:
        key = load_der_public_key(self._key.public_key)
        assert isinstance(key, EllipticCurvePublicKey)
        return key
