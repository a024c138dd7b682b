"""Synchronizes the box's wall clock with the data center's, for sites without a reachable time server.

A real-time clock without battery may start in 1970 or 2099. No certificate is valid then, so the box could never
connect. In this case it makes one connection on which validity periods are ignored, and requests the time. The server
must still prove possession of the key of a certificate that the trusted CA issued for the data center's name, and the
time is used only if

* the certificate is valid at that time, and
* the time is not before the floor: the latest of the image's build time, the beginning of the validity of the box's
  own certificate, and the last confirmed time.

A stolen key of an expired certificate can therefore set the clock back to a time at which the certificate was valid,
but never before the last confirmed time. After the correction the box connects normally, checking validity periods.

Each normal connection confirms the time by the `Date` header of its first response (RFC 9110, 6.6.1), and corrects a
clock that is wrong by more than TOLERANCE_SECONDS. If chrony reaches a time server, the clock is never that wrong.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agents.box.health.audit import AuditLog
from hal.clock import ClockError, WallClock
from settings.types import Endpoint, Proxy
from wire.audit_events import AuditEvent
from wire.dial.adaptive_timeout import AdaptiveTimeout
from wire.dial.dialer import dial
from wire.dial.proxy import ProxyError
from wire.http.connection import HttpError
from wire.http.fields import date_s
from wire.messages import TIME_PATH
from wire.tls.context import ClientContext
from wire.tls.peer import DATE_ERRORS, validity

TOLERANCE_SECONDS: Final = 300
"""Longer than a response takes on the slowest link, and too short to matter for certificates or people."""
CONFIRMED_EVERY_SECONDS: Final = 24 * 3600
"""Interval at which the confirmed time is stored."""
ANSWER_BYTES_MAX: Final = 1024
ANSWER_SECONDS_MAX: Final = 60.0
"""Timeout of the response, before `AdaptiveTimeout` extends it."""

_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ServerTime:
    """Time in a server's response, and the validity period of its certificate, in seconds since 1970."""

    date: str
    """The `Date` header."""
    valid_from_s: float
    valid_until_s: float


class ConfirmedTime(Protocol):
    """Persistent storage of the last confirmed time, in seconds since 1970."""

    confirmed_s: int


class ClockSync:
    """Compares the clock with the data center's and corrects it. Call `start` first."""

    def __init__(
        self,
        clock: WallClock,
        state: ConfirmedTime,
        floor_s: float,
        audit: AuditLog,
        ask: Callable[[], Awaitable[ServerTime]],
        *,
        may_set: bool,
    ) -> None:
        """`floor_s` is a lower bound of the current time; `ask` connects, ignoring validity periods.

        If `may_set` is False, deviations are only written to the audit log.
        """
        self._clock, self._state, self._audit, self._ask = clock, state, audit, ask
        self._floor_s, self._may_set = floor_s, may_set

    def start(self) -> None:
        """Set the clock to the floor if it is behind it."""
        behind = self._floor() - self._now_s()
        if behind > 0:
            self._audit.note(AuditEvent.CLOCK_BEHIND, int(behind))
            self._set(self._floor())

    def confirm(self, date: str) -> None:
        """Use the `Date` of a response on a connection with fully verified certificates."""
        server_s = date_s(date)
        if server_s is None:
            return
        if server_s < self._floor() - TOLERANCE_SECONDS:
            self._audit.note(AuditEvent.TIME_REFUSED, int(server_s))
            return
        if abs(server_s - self._now_s()) > TOLERANCE_SECONDS:
            self._correct(server_s)
        if server_s - self._state.confirmed_s >= CONFIRMED_EVERY_SECONDS:
            self._state.confirmed_s = int(server_s)
            self._audit.note(AuditEvent.TIME_CONFIRMED, int(server_s))

    async def recover(self, error: Exception) -> bool:
        """Request the time if `error` may be caused by a wrong clock; return whether the clock was corrected."""
        if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in DATE_ERRORS:
            return False
        try:
            answer = await self._ask()
        except (OSError, ProxyError, HttpError):
            return False
        server_s = date_s(answer.date)
        if server_s is None or not answer.valid_from_s <= server_s <= answer.valid_until_s:
            return False  # the clock is right: the certificate has expired or is not valid yet
        if server_s < self._floor():
            self._audit.note(AuditEvent.TIME_REFUSED, int(server_s))
            return False
        return abs(server_s - self._now_s()) > TOLERANCE_SECONDS and self._correct(server_s)

    def _correct(self, now_s: float) -> bool:
        self._audit.note(AuditEvent.CLOCK_WRONG, int(self._now_s() - now_s))
        return self._set(now_s)

    def _set(self, now_s: float) -> bool:
        if not self._may_set:
            return False
        try:
            self._clock.set(int(now_s * _S))
        except ClockError:
            self._audit.note(AuditEvent.CLOCK_NOT_SET)
            return False
        self._audit.note(AuditEvent.CLOCK_SET)
        return True

    def _floor(self) -> float:
        return max(self._floor_s, self._state.confirmed_s)

    def _now_s(self) -> float:
        return self._clock.now_ns() / _S


async def ask_data_center(
    endpoint: Endpoint, tls: ClientContext, proxy: Proxy | None, adaptive_timeout: AdaptiveTimeout
) -> ServerTime:
    """Request the time on a new connection, with a `tls` context that ignores validity periods.

    Raises: OSError, ProxyError, HttpError.
    """
    connection = await dial(
        endpoint, tls, reply_bytes_max=ANSWER_BYTES_MAX, proxy=proxy, adaptive_timeout=adaptive_timeout
    )
    try:
        if connection.transport is None:
            raise HttpError("the connection was lost")
        begins_s, ends_s = validity(connection.transport.get_extra_info("ssl_object"))
        async with asyncio.timeout(ANSWER_SECONDS_MAX * adaptive_timeout.factor):
            await connection.request("GET", TIME_PATH)
    except TimeoutError:
        adaptive_timeout.expired()
        raise
    finally:
        connection.abort()
    return ServerTime(connection.date, begins_s, ends_s)
