"""Making the disk: a GPT with the kickstart's partitions, each with a file system and its part of the tree.

Nothing is mounted and no device is attached: sfdisk writes the table into a sparse file, and mke2fs and mkfs.vfat
make and fill the file systems. UUIDs, hash seeds and times are derived from the inputs: the same tree gives the same
bytes.

Every image begins with two partitions that are not in the kickstart: one for the identity of the box, which `rap
flash` stores, and one for the slot state (`settings.slots`). A kickstart cannot describe them (`part` supports
neither partitions without a file system nor GPT names), and does not need to, because an installed box is neither
flashed nor updated by slots. They come first, because the last partition may grow.

The kernel, its initramfs and its arguments belong to the root slot, in /boot of its file system. The boot partition,
which is mounted over that folder, has the boot loader's menu.
"""

from __future__ import annotations

import mmap
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.build import packages
from imaging.build.boot.boot_state import write_boot_state
from imaging.build.boot.bootloader import SECTOR, core_image, install_bios
from imaging.build.sandbox import LogCallback, run
from imaging.build.types import BuildPlan, DiskIds, ImagePartition
from imaging.flash.gpt import GROW_BIT
from imaging.kickstart.data import MIB
from imaging.media.imagefile import mapped_extents
from imaging.release.ext4 import Ext4

_LABEL: Final = "security.selinux"
_TYPES: Final = {
    "biosboot": "21686148-6449-6E6F-744E-656564454649",
    "efi": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "ext4": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    # "Linux reserved", which no program offers to format
    **dict.fromkeys(("raw", "boot-state"), "8DA63339-0007-60C0-C436-083AC8230908"),
}


@dataclass(frozen=True)
class PlacedPartition:
    """The position of a partition: offset and length in bytes, `number` from 1."""

    number: int
    partition: ImagePartition
    offset: int
    length: int


def place_partitions(plan: BuildPlan, disk_bytes: int) -> list[PlacedPartition]:
    """Return the position of each partition, aligned to 1 MiB. Growing partitions share the remaining space."""
    growing = [p for p in plan.partitions if p.grow]
    left = disk_bytes // MIB - plan.disk_bytes // MIB
    offset, placed = MIB, []
    for number, partition in enumerate(plan.disk_partitions, 1):
        length = (partition.size_mib + (left // len(growing) if partition.grow else 0)) * MIB
        placed.append(PlacedPartition(number, partition, offset, length))
        offset += length
    return placed


def derived_uuid(seed: str, name: str) -> str:
    """Return a UUID derived from a seed (the hash of the kickstart) and a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"rap-image:{seed}:{name}"))


def disk_ids(plan: BuildPlan, seed: str) -> DiskIds:
    """Return the identifiers of an image, derived from `seed`."""
    ids = {p.mount: derived_uuid(seed, p.mount) for p in plan.partitions}
    systems = {m: f"{i[:4]}-{i[4:8]}".upper() if _is_efi(plan, m) else i for m, i in ids.items()}
    numbered = enumerate(plan.disk_partitions, 1)
    return DiskIds(systems, {p.name: derived_uuid(seed, f"part {number}") for number, p in numbered})


def _is_efi(plan: BuildPlan, mount: str) -> bool:
    return any(p.mount == mount and p.format == "efi" for p in plan.partitions)


def make_disk(
    image: Path, tree: Path, plan: BuildPlan, disk_bytes: int, seed: str, epoch: int, log: LogCallback
) -> list[PlacedPartition]:
    """Write the disk image of the system in `tree` to `image`. Raises: BuildFailed, PrerequisiteMissing."""
    all_placed = place_partitions(plan, disk_bytes)
    with image.open("xb") as file:
        file.truncate(disk_bytes)
    _write_table(image, all_placed, seed, log)
    ids = disk_ids(plan, seed).file_systems
    parts = split(tree, image.with_name("parts"), plan, log)
    for placed in all_placed:
        log(f"{placed.partition.name}, {placed.length // MIB:,} MiB")
        match placed.partition.format:
            case "efi":
                _write_fat(
                    image, placed, parts[placed.partition.mount], ids[placed.partition.mount], epoch, log
                )
            case "ext4":
                _write_ext4(
                    image, placed, parts[placed.partition.mount], ids[placed.partition.mount], epoch, log
                )
            case "boot-state":
                write_boot_state(image, placed.offset, derived_uuid(seed, placed.partition.name), epoch, log)
            case "biosboot":
                boot_number = next(p.number for p in all_placed if p.partition.mount == "/boot")
                core, boot = core_image(tree, boot_number, placed.length, image.parent, log)
                with image.open("r+b") as disk:
                    install_bios(disk, core, boot, placed.offset // SECTOR)
    shutil.rmtree(image.with_name("parts"))
    return all_placed


def split(tree: Path, folder: Path, plan: BuildPlan, log: LogCallback) -> dict[str, Path]:
    """Split a tree by mount point into folders of hard links, in which mount points are empty folders."""
    folder.mkdir()
    run(["cp", "--archive", "--link", tree, folder / "0"], {}, log, folder=folder)
    parts = {"/": folder / "0"}
    for number, mount in enumerate(
        sorted(
            (p.mount for p in plan.partitions if p.mount.startswith("/") and p.mount != "/"), reverse=True
        ),
        1,
    ):
        inside = folder / "0" / mount.lstrip("/")
        parts[mount] = inside.rename(folder / str(number))
        stat = parts[mount].stat()
        inside.mkdir()
        os.chown(inside, stat.st_uid, stat.st_gid)
        # copystat also copies the SELinux label of the mount point
        shutil.copystat(parts[mount], inside)
        if mount == "/boot":
            _keep_in_slot(parts[mount], inside)
        if mount == "/var":
            _keep_packages_in_slot(parts[mount], folder / "0")
        parent = inside.parent
        os.utime(parent, (tree_time := (tree / parent.relative_to(folder / "0")).stat().st_mtime, tree_time))
    return parts


def _keep_in_slot(boot: Path, inside: Path) -> None:
    """Move the files directly in /boot to the slot: kernel, initramfs and the script that starts them."""
    times = boot.stat()
    for path in sorted(boot.iterdir()):
        if not path.is_dir():
            path.rename(inside / path.name)
    for folder in (boot, inside):
        os.utime(folder, (times.st_mtime, times.st_mtime))


def _keep_packages_in_slot(var: Path, slot: Path) -> None:
    """Move the package database to the slot, which it describes; /etc/fstab mounts it at its former path.

    Its new folder exists in the slot, with the SELinux label that the policy requires; the files get this label.
    """
    database = var / Path(packages.IN_VAR).relative_to("var")
    if not (database / "rpmdb.sqlite").exists():
        return  # it is in the slot already, as on RHEL 10
    folder = slot / packages.IN_SLOT
    times = {path: path.stat().st_mtime for path in (database, database.parent, folder, folder.parent)}
    for path in sorted(database.iterdir()):
        _copy_label(folder, path.rename(folder / path.name))
    for path, time in times.items():
        os.utime(path, (time, time))


def _copy_label(source: Path, target: Path) -> None:
    """Copy the SELinux label, if there is one."""
    if _LABEL in os.listxattr(source):
        os.setxattr(target, _LABEL, os.getxattr(source, _LABEL))


def _write_table(image: Path, all_placed: Sequence[PlacedPartition], seed: str, log: LogCallback) -> None:
    lines = ["label: gpt", f"label-id: {derived_uuid(seed, 'disk')}", "unit: sectors"]
    for placed in all_placed:
        name = placed.partition.name
        kind = _TYPES[placed.partition.format]
        own = derived_uuid(seed, f"part {placed.number}")
        sectors = f"start={placed.offset // SECTOR}, size={placed.length // SECTOR}"
        flags = f', attrs="GUID:{GROW_BIT}"' if placed.partition.grow else ""
        lines.append(f'{sectors}, type={kind}, uuid={own}, name="{name}"{flags}')
    run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", image],
        {},
        log,
        "\n".join(lines) + "\n",
        folder=image.parent,
    )


_BLOCK_BYTES, _INODE_BYTES = 4096, 256
_SLOT_SPARE_MIB: Final = 24
_SLOT_STEP: Final = 64 * MIB
UUID_INDEPENDENT: Final = {
    True: ["-O", "^metadata_csum,^uninit_bg", "-N", "2048"],
    False: ["-O", "metadata_csum_seed"],
}
"""Options of mke2fs that let flashing change the UUID; the key is whether the file system is /boot. GRUB 2.06 cannot
read a file system with metadata_csum_seed, therefore /boot has no metadata checksums."""
SLOT_OPTIONS: Final = ["-O", "^has_journal,^metadata_csum_seed,metadata_csum"]
"""Options of mke2fs for the root slot, which is never written while it is mounted, and whose UUID is not changed."""


def _write_ext4(
    image: Path, placed: PlacedPartition, part: Path, id: str, epoch: int, log: LogCallback
) -> None:
    options = f"offset={placed.offset},hash_seed={id},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard"
    times = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch)}
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", id, "-E", options, "-d", part]
    length = placed.length
    if placed.partition.mount == "/":
        length = min(length, _slot_bytes(part))
        command += SLOT_OPTIONS
    else:
        command += UUID_INDEPENDENT[placed.partition.mount == "/boot"]
    if placed.partition.label:
        command += ["-L", placed.partition.label]
    run([*command, image, f"{length // 1024}k"], times, log, folder=image.parent)
    device = f"{image}?offset={placed.offset}"
    _set_root(device, part, times)
    set_times(image, placed.offset, length, times)
    if placed.partition.mount == "/":
        _fill_holes(image, placed.offset, placed.offset + length)


def _slot_bytes(part: Path) -> int:
    """Return the size in bytes of a file system that is slightly larger than the files of a slot.

    An update writes and reads a whole slot, including its free space. The size is rounded up, so that a
    small change of the files does not change the geometry of the file system, which depends on the size.
    """
    sizes = [path.lstat().st_size for path in part.rglob("*") if not path.is_symlink()]
    blocks = sum(-(-size // _BLOCK_BYTES) for size in sizes)
    data = blocks * _BLOCK_BYTES + len(sizes) * _INODE_BYTES
    return -(-(data + data // 20 + _SLOT_SPARE_MIB * MIB) // _SLOT_STEP) * _SLOT_STEP


def _fill_holes(image: Path, start: int, end: int) -> None:
    """Write zeros to unwritten ranges, so that flashing overwrites every byte of a slot."""
    with image.open("r+b") as disk:
        at = start
        for offset, length in [*mapped_extents(image), (end, 0)]:
            stop = min(offset, end)
            while at < stop:
                disk.seek(at)
                disk.write(bytes(min(MIB, stop - at)))
                at += min(MIB, stop - at)
            at = max(at, min(offset + length, end))


def _set_root(device: str, part: Path, environment: dict[str, str]) -> None:
    """Set mode and owner of the root folder of a file system, which mke2fs does not copy."""
    stat = part.stat()
    fields = {"mode": f"0{stat.st_mode:o}", "uid": stat.st_uid, "gid": stat.st_gid}
    requests = "".join(f"sif / {name} {value}\n" for name, value in fields.items())
    run(["debugfs", "-w", "-f", "-", device], environment, lambda _line: None, requests)


def set_times(image: Path, offset: int, length: int, environment: dict[str, str]) -> None:
    """Set the other times of each inode of an ext4 file system in an image to its modification time.

    mke2fs copies the change times from the builder's disk. With a single time for all inodes, which would change with
    each release, all inodes would differ between two releases, and deltas would be larger.
    """
    with image.open("rb") as disk, mmap.mmap(disk.fileno(), offset + length, prot=mmap.PROT_READ) as whole:
        view = memoryview(whole)
        part = view[offset:]
        times = Ext4(part).modification_times()
        part.release()
        view.release()
    requests = "".join(
        f"sif <{inode}> {time}{more} {value}\n"
        for inode, moment in times.items()
        for time in ("ctime", "atime", "crtime")
        for more, value in (("", f"@{moment}"), ("_extra", "0"))
    )
    run(["debugfs", "-w", "-f", "-", f"{image}?offset={offset}"], environment, lambda _line: None, requests)


def _write_fat(
    image: Path, placed: PlacedPartition, part: Path, id: str, epoch: int, log: LogCallback
) -> None:
    """Make a FAT file system in a separate file and copy it to the disk, because mkfs.vfat formats whole files
    only."""
    times = {"SOURCE_DATE_EPOCH": str(epoch)}
    fat = image.with_name("fat")
    with fat.open("xb") as file:
        file.truncate(placed.length)
    label = ["-n", placed.partition.label] if placed.partition.label else []
    command = ["mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-i", id.replace("-", ""), *label, fat]
    run(command, times, log, folder=image.parent)
    _fill_fat(fat, part, times, log)
    with fat.open("rb") as source, image.open("r+b") as disk:
        for offset, length in mapped_extents(fat):
            source.seek(offset)
            disk.seek(placed.offset + offset)
            disk.write(source.read(length))
    fat.unlink()


def _fill_fat(image: Path, part: Path, environment: dict[str, str], log: LogCallback) -> None:
    """Copy files in the order of their names; `mcopy -s` would use the order in the builder's folder."""
    for inside, folders, files in os.walk(part):
        folders.sort()
        to = "::/" + str(Path(inside).relative_to(part)).removeprefix(".")
        if folders:
            created = [f"{to}/{name}" for name in folders]
            run(["mmd", "-i", image, *created], environment, log, folder=image.parent)
        if files:
            copied = [Path(inside, name) for name in sorted(files)]
            run(["mcopy", "-m", "-i", image, *copied, to], environment, log, folder=image.parent)
