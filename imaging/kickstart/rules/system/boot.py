"""Partitions that the machine starts from, the boot loader, and the kernel's command line."""

from __future__ import annotations

from typing import Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import FORMATS
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import complete, mount_of, parts, volumes

BY_ANACONDA: Final = ("root", "initrd", "BOOT_IMAGE")
"""Arguments that the boot loader's entries have anyway."""


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
    """Firmware reads only FAT, and GRUB needs a partition without a file system.

    Source: UEFI 2.10, 13.3; GRUB manual, 3.4.
    """
    for command in parts(case):
        wanted = {"/boot/efi": "efi", "biosboot": "biosboot"}.get(mount_of(command))
        given = command.data.fstype
        if wanted and given != wanted and not (wanted == "biosboot" and not given):
            yield LintFault(
                command.spot,
                f"{mount_of(command)} is {given or 'the default file system'}",
                f"write --fstype={wanted}",
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
    if mount_of(command) == "/" and getattr(data, "encrypted", False):
        return "encrypted"
    return data.fstype if limits is not None and not limits.boot and data.fstype != "btrfs" else ""


@rule
def crashkernel_auto(case: Case) -> Faults:
    """The kernels of RHEL 9 and 10 have no crashkernel=auto, so that nothing is reserved.

    Source: "Considerations in adopting RHEL 9", Kernel; kernel-parameters.txt, crashkernel=.
    """
    for command in case.ks.named("bootloader"):
        if "crashkernel=auto" in (command.data.appendLine or "").split():
            yield LintFault(
                command.spot,
                f"{case.ks.version} has no crashkernel=auto: no memory is reserved",
                "write crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M, or leave it out",
            )


@risk
def kernel_arguments(case: Case) -> Faults:
    """An argument that contradicts another one, or the kickstart.

    Source: kernel-parameters.txt: the last of several values holds; Anaconda writes root= itself.
    """
    command = case.ks.last("bootloader")
    words = (command.data.appendLine or "").split() if command else []
    selinux = case.ks.last("selinux")
    for word in dict.fromkeys(words):
        assert command is not None
        name, _, value = word.partition("=")
        others = {each for each in words if each.partition("=")[0] == name and each != word}
        if name in BY_ANACONDA:
            yield LintFault(
                command.spot, f"--append has {word}, which Anaconda writes itself", "leave it out"
            )
        elif (
            others
            and value in ("0", "1", "off", "on", "no", "yes")
            and words.index(word) > min(map(words.index, others))
        ):
            yield LintFault(
                command.spot, f"--append has both {word} and {', '.join(sorted(others))}", "keep one of them"
            )
        elif word in ("selinux=0", "enforcing=0") and selinux is not None and selinux.data.selinux == 1:
            yield LintFault(
                command.spot,
                f"--append has {word}, and line {selinux.spot.line} has --enforcing",
                f"leave out {word}",
            )


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
