"""The kernel's wall clock."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from hal.clock import ClockError, ClockErrorKind

RESPONSE_SECONDS_MAX = 10.0
_NS_MAX = 2**63 - 1


class LinuxClock:
    """`hal.clock.WallClock` over CLOCK_REALTIME.

    A service with CAP_SYS_TIME (rap-clock.socket) sets the clock, so that this program needs no privilege for it.
    """

    def __init__(self, service: Path | None = None) -> None:
        """`service` is the path of the service's socket; without one the clock cannot be set."""
        self._service = service

    def now_ns(self) -> int:
        """See `WallClock.now_ns`."""
        return time.time_ns()

    def set(self, now_ns: int) -> None:
        """See `WallClock.set`."""
        if not 0 <= now_ns <= _NS_MAX:
            raise ClockError(ClockErrorKind.RANGE, f"the clock cannot represent {now_ns} ns")
        if self._service is None:
            raise ClockError(ClockErrorKind.NOT_PERMITTED, "no clock-setting service is configured")
        try:
            response = _request(self._service, b"%d\n" % now_ns)
        except OSError as error:
            message = f"{self._service}: no response from the clock-setting service: {error}"
            raise ClockError(ClockErrorKind.NOT_PERMITTED, message) from error
        if response != b"set\n":
            raise ClockError(
                ClockErrorKind.NOT_PERMITTED,
                f"{self._service}: the clock-setting service refused the request",
            )


def _request(service: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(RESPONSE_SECONDS_MAX)
        connection.connect(str(service))
        connection.sendall(request)
        return connection.recv(16)
