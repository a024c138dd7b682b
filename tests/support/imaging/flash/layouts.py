"""Recorded disks of machines, in `tests/fixtures/machines`, with the disks that must be accepted and refused."""

from __future__ import annotations

from pathlib import Path

import msgspec

from imaging.disks.machine import StationMachine
from imaging.disks.refusals import refusals
from tests.support.paths import FIXTURES

FILES = sorted((FIXTURES / "machines").glob("*.json"))


class Layout(msgspec.Struct, forbid_unknown_fields=True):
    """A recorded machine. `refused` has a part of the reason for each refused disk."""

    about: str
    image_bytes: int
    machine: StationMachine
    may_be_written: list[str]
    refused: dict[str, str]

    def refusals_by_disk(self) -> dict[str, list[str]]:
        """Return the reasons for which each disk is refused, by its name."""
        return {
            disk.name: refusals(self.machine, disk.name, self.image_bytes) for disk in self.machine.disks()
        }


def load(file: Path) -> Layout:
    return msgspec.json.decode(file.read_bytes(), type=Layout)
