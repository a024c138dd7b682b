"""One session at the data center: its facts and actions for the transition table (`wire.session.executor`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from datacenter.sessions.surroundings import (
    EndpointError,
    SessionRecording,
    Surroundings,
    TunnelCredentials,
    TunnelEndpoint,
)
from wire.session.cose import GrantError
from wire.session.executor import Deadline, SessionExecutor
from wire.session.grant import Grant, Offer, SignedOffer, read_grant, sign_offer
from wire.session.guards import Facts
from wire.session.messages import EndMessage, OfferMessage
from wire.session.presence import code_of
from wire.session.table import WITH_TUNNEL, Action, Actor, End, Event, Row, SessionState

REPEAT_SECONDS: Final = 5
_SECOND_NS: Final = 1_000_000_000


class SessionClosed(Exception):
    """The session is not open; no data passes."""


class DeskSession(SessionExecutor):
    """A session, from the request of a staff member to its end."""

    end = End.DATA_CENTER

    def __init__(
        self, offer: Offer, surroundings: Surroundings, others_with_tunnel: Callable[[DeskSession], int]
    ) -> None:
        """The key in `offer` is replaced by a key for the tunnel's end that is generated here.

        `others_with_tunnel` counts the other sessions of this box that have a tunnel. Raises: GrantError for a
        value that an offer must not have.
        """
        super().__init__(offer.id, surroundings.audit)
        self._around = surroundings
        self._endpoint_key = surroundings.make_key()
        self.offer = replace(offer, endpoint_key=self._endpoint_key.public_key())
        self.signed = SignedOffer(self.offer, sign_offer(self.offer, surroundings.key))
        self._others_with_tunnel = others_with_tunnel
        now_ns = surroundings.monotonic_ns()
        self.deadline_ns = self.offer.deadline_ns(surroundings.wall_ns(), now_ns)
        self.grant: Grant | None = None
        self._endpoint: TunnelEndpoint | None = None
        self._issued: TunnelCredentials | None = None
        self._recording: SessionRecording | None = None
        self.recorded = b""
        """The value of the recording's hash chain, once it is complete."""
        self._connections: set[asyncio.Transport] = set()
        self._repeats_at_ns = now_ns + REPEAT_SECONDS * _SECOND_NS
        self._deadline = Deadline(self, self.deadline_ns, now_ns)

    @property
    def code(self) -> str:
        """The code that staff give to the person at the instrument by telephone."""
        return code_of(self.signed.hash)

    @property
    def has_tunnel(self) -> bool:
        """Whether a part of the tunnel may still exist."""
        return self.state in (*WITH_TUNNEL, SessionState.ENDING)

    async def request(self) -> None:
        """Request the session for a staff member."""
        await self.event(Event.REQUEST, Actor.DATA_CENTER)
        if self.state is SessionState.NEW:
            self._deadline.cancel()

    def repeat(self) -> None:
        """Send the offer or the certificate again, if the box has not acted on it for REPEAT_SECONDS."""
        now_ns = self._around.monotonic_ns()
        if now_ns < self._repeats_at_ns:
            return
        self._repeats_at_ns = now_ns + REPEAT_SECONDS * _SECOND_NS
        if self.state is SessionState.REQUESTED:
            self._around.send(self.offer.box, OfferMessage(self.signed.message))
        elif self.state is SessionState.OPENING and self._issued is not None:
            self._around.send(self.offer.box, self._issued.message(self.id))

    async def granted(self, message: bytes) -> None:
        """Handle the box's grant: open the session if the grant is valid."""
        try:
            grant = read_grant(message, self._around.datacenter_keys, self._around.box_keys(self.offer.box))
            if grant.consent.offer_hash != self.signed.hash:
                raise GrantError("is for another offer")
        except GrantError as error:
            self._audit.refused(self.id, f"the grant {error}")
            return
        if self.state not in (SessionState.REQUESTED, SessionState.OFFERED):
            return  # the grant was repeated
        self.grant = grant
        await self.event(Event.GRANT_RECEIVED, Actor.BOX, grant_verified=True)
        await self.event(Event.OPEN_REQUESTED, Actor.DATA_CENTER)

    async def check_permission(self) -> None:
        """End the session if the policies or the training no longer permit it."""
        if not self._around.permits(self.offer):
            await self.event(Event.APPROVAL_WITHDRAWN, Actor.DATA_CENTER)
        elif not self._around.has_training(self.offer):
            await self.event(Event.TRAINING_EXPIRES, Actor.CLOCK)

    async def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Connect `protocol` to the instrument, and return its transport. Raises: SessionClosed, OSError."""
        if self.state is not SessionState.OPEN or self._endpoint is None:
            raise SessionClosed(f"the session is {self.state}, not open")
        tracked = _TrackedConnection(protocol, self._connections)
        await self._endpoint.connect(tracked)
        assert tracked.transport is not None, "the endpoint has connected it"
        if self.state is not SessionState.OPEN:
            tracked.transport.abort()
            raise SessionClosed("the session has ended")
        return tracked.transport

    async def recording_failed(self) -> None:
        """End the session because a block of the recording cannot be written."""
        await self.event(Event.RECORDING_FAILS, Actor.DATA_CENTER)

    def _facts(self, **known: Any) -> Facts:
        around = self._around
        values: dict[str, Any] = {
            "now_ns": around.monotonic_ns(),
            "deadline_ns": self.deadline_ns,
            "request_permitted": around.permits(self.offer),
            "training_valid": around.has_training(self.offer),
            "offer_hash": self.signed.hash,
            "others_with_tunnel": self._others_with_tunnel(self),
            "path_fenced": self._endpoint is not None and self._endpoint.is_fenced,
            "recording_writable": self._recording is not None and self._recording.is_writable,
            "tunnel_gone": self._endpoint is None,
        }
        return Facts(**(values | known))

    def _message(self, row: Row) -> bytes:
        if row.event is Event.REQUEST:
            return self.signed.message
        if row.event is Event.CLOSED:
            return self.recorded
        return self.grant.message if row.event is Event.GRANT_RECEIVED and self.grant is not None else b""

    def _deadline_ns(self, row: Row) -> int:
        return self.deadline_ns if row.event is Event.REQUEST else 0

    def _changed(self, row: Row) -> None:  # noqa: ARG002
        if self.state in (SessionState.OFFERED, SessionState.AUTHORIZED) and self._endpoint is None:
            self._endpoint = self._around.make_endpoint(self.offer, self._endpoint_key)
        elif self.state is SessionState.ENDING:
            self._deadline.cancel()
        self._around.changed()

    async def _act(self, action: Action) -> None:
        around, box = self._around, self.offer.box
        match action:
            case Action.SEND_OFFER:
                around.send(box, OfferMessage(self.signed.message))
            case Action.START_ENDPOINT:
                await self._start_endpoint()
            case Action.SEND_CERTIFICATE if self._issued is not None:
                around.send(box, self._issued.message(self.id))
            case Action.CLOSE_PATH:
                for transport in list(self._connections):
                    transport.abort()
            case Action.STOP_ENDPOINT:
                self._start(self._close())
            case Action.TELL_PEER:
                around.send(box, EndMessage(self.id, str(self.cause)))
            case _:  # OPEN_PATH: `connect` checks the state; the other actions are the box's
                pass

    async def _start_endpoint(self) -> None:
        """Start the tunnel's endpoint, which waits for the box; if this fails, the session ends."""
        assert self.grant is not None
        key = self.grant.consent.session_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        endpoint = self._endpoint
        assert endpoint is not None, "made with the offer or the grant"
        try:
            self._issued = await endpoint.start(key, datetime.fromtimestamp(self.offer.expires, UTC))
        except EndpointError as error:
            self._audit.refused(self.id, str(error))
            self.later(Event.LINE_LOST, Actor.LINE)
            return
        self._start(self._await_box(endpoint))

    async def _await_box(self, endpoint: TunnelEndpoint) -> None:
        try:
            await endpoint.opened()
        except EndpointError as error:
            self._audit.refused(self.id, str(error))
        else:
            self._recording = self._around.record(self.offer)
            await self.event(Event.TUNNEL_UP, Actor.LINE)
            if self.state is SessionState.OPENING:
                await self.event(Event.LINE_LOST, Actor.LINE)  # it cannot be recorded
            await asyncio.shield(endpoint.ended)
        await self.event(Event.LINE_LOST, Actor.LINE)

    async def _close(self) -> None:
        if self._endpoint is not None:
            await self._endpoint.stop()
            self._endpoint = None
        if self._recording is not None:
            self.recorded = await self._recording.close()
        await self.event(Event.CLOSED, Actor.DATA_CENTER)


class _TrackedConnection(asyncio.Protocol):
    """A connection to the instrument that ends with the session."""

    def __init__(self, inner: asyncio.Protocol, connections: set[asyncio.Transport]) -> None:
        self._inner, self._connections = inner, connections
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connections.add(transport)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.transport is not None:
            self._connections.discard(self.transport)
        self._inner.connection_lost(exc)
