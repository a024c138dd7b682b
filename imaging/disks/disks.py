"""Which disks a machine has, and which of them may be overwritten.

Facts and judgement are apart: `imaging.disks.linux` gathers a `StationMachine`, which is plain data and can be
recorded;
`refusals` judges one and touches nothing. It errs to the side of refusing: a disk is written only if nothing on it is
used by anything, directly or through partitions, RAID, LVM, LUKS, loop devices and file systems of several disks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from imaging.signing.signatures import MEMBERS

Kind: TypeAlias = Literal["disk", "partition", "loop", "dm", "md", "zram", "optical", "other"]

SECTOR: Final = 512
_BOOT_AREA: Final = re.compile(r"mmcblk\d+(boot\d+|rpmb|gp\d+)")
WHAT_IT_IS: Final = {
    "partition": "a partition: give the whole disk",
    "dm": "made of other disks by device-mapper (LVM, LUKS, multipath)",
    "md": "a RAID, made of other disks",
    "zram": "memory, not a disk",
    "optical": "an optical drive",
    "other": "no disk that a box could start from",
}


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
    """Formats found on it, as `imaging.signing.signatures` names them."""
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


def refusals(machine: StationMachine, name: str, image_bytes: int = 0) -> list[str]:
    """Why the disk `name` may not be overwritten with an image of so many bytes; none if it may."""
    device = machine.device(name)
    if device is None:
        return ["is no disk of this machine"]
    if device.kind not in ("disk", "loop"):
        return [f"is {WHAT_IT_IS[device.kind]}"]
    found = [*_unfit(device, image_bytes), *_uses(machine, device), *_members(machine, device)]
    return list(dict.fromkeys(found))


def _unfit(device: Device, image_bytes: int) -> list[str]:
    found = []
    if not device.bytes:
        found.append("is empty: there is no medium in it, or no file behind it")
    elif device.bytes < image_bytes:
        found.append(f"is too small: it has {device.bytes:,} bytes, the image needs {image_bytes:,}")
    if device.read_only:
        found.append("is read-only: look for a lock on it")
    if _BOOT_AREA.fullmatch(device.name):
        found.append("is the boot area of an SD or eMMC, not the disk itself")
    if device.block_bytes != SECTOR:
        found.append(f"has sectors of {device.block_bytes} bytes; images are made for {SECTOR}")
    return found


def _uses(machine: StationMachine, disk: Device) -> list[str]:
    """What uses a disk or anything on it now."""
    points = _mount_points(machine)
    found = []
    for device in _stack(machine, disk.name):
        where = "" if device is disk else f" ({device.name})"
        if points[device.name]:
            found.append(f"is mounted at {points[device.name][0]}{where}")
        if device.name in machine.swaps:
            found.append(f"is swapped to{where}")
        found += [
            f"is part of a file system of several disks{where}"
            for members in machine.pools.values()
            if device.name in members and not points[device.name]
        ]
        if device is not disk and device.kind != "partition":
            found.append(f"is beneath {device.name}, {_as_what(device)}: take that apart first")
    if disk.claimed and not found:
        found.append("is used by the kernel: mounted elsewhere, such as in a container")
    return found


def _as_what(device: Device) -> str:
    return f"a loop device on {device.file}" if device.kind == "loop" else WHAT_IT_IS[device.kind]


def _members(machine: StationMachine, disk: Device) -> list[str]:
    """What a disk is a part of, even if nothing uses it now."""
    found = []
    for device in _slices(machine, disk):
        where = "" if device is disk else f" ({device.name})"
        if device.unreadable:
            found.append(f"cannot be looked into{where}: {device.unreadable}")
        found += [
            f"is {MEMBERS[held]}{where}: if that is not needed any more, `wipefs --all /dev/{device.name}`"
            for held in device.holds
            if held in MEMBERS
        ]
    return found


def _mount_points(machine: StationMachine) -> dict[str, list[str]]:
    """Names of devices to where they are mounted. Btrfs has a number of its own: there the source tells."""
    by_number = {device.number: device.name for device in machine.devices}
    points: dict[str, list[str]] = defaultdict(list)
    for mount in machine.mounts:
        name = by_number.get(mount.number) or mount.source.removeprefix("/dev/")
        points[name].append(mount.point)
    return points


def _slices(machine: StationMachine, disk: Device) -> list[Device]:
    return [disk, *(d for d in machine.devices if d.kind == "partition" and disk.name in d.over)]


def _stack(machine: StationMachine, name: str) -> list[Device]:
    """The device, and everything that is made of it, directly or not."""
    names = {name}
    while True:
        more = {device.name for device in machine.devices if names & set(device.over)} - names
        if not more:
            return [device for device in machine.devices if device.name in names]
        names |= more
