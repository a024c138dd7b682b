"""Both watchdogs pass the conformance suite: the emulated one, and the Linux one through real system calls."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hal.contract.watchdog import WATCHDOG_CHECKS
from hal.emul.watchdog import TIMEOUT_SECONDS_MAX, EmulWatchdog
from hal.linux import ioctl
from hal.linux.watchdog import LinuxWatchdog
from hal.watchdog import Watchdog, WatchdogError, WatchdogErrorKind
from tests.support.fuse import Device, device_file

# <linux/watchdog.h>, encoded by hand: direction and size, 'W', number
SETOPTIONS, KEEPALIVE, SETTIMEOUT, GETBOOTSTATUS = 0x80045704, 0x80045705, 0xC0045706, 0x80045702
CARDRESET = 0x20


class SimulatedTimer:
    """A timer of the test's simulated clock."""

    def __init__(self, seconds_left: float, callback: Callable[[], None]) -> None:
        self.seconds_left, self._callback = seconds_left, callback

    def cancel(self) -> None:
        self.seconds_left = float("inf")

    def pass_time(self, seconds: float) -> None:
        self.seconds_left -= seconds
        if self.seconds_left <= 0:
            self.cancel()
            self._callback()


class EmulWatchdogBench:
    impossible_seconds = TIMEOUT_SECONDS_MAX + 1

    def __init__(self) -> None:
        self._timers: list[SimulatedTimer] = []
        self._resets = 0
        self.watchdog = EmulWatchdog(self._call_later, self._reset)
        self.reboot = self.watchdog.backend.reboot

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> SimulatedTimer:
        self._timers.append(SimulatedTimer(seconds, callback))
        return self._timers[-1]

    def _reset(self) -> None:
        self._resets += 1

    def pass_time(self, seconds: int) -> None:
        for timer in self._timers:
            timer.pass_time(seconds)

    def resets(self) -> int:
        return self._resets

    def runs(self) -> bool:
        return any(timer.seconds_left < float("inf") for timer in self._timers)

    def kill_program(self) -> None:
        """Do nothing: the emulated watchdog does not detect the end of a program."""

    def occupy(self) -> None:
        self.watchdog.backend.busy = True

    def forbid_stopping(self) -> None:
        self.watchdog.backend.nowayout = True


class Driver(Device):
    """Behaves like a driver on the kernel's watchdog core (drivers/watchdog/watchdog_dev.c), with 2 s resolution."""

    opened: bool
    runs: bool
    stop_allowed: bool
    caused_reset: bool
    nowayout: bool
    lacks_setoptions: bool
    timeout: int
    left: int
    resets: int
    _fields_ = (
        *((flag, ctypes.c_bool) for flag in ("opened", "runs", "stop_allowed", "caused_reset")),
        *((flag, ctypes.c_bool) for flag in ("nowayout", "lacks_setoptions")),
        *((number, ctypes.c_int) for number in ("timeout", "left", "resets")),
    )

    def open(self, handle: int) -> None:
        if self.opened:
            raise OSError(errno.EBUSY, "")
        self.opened = self.runs = True
        self.left = self.timeout

    def ioctl(self, request: int, argument: bytes) -> bytes:
        assert self.opened
        if request == SETTIMEOUT:
            return self._set_timeout(*struct.unpack("i", argument))
        if request == KEEPALIVE:
            self.left = self.timeout
        elif request == SETOPTIONS and not self.lacks_setoptions:
            # <linux/watchdog.h> declares SETOPTIONS as _IOR, so a restricted ioctl passes no argument: assume "stop"
            if self.nowayout:
                raise OSError(errno.EBUSY, "")
            self.runs = False
        elif request == GETBOOTSTATUS:
            return struct.pack("i", CARDRESET if self.caused_reset else 0)
        else:
            raise OSError(errno.ENOTTY, "")
        return bytes(4)

    def _set_timeout(self, seconds: int) -> bytes:
        if not 1 <= seconds <= 600:
            raise OSError(errno.EINVAL, "")
        self.timeout = self.left = seconds + seconds % 2
        return struct.pack("i", self.timeout)

    def write(self, data: bytes) -> None:
        self.stop_allowed = b"V" in data
        self.left = self.timeout

    def close(self) -> None:
        self.runs = self.runs and (self.nowayout or not self.stop_allowed)
        self.opened = self.stop_allowed = False

    def pass_time(self, seconds: int) -> None:
        if self.runs:
            self.left -= seconds
            if self.left <= 0:
                self.runs, self.caused_reset = False, True
                self.resets += 1


class DeviceBench:
    impossible_seconds = 601

    def __init__(self, driver: Driver, path: str) -> None:
        self.driver, self._path = driver, path
        self.watchdog = LinuxWatchdog(path)
        self.pass_time = driver.pass_time

    def resets(self) -> int:
        return self.driver.resets

    def runs(self) -> bool:
        return self.driver.runs

    def reboot(self) -> Watchdog:
        self.kill_program()
        return LinuxWatchdog(self._path)

    def kill_program(self) -> None:
        for fd in Path("/proc/self/fd").iterdir():  # as the kernel does when the process ends
            if fd.is_symlink() and fd.readlink().name == Path(self._path).name:
                os.close(int(fd.name))

    def occupy(self) -> None:
        self.driver.opened = True

    def forbid_stopping(self) -> None:
        self.driver.nowayout = True


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[DeviceBench]:
    try:
        ioctl.compiled()
    except OSError as error:
        pytest.skip(str(error))
    with device_file(Driver) as (driver, path):
        driver.lacks_setoptions = request.param
        bench = DeviceBench(driver, path)
        yield bench
        bench.kill_program()


each_check = pytest.mark.parametrize("check", WATCHDOG_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_emul_watchdog(check: Callable[..., object]) -> None:
    asyncio.run(check(EmulWatchdogBench()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "device"),
    [
        (check, old)
        for check in WATCHDOG_CHECKS
        for old in (False, True)
        # a driver without SETOPTIONS does not report that it is unstoppable
        if not (old and "unstoppable" in check.__name__)
    ],
    indirect=["device"],
    ids=lambda value: {False: "new", True: "old"}[value] if isinstance(value, bool) else value.__name__,
)
def test_linux_watchdog(check: Callable[..., object], device: DeviceBench) -> None:
    asyncio.run(check(device))  # type: ignore[arg-type]


def test_a_reset_machine_cannot_feed_the_watchdog() -> None:
    bench = EmulWatchdogBench()
    bench.watchdog.start(10)
    bench.pass_time(11)
    for call in (bench.watchdog.feed, bench.watchdog.stop):
        with pytest.raises(WatchdogError, match="reset"):
            call()


def test_a_missing_watchdog_is_reported() -> None:
    with pytest.raises(WatchdogError, match="/dev/nothere9: No such file") as caught:
        LinuxWatchdog("/dev/nothere9").start(30)
    assert caught.value.kind is WatchdogErrorKind.MISSING


def test_without_the_compiled_module_the_device_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error states what to install. The device is not opened, because opening starts the watchdog."""

    def missing() -> None:
        raise ImportError

    monkeypatch.setattr(ioctl, "import_module", lambda name: missing())
    ioctl.compiled.cache_clear()
    try:
        with device_file(Driver) as (driver, path):
            with pytest.raises(WatchdogError, match="install a C compiler") as caught:
                LinuxWatchdog(path).start(30)
            assert caught.value.kind is WatchdogErrorKind.UNSUPPORTED and not driver.runs
    finally:
        ioctl.compiled.cache_clear()
