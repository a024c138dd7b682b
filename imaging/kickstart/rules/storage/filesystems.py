"""Limits of file systems: sizes and labels."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import KickstartCommand, SourceLocation
from imaging.kickstart.limits import FORMATS, ON_LINUX, TOLERATED_MIB, FormatLimits
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import NOT_MOUNTED, mount_of, parts, reuses, size_mib, volumes

NOT_IN_MEMORY: Final = ("/", "/usr", "/boot", "/home", "/var", "/var/lib", "/var/log", "/var/log/audit")


def limits_of(command: KickstartCommand) -> FormatLimits | None:
    """Return the limits of the file system or member that a command creates, or None if it is unknown."""
    mount = mount_of(command)
    if mount.startswith("pv."):
        return FORMATS["lvmpv"]
    given = "swap" if mount == "swap" else mount if mount in NOT_MOUNTED else command.data.fstype
    return FORMATS.get(given)


@rule
def format_size(case: Case) -> Faults:
    """Each file system has a minimum and a maximum size.

    Source: blivet, `formats/`, _min_size and _max_size; Anaconda, `verify_partition_format_sizes`.
    """
    for command in volumes(case):
        limits, size = limits_of(command), size_mib(command)
        largest = int(command.option("maxSizeMB") or 0)
        grows = command.option("grow")
        final = (largest or max(size, limits.min_mib if limits else 0)) if grows else size
        if limits is None or not (final or largest) or reuses(command.data):
            continue
        what = command.data.fstype or mount_of(command)
        if final < limits.min_mib:
            made = final >= TOLERATED_MIB.get((case.ks.version, what), limits.min_mib)
            yield LintFault(
                command.location,
                f"{final} MiB is too small for {what}" + made * " from the next release on",
                f"write at least --size={limits.min_mib:g}",
                risky=made,
            )
        elif limits.max_mib and size > limits.max_mib:
            yield LintFault(
                command.location,
                f"{size} MiB is too large for {what}",
                f"write at most --size={int(limits.max_mib)}",
            )


@rule
def format_not_mounted(case: Case) -> Faults:
    """Swap space and partitions of the boot loader have no mount point, and --noformat needs an existing partition.

    Source: RHEL's kickstart reference, `part`; Anaconda: "part --noformat must also use the --onpart option".
    """
    for command in volumes(case):
        kind, mount = command.data.fstype, mount_of(command)
        if kind in (*NOT_MOUNTED, "lvmpv") and mount.startswith("/"):
            yield LintFault(
                command.location,
                f"{kind} is not mounted, and {mount} is given",
                f"write `part {'pv.01' if kind == 'lvmpv' else kind} …`",
            )
    for command in parts(case):
        if not command.data.format and not command.data.onPart:
            yield LintFault(
                command.location,
                "--noformat, and --onpart names no partition",
                "add --onpart=, or leave it out",
            )


@rule
def label_too_long(case: Case) -> Faults:
    """A label has a maximum length in bytes; blivet fails when it formats, after the disk was cleared.

    Source: libblockdev, `bd_fs_*_check_label`; mkfs.ext4(8), mkfs.xfs(8), mkfs.fat(8), mkswap(8).
    """
    for command in volumes(case):
        limits, label = limits_of(command), str(command.data.label or "")
        if limits is None or not label or not limits.label_bytes:
            continue
        what = command.data.fstype or mount_of(command)
        if len(label.encode()) > limits.label_bytes:
            yield LintFault(
                command.location,
                f"label {label!r} has {len(label.encode())} bytes; {what} allows {limits.label_bytes}",
                "shorten it",
            )
        elif (what == "xfs" and " " in label) or (
            what in ("vfat", "efi") and re.search(r'[*?.,;:/\\|+=<>\[\]"]', label)
        ):
            yield LintFault(
                command.location,
                f"label {label!r} has characters that {what} does not allow",
                "use letters and digits",
            )


@risk
def label_twice(case: Case) -> Faults:
    """Labels by which file systems are mounted or found must be unique.

    Source: mount(8), "LABEL=": it is undefined which of two file systems is used.
    """
    seen: dict[str, SourceLocation] = {}
    for command in volumes(case):
        label = str(command.data.label or "")
        if label and label in seen:
            yield LintFault(
                command.location, f"label {label!r} is already used on line {seen[label].line}", "rename one"
            )
        seen.setdefault(label, command.location)


@rule
def not_a_linux_file_system(case: Case) -> Faults:
    """The system's directories need owners and permissions.

    Source: Anaconda, `data/anaconda.conf`, must_be_on_linuxfs.
    """
    for command in volumes(case):
        limits = FORMATS.get(command.data.fstype)
        if mount_of(command) in NOT_IN_MEMORY and command.data.fstype == "tmpfs":
            yield LintFault(
                command.location,
                f"{mount_of(command)} is in memory, so that it is empty after each start",
                "write --fstype=xfs or ext4",
                risky=mount_of(command) not in ("/", "/usr", "/boot"),
            )
        if mount_of(command) in ON_LINUX and limits is not None and not limits.linux:
            yield LintFault(
                command.location,
                f"{mount_of(command)} is {command.data.fstype}, without owners and permissions",
                "write --fstype=xfs or ext4",
            )
