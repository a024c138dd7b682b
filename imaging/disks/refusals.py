"""Decides which disks may be overwritten, and states why others may not.

The decision depends only on a `StationMachine`, so that it can be tested with recorded machines. A disk may be
overwritten only if nothing on it is in use, directly or through partitions, RAID, LVM, LUKS, loop devices or file
systems on several disks. If there is any doubt, the disk is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from imaging.disks.machine import SECTOR, Device, StationMachine
from imaging.disks.signatures import MEMBERS

_BOOT_AREA: Final = re.compile(r"mmcblk\d+(boot\d+|rpmb|gp\d+)")
KIND_DESCRIPTIONS: Final = {
    "partition": "a partition: give the whole disk",
    "dm": "made of other disks by device-mapper (LVM, LUKS, multipath)",
    "md": "a RAID, made of other disks",
    "zram": "memory, not a disk",
    "optical": "an optical drive",
    "other": "not a disk that a box could start from",
}


def refusals(machine: StationMachine, name: str, image_bytes: int = 0) -> list[str]:
    """Return the reasons not to overwrite the disk `name` with an image of `image_bytes`; an empty list if none."""
    device = machine.device(name)
    if device is None:
        return ["is not a disk of this machine"]
    if device.kind not in ("disk", "loop"):
        return [f"is {KIND_DESCRIPTIONS[device.kind]}"]
    reasons = [*_unfit(device, image_bytes), *_uses(machine, device), *_members(machine, device)]
    return list(dict.fromkeys(reasons))


def _unfit(device: Device, image_bytes: int) -> list[str]:
    reasons = []
    if not device.bytes:
        reasons.append("has no capacity: no medium is inserted, or the loop device has no file")
    elif device.bytes < image_bytes:
        reasons.append(f"is too small: it has {device.bytes:,} bytes, and the image needs {image_bytes:,}")
    if device.read_only:
        reasons.append("is read-only: check its write-protect switch")
    if _BOOT_AREA.fullmatch(device.name):
        reasons.append("is the boot area of an SD card or eMMC, not the disk itself")
    if device.block_bytes != SECTOR:
        reasons.append(f"has sectors of {device.block_bytes} bytes; images are made for {SECTOR}")
    return reasons


def _uses(machine: StationMachine, disk: Device) -> list[str]:
    """Return the current uses of a disk and of everything on it."""
    points = _mount_points(machine)
    uses = []
    for device in _stack(machine, disk.name):
        where = "" if device is disk else f" ({device.name})"
        if points[device.name]:
            uses.append(f"is mounted at {points[device.name][0]}{where}")
        if device.name in machine.swaps:
            uses.append(f"is used for swap{where}")
        uses += [
            f"is part of a file system of several disks{where}"
            for members in machine.pools.values()
            if device.name in members and not points[device.name]
        ]
        if device is not disk and device.kind != "partition":
            uses.append(f"is used by {device.name}, {_description(device)}: remove that device first")
    if disk.claimed and not uses:
        uses.append(
            "is used by the kernel: perhaps it is mounted in another namespace, such as in a container"
        )
    return uses


def _description(device: Device) -> str:
    return f"a loop device on {device.file}" if device.kind == "loop" else KIND_DESCRIPTIONS[device.kind]


def _members(machine: StationMachine, disk: Device) -> list[str]:
    """Return a reason for each RAID array, pool or the like that a disk belongs to, even if it is not in use."""
    memberships = []
    for device in _slices(machine, disk):
        where = "" if device is disk else f" ({device.name})"
        if device.unreadable:
            memberships.append(f"cannot be read{where}: {device.unreadable}")
        memberships += [
            f"is {MEMBERS[name]}{where}: if that is no longer needed, `wipefs --all /dev/{device.name}`"
            for name in device.holds
            if name in MEMBERS
        ]
    return memberships


def _mount_points(machine: StationMachine) -> dict[str, list[str]]:
    """Return the mount points of each device, by device name.

    Btrfs has a different device number, so its source is used instead.
    """
    by_number = {device.number: device.name for device in machine.devices}
    points: dict[str, list[str]] = defaultdict(list)
    for mount in machine.mounts:
        name = by_number.get(mount.number) or mount.source.removeprefix("/dev/")
        points[name].append(mount.point)
    return points


def _slices(machine: StationMachine, disk: Device) -> list[Device]:
    return [disk, *(d for d in machine.devices if d.kind == "partition" and disk.name in d.over)]


def _stack(machine: StationMachine, name: str) -> list[Device]:
    """Return the device, and all devices built on it, directly or indirectly."""
    names = {name}
    while True:
        more = {device.name for device in machine.devices if names & set(device.over)} - names
        if not more:
            return [device for device in machine.devices if device.name in names]
        names |= more
