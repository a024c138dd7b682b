"""Both indicators pass the conformance suite: emulated ones, and Linux with a fake sysfs and a FUSE input device."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hal.contract.indicators import INDICATORS_CHECKS
from hal.contract.wait import wait_until
from hal.emul.indicators import EmulIndicators
from hal.indicators import Light
from hal.linux import ioctl
from hal.linux.indicators import LinuxIndicators
from settings.board import Switch
from tests.support.fuse import Device, device_file

EVIOCGSW_8 = 0x8008451B  # <linux/input.h>, encoded by hand: read, 8 bytes, 'E', number
EV_SYN, EV_SW, SW_LID, SW_MACHINE_COVER, SW_NEXT = 0, 5, 0, 16, 17
EVENT = "qqHHi"


class EmulIndicatorsBench:
    def __init__(self) -> None:
        self.indicators = EmulIndicators(["status", "alarm"], ["chassis"])

    def visible_light(self, led: str) -> Light:
        return self.indicators.backend.lights[led]

    def open_cover(self) -> None:
        self.indicators.backend.open_cover("chassis")

    def close_cover(self) -> None:
        self.indicators.backend.close_cover("chassis")

    def remove_device(self) -> None:
        self.indicators.backend.remove_device("alarm")
        self.indicators.backend.remove_device("chassis")


class InputDevice(Device):
    """Behaves like evdev (drivers/input/evdev.c): writing an event triggers it."""

    switches: int
    event_count: int
    read_by: ctypes.Array[ctypes.c_int]
    vanished: bool
    _fields_ = (
        ("switches", ctypes.c_uint64),
        ("event_count", ctypes.c_int),  # events so far, and how many of them each file handle has read
        ("read_by", ctypes.c_int * 64),
        ("vanished", ctypes.c_bool),
    )

    def open(self, handle: int) -> None:
        self._check()
        self.read_by[handle] = self.event_count

    def ioctl(self, request: int, argument: bytes) -> bytes:
        self._check()
        assert request == EVIOCGSW_8
        return struct.pack("<Q", self.switches)

    def write(self, data: bytes) -> None:
        _, _, kind, code, value = struct.unpack(EVENT, data)
        assert kind == EV_SW
        self.switches = self.switches & ~(1 << code) | value << code
        self.event_count += 1

    def read(self, handle: int) -> bytes:
        self._check()
        if not self.readable(handle):
            raise OSError(errno.EAGAIN, "")
        self.read_by[handle] += 1
        return struct.pack(EVENT, 0, 0, EV_SYN, 0, 0)

    def readable(self, handle: int) -> bool:
        return self.vanished or self.read_by[handle] < self.event_count

    def _check(self) -> None:
        if self.vanished:
            raise OSError(errno.ENODEV, "")


class KernelBench:
    """LEDs are directories of plain files, which keep the last written value; the switch is a device file."""

    def __init__(self, sysfs: Path, device: InputDevice, path: str) -> None:
        self._sysfs, self._device, self._path = sysfs, device, path
        for led in ("rap:green:status", "rap:red:alarm"):
            (sysfs / led).mkdir()
            for name, text in (("max_brightness", "3\n"), ("trigger", "none"), ("brightness", "0")):
                (sysfs / led / name).write_text(text)
            for name in ("delay_on", "delay_off"):
                (sysfs / led / name).touch()
        self.indicators = LinuxIndicators(
            {"status": "rap:green:status", "alarm": "rap:red:alarm"}, {"chassis": Switch(path)}, sysfs=sysfs
        )
        self.close_cover()

    def visible_light(self, led: str) -> Light:
        (folder,) = self._sysfs.glob(f"*:{led}")
        trigger, brightness, on, off = (
            (folder / name).read_text() for name in ("trigger", "brightness", "delay_on", "delay_off")
        )
        if trigger == "timer":
            return {("500", "500"): Light.SLOW, ("100", "100"): Light.FAST}[on, off]
        return {("none", "3"): Light.ON, ("none", "0"): Light.OFF}[trigger, brightness]

    def open_cover(self) -> None:
        self.emit_event(SW_MACHINE_COVER, 0)

    def close_cover(self) -> None:
        self.emit_event(SW_MACHINE_COVER, 1)

    def emit_event(self, code: int, value: int) -> None:
        fd = os.open(self._path, os.O_WRONLY)
        os.write(fd, struct.pack(EVENT, 0, 0, EV_SW, code, value))
        os.close(fd)

    def remove_device(self) -> None:
        self._device.vanished = True
        for path in (self._sysfs / "rap:red:alarm").iterdir():
            path.unlink()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[KernelBench]:
    try:
        ioctl.compiled()
    except OSError as error:
        pytest.skip(str(error))
    with device_file(InputDevice) as (device, path):
        yield KernelBench(tmp_path, device, path)


each_check = pytest.mark.parametrize("check", INDICATORS_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_emul_indicators(check: Callable[..., object]) -> None:
    asyncio.run(check(EmulIndicatorsBench()))  # type: ignore[arg-type]


@each_check
def test_linux_indicators(check: Callable[..., object], kernel: KernelBench) -> None:
    asyncio.run(check(kernel))  # type: ignore[arg-type]


def test_events_of_other_switches_do_not_call_the_watcher(kernel: KernelBench) -> None:
    async def run() -> None:
        reported: list[bool] = []
        stop = kernel.indicators.watch("chassis", reported.append)
        kernel.emit_event(SW_LID, 1)
        kernel.emit_event(SW_NEXT, 1)
        kernel.open_cover()
        await wait_until(lambda: reported == [False])
        stop()

    asyncio.run(run())
