"""Keeps the box's wall clock right where no time server can be reached: by the data center's time.

A real-time clock without battery starts in 1970 or 2099, when no certificate is valid, so that the box could never
connect. Then it connects once without regard to dates, and asks for the time. The server still proves that it has
the key of a certificate for the data center's name, issued by the trusted CA, and its answer counts only if

* that certificate is valid at the time it tells, and
* the time is not before the floor: the latest of when the image was built, when the box's own certificate began,
  and the last time that the data center confirmed.

So a stolen key of an expired certificate can set the clock back at most to a time at which the certificate was
valid, and never before the last time that was confirmed. After that the box connects as usual, dates included.

Each usual connection confirms the time by the `Date` of its first answer (RFC 9110, 6.6.1), and corrects a clock
that is wrong by more than TOLERANCE_SECONDS. Where chrony reaches a time server, the clock is never that wrong.
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
from wire.dial.dialer import dial
from wire.dial.patience import Patience
from wire.dial.proxy import ProxyError
from wire.http.connection import HttpError
from wire.http.fields import date_s
from wire.messages import TIME_PATH
from wire.tls.context import ClientContext
from wire.tls.peer import DATE_ERRORS, validity

TOLERANCE_SECONDS: Final = 300
"""More than an answer takes on the slowest line, and less than certificates or people notice."""
CONFIRMED_EVERY_SECONDS: Final = 24 * 3600
"""How often a confirmed time is written down."""
ANSWER_BYTES_MAX: Final = 1024
ANSWER_SECONDS_MAX: Final = 60.0
"""How long the answer may usually take."""

_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ServerTime:
    """A server's answer, and from when to when its certificate is valid, in seconds since 1970."""

    date: str
    """HTTP `Date`."""
    valid_from_s: float
    valid_until_s: float


class ConfirmedTime(Protocol):
    """Where the last confirmed time is kept."""

    confirmed_s: int


class ClockSync:
    """Compares and corrects the clock. Begin with `start`."""

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
        """`floor_s` is a time that has passed for certain; `ask` connects without regard to dates.

        Unless the clock `may_set`, what is wrong is only noted.
        """
        self._clock, self._state, self._audit, self._ask = clock, state, audit, ask
        self._floor_s, self._may_set = floor_s, may_set

    def start(self) -> None:
        """Set a clock that is behind the floor to it."""
        behind = self._floor() - self._now_s()
        if behind > 0:
            self._audit.note(AuditEvent.CLOCK_BEHIND, int(behind))
            self._set(self._floor())

    def confirm(self, date: str) -> None:
        """Note the time of an answer on a connection whose certificates were verified, dates included."""
        told_s = date_s(date)
        if told_s is None:
            return
        if told_s < self._floor() - TOLERANCE_SECONDS:
            self._audit.note(AuditEvent.TIME_REFUSED, int(told_s))
            return
        if abs(told_s - self._now_s()) > TOLERANCE_SECONDS:
            self._correct(told_s)
        if told_s - self._state.confirmed_s >= CONFIRMED_EVERY_SECONDS:
            self._state.confirmed_s = int(told_s)
            self._audit.note(AuditEvent.TIME_CONFIRMED, int(told_s))

    async def recover(self, error: Exception) -> bool:
        """Ask for the time if the clock may be why connecting failed; returns whether it was corrected."""
        if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in DATE_ERRORS:
            return False
        try:
            answer = await self._ask()
        except (OSError, ProxyError, HttpError):
            return False
        told_s = date_s(answer.date)
        if told_s is None or not answer.valid_from_s <= told_s <= answer.valid_until_s:
            return False  # it is not the clock: the certificate is not valid
        if told_s < self._floor():
            self._audit.note(AuditEvent.TIME_REFUSED, int(told_s))
            return False
        return abs(told_s - self._now_s()) > TOLERANCE_SECONDS and self._correct(told_s)

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
    endpoint: Endpoint, tls: ClientContext, proxy: Proxy | None, patience: Patience
) -> ServerTime:
    """Ask for the time, over a connection of its own; `tls` ignores dates. Raises OSError, ProxyError, HttpError."""
    connection = await dial(endpoint, tls, reply_bytes_max=ANSWER_BYTES_MAX, proxy=proxy, patience=patience)
    try:
        if connection.transport is None:
            raise HttpError("the connection was lost")
        begins_s, ends_s = validity(connection.transport.get_extra_info("ssl_object"))
        async with asyncio.timeout(ANSWER_SECONDS_MAX * patience.factor):
            await connection.request("GET", TIME_PATH)
    except TimeoutError:
        patience.expired()
        raise
    finally:
        connection.abort()
    return ServerTime(connection.date, begins_s, ends_s)
