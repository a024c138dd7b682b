"""Partitions that Anaconda cannot create, or creates differently than intended."""

from __future__ import annotations

from typing import Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import NOT_MOUNTED, PREFIXES, complete, mount_of, parts, size_mib, volumes

SEPARATE: Final = {
    "/home": "RHEL-09-231010",
    "/tmp": "RHEL-09-231015",  # noqa: S108
    "/var": "RHEL-09-231020",
    "/var/log": "RHEL-09-231025",
    "/var/log/audit": "RHEL-09-231030",
    "/var/tmp": "RHEL-09-231035",  # noqa: S108
}


@rule
def unknown_file_system(case: Case) -> Faults:
    """Anaconda stops at a file system that the release cannot create.

    Source: RHEL's kickstart reference, `part --fstype`.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        given = command.data.fstype
        member = mount_of(command).startswith(PREFIXES)
        if given and given not in case.installer.file_systems and not member:
            right = ", ".join(name for name in case.installer.file_systems if name not in NOT_MOUNTED)
            yield LintFault(
                command.location,
                f"{case.ks.version} cannot create the file system {given!r}",
                f"use one of {right}",
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
            before = first[mount].location.line
            yield LintFault(
                command.location, f"{mount} is already defined on line {before}", "leave one of them out"
            )
        first.setdefault(mount, command)


@rule
def no_root(case: Case) -> Faults:
    """Without a root file system nothing is installed.

    Source: blivet's storage checks.
    """
    others = case.ks.has_command("btrfs", "stratisfs")  # refused by a release that does not have them
    if complete(case) and not others and "/" not in map(mount_of, volumes(case)):
        location = next(volumes(case)).location
        yield LintFault(location, "no partition is mounted at /", "add `part / --fstype=xfs --size=…`")


@risk
def no_size(case: Case) -> Faults:
    """Anaconda creates a partition of 500 MiB if no size is given; pykickstart refuses such a logical volume.

    Source: Anaconda, `custom_partitioning.py`; blivet, `DEFAULT_PART_SIZE`.
    """
    for command in parts(case):
        chosen = ("size", "grow", "recommended", "hibernation", "onPart")
        if not any(command.option(name) for name in chosen):
            yield LintFault(command.location, f"{mount_of(command)} has no size", "add --size=MiB, or --grow")


@rule
def contradictory_growth(case: Case) -> Faults:
    """--maxsize limits --grow, so that it needs --grow and must not be less than --size.

    Source: RHEL's kickstart reference, `part --maxsize`.
    """
    for command in volumes(case):
        limit = command.option("maxSizeMB")
        size = size_mib(command)
        if limit and not command.option("grow"):
            yield LintFault(
                command.location,
                f"--maxsize={limit} without --grow has no effect",
                "add --grow, or leave --maxsize out",
                risky=True,
            )
        elif limit and limit < size:
            yield LintFault(
                command.location,
                f"--maxsize={limit} is less than --size={size}",
                f"write at least --maxsize={size}",
            )


@risk
def not_separate(case: Case) -> Faults:
    """Users' data and logs must not fill the root file system.

    Source: RHEL-09-231010 to 231035.
    """
    mounts = {mount_of(command): command for command in volumes(case)}
    missing = [mount for mount in SEPARATE if mount not in mounts]
    if complete(case) and "/" in mounts and missing:
        sources = ", ".join(f"{mount} ({SEPARATE[mount]})" for mount in missing)
        yield LintFault(
            mounts["/"].location, f"there is no file system for {sources}", f"add `part {missing[0]} …`"
        )
