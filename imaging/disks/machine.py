"""What is known of a machine's disks: block devices, mounts, swap and file systems on several devices.

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
    """The smallest unit it can write."""
    model: str = ""
    serial: str = ""
    bus: str = ""
    read_only: bool = False
    over: tuple[str, ...] = ()
    """Names of the devices it is made of: of a partition its disk, of a RAID its members, of a loop device those
    with its file."""
    holds: tuple[str, ...] = ()
    """Formats found on it, as `imaging.disks.signatures` names them."""
    unreadable: str = ""
    """Why what it holds could not be looked at."""
    claimed: bool = False
    """Whether the kernel uses it, as an attempt to open it exclusively tells."""
    file: str = ""
    """Of a loop device, the file behind it."""

    @property
    def word(self) -> str:
        """What is typed to confirm that this disk is meant: its serial, or its name where it has none."""
        return self.serial or self.name


class Mount(Struct, frozen=True, forbid_unknown_fields=True):
    """A mounted file system: the device's number and the source, as /proc/self/mountinfo has them."""

    number: str
    source: str
    point: str
    type: str


class StationMachine(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of a machine."""

    devices: list[Device]
    mounts: list[Mount]
    swaps: list[str] = []
    """Names of devices that are swapped to."""
    pools: dict[str, list[str]] = {}
    """Mounted file systems of several devices, and their devices' names."""

    def device(self, name: str) -> Device | None:
        """The device of that name."""
        return next((device for device in self.devices if device.name == name), None)

    def disks(self) -> list[Device]:
        """What is listed: whole disks, and loop devices with a file."""
        return [d for d in self.devices if d.kind == "disk" or (d.kind == "loop" and d.bytes)]


def size_text(size: int) -> str:
    """A size as it is printed on disks: powers of ten."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"
