"""Rules about the disks that the installer uses and clears."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import Final

from pykickstart.constants import CLEARPART_TYPE_ALL, CLEARPART_TYPE_NONE

from imaging.kickstart.data import MIB, RESERVED_MIB
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import disk_name, mount_of, on_disk, parts, reuses, size_mib, volumes

DISK: Final = re.compile(r"((sd|vd|hd|xvd)[a-z]+|nvme\d+n\d+|mmcblk\d+)")
PARTITION: Final = re.compile(r"((sd|vd|hd|xvd)[a-z]+\d+|(nvme\d+n\d+|mmcblk\d+)p\d+)")
_KERNEL_NAME: Final = re.compile(r"[a-z]+\w*")
DISK_LABELS: Final = ("gpt", "msdos", "dasd", "mac")


@rule
def undefined_partition(case: Case) -> Faults:
    """--onpart and --useexisting need existing partitions and volumes, which a cleared disk does not have.

    Source: RHEL's kickstart reference, `part --onpart`; Anaconda, `custom_partitioning.py`: "does not exist".
    """
    clear, ignore = case.ks.last("clearpart"), case.ks.last("ignoredisk")
    if clear is None or clear.data.type != CLEARPART_TYPE_ALL:
        return
    drives = [disk_name(name) for name in clear.data.drives]
    used = {disk_name(name) for name in ignore.data.onlyuse} if ignore else set()
    everything = not drives or (used and used <= set(drives))
    for command in case.ks.named("volgroup", "logvol", "raid") if everything else ():
        if command.data.preexist:
            yield LintFault(
                command.location,
                f"{command.name} --useexisting: clearpart on line {clear.location.line} leaves nothing on the disk",
                "leave --useexisting out, and give its size or members",
            )
    for command in volumes(case):
        given = command.option("onPart")
        on_cleared = not drives or any(disk_name(given).startswith(drive) for drive in drives)
        if given and on_cleared and "=" not in given:
            yield LintFault(
                command.location,
                f"--onpart={given}: clearpart leaves no partition on the disk",
                "write --ondisk and --size",
            )


@rule
def disk_out_of_bounds(case: Case) -> Faults:
    """A disk that ignoredisk excludes does not exist for the other commands.

    Source: RHEL's kickstart reference, `ignoredisk`; Anaconda, "given in part command does not exist".
    """
    for command in parts(case):
        if command.data.disk and _is_ignored(case, command.data.disk):
            yield LintFault(
                command.location,
                f"--ondisk={command.data.disk}, but ignoredisk leaves {_left(case)}",
                "name the same disk",
            )
    for command in case.ks.named("clearpart"):
        for name in command.data.drives:
            if _is_ignored(case, name):
                yield LintFault(
                    command.location,
                    f"--drives={name}, but ignoredisk leaves {_left(case)}",
                    "name the same disk",
                )


@rule
def boot_drive_ignored(case: Case) -> Faults:
    """The boot loader is installed on a disk that the installer uses.

    Source: Anaconda, `bootloader/execution.py`: "Requested boot drive doesn't exist or cannot be used".
    """
    command = case.ks.last("bootloader")
    if command is None or command.data.disabled:
        return
    disks = {disk_name(part.data.disk) for part in parts(case) if part.data.disk}
    comparable = bool(disks) and all(_KERNEL_NAME.fullmatch(disk) for disk in disks)
    for name in [name for name in (command.data.bootDrive, *command.data.driveorder) if name]:
        if _is_ignored(case, name):
            problem, right = (
                f"boot drive {name}, but ignoredisk leaves {_left(case)}",
                "name a disk that is used",
            )
        elif PARTITION.fullmatch(disk_name(name)):
            problem, right = f"boot drive {name} is a partition", "name the disk"
        elif comparable and _KERNEL_NAME.fullmatch(disk_name(name)) and disk_name(name) not in disks:
            problem, right = (
                f"boot drive {name}, and no partition is on it",
                f"write --boot-drive={min(disks)}",
            )
        else:
            continue
        yield LintFault(command.location, problem, right)


@rule
def disk_is_partition(case: Case) -> Faults:
    """The arguments of --ondisk and --drives are disks, and those of clearpart's --list are partitions.

    Source: Anaconda, "Cannot install to unpartitionable device".
    """
    for command in (*parts(case), *case.ks.named("clearpart", "ignoredisk")):
        data = command.data
        names = (
            [data.disk]
            if command.name.startswith("part")
            else data.drives
            if command.name == "clearpart"
            else [*data.onlyuse, *data.ignoredisk]
        )
        for name in names:
            if name and PARTITION.fullmatch(disk_name(name)):
                yield LintFault(
                    command.location, f"{name} is a partition, not a disk", "name the disk, such as sda"
                )
    for command in case.ks.named("clearpart"):
        for name in [name for name in command.data.devices if DISK.fullmatch(disk_name(name))]:
            yield LintFault(
                command.location,
                f"--list={name} is a disk, not a partition",
                f"write --all --drives={disk_name(name)}",
            )


@rule
def disk_label_unknown(case: Case) -> Faults:
    """--disklabel must be a type of partition table that Anaconda can make.

    Source: blivet, `formats/disklabel.py`; Anaconda, "not supported on this platform".
    """
    for command in case.ks.named("clearpart"):
        if command.data.disklabel and command.data.disklabel not in DISK_LABELS:
            yield LintFault(
                command.location, f"there is no --disklabel={command.data.disklabel}", "write --disklabel=gpt"
            )


@risk
def nothing_is_cleared(case: Case) -> Faults:
    """Without clearpart and zerombr, a used or unreadable disk has no free space, and the installation stops.

    Source: RHEL's kickstart reference, `clearpart` (the default is --none) and `zerombr`.
    """
    first = next((c for c in (*volumes(case), *case.ks.named("autopart")) if not reuses(c.data)), None)
    if first is None or case.ks.open_ended or any(reuses(c.data) for c in volumes(case)):
        return
    clear = case.ks.last("clearpart")
    if clear is None or clear.data.type in (None, CLEARPART_TYPE_NONE):
        yield LintFault(
            clear.location if clear else first.location,
            "partitions are created, but clearpart removes nothing from a used disk",
            "add `clearpart --all --initlabel`",
        )
    elif not case.ks.has_command("zerombr") and not clear.data.initAll:
        yield LintFault(
            clear.location,
            "neither zerombr nor clearpart --initlabel: a blank disk stops an unattended installation",
            "add `zerombr` and --initlabel",
        )


@risk
def other_disk_cleared(case: Case) -> Faults:
    """A used disk that clearpart's --drives does not name has no free space for partitions.

    Source: RHEL's kickstart reference, `clearpart --drives`.
    """
    clear = case.ks.last("clearpart")
    drives = {disk_name(name) for name in clear.data.drives} if clear else set()
    if clear is None or not drives or case.ks.open_ended or not all(map(DISK.fullmatch, drives)):
        return
    for command in parts(case):
        disk = disk_name(command.data.disk or "")
        if DISK.fullmatch(disk) and disk not in drives and not reuses(command.data):
            yield LintFault(
                clear.location,
                f"it does not clear {disk}, on which line {command.location.line} creates a partition",
                f"add {disk} to --drives",
            )
            return


@risk
def source_on_cleared_disk(case: Case) -> Faults:
    """Anaconda protects the disk that the packages are on: it is neither cleared nor partitioned.

    Source: RHEL's kickstart reference, `harddrive`; Anaconda, `protected_devices`.
    """
    source, clear = case.ks.last("harddrive"), case.ks.last("clearpart")
    given = disk_name(str(source.data.partition or "")) if source else ""
    if source is None or clear is None or not PARTITION.fullmatch(given):
        return
    disk = re.sub(r"p?\d+$", "", given)
    used = {disk_name(c.data.disk or "") for c in parts(case)} | {
        disk_name(name) for name in clear.data.drives
    }
    if clear.data.type not in (None, CLEARPART_TYPE_NONE) and disk in used:
        yield LintFault(
            source.location,
            f"the packages are on {disk}, which line {clear.location.line} clears",
            "put them on another disk, and name it by LABEL= or UUID=",
        )


@risk
def source_hidden(case: Case) -> Faults:
    """`ignoredisk --only-use` hides a USB stick, on which `cdrom` finds the packages.

    Source: rhbz#1945779; Anaconda's release notes, "ignoredisk and installation sources".
    """
    source, ignore = case.ks.last("cdrom"), case.ks.last("ignoredisk")
    if source is not None and ignore is not None and ignore.data.onlyuse:
        yield LintFault(
            ignore.location,
            f"it hides the USB stick on which cdrom (line {source.location.line}) looks for the packages",
            "leave it out, or write `harddrive --partition=LABEL=… --dir=/` instead of cdrom",
        )


@rule
def disk_too_small(case: Case) -> Faults:
    """The partitions must fit on the disk, beside the GPT and the partitions for the identity and the slot state.

    Source: UEFI 2.10, chapter 5; `imaging.build.types`, IMAGE_PARTITIONS.
    """
    if case.disk_bytes is None:
        return
    needed = (sum(map(size_mib, on_disk(case))) + RESERVED_MIB) * MIB
    largest = max(on_disk(case), key=size_mib, default=None)
    if largest is not None and needed > case.disk_bytes:
        problem = f"the partitions need {needed:,} bytes, and the disk has {case.disk_bytes:,}"
        yield LintFault(
            largest.location,
            problem,
            f"reduce partitions such as {mount_of(largest)} by {(needed - case.disk_bytes + MIB - 1) // MIB} MiB",
        )


def _is_ignored(case: Case, name: str) -> bool:
    ignore = case.ks.last("ignoredisk")
    if ignore is None or "/" in disk_name(name) or "=" in name:  # not a kernel name: cannot be compared
        return False
    only = [disk_name(each) for each in ignore.data.onlyuse]
    left_out = [disk_name(each) for each in ignore.data.ignoredisk]
    if any("/" in each or "=" in each for each in (*only, *left_out)):
        return False
    matches = any(fnmatch(disk_name(name), each) for each in only or left_out)
    return not matches if only else matches


def _left(case: Case) -> str:
    ignore = case.ks.last("ignoredisk")
    assert ignore is not None
    only = ", ".join(ignore.data.onlyuse)
    return f"only {only}" if only else f"{', '.join(ignore.data.ignoredisk)} alone"
