"""Partitions that Anaconda cannot create, or creates differently than intended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.data import MIB, RESERVED_MIB
from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case, Faults, LintFault, rule

NOT_MOUNTED: Final = ("biosboot", "prepboot", "swap")
PREFIXES: Final = ("pv.", "raid.", "btrfs.")
SEPARATE: Final = {
    "/home": "RHEL-09-231010",
    "/tmp": "RHEL-09-231015",  # noqa: S108
    "/var": "RHEL-09-231020",
    "/var/log": "RHEL-09-231025",
    "/var/log/audit": "RHEL-09-231030",
    "/var/tmp": "RHEL-09-231035",  # noqa: S108
}
MOUNT_OPTIONS: Final = {
    **dict.fromkeys(SEPARATE, ("nodev", "nosuid", "noexec")),
    "/var": ("nodev",),
    "/var/lib/rap": ("nodev", "nosuid", "noexec"),
}


def volumes(case: Case) -> Iterator[KickstartCommand]:
    """The commands that create a file system."""
    return case.ks.named("part", "partition", "logvol", "raid")


def parts(case: Case) -> Iterator[KickstartCommand]:
    """Partitions of a disk."""
    return case.ks.named("part", "partition")


def mount_of(command: KickstartCommand) -> str:
    """The mount point, or "swap", "pv.01", "" …"""
    return str(getattr(command.data, "mountpoint", "") or "")


def complete(case: Case) -> bool:
    """Whether the kickstart defines the partitions itself, and all of them are known."""
    return any(volumes(case)) and not case.ks.open_ended and not case.ks.has_command("autopart", "mount")


@rule
def unknown_file_system(case: Case) -> Faults:
    """Anaconda stops at a file system that the release cannot make.

    Source: RHEL's kickstart reference, `part --fstype`.
    """
    for command in volumes(case):
        given = command.data.fstype
        if given and given not in case.installer.file_systems and not mount_of(command).startswith(PREFIXES):
            right = ", ".join(name for name in case.installer.file_systems if name not in NOT_MOUNTED)
            yield LintFault(
                command.spot, f"{case.ks.version} makes no file system {given!r}", f"it makes {right}"
            )


@rule
def duplicate_mount_point(case: Case) -> Faults:
    """A mount point has one device.

    Source: Anaconda, `custom_partitioning.py`.
    """
    first: dict[str, KickstartCommand] = {}
    for command in volumes(case):
        mount = mount_of(command)
        if (mount.startswith("/") or mount == "biosboot") and mount in first:
            before = first[mount].spot.line
            yield LintFault(
                command.spot, f"{mount} is already defined in line {before}", "leave one of them out"
            )
        first.setdefault(mount, command)


@rule
def no_root(case: Case) -> Faults:
    """Without a root file system nothing is installed.

    Source: blivet's storage checks.
    """
    if complete(case) and "/" not in map(mount_of, volumes(case)):
        spot = next(volumes(case)).spot
        yield LintFault(spot, "no partition is mounted at /", "add `part / --fstype=xfs --size=…`")


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
def no_size(case: Case) -> Faults:
    """Anaconda needs the size of each partition.

    Source: RHEL's kickstart reference, `part --size`.
    """
    for command in volumes(case):
        data = command.data
        chosen = (
            "size",
            "grow",
            "recommended",
            "hibernation",
            "onPart",
            "preexist",
            "percent",
            "useExisting",
        )
        if command.name != "raid" and not any(getattr(data, name, None) for name in chosen):
            yield LintFault(command.spot, f"{mount_of(command)} has no size", "add --size=MiB, or --grow")


@rule
def contradictory_growth(case: Case) -> Faults:
    """--maxsize limits --grow.

    Source: RHEL's kickstart reference, `part --maxsize`.
    """
    for command in volumes(case):
        limit = getattr(command.data, "maxSizeMB", 0) or 0
        size = getattr(command.data, "size", 0) or 0
        if limit and not command.data.grow:
            yield LintFault(
                command.spot,
                f"--maxsize={limit} without --grow does nothing",
                "add --grow, or leave --maxsize out",
            )
        elif limit and limit < size:
            yield LintFault(
                command.spot,
                f"--maxsize={limit} is less than --size={size}",
                f"write at least --maxsize={size}",
            )


@rule
def swap_with_mount_options(case: Case) -> Faults:
    """swapon knows discard, pri and nofail; other mount options have no effect.

    Source: fstab(5), swapon(8).
    """
    for command in volumes(case):
        given = [word.split("=")[0] for word in (command.data.fsopts or "").split(",") if word]
        wrong = [
            word for word in given if word not in ("defaults", "discard", "pri", "nofail", "noauto", "sw")
        ]
        if mount_of(command).startswith("swap") and wrong:
            yield LintFault(command.spot, f"swap has no option {', '.join(wrong)}", "leave --fsoptions out")


@rule
def undefined_partition(case: Case) -> Faults:
    """--onpart takes a partition that exists; a cleared disk has none.

    Source: RHEL's kickstart reference, `part --onpart`.
    """
    cleared = any(command.data.type == 2 or command.data.initAll for command in case.ks.named("clearpart"))
    for command in volumes(case):
        given = getattr(command.data, "onPart", "")
        if given and cleared:
            yield LintFault(
                command.spot,
                f"--onpart={given}: clearpart leaves no partition on the disk",
                "write --ondisk and --size",
            )


@rule
def volume_group_members(case: Case) -> Faults:
    """A volume group needs physical volumes, and a logical volume needs a group.

    Source: pykickstart checks neither; blivet does.
    """
    members = set(map(mount_of, volumes(case)))
    groups = {command.data.vgname for command in case.ks.named("volgroup")}
    existing = {c.data.vgname for c in case.ks.named("volgroup") if c.data.preexist}
    known = not case.ks.open_ended
    for command in case.ks.named("volgroup"):
        given = command.data.physvols
        for missing in [name for name in given if name not in members and known]:
            yield LintFault(
                command.spot, f"there is no physical volume {missing}", f"add `part {missing} --size=…`"
            )
        if not given and command.data.vgname not in existing:
            yield LintFault(
                command.spot,
                f"volume group {command.data.vgname} has no physical volume",
                "name one, such as pv.01",
            )
    for command in case.ks.named("logvol"):
        if command.data.vgname not in groups and known and not command.data.preexist:
            right = f"add `volgroup {command.data.vgname} pv.01`"
            yield LintFault(command.spot, f"there is no volume group {command.data.vgname}", right)


@rule
def unused_member(case: Case) -> Faults:
    """A physical volume in no group, or a RAID member in no array, is unused space.

    Source: pykickstart checks neither.
    """
    used = {name for command in case.ks.named("volgroup") for name in command.data.physvols}
    used |= {name for command in case.ks.named("raid") for name in command.data.members}
    for command in volumes(case):
        name = mount_of(command)
        if name.startswith(("pv.", "raid.")) and name not in used and not case.ks.open_ended:
            whose = "volgroup" if name.startswith("pv.") else "raid"
            yield LintFault(command.spot, f"nothing uses {name}", f"name it in `{whose}`, or leave it out")


@rule
def disk_out_of_bounds(case: Case) -> Faults:
    """A partition on a disk that ignoredisk excludes.

    Source: RHEL's kickstart reference, `ignoredisk`.
    """
    only = [disk for command in case.ks.named("ignoredisk") for disk in command.data.onlyuse]
    for command in parts(case):
        disk = command.data.disk
        if disk and only and disk.removeprefix("/dev/") not in [name.removeprefix("/dev/") for name in only]:
            yield LintFault(
                command.spot,
                f"--ondisk={disk}, but ignoredisk leaves only {', '.join(only)}",
                "name the same disk",
            )


@rule
def disk_too_small(case: Case) -> Faults:
    """The partitions' sizes are MiB; a GPT takes two more, and a flashed box's identity one.

    Source: UEFI 2.10, chapter 5.
    """
    if case.disk_bytes is None:
        return
    needed = (sum(_size_mib(command.data) for command in parts(case)) + RESERVED_MIB) * MIB
    largest = max(parts(case), key=lambda command: _size_mib(command.data), default=None)
    if largest is not None and needed > case.disk_bytes:
        problem = f"the partitions need {needed:,} bytes, and the disk has {case.disk_bytes:,}"
        yield LintFault(
            largest.spot,
            problem,
            f"take {(needed - case.disk_bytes + MIB - 1) // MIB} MiB from partitions such as {mount_of(largest)}",
        )


@rule
def volume_group_too_small(case: Case) -> Faults:
    """Logical volumes fit into their group; what grows fills the rest.

    Source: lvcreate(8).
    """
    room = {mount_of(c): c.data for c in volumes(case) if mount_of(c).startswith("pv.")}
    for group in case.ks.named("volgroup"):
        pvs = [room[name] for name in group.data.physvols if name in room]
        inside = [
            c
            for c in case.ks.named("logvol")
            if c.data.vgname == group.data.vgname and not c.data.thin_volume
        ]
        needed = sum(_size_mib(command.data) for command in inside)
        if pvs and not any(pv.grow for pv in pvs) and needed > sum(map(_size_mib, pvs)):
            has = sum(map(_size_mib, pvs))
            yield LintFault(
                group.spot,
                f"its logical volumes need {needed} MiB, and it has {has}",
                "let a physical volume --grow",
            )


@rule
def not_separate(case: Case) -> Faults:
    """Data of users and logs must not fill the root file system.

    Source: RHEL-09-231010 to 231035.
    """
    mounts = {mount_of(command): command for command in volumes(case)}
    missing = [mount for mount in SEPARATE if mount not in mounts]
    if complete(case) and "/" in mounts and missing:
        sources = ", ".join(f"{mount} ({SEPARATE[mount]})" for mount in missing)
        yield LintFault(
            mounts["/"].spot, f"there is no file system for {sources}", f"add `part {missing[0]} …`"
        )


@rule
def mount_options(case: Case) -> Faults:
    """File systems for data are mounted with nodev, nosuid and noexec.

    Source: RHEL-09-231045 to 231185.
    """
    for command in volumes(case):
        given = (command.data.fsopts or "").split(",")
        missing = [word for word in MOUNT_OPTIONS.get(mount_of(command), ()) if word not in given]
        if missing:
            yield LintFault(
                command.spot,
                f"{mount_of(command)} is mounted without {','.join(missing)}",
                "add them to --fsoptions",
            )


def _size_mib(data: Any) -> int:
    return int(getattr(data, "size", 0) or 0)
