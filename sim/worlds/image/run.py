"""Runs a lab file in the image world: to its end, or until `rap lab down`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from sim.lab.labfile import Lab
from sim.updates.orders import ordered_releases
from sim.verdict.result import Result
from sim.worlds.image.disk.client import FOLDER
from sim.worlds.image.machine import qemu
from sim.worlds.image.refusals import KEY, check_image, check_lab
from sim.worlds.image.releases import MAKING_SECONDS_MAX
from sim.worlds.image.world import ImageSettings, ImageWorld
from sim.worlds.kernel.run import RunParameters, run_to_the_end, start_detached
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.shared.progress import LabProgress

START_SECONDS_MAX: Final = 420.0
"""Time limit from power-on until the box accepts connections, which takes 30 to 60 s without KVM, and 150 s on a busy
machine."""
FLASH_SECONDS_MAX: Final = 300.0


def image_settings(
    lab: Lab,
    image: Path,
    *,
    key: Path = KEY,
    disk_bytes: int = 0,
    firmware: qemu.Firmware = "bios",
    start_seconds: float = START_SECONDS_MAX,
) -> ImageSettings:
    """Check lab, image and machine; return the settings. Raises: SettingsError, ImageRefused, MachineLacksError."""
    check_lab(lab, firmware)
    size = check_image(image, key, disk_bytes)
    files = image.resolve(), key.resolve()
    return ImageSettings(*files, size, firmware, start_seconds, qemu.accelerator())


def run_image_lab(
    lab: Lab, settings: ImageSettings, seed: int | None, progress: LabProgress | None
) -> Result:
    """Run a lab in real time and check its expectations. Raises: SettingsError, ImageRefused, MachineLacksError."""
    return run_to_the_end(lab, _parameters(lab, settings, seed), progress)


def start_image_lab(
    lab: Lab, name: str, settings: ImageSettings, seed: int | None, *, events: bool = True
) -> None:
    """Start a lab that runs under that name until `rap lab down`; see `sim.worlds.kernel.run.start_kernel_lab`."""
    start_detached(lab, name, lambda lab: _parameters(lab, settings, seed), events=events)


def _parameters(lab: Lab, settings: ImageSettings, seed: int | None) -> RunParameters:
    make = partial(_make, lab, settings, seed)
    seconds_max = FLASH_SECONDS_MAX + settings.start_seconds_max
    seconds_max += MAKING_SECONDS_MAX * len(ordered_releases(lab.events))
    folders = {settings.image.parent, settings.key.parent}
    return RunParameters(make, seconds_max, writable=(FOLDER,), readable=tuple(folders))


def _make(lab: Lab, settings: ImageSettings, seed: int | None, namespaces: KernelLab) -> ImageWorld:
    return ImageWorld(namespaces, lab, settings, seed)
