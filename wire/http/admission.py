"""Admission control for a server's connections: bounds on their number and on the duration of each step.

A connection costs a descriptor, and with TLS about 300 KB, before its peer is authenticated. Each listener therefore
has a separate limit. At the limit, the least useful connection is closed in favour of the new one: first the one
whose TLS handshake has taken longest, then the one that has been without a request for longest. A connection whose
request is being answered is never closed; if all are, the new connection is refused.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from wire.process.bounds import ALARM_SHARE
from wire.process.transports import abort

CLOSE_SECONDS: Final = 2.0
"""Time for which a server waits for its connections to end when it is closed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener. Times are in seconds."""

    connections_max: int = 1000
    handshake_s: float = 300.0
    """From the TCP connection to the end of the TLS handshake. A slow proxy connects long before its client sends."""
    request_s: float = 300.0
    """From the first to the last byte of a request."""
    shutdown_s: float = 5.0
    """Time limit for the peer's close_notify at the end of a TLS session."""
    backlog: int = 64
    """Connections queued by the kernel; all of them may be accepted at once."""

    @property
    def descriptors_max(self) -> int:
        """The maximum number of descriptors for the listener and its connections."""
        return 1 + self.connections_max + self.backlog


class Served(Protocol):
    """The protocol of an admitted connection."""

    last_request: float
    """Event loop time of the last request, or of the connection."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start on a transport whose TLS handshake is complete."""
        ...

    def data_received(self, data: bytes) -> None:
        """Process received data."""
        ...

    def close(self) -> None:
        """End the connection after pending data has been sent."""
        ...


Crowded = Callable[[int, bool], object]
"""Called with the number of connections, and False at 80 % of the limit or True for each connection beyond it."""


Unsecured = Callable[[str, str], object]
"""Called with a client's address and the reason when its TLS handshake fails."""


class Admissions:
    """The connections of one listener. `accept` is the listener's protocol factory."""

    def __init__(
        self,
        limits: Limits,
        tls: ssl.SSLContext | None,
        serve: Callable[[Callable[[], None]], asyncio.Protocol],
        crowded: Crowded | None,
        unsecured: Unsecured | None = None,
    ) -> None:
        """`serve` makes a connection's protocol from a callback that must be called when the connection is lost."""
        self.limits, self.tls, self.serve = limits, tls, serve
        self._crowded, self.unsecured = crowded, unsecured
        self._present: dict[_Admission, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._present)

    def accept(self) -> asyncio.Protocol:
        """Return the protocol for a connection that has just been accepted."""
        return _Admission(self)

    def enter(self, newcomer: _Admission) -> bool:
        """Add a connection; return False if there is no room for it."""
        if len(self._present) >= self.limits.connections_max:
            self._report(beyond=True)
            victim = min(self._present, key=_Admission.usefulness)
            if victim.is_busy:
                return False
            victim.abort()
        self._present[newcomer] = None
        self._empty.clear()
        if len(self._present) == math.ceil(ALARM_SHARE * self.limits.connections_max):
            self._report(beyond=False)
        return True

    def leave(self, admission: _Admission) -> None:
        """Remove a connection that has ended."""
        self._present.pop(admission, None)
        if not self._present:
            self._empty.set()

    async def close(self) -> None:
        """End all connections; abort those that have not ended after CLOSE_SECONDS."""
        for admission in list(self._present):
            admission.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._empty.wait()
        for admission in list(self._present):
            admission.abort()

    def _report(self, *, beyond: bool) -> None:
        if self._crowded is not None:
            self._crowded(len(self._present), beyond)


class _Admission(asyncio.Protocol):
    """One connection, from its acceptance on."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._raw: asyncio.Transport | None = None
        self._served: Served | None = None
        self._securing: asyncio.Task[None] | None = None

    # -- protocol methods, until the served protocol takes over -----------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        if not self._admissions.enter(self):
            transport.abort()
        elif self._admissions.tls is None:
            self._serve(transport, b"")
        else:
            transport.pause_reading()
            self._securing = self._loop.create_task(self._secure(transport, self._admissions.tls))

    def connection_lost(self, exc: Exception | None) -> None:
        self._admissions.leave(self)

    async def _secure(self, raw: asyncio.Transport, tls: ssl.SSLContext) -> None:
        limits, early = self._admissions.limits, _Early()
        try:
            secured = await self._loop.start_tls(
                raw,
                early,
                tls,
                server_side=True,
                ssl_handshake_timeout=limits.handshake_s,
                ssl_shutdown_timeout=limits.shutdown_s,
            )
        except OSError as error:
            secured = None
            if isinstance(error, ssl.SSLError) and self._admissions.unsecured is not None:
                address, *_ = raw.get_extra_info("peername") or ("an unknown address",)
                self._admissions.unsecured(str(address), getattr(error, "verify_message", "") or error.reason)
        except BaseException:
            self.abort()
            raise
        if secured is None or raw.is_closing():
            self.abort()
        else:
            self._serve(secured, early.data)

    def _serve(self, transport: asyncio.Transport, early: bytes) -> None:
        protocol = self._admissions.serve(self._lost)
        transport.set_protocol(protocol)
        self._served = protocol  # type: ignore[assignment]
        protocol.connection_made(transport)
        if early and not transport.is_closing():
            protocol.data_received(early)

    def _lost(self) -> None:
        self._admissions.leave(self)

    # -- closing ----------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self._served is not None and self._served.is_busy

    def usefulness(self) -> tuple[bool, bool, float]:
        """Return the sort key; the least useful connection sorts first."""
        if self._served is None:
            return False, False, self._begun_at
        return self._served.is_busy, True, self._served.last_request

    def close(self) -> None:
        """End the connection; once its handshake is over, after pending data has been sent."""
        if self._served is None:
            self.abort()
        else:
            self._served.close()

    def abort(self) -> None:
        """End the connection immediately."""
        self._admissions.leave(self)
        if self._raw is not None:
            abort(self._raw)


class _Early(asyncio.Protocol):
    """Stores data that arrives together with the last message of the handshake."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
