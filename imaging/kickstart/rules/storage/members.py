"""Members of volume groups and RAID arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imaging.kickstart.document import Spot
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import mount_of, volumes

MEMBERS: Final = {"pv.": "volgroup", "raid.": "raid"}


@rule
def volume_group_members(case: Case) -> Faults:
    """A volume group needs physical volumes, and a logical volume needs a group.

    Source: pykickstart checks only that some are named; blivet checks both.
    """
    members = set(map(mount_of, volumes(case)))
    groups = {command.data.vgname for command in case.ks.named("volgroup")}
    known = not case.ks.open_ended
    members |= {name for name in _devices(case) if known}
    for command in case.ks.named("volgroup"):
        for missing in [name for name in command.data.physvols if name not in members and known]:
            yield LintFault(
                command.spot, f"there is no physical volume {missing}", f"add `part {missing} --size=…`"
            )
    for command in case.ks.named("logvol"):
        if command.data.vgname not in groups and known and not command.data.preexist:
            right = f"add `volgroup {command.data.vgname} pv.01`"
            yield LintFault(command.spot, f"there is no volume group {command.data.vgname}", right)


@risk
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
def raid_member_missing(case: Case) -> Faults:
    """A RAID array consists of partitions that the kickstart defines.

    Source: Anaconda, `custom_partitioning.py`: "Tried to use undefined partition".
    """
    members = set(map(mount_of, volumes(case)))
    for command in case.ks.named("raid"):
        for name in command.data.members:
            if name.startswith("raid.") and name not in members and not case.ks.open_ended:
                yield LintFault(command.spot, f"there is no partition {name}", f"add `part {name} --size=…`")
            elif name.startswith("/") and not name.startswith("/dev/"):
                yield LintFault(
                    command.spot, f"{name} is no member but a mount point", "name it like raid.01"
                )


@rule
def member_used_twice(case: Case) -> Faults:
    """A partition belongs to one volume group or one array, and is defined once.

    Source: blivet: a member that has a parent already; Anaconda, "is defined multiple times".
    """
    defined: dict[str, Spot] = {}
    used: dict[str, Spot] = {}
    for command in volumes(case):
        name = mount_of(command)
        if name.startswith(tuple(MEMBERS)):
            yield from refuse_twice(defined, name, command.spot, "is already defined")
    for command in case.ks.named("volgroup", "raid"):
        for name in command.data.physvols if command.name == "volgroup" else command.data.members:
            yield from refuse_twice(used, name, command.spot, "is already a member")


@rule
def member_kind(case: Case) -> Faults:
    """A volume group takes pv.* partitions, an array takes raid.* partitions, and neither has a file system.

    Source: Anaconda, `custom_partitioning.py`: "should have a format of".
    """
    for command in case.ks.named("volgroup", "raid"):
        names = command.data.physvols if command.name == "volgroup" else command.data.members
        wrong, right = ("raid.", "pv.") if command.name == "volgroup" else ("pv.", "raid.")
        for name in names:
            if name.startswith(wrong):
                yield LintFault(
                    command.spot,
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
                command.spot,
                f"--fstype={command.data.fstype} on {mount_of(command)}, which is a member of a volume",
                "leave out --fstype",
                risky=True,
            )


def refuse_twice(seen: dict[str, Spot], name: str, spot: Spot, problem: str) -> Faults:
    """Report a name that occurs again, and remember it."""
    if name in seen:
        yield LintFault(spot, f"{name} {problem} in line {seen[name].line}", "use each name once")
    seen.setdefault(name, spot)


def _devices(case: Case) -> Iterator[str]:
    """The names under which arrays are physical volumes."""
    for command in case.ks.named("raid"):
        device = str(command.data.device or "")
        yield from (device, f"md{device}")


def group_members(case: Case, group: str) -> list[str]:
    """The physical volumes of a volume group, as its command names them."""
    return [
        str(name) for c in case.ks.named("volgroup") if c.data.vgname == group for name in c.data.physvols
    ]
