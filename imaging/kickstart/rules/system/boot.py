"""Partitions that the machine starts from, the boot loader, and the kernel's command line."""

from __future__ import annotations

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import FORMATS
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import complete, mount_of, parts, volumes


@rule
def no_boot_partition(case: Case) -> Faults:
    """On a GPT disk, BIOS starts from biosboot, UEFI from /boot/efi.

    Source: RHEL's recommended partitioning scheme.
    """
    label = case.installer.disk_label
    for command in case.ks.named("clearpart"):
        label = command.data.disklabel or label
    mounts = set(map(mount_of, volumes(case)))
    ready = mounts & {"biosboot", "prepboot", "/boot/efi"} or case.ks.has_command("reqpart")
    if complete(case) and label == "gpt" and not ready:
        right = "add `part biosboot --fstype=biosboot --size=1`, `part /boot/efi --fstype=efi --size=256`, or reqpart"
        yield LintFault(
            next(volumes(case)).spot, "a GPT disk without biosboot or /boot/efi does not start", right
        )


@rule
def boot_partition_form(case: Case) -> Faults:
    """Firmware reads only FAT at /boot/efi, and GRUB needs a partition without a file system on a GPT disk.

    Source: UEFI 2.10, 13.3; GRUB manual, 3.4; Anaconda: "mounted at /boot/efi".
    """
    for command in case.ks.named("logvol", "raid"):
        kind = "a logical volume" if command.name == "logvol" else command.data.level
        if mount_of(command) in ("/boot/efi", "biosboot", "prepboot") and kind != "RAID1":
            yield LintFault(
                command.spot,
                f"{mount_of(command)} is {kind}, which firmware cannot read",
                f"write `part {mount_of(command)} …`",
            )
    label = [clear.data.disklabel for clear in case.ks.named("clearpart")]
    firmware = "/boot/efi" in map(mount_of, volumes(case)) or case.ks.has_command("reqpart")
    for command in parts(case):
        wanted = {"/boot/efi": "efi", "biosboot": "biosboot"}.get(mount_of(command))
        given = command.data.fstype
        if wanted and given != wanted and not (wanted == "biosboot" and not given):
            yield LintFault(
                command.spot,
                f"{mount_of(command)} is {given or 'the default file system'}",
                f"write --fstype={wanted}",
            )
        if given == "efi" and not wanted and complete(case) and not firmware:
            yield LintFault(
                command.spot,
                f"the firmware's partition is at {mount_of(command)}, and nothing is at /boot/efi",
                "write `part /boot/efi`",
            )
        if wanted == "biosboot" and label[-1:] == ["msdos"]:
            yield LintFault(
                command.spot,
                "biosboot is for a GPT disk, and clearpart has --disklabel=msdos",
                "write --disklabel=gpt, or leave the partition out",
                risky=True,
            )
        if mount_of(command) in ("/boot", "/boot/efi") and command.data.encrypted:
            yield LintFault(
                command.spot,
                f"{mount_of(command)} is encrypted, and nothing can start from it",
                "leave out --encrypted",
            )


@rule
def boot_unreadable(case: Case) -> Faults:
    """GRUB 2 reads /boot, or / without one, from a partition or RAID 1, from ext2 to ext4 or XFS.

    Source: Anaconda, `bootloader/grub2.py`: stage2_device_types, stage2_raid_levels, stage2_format_types.
    """
    loader = case.ks.last("bootloader")
    if loader is not None and (loader.data.disabled or loader.data.location == "none"):
        return
    by_mount = {mount_of(command): command for command in volumes(case)}
    command = by_mount.get("/boot") or (by_mount.get("/") if complete(case) else None)
    if command is None or (mount_of(command) == "/" and case.ks.has_command("reqpart")):
        return
    problem = _unreadable(command)
    if problem:
        yield LintFault(
            command.spot,
            f"GRUB cannot start from {mount_of(command)}, which is {problem}",
            "add `part /boot --fstype=ext4 --size=1024`"
            if mount_of(command) == "/"
            else "make /boot a partition with --fstype=ext4 or xfs",
        )


def _unreadable(command: KickstartCommand) -> str:
    data = command.data
    if command.name == "logvol":
        return "a logical volume"
    if command.name == "raid" and data.level and data.level != "RAID1":
        return f"{data.level}; only RAID1 is possible"
    limits = FORMATS.get(data.fstype)
    if mount_of(command) == "/" and command.option("encrypted"):
        return "encrypted"
    return data.fstype if limits is not None and not limits.boot and data.fstype != "btrfs" else ""


@rule
def boot_loader_location(case: Case) -> Faults:
    """The boot loader's timeout is zero or more seconds, and on a GPT disk it is installed on the disk itself.

    Source: RHEL's kickstart reference, `bootloader`; GRUB manual, `timeout` (-1 waits forever).
    """
    for command in case.ks.named("bootloader"):
        timeout = command.data.timeout
        if timeout is not None and timeout < 0:
            yield LintFault(
                command.spot, f"--timeout={timeout}: the menu waits for a key", "write --timeout=1 or more"
            )
        label = [clear.data.disklabel for clear in case.ks.named("clearpart")]
        if command.data.location == "partition" and label[-1:] == ["gpt"]:
            yield LintFault(
                command.spot, "--location=partition on a GPT disk", "write --location=mbr", risky=True
            )


@rule
def reqpart_twice(case: Case) -> Faults:
    """reqpart makes biosboot or /boot/efi itself, and with --add-boot /boot.

    Source: RHEL's kickstart reference, `reqpart`.
    """
    command = case.ks.last("reqpart")
    own = (
        ("/boot", "/boot/efi", "biosboot") if command and command.data.addBoot else ("/boot/efi", "biosboot")
    )
    for part in parts(case) if command else ():
        if command and mount_of(part) in own:
            yield LintFault(
                command.spot,
                f"reqpart makes {mount_of(part)}, and so does line {part.spot.line}",
                "leave one of them out",
                risky=mount_of(part) != "/boot",
            )


@risk
def boot_loader_absent(case: Case) -> Faults:
    """Partitions to start from, and no boot loader that would use them.

    Source: RHEL's kickstart reference, `bootloader --location=none`.
    """
    command = case.ks.last("bootloader")
    if command is None or not (command.data.disabled or command.data.location == "none"):
        return
    made = [mount_of(part) for part in parts(case) if mount_of(part) in ("biosboot", "/boot/efi", "/boot")]
    if made:
        yield LintFault(
            command.spot,
            f"no boot loader is installed, and {made[0]} is made for one",
            "write --location=mbr",
        )
