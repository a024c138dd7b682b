"""Admission of connections to a server: how many there are, and how long each may take.

A connection costs a descriptor, and under TLS some 300 KB, before its peer has proved anything. Each listener
therefore has a limit of its own. At the limit the connection that is least useful makes room for the new one: first
the one whose TLS handshake has taken longest, then the one without a request for the longest time. A connection whose
request is being answered is never ended; if all are, the new one is refused.
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

CLOSE_SECONDS: Final = 2.0
"""How long the connections of a server that closes have to end by themselves."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener. Times are in seconds."""

    connections_max: int = 1000
    handshake_s: float = 300.0
    """From the connection to the end of its TLS handshake. A slow proxy connects long before its client may speak."""
    request_s: float = 300.0
    """From a request's first byte to its last."""
    shutdown_s: float = 5.0
    """How long the peer may take to answer the end of a TLS session."""
    backlog: int = 64
    """Connections that the kernel keeps until they are accepted; all of them may be accepted at once."""

    @property
    def descriptors_max(self) -> int:
        """How many descriptors the listener and its connections need at most."""
        return 1 + self.connections_max + self.backlog


class Served(Protocol):
    """The protocol of an admitted connection."""

    last_request: float
    """The event loop's time of the last request, or of the beginning."""

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, on a transport that is secured already."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take data."""
        ...

    def close(self) -> None:
        """End the connection after what has been sent."""
        ...


Crowded = Callable[[int, bool], object]
"""Called with the number of connections when it reaches 80 % of the limit, and, with True, beyond the limit."""


class Admissions:
    """The connections of one listener. `accept` is its protocol factory."""

    def __init__(
        self,
        limits: Limits,
        tls: ssl.SSLContext | None,
        serve: Callable[[Callable[[], None]], asyncio.Protocol],
        crowded: Crowded | None,
    ) -> None:
        """`serve` makes the protocol of a connection; it calls what it is given when the connection is lost."""
        self.limits, self.tls, self.serve = limits, tls, serve
        self._crowded = crowded
        self._present: dict[_Admission, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._present)

    def accept(self) -> asyncio.Protocol:
        """The protocol of a connection that has just been accepted."""
        return _Admission(self)

    def enter(self, newcomer: _Admission) -> bool:
        """Count a connection; False if there is no room for it."""
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
        """A connection has ended."""
        self._present.pop(admission, None)
        if not self._present:
            self._empty.set()

    async def close(self) -> None:
        """End all connections, those that do not end by themselves after CLOSE_SECONDS."""
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

    # -- as a protocol, until another one takes over ----------------------------------------------------

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
        except OSError:  # ssl.SSLError is one
            secured = None
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

    # -- its end ----------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self._served is not None and self._served.is_busy

    def usefulness(self) -> tuple[bool, bool, float]:
        """The least useful connection sorts first."""
        if self._served is None:
            return False, False, self._begun_at
        return self._served.is_busy, True, self._served.last_request

    def close(self) -> None:
        """End the connection, after what has been sent if its handshake is over."""
        if self._served is None:
            self.abort()
        else:
            self._served.close()

    def abort(self) -> None:
        """End the connection now."""
        self._admissions.leave(self)
        if self._raw is not None:
            self._raw.abort()


class _Early(asyncio.Protocol):
    """Keeps what the peer sends together with the last message of its handshake."""

    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
