"""`hal.machine` on Linux: the slot is the label of the root file system's partition; systemd restarts the machine.

The label of a partition is in the `uevent` file of its block device (`PARTNAME=root-a`). A device of the device
mapper, such as dm-verity, is followed to the partition below it (`slaves`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hal.machine import MachineError, MachineErrorKind
from settings.slots import PARTITIONS, Slot


class LinuxMachine:
    """The machine; creating the file `restart_file` makes systemd restart it (rap-restart.path)."""

    def __init__(self, restart_file: Path, root: Path = Path("/"), sysfs: Path = Path("/sys")) -> None:
        self._restart_file, self._root, self._sysfs = restart_file, root, sysfs

    def running_slot(self) -> Slot:
        """See `Machine.running_slot`."""
        try:
            device = self._root.stat().st_dev
            number = f"{os.major(device)}:{os.minor(device)}"
            labels = list(_labels(self._sysfs / "dev" / "block" / number))
        except OSError as error:
            raise MachineError(
                MachineErrorKind.NO_SLOTS, f"the device of the root file system is unknown: {error}"
            ) from error
        for slot, name in PARTITIONS.items():
            if name in labels:
                return slot
        names = " and ".join(PARTITIONS.values())
        raise MachineError(
            MachineErrorKind.NO_SLOTS,
            f"the root file system is on {' '.join(labels) or 'an unnamed partition'}; the slots are {names}",
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
