"""The disks of a machine: block devices, mounts, swap and file systems on several devices.

This is plain data that can be recorded. `imaging.disks.linux` gathers it; `imaging.disks.refusals` decides from it
which disks may be overwritten.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["disk", "partition", "loop", "dm", "md", "zram", "optical", "other"]

SECTOR: Final = 512


class Device(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A block device. `name` is the kernel's, such as sda or sda1; sizes are in bytes."""

    name: str
    kind: Kind
    number: str
    """Major and minor number, such as 8:0."""
    bytes: int
    block_bytes: int = SECTOR
    """The logical block size, the smallest unit that can be written."""
    model: str = ""
    serial: str = ""
    bus: str = ""
    read_only: bool = False
    over: tuple[str, ...] = ()
    """Names of the underlying devices: the disk of a partition, the members of a RAID, the device with the file of a
    loop device."""
    holds: tuple[str, ...] = ()
    """The formats that its content has, as named by `imaging.disks.signatures`."""
    unreadable: str = ""
    """Why its content could not be read, or ""."""
    claimed: bool = False
    """Whether the kernel uses it: it cannot be opened exclusively."""
    file: str = ""
    """The backing file of a loop device."""

    @property
    def confirmation(self) -> str:
        """The text that confirms the choice of this disk: its serial, or its name if it has none."""
        return self.serial or self.name


class Mount(Struct, frozen=True, forbid_unknown_fields=True):
    """A mounted file system: device number and source as in /proc/self/mountinfo, mount point, type."""

    number: str
    source: str
    point: str
    type: str


class StationMachine(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The block devices of a machine and their use."""

    devices: list[Device]
    mounts: list[Mount]
    swaps: list[str] = []
    """Names of devices that are used for swap."""
    pools: dict[str, list[str]] = {}
    """Mounted file systems that span several devices, each with the names of its devices."""

    def device(self, name: str) -> Device | None:
        """Return the device with this name, or None."""
        return next((device for device in self.devices if device.name == name), None)

    def disks(self) -> list[Device]:
        """Return the devices to list: whole disks, and loop devices with a file."""
        return [d for d in self.devices if d.kind == "disk" or (d.kind == "loop" and d.bytes)]


def size_text(size: int) -> str:
    """Return a size in decimal MB or GB, as printed on disks."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
