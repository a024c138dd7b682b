"""`hal.machine` on Linux: the slot is the label of the root file system's partition; systemd restarts the machine.

The application tree of another slot is in its file system, which rap-application.service mounts.

The label of a partition is in the `uevent` file of its block device (`PARTNAME=root-a`). A device of the device
mapper, such as dm-verity, is followed to the partition below it (`slaves`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hal.machine import MachineError, MachineErrorKind
from settings.slots import PARTITIONS, Slot

SWITCH_FILE: Final = Path("/run/rap/application")
"""Creating it with the name of a slot makes systemd start the box's programs from there (rap-application.path)."""
LEFT_FILE: Final = Path("/run/rap-application/left")
"""In this file rap-application.service names the slot whose programs it has rejected."""


class LinuxMachine:
    """The machine; creating the file `restart_file` makes systemd restart it (rap-restart.path)."""

    def __init__(
        self,
        restart_file: Path,
        root: Path = Path("/"),
        sysfs: Path = Path("/sys"),
        *,
        switch_file: Path = SWITCH_FILE,
        left_file: Path = LEFT_FILE,
        program: Path = Path(__file__),
    ) -> None:
        self._restart_file, self._root, self._sysfs = restart_file, root, sysfs
        self._switch_file, self._left_file, self._program = switch_file, left_file, program

    def running_slot(self) -> Slot:
        """See `Machine.running_slot`."""
        return self._slot_of(self._root)

    def application_slot(self) -> Slot:
        """See `Machine.application_slot`."""
        return self._slot_of(self._program)

    def start_application(self, slot: Slot) -> None:
        """See `Machine.start_application`."""
        part = self._switch_file.with_suffix(".part")
        try:
            part.write_text(f"{slot}\n")
            part.replace(self._switch_file)
        except OSError as error:
            raise MachineError(
                MachineErrorKind.RESTART, f"{self._switch_file}: {error.strerror or error}"
            ) from error

    def rejected_application(self) -> Slot | None:
        """See `Machine.rejected_application`."""
        try:
            name = self._left_file.read_text().strip()
        except OSError:
            return None
        return next((slot for slot in PARTITIONS if slot == name), None)

    def _slot_of(self, path: Path) -> Slot:
        """Return the slot whose file system contains `path`. Raises: NO_SLOTS."""
        try:
            device = path.stat().st_dev
            number = f"{os.major(device)}:{os.minor(device)}"
            labels = list(_labels(self._sysfs / "dev" / "block" / number))
        except OSError as error:
            raise MachineError(
                MachineErrorKind.NO_SLOTS, f"the device of {path} is unknown: {error}"
            ) from error
        for slot, name in PARTITIONS.items():
            if name in labels:
                return slot
        names = " and ".join(PARTITIONS.values())
        raise MachineError(
            MachineErrorKind.NO_SLOTS,
            f"{path} is on {' '.join(labels) or 'an unnamed partition'}; the slots are {names}",
        )

    def restart(self) -> None:
        """See `Machine.restart`."""
        try:
            self._restart_file.touch(mode=0o600)
        except OSError as error:
            raise MachineError(
                MachineErrorKind.RESTART, f"{self._restart_file}: {error.strerror or error}"
            ) from error


def _labels(device: Path) -> Iterator[str]:
    """Yield the partition labels of a block device and of the devices below it. Raises: OSError."""
    for line in (device / "uevent").read_text().splitlines():
        if line.startswith("PARTNAME="):
            yield line.removeprefix("PARTNAME=")
    slaves = device / "slaves"
    for below in sorted(slaves.iterdir()) if slaves.is_dir() else ():
        yield from _labels(below)
