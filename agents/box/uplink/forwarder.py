"""Keeps one connection to the data center open, with a `Stream` on it.

While the data center responds slowly, alerts use a second connection (`agents.box.uplink.alert_lane`).

A connection that is closed while idle is reopened at once, so that the next alert does not wait for a handshake.
Without a carrier the forwarder does not dial; when the carrier returns, it dials at once, regardless of the back-off.
A connection that existed before a long loss of carrier is aborted, because TCP may wait a minute until its next
retransmission. The number of connections per minute on which nothing is acknowledged is always limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from random import Random
from typing import Final

from agents.box.buffer import Buffer
from agents.box.clock_sync import ClockSync
from agents.box.files.requests import RequestQueue
from agents.box.health.audit import AuditLog
from agents.box.uplink.alert_lane import LANE_IDLE_SECONDS, AlertLane
from agents.box.uplink.batching import LinkEstimator, Timing
from agents.box.uplink.stream import Stream, StreamEnd, StreamError
from agents.box.uplink.trust import TrustDiagnosis
from agents.spool import SpoolError
from hal.clock import WallClock
from hal.ethernet import EthernetPort
from settings.types import Endpoint, Proxy
from wire.audit_events import AuditEvent
from wire.dial.adaptive_timeout import AdaptiveTimeout
from wire.dial.backoff import Backoff
from wire.dial.dialer import DIAL_TIMEOUT_FACTOR_MAX, dial
from wire.dial.proxy import ProxyError
from wire.dial.traffic import Traffic
from wire.http.connection import ClientConnection
from wire.messages import REPLY_BYTES_MAX, BatchReply, Command
from wire.process.ratelimit import TokenBucket
from wire.tls.context import ClientContext

STEADY_SECONDS: Final = 5.0
"""Duration after which a connection that is closed while idle is reopened immediately."""
CARRIER_LOSS_SECONDS_MAX: Final = 5.0
"""Longest loss of the carrier that a connection survives. After a longer one, the connection, or an attempt that
began earlier, is aborted."""
DIALS_BURST: Final = 12
DIALS_PER_SECOND: Final = 1 / 5
"""Limit of connections on which no batch is acknowledged."""
SELF_CONTAINED_SECONDS: Final = 4 * 3600.0
"""How long batches are self-contained after the data center lost a compression stream."""
UNKNOWN_STREAM: Final = (HTTPStatus.CONFLICT, HTTPStatus.BAD_REQUEST)
"""Statuses for a compression stream whose beginning is unknown; 400 if the server or an intermediary does not support
streams."""
DISCARDS_BURST: Final = 16
DISCARDS_PER_SECOND: Final = 1 / 600
"""Limit of records that are discarded because the data center rejects them. If it rejects more, the
fault is probably not in the records, and further records wait."""

OnCommands = Callable[[list[Command]], object]
OnWithdrawn = Callable[[list[int]], object]


class Forwarder:
    """Forwards the buffer's records to the data center."""

    def __init__(
        self,
        buffer: Buffer,
        endpoint: Endpoint,
        tls: ClientContext,
        *,
        proxy: Proxy | None,
        uplink: EthernetPort,
        audit: AuditLog,
        on_commands: OnCommands,
        on_withdrawn: OnWithdrawn,
        on_sessions: Callable[[], object],
        on_updates: Callable[[], object] = lambda: None,
        on_denied: Callable[[list[str]], object] = lambda _: None,
        random: Random,
        timing: Timing,
        clock: WallClock,
        clock_sync: ClockSync | None = None,
        trust: TrustDiagnosis | None = None,
        requests: RequestQueue | None = None,
        on_established: Callable[[ClientContext], object] = lambda _: None,
    ) -> None:
        """`on_sessions` is called when messages of remote sessions wait at the data center, `on_updates` when the
        box's update order has changed; `on_denied` is called with the deny-list of each response.

        `on_established` is called with the TLS context of each connection on which a batch was acknowledged.
        """
        self._trust = trust
        self._clock, self._clock_sync = clock, clock_sync
        self._buffer, self._endpoint, self._tls, self._proxy = buffer, endpoint, tls, proxy
        self._uplink, self._audit, self._on_commands, self._timing = uplink, audit, on_commands, timing
        self._on_withdrawn, self._on_sessions, self._requests = on_withdrawn, on_sessions, requests
        self._on_updates, self._on_denied = on_updates, on_denied
        self._on_established, self._connection_tls = on_established, tls
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(random)
        self._discard_limit = TokenBucket(DISCARDS_PER_SECOND, DISCARDS_BURST)
        self._dial_limit = TokenBucket(DIALS_PER_SECOND, DIALS_BURST)
        self._estimator = LinkEstimator()
        self._self_contained_until = 0.0
        self._dial_timeout = AdaptiveTimeout(DIAL_TIMEOUT_FACTOR_MAX)
        self._traffic = Traffic()
        self._lane = AlertLane(self._dial_lane, self._lane_stream, self._lane_ended, random)
        self._connection: ClientConnection | None = None
        self._ready: ClientConnection | None = None
        self._stream: Stream | None = None
        self._transport: asyncio.Transport | None = None  # of the newest connection
        self._dialling: asyncio.Timeout | None = None
        self._dialling_since = 0.0
        self._retry_at_once = asyncio.Event()
        self._carrier_lost_at = 0.0
        self._connected_at = self._loop.time()
        self._has_answered = False  # on this connection
        self._lost_at: float | None = self._connected_at

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that is not known to be broken."""
        return self._connection is not None and self._connection.transport is not None

    @property
    def traffic(self) -> Traffic:
        """Traffic on the uplink since the start."""
        total = replace(self._traffic)
        for connection in (self._connection, self._lane.connection):
            if connection is not None:
                _add(total, connection)
        return total

    def discards(self) -> tuple[float, float]:
        """Return the used part of the limit of discarded records, and the limit."""
        return self._discard_limit.used(self._loop.time()), DISCARDS_BURST

    def use(self, tls: ClientContext) -> None:
        """Use another TLS context for new connections."""
        self._tls = tls

    def reconnect(self, connection: ClientConnection | None = None) -> None:
        """End the connection, so that the next one uses the current TLS context.

        `connection` is the next connection, if it was already made with that context.
        """
        if self._ready is not None:
            self._ready.abort()
        self._ready = connection
        if connection is not None:
            self._retry_at_once.set()
        self._lane.abort()
        if self._connection is not None:
            self._connection.abort()

    async def run(self) -> None:
        """Forward until cancelled."""
        stop = self._uplink.watch(self._carrier_changed)
        try:
            while True:
                if not self._uplink.carrier():
                    await self._retry_at_once.wait()
                self._retry_at_once.clear()
                await self._wait_for_dial_limit()
                try:
                    await self._forward_until_lost()
                except (OSError, ProxyError, StreamError, SpoolError) as error:
                    again = (
                        self._ready is not None
                        or await self._discard_rejected(error)
                        or await self._correct_clock(error)
                    )
                    if self._trust is not None and not again:
                        await self._trust.examine(error)
                    delay = 0.0 if again else self._retry_delay(error)
                await self._wait_for_retry(delay)
        finally:
            stop()
            self._lane.cancel()
            if self._ready is not None:
                self._ready.abort()

    # -- carrier ----------------------------------------------------------------------------------------

    def _carrier_changed(self, carrier: bool) -> None:
        now = self._loop.time()
        if not carrier:
            self._carrier_lost_at = now
            return
        self._retry_at_once.set()
        if now - self._carrier_lost_at > CARRIER_LOSS_SECONDS_MAX:
            self._lane.abort()
        if self._dialling is not None:
            if now - self._dialling_since > CARRIER_LOSS_SECONDS_MAX:
                self._dialling.reschedule(now)
                self._dialling = None
        elif self._connection is not None and now - self._carrier_lost_at > CARRIER_LOSS_SECONDS_MAX:
            self._connection.abort()

    async def _wait_for_retry(self, seconds: float) -> None:
        """Wait, but only until the carrier returns."""
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._retry_at_once.wait()

    async def _wait_for_dial_limit(self) -> None:
        if seconds := self._dial_limit.take(1, self._loop.time()):
            await asyncio.sleep(seconds)
            self._dial_limit.take(1, self._loop.time())

    # -- one connection ---------------------------------------------------------------------------------

    async def _forward_until_lost(self) -> None:
        """Dial and forward until the connection ends.

        Raises: always OSError or ProxyError from dialing, StreamError or SpoolError.
        """
        connection = await self._dial()
        stream = self._stream = Stream(
            connection,
            self._buffer,
            self._estimator,
            self._timing,
            heartbeat=lambda: self._audit.note(AuditEvent.ALIVE, unlimited=True),
            settled=self._settled,
            wall_s=self._wall_s,
            self_contained_until=self._self_contained_until,
            bypass=self._lane,
            requests=self._requests,
        )
        try:
            await stream.run()
        finally:
            _add(self._traffic, connection)
            self._connection = self._stream = None

    def _wall_s(self) -> float:
        return self._clock.now_ns() / 1e9

    async def _dial(self) -> ClientConnection:
        self._dialling_since, tls = self._loop.time(), self._tls
        connection, self._ready = self._ready, None
        if connection is None or connection.transport is None:
            try:
                async with asyncio.timeout(None) as self._dialling:
                    connection = await self.connect(tls)
            finally:
                self._dialling = None
        self._connection, self._connected_at, self._connection_tls = connection, self._loop.time(), tls
        self._has_answered = False
        if self._trust is not None:
            self._trust.trusted()
        self._transport = connection.transport
        return connection

    async def connect(self, tls: ClientContext | None = None) -> ClientConnection:
        """Return a new connection to the data center, with the current TLS context if none is given.

        Raises: OSError, ProxyError.
        """
        tls = tls or self._tls
        try:
            connection = await dial(
                self._endpoint,
                tls,
                reply_bytes_max=REPLY_BYTES_MAX,
                proxy=self._proxy,
                traffic=self._traffic,
                adaptive_timeout=self._dial_timeout,
            )
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError):
            tls.forget()  # TLS session resumption may be the cause
            raise
        self._traffic.connections += 1
        if connection.transport is not None:
            secured = connection.transport.get_extra_info("ssl_object")
            self._traffic.cipher = secured.cipher()[0]
            self._traffic.resumed += bool(secured.session_reused)
        return connection

    def _settled(self, records: int, reply: BatchReply) -> None:
        """Account for a batch that the data center has committed."""
        if not self._has_answered:
            self._established()
        if not self._estimator.is_slow:
            self._lane.release()
        self._handle_reply(records, reply)

    def _handle_reply(self, records: int, reply: BatchReply) -> None:
        self._traffic.batches += 1
        self._traffic.records += records
        if reply.commands:
            self._on_commands(reply.commands)
        if reply.withdrawn:
            self._on_withdrawn(reply.withdrawn)
        if reply.sessions:
            self._on_sessions()
        if reply.updates:
            self._on_updates()
        self._on_denied(reply.denied)

    def _established(self) -> None:
        """Handle the first response on a connection, which proves that it works in both directions."""
        self._has_answered = True
        self._backoff.succeeded()
        self._dial_limit.return_tokens(1)  # connections that acknowledge a batch do not count
        now = self._loop.time()
        if self._lost_at is not None:
            self._audit.note(AuditEvent.UPLINK_RESTORED, int(now - self._lost_at))
            self._lost_at = None
        self._remember_session()
        self._on_established(self._connection_tls)
        if self._clock_sync is not None and self._connection is not None:
            self._clock_sync.confirm(self._connection.date)

    def _remember_session(self) -> None:
        if self._transport is not None:
            self._connection_tls.remember(self._transport, self._loop.time())

    # -- the second connection, for alerts --------------------------------------------------------------

    async def _dial_lane(self) -> ClientConnection:
        await self._wait_for_dial_limit()
        return await self.connect()

    def _lane_stream(self, connection: ClientConnection, estimator: LinkEstimator) -> Stream:
        return Stream(
            connection,
            self._buffer,
            estimator,
            Timing(heartbeat_s=LANE_IDLE_SECONDS),
            heartbeat=self._lane.release,
            settled=self._lane_settled,
            wall_s=self._wall_s,
            self_contained_until=self._self_contained_until,
            only_urgent=True,
        )

    def _lane_settled(self, records: int, reply: BatchReply) -> None:
        if self._lane.answered():
            self._dial_limit.return_tokens(1)
        self._handle_reply(records, reply)

    def _lane_ended(self, connection: ClientConnection | None, error: Exception, unsent: bool) -> None:
        if connection is not None:
            _add(self._traffic, connection)
        if isinstance(error, StreamError):
            self._fall_back(error)
        if self._stream is not None:
            self._stream.bypass_ended(unsent=unsent)

    # -- end of a connection -----------------------------------------------------------------------------

    async def _correct_clock(self, error: Exception) -> bool:
        return self._clock_sync is not None and await self._clock_sync.recover(error)

    async def _discard_rejected(self, error: Exception) -> bool:
        """Discard a record that the data center rejects, since it blocks all others; return whether there was one."""
        rejected = error.rejected if isinstance(error, StreamError) else None
        if rejected is None or self._discard_limit.take(1, self._loop.time()):
            return False
        try:
            await self._buffer.discard(*rejected)
        except SpoolError:
            return False
        self._has_answered = False
        return True

    def _retry_delay(self, error: Exception) -> float:
        """Record the error; return the seconds to wait before dialing again."""
        answered, self._has_answered = self._has_answered, False
        now = self._loop.time()
        if isinstance(error, StreamError):
            if self._fall_back(error):
                return 0.0
            if error.kind is StreamEnd.FINISHED and answered:
                return 0.0  # an intermediary that serves one request per connection
            if error.kind is StreamEnd.IDLE and now - self._connected_at >= STEADY_SECONDS:
                return 0.0
            if error.kind is StreamEnd.LOST and not answered:
                self._estimator.one_in_flight = True
            if error.kind is StreamEnd.LATE:
                self._remember_session()  # the session is valid, and a full handshake needs three times the bytes
            elif not answered:
                self._tls.forget()
        if self._lost_at is None:
            self._lost_at = now
            self._audit.note(AuditEvent.UPLINK_LOST)
        if (cause := _cause(error)) is not None:
            self._audit.note(*cause)
        return self._backoff.failed(error.retry_after_s if isinstance(error, StreamError) else 0.0)

    def _fall_back(self, error: StreamError) -> bool:
        """Send self-contained batches if the error requires it; return whether that is new."""
        now = self._loop.time()
        if error.status not in UNKNOWN_STREAM or now < self._self_contained_until:
            return False
        self._self_contained_until = now + SELF_CONTAINED_SECONDS
        if self._stream is not None:
            self._stream.self_contained_until = self._self_contained_until
        self._audit.note(AuditEvent.BATCHES_SELF_CONTAINED)
        return True


def _cause(error: Exception) -> tuple[AuditEvent, int] | None:
    """Return the audit event and value of an error that an administrator can correct; None for other errors."""
    if isinstance(error, ProxyError):
        return AuditEvent(f"proxy-{error.kind.value}"), 0
    if isinstance(error, StreamError) and error.kind in (StreamEnd.REFUSED, StreamEnd.PROTOCOL_ERROR):
        return AuditEvent(f"far-end-{error.kind.value}"), error.status
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuditEvent.FAR_END_NOT_TRUSTED, error.verify_code
    return None


def _add(traffic: Traffic, connection: ClientConnection) -> None:
    traffic.body_bytes_sent += connection.body_bytes_sent
    traffic.head_bytes_sent += connection.head_bytes_sent
    traffic.body_bytes_received += connection.body_bytes_received
    traffic.head_bytes_received += connection.head_bytes_received
