"""Gathers the facts about this machine's disks from sysfs, procfs, udev's database and the disks' content.

Nothing is written, and no program such as lsblk is used, which an installation environment may lack. Content that
cannot be read is reported as `unreadable`, and `imaging.disks.refusals` then refuses the disk.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imaging.disks.machine import Device, Kind, Mount, StationMachine
from imaging.disks.signatures import signatures

_BUSES: Final = {
    "nvme": r"/nvme\d",
    "usb": r"/usb\d",
    "mmc": r"/mmc\d",
    "ata": r"/ata\d",
    "virtio": r"/virtio\d",
    "scsi": r"/host\d",
}
_NOT_DISKS: Final = re.compile(r"(ram|fd|nbd|mtdblock|rbd|drbd|bcache|ublkb)\d")


def gather() -> StationMachine:
    """Return the present state of this machine's disks."""
    disks = [path for path in sorted(Path("/sys/block").iterdir()) if _attribute(path / "hidden") != "1"]
    numbers = {_attribute(path / "dev"): path.name for disk in disks for path in (disk, *_partitions(disk))}
    devices = []
    for disk in disks:
        devices.append(_device(disk, _kind(disk), _underlying(disk, numbers)))
        devices += [_device(part, "partition", (disk.name,)) for part in _partitions(disk)]
    return StationMachine(devices, _mounts(), _swaps(), _pools())


def device_name(path: Path) -> str:
    """Return the kernel's name for a device given by any path, such as /dev/disk/by-id/…. Raises: OSError."""
    number = path.stat().st_rdev
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return link.resolve().name if number and link.exists() else path.name


def _device(path: Path, kind: Kind, over: tuple[str, ...]) -> Device:
    size = int(_attribute(path / "size") or 0) * 512
    holds, unreadable = (
        _detect_formats(path.name, size) if kind in ("disk", "loop", "partition") else ((), "")
    )
    return Device(
        name=path.name,
        kind=kind,
        number=_attribute(path / "dev"),
        bytes=size,
        block_bytes=int(_attribute(path / "queue/logical_block_size") or 512),
        model=_attribute(path / "device/model") or _attribute(path / "device/name"),
        serial="" if kind == "partition" else _serial(path),
        bus=_bus(path, kind),
        read_only=_attribute(path / "ro") == "1",
        over=over,
        holds=holds,
        unreadable=unreadable,
        claimed=bool(size) and kind in ("disk", "loop") and _claimed(path.name),
        file=_attribute(path / "loop/backing_file"),
    )


def _partitions(disk: Path) -> list[Path]:
    return sorted(path.parent for path in disk.glob("*/partition"))


def _kind(disk: Path) -> Kind:
    if disk.name.startswith("loop"):
        return "loop"
    for kind in ("dm", "md"):
        if (disk / kind).is_dir():
            return "dm" if kind == "dm" else "md"
    if disk.name.startswith("zram"):
        return "zram"
    if disk.name.startswith("sr"):
        return "optical"
    return "other" if _NOT_DISKS.match(disk.name) else "disk"


def _underlying(disk: Path, numbers: dict[str, str]) -> tuple[str, ...]:
    """Return the underlying devices; for a loop device, the device with its file, if that can be found."""
    slaves = tuple(sorted(path.name for path in (disk / "slaves").glob("*")))
    file = _attribute(disk / "loop/backing_file")
    if not file:
        return slaves
    try:
        number = Path(file).stat().st_dev
    except OSError:  # deleted, or in another namespace
        return slaves
    name = numbers.get(f"{os.major(number)}:{os.minor(number)}")
    return (*slaves, name) if name else slaves


def _bus(path: Path, kind: Kind) -> str:
    if kind not in ("disk", "loop"):
        return ""
    target = str(path.resolve())
    return next((bus for bus, pattern in _BUSES.items() if re.search(pattern, target)), "")


def _serial(path: Path) -> str:
    for serial in (
        _udev(path, "ID_SERIAL_SHORT"),
        _attribute(path / "device/serial"),
        _attribute(path / "serial"),
    ):
        if serial:
            return serial
    try:  # SCSI vital product data, page 0x80: four bytes, then the serial
        return (path / "device/vpd_pg80").read_bytes()[4:].decode("ascii", "replace").strip(" \0")
    except OSError:
        return ""


def _udev(path: Path, key: str) -> str:
    lines = _attribute(Path(f"/run/udev/data/b{_attribute(path / 'dev')}")).splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith(f"E:{key}=")), "")


def _detect_formats(name: str, size: int) -> tuple[tuple[str, ...], str]:
    if not size:
        return (), ""
    try:
        fd = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return (), str(error.strerror)
    try:
        return tuple(signatures(lambda offset, length: os.pread(fd, length, offset), size)), ""
    except OSError as error:
        return (), str(error.strerror)
    finally:
        os.close(fd)


def _claimed(name: str) -> bool:
    try:
        os.close(os.open(f"/dev/{name}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _mounts() -> list[Mount]:
    """Return the mounts in /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        fields = line.split(" ")
        dash = fields.index("-", 6)
        source = fields[dash + 2]
        if source.startswith("/dev/"):
            source = f"/dev/{Path(source).resolve().name}"  # the kernel's name for /dev/mapper/…
        mounts.append(Mount(fields[2], source, fields[4], fields[dash + 1]))
    return [mount for mount in mounts if mount.source.startswith("/") or not mount.number.startswith("0:")]


def _swaps() -> list[str]:
    """Return the devices used for swap. A swap file is covered by its file system being mounted."""
    lines = _attribute(Path("/proc/swaps")).splitlines()[1:]
    return [device_name(Path(line.split()[0])) for line in lines if line.startswith("/dev/")]


def _pools() -> dict[str, list[str]]:
    """Return the mounted Btrfs file systems, in any namespace, and their devices."""
    return {folder.parent.name: sorted(_names(folder)) for folder in Path("/sys/fs/btrfs").glob("*/devices")}


def _names(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.iterdir())


def _attribute(path: Path) -> str:
    """Return the text of a file of sysfs, procfs or udev, or "" if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip(" \n\0")
    except OSError:
        return ""
