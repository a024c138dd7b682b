"""LEDs through the kernel's LED class, and switches through its input devices.

An LED is a directory in /sys/class/leds (Documentation/leds/leds-class.rst). The "timer" trigger does the blinking,
in the kernel or the hardware. The state of switches is queried (EVIOCGSW); events are only a reason to query, so that
a queue overrun (SYN_DROPPED) does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hal.indicators import BLINK_MS, IndicatorError, IndicatorErrorKind, Light
from hal.linux.ioctl import compiled, ioctl
from settings.board import Switch

_EVENTS_BYTES = 64 * 24  # whole `struct input_event`s
_KINDS = {
    errno.ENOENT: IndicatorErrorKind.MISSING,
    errno.ENODEV: IndicatorErrorKind.MISSING,
    errno.ENXIO: IndicatorErrorKind.MISSING,
    errno.EACCES: IndicatorErrorKind.DENIED,
    errno.EPERM: IndicatorErrorKind.DENIED,
    errno.ENOSYS: IndicatorErrorKind.UNSUPPORTED,
}


class LinuxIndicators:
    """Implements `hal.indicators.Indicators`: LEDs by the board's kernel names, switches by device and code."""

    def __init__(
        self,
        leds: Mapping[str, str],
        switches: Mapping[str, Switch],
        *,
        sysfs: Path = Path("/sys/class/leds"),
    ) -> None:
        self._leds, self._switches, self._sysfs = leds, switches, sysfs

    def show(self, led: str, light: Light) -> None:
        """See `Indicators.show`."""
        with _errors(led, self._leds):
            folder = self._sysfs / self._leds[led]
            if light in BLINK_MS:
                _write(folder / "trigger", "timer")  # the kernel then creates the two delay files
                for name, milliseconds in zip(("delay_on", "delay_off"), BLINK_MS[light], strict=True):
                    _write(folder / name, str(milliseconds))
            else:
                brightness_max = (folder / "max_brightness").read_text().strip()
                _write(folder / "trigger", "none")
                _write(folder / "brightness", brightness_max if light is Light.ON else "0")

    def closed(self, switch: str) -> bool:
        """See `Indicators.closed`."""
        with _errors(switch, self._switches), _opened(self._switches[switch].device) as fd:
            return _is_set(fd, self._switches[switch].code)

    def watch(self, switch: str, changed: Callable[[bool], None]) -> Callable[[], None]:
        """See `Indicators.watch`. Needs a running event loop."""
        with _errors(switch, self._switches):
            return _Watch(self._switches[switch], changed).stop


class _Watch:
    """A watched switch device on the running loop, until `stop`. The constructor raises OSError."""

    def __init__(self, switch: Switch, changed: Callable[[bool], None]) -> None:
        self._code, self._changed = switch.code, changed
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            self._fd = stack.enter_context(_opened(switch.device))
            self._reported = _is_set(self._fd, self._code)
            self._open = stack.pop_all()
        self._loop.add_reader(self._fd, self._read_events)
        self._open.callback(self._loop.remove_reader, self._fd)  # before the file is closed

    def stop(self) -> None:
        self._open.close()

    def _read_events(self) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._fd, _EVENTS_BYTES):
                    pass
            closed = _is_set(self._fd, self._code)
        except OSError:  # the device was removed
            self.stop()
            return
        if closed != self._reported:
            self._reported = closed
            self._changed(closed)


@contextlib.contextmanager
def _opened(device: str) -> Iterator[int]:
    fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_set(fd: int, code: int) -> bool:
    """Return whether switch `code` of an input device is on. Raises: OSError."""
    module = compiled()
    switches = module.ffi.new("unsigned char[]", module.lib.SWITCH_BYTES)
    ioctl(fd, module.lib.EVIOCGSW_ALL, switches)
    return bool(int.from_bytes(bytes(switches), "little") >> code & 1)


def _write(path: Path, text: str) -> None:
    """Write to an existing file in one `write(2)`, as sysfs requires. Raises: OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


@contextlib.contextmanager
def _errors(name: str, known: Mapping[str, object]) -> Iterator[None]:
    if name not in known:
        message = f"the board file has no {name!r}; it has {', '.join(known) or 'none'}"
        raise IndicatorError(IndicatorErrorKind.UNKNOWN, message)
    try:
        yield
    except OSError as error:
        kind = _KINDS.get(error.errno or 0, IndicatorErrorKind.IO)
        raise IndicatorError(kind, f"{name}: {error.filename or ''} {error.strerror}") from error
