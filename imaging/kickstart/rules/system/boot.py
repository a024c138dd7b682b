"""Rules about the partitions that the machine starts from, and about the boot loader."""

from __future__ import annotations

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import FORMATS
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import complete, mount_of, parts, volumes


@rule
def no_boot_partition(case: Case) -> Faults:
    """To start from a GPT disk, BIOS needs biosboot, and UEFI needs /boot/efi.

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
            next(volumes(case)).location, "a GPT disk without biosboot or /boot/efi does not start", right
        )


@rule
def boot_partition_form(case: Case) -> Faults:
    """UEFI firmware reads only FAT at /boot/efi, and for BIOS GRUB needs a partition without a file system on GPT.

    Source: UEFI 2.10, 13.3; GRUB manual, 3.4; Anaconda: "mounted at /boot/efi".
    """
    for command in case.ks.named("logvol", "raid"):
        kind = "a logical volume" if command.name == "logvol" else command.data.level
        if mount_of(command) in ("/boot/efi", "biosboot", "prepboot") and kind != "RAID1":
            yield LintFault(
                command.location,
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
                command.location,
                f"{mount_of(command)} is {given or 'the default file system'}",
                f"write --fstype={wanted}",
            )
        if given == "efi" and not wanted and complete(case) and not firmware:
            yield LintFault(
                command.location,
                f"the EFI system partition is at {mount_of(command)} instead of /boot/efi",
                "write `part /boot/efi`",
            )
        if wanted == "biosboot" and label[-1:] == ["msdos"]:
            yield LintFault(
                command.location,
                "biosboot is for a GPT disk, and clearpart has --disklabel=msdos",
                "write --disklabel=gpt, or leave the partition out",
                risky=True,
            )
        if mount_of(command) in ("/boot", "/boot/efi") and command.data.encrypted:
            yield LintFault(
                command.location,
                f"{mount_of(command)} is encrypted, so that the system cannot start from it",
                "leave out --encrypted",
            )


@rule
def boot_unreadable(case: Case) -> Faults:
    """GRUB 2 can read /boot (or / if there is no /boot) on a partition or RAID 1, with ext2, ext3, ext4 or XFS.

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
            command.location,
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
                command.location,
                f"--timeout={timeout}: the menu waits for a key",
                "write --timeout=1 or more",
            )
        label = [clear.data.disklabel for clear in case.ks.named("clearpart")]
        if command.data.location == "partition" and label[-1:] == ["gpt"]:
            yield LintFault(
                command.location, "--location=partition on a GPT disk", "write --location=mbr", risky=True
            )


@rule
def reqpart_twice(case: Case) -> Faults:
    """reqpart creates biosboot or /boot/efi itself, and with --add-boot also /boot.

    Source: RHEL's kickstart reference, `reqpart`.
    """
    command = case.ks.last("reqpart")
    own = (
        ("/boot", "/boot/efi", "biosboot") if command and command.data.addBoot else ("/boot/efi", "biosboot")
    )
    for part in parts(case) if command else ():
        if command and mount_of(part) in own:
            yield LintFault(
                command.location,
                f"reqpart creates {mount_of(part)}, and so does line {part.location.line}",
                "leave one of them out",
                risky=mount_of(part) != "/boot",
            )


@risk
def boot_loader_absent(case: Case) -> Faults:
    """Partitions to start from are useless without a boot loader.

    Source: RHEL's kickstart reference, `bootloader --location=none`.
    """
    command = case.ks.last("bootloader")
    if command is None or not (command.data.disabled or command.data.location == "none"):
        return
    made = [mount_of(part) for part in parts(case) if mount_of(part) in ("biosboot", "/boot/efi", "/boot")]
    if made:
        yield LintFault(
            command.location,
            f"no boot loader is installed, although {made[0]} is created for one",
            "write --location=mbr",
        )
