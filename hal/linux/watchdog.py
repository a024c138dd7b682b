"""The kernel's watchdog device (Documentation/watchdog/watchdog-api.rst).

Opening the device starts it. Closing it stops it only after a "V" was written, so that a crashed program does not
stop it. Neither the write nor the close reports a driver that cannot be stopped (`nowayout`); WDIOC_SETOPTIONS does.
Old drivers without WDIOC_SETOPTIONS are stopped by the "V" alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from hal.linux.ioctl import compiled, ioctl
from hal.watchdog import Armed, WatchdogError, WatchdogErrorKind

_KINDS = {
    errno.ENOENT: WatchdogErrorKind.MISSING,
    errno.ENODEV: WatchdogErrorKind.MISSING,
    errno.ENXIO: WatchdogErrorKind.MISSING,
    errno.EBUSY: WatchdogErrorKind.BUSY,
    errno.EACCES: WatchdogErrorKind.DENIED,
    errno.EPERM: WatchdogErrorKind.DENIED,
    errno.ENOSYS: WatchdogErrorKind.UNSUPPORTED,
}
_UNSUPPORTED_REQUEST = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)


class LinuxWatchdog:
    """`hal.watchdog.Watchdog` through its device file."""

    def __init__(self, device: str = "/dev/watchdog0") -> None:
        self._device = device
        self._fd = -1

    def start(self, timeout_seconds: int) -> Armed:
        """See `Watchdog.start`."""
        assert self._fd < 0, f"{self._device} is already started"
        with self._errors():
            compiled()  # may fail, so it comes before the device is started
            self._fd = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return Armed(self._set_timeout(timeout_seconds), self._caused_last_reset())
        except WatchdogError:
            with contextlib.suppress(WatchdogError):
                self.stop()
            raise

    def feed(self) -> None:
        """See `Watchdog.feed`."""
        assert self._fd >= 0, f"{self._device} is not started"
        self._control(compiled().lib.WDIOC_KEEPALIVE, 0)

    def stop(self) -> None:
        """See `Watchdog.stop`."""
        assert self._fd >= 0, f"{self._device} is not started"
        lib = compiled().lib
        try:
            self._ioctl(lib.WDIOC_SETOPTIONS, lib.WDIOS_DISABLECARD)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._error(WatchdogErrorKind.UNSTOPPABLE, "its driver has `nowayout` set") from error
            if error.errno not in _UNSUPPORTED_REQUEST:
                raise self._error(WatchdogErrorKind.IO, error.strerror) from error
        with self._errors():
            os.write(self._fd, b"V")
            os.close(self._fd)
        self._fd = -1

    def _set_timeout(self, seconds: int) -> int:
        try:
            return self._ioctl(compiled().lib.WDIOC_SETTIMEOUT, seconds)
        except OSError as error:
            if error.errno in _UNSUPPORTED_REQUEST:
                message = f"the device does not support a timeout of {seconds} seconds; try 30 or 60"
                raise self._error(WatchdogErrorKind.TIMEOUT, message) from error
            raise self._error(WatchdogErrorKind.IO, error.strerror) from error

    def _caused_last_reset(self) -> bool:
        lib = compiled().lib
        return bool(self._control(lib.WDIOC_GETBOOTSTATUS, 0) & lib.WDIOF_CARDRESET)

    def _control(self, request: int, value: int) -> int:
        with self._errors():
            return self._ioctl(request, value)

    def _ioctl(self, request: int, value: int) -> int:
        """Make a request; every request takes and returns an int. Raises: OSError."""
        argument = compiled().ffi.new("int *", value)
        ioctl(self._fd, request, argument)
        return int(argument[0])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = _KINDS.get(error.errno or 0, WatchdogErrorKind.IO)
            raise self._error(kind, error.strerror) from error

    def _error(self, kind: WatchdogErrorKind, message: str | None) -> WatchdogError:
        return WatchdogError(kind, f"{self._device}: {message}")
