"""Members of volume groups and RAID arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imaging.kickstart.document import SourceLocation
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import mount_of, volumes

MEMBERS: Final = {"pv.": "volgroup", "raid.": "raid"}


@rule
def volume_group_members(case: Case) -> Faults:
    """A volume group needs existing physical volumes, and a logical volume needs an existing group.

    Source: pykickstart checks only that members are named; blivet checks both.
    """
    members = set(map(mount_of, volumes(case)))
    groups = {command.data.vgname for command in case.ks.named("volgroup")}
    known = not case.ks.open_ended
    members |= {name for name in _devices(case) if known}
    for command in case.ks.named("volgroup"):
        for missing in [name for name in command.data.physvols if name not in members and known]:
            yield LintFault(
                command.location, f"there is no physical volume {missing}", f"add `part {missing} --size=…`"
            )
    for command in case.ks.named("logvol"):
        if command.data.vgname not in groups and known and not command.data.preexist:
            right = f"add `volgroup {command.data.vgname} pv.01`"
            yield LintFault(command.location, f"there is no volume group {command.data.vgname}", right)


@risk
def unused_member(case: Case) -> Faults:
    """A physical volume without a group, or a RAID member without an array, is unused space.

    Source: pykickstart checks neither.
    """
    used = {name for command in case.ks.named("volgroup") for name in command.data.physvols}
    used |= {name for command in case.ks.named("raid") for name in command.data.members}
    for command in volumes(case):
        name = mount_of(command)
        if name.startswith(("pv.", "raid.")) and name not in used and not case.ks.open_ended:
            user = "volgroup" if name.startswith("pv.") else "raid"
            yield LintFault(command.location, f"{name} is not used", f"name it in `{user}`, or leave it out")


@rule
def raid_member_missing(case: Case) -> Faults:
    """A RAID array consists of partitions that the kickstart defines.

    Source: Anaconda, `custom_partitioning.py`: "Tried to use undefined partition".
    """
    members = set(map(mount_of, volumes(case)))
    for command in case.ks.named("raid"):
        for name in command.data.members:
            if name.startswith("raid.") and name not in members and not case.ks.open_ended:
                yield LintFault(
                    command.location, f"there is no partition {name}", f"add `part {name} --size=…`"
                )
            elif name.startswith("/") and not name.startswith("/dev/"):
                yield LintFault(
                    command.location, f"{name} is a mount point, not a member", "write it like raid.01"
                )


@rule
def member_used_twice(case: Case) -> Faults:
    """A partition belongs to one volume group or one array, and is defined once.

    Source: blivet, which refuses a member that already has a parent; Anaconda, "is defined multiple times".
    """
    defined: dict[str, SourceLocation] = {}
    used: dict[str, SourceLocation] = {}
    for command in volumes(case):
        name = mount_of(command)
        if name.startswith(tuple(MEMBERS)):
            yield from refuse_twice(defined, name, command.location, "is already defined")
    for command in case.ks.named("volgroup", "raid"):
        for name in command.data.physvols if command.name == "volgroup" else command.data.members:
            yield from refuse_twice(used, name, command.location, "is already a member")


@rule
def member_kind(case: Case) -> Faults:
    """Members of a volume group are pv.* partitions, those of an array are raid.*, and none has a file system.

    Source: Anaconda, `custom_partitioning.py`: "should have a format of".
    """
    for command in case.ks.named("volgroup", "raid"):
        names = command.data.physvols if command.name == "volgroup" else command.data.members
        wrong, right = ("raid.", "pv.") if command.name == "volgroup" else ("pv.", "raid.")
        for name in names:
            if name.startswith(wrong):
                yield LintFault(
                    command.location,
                    f"{name} cannot be a member of a {command.name}",
                    f"define and name a {right}* partition",
                )
    for command in volumes(case):
        if mount_of(command).startswith(tuple(MEMBERS)) and command.data.fstype not in (
            "",
            "lvmpv",
            "mdmember",
        ):
            yield LintFault(
                command.location,
                f"--fstype={command.data.fstype} on {mount_of(command)}, which is a member of a volume",
                "leave out --fstype",
                risky=True,
            )


def refuse_twice(
    seen: dict[str, SourceLocation], name: str, location: SourceLocation, problem: str
) -> Faults:
    """Report a name that occurs again, and remember it."""
    if name in seen:
        yield LintFault(location, f"{name} {problem} on line {seen[name].line}", "use each name once")
    seen.setdefault(name, location)


def _devices(case: Case) -> Iterator[str]:
    """Yield the names by which arrays can be used as physical volumes."""
    for command in case.ks.named("raid"):
        device = str(command.data.device or "")
        yield from (device, f"md{device}")


def group_members(case: Case, group: str) -> list[str]:
    """Return the names of the physical volumes of the volume group `group`."""
    return [
        str(name) for c in case.ks.named("volgroup") if c.data.vgname == group for name in c.data.physvols
    ]
