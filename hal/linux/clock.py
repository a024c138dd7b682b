"""The kernel's wall clock."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from hal.clock import ClockError, ClockErrorKind

ANSWER_SECONDS_MAX = 10.0
_NS_MAX = 2**63 - 1


class LinuxClock:
    """`hal.clock.WallClock` over CLOCK_REALTIME.

    It is set by a service that has CAP_SYS_TIME (rap-clock.socket), so that the program itself needs no right to.
    """

    def __init__(self, service: Path | None = None) -> None:
        """`service` is the service's socket; without one the clock is not set."""
        self._service = service

    def now_ns(self) -> int:
        """See `WallClock.now_ns`."""
        return time.time_ns()

    def set(self, now_ns: int) -> None:
        """See `WallClock.set`."""
        if not 0 <= now_ns <= _NS_MAX:
            raise ClockError(ClockErrorKind.RANGE, f"{now_ns} ns is no time that the clock can hold")
        if self._service is None:
            raise ClockError(ClockErrorKind.NOT_PERMITTED, "no service that sets the clock is configured")
        try:
            answer = _ask(self._service, b"%d\n" % now_ns)
        except OSError as error:
            message = f"{self._service}: the service that sets the clock does not answer: {error}"
            raise ClockError(ClockErrorKind.NOT_PERMITTED, message) from error
        if answer != b"set\n":
            raise ClockError(
                ClockErrorKind.NOT_PERMITTED, f"{self._service}: the service refused to set the clock"
            )


def _ask(service: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS_MAX)
        connection.connect(str(service))
        connection.sendall(request)
        return connection.recv(16)
