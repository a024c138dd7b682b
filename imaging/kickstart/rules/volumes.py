"""Logical volumes and RAID: names, members, levels and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imaging.kickstart.document import Spot
from imaging.kickstart.limits import (
    EXTENT_MIB,
    RAID_MEMBERS,
    VOLUME_NAME,
    VOLUME_NAME_RESERVED,
)
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage import mount_of, size_mib, volumes

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


@rule
def raid_level(case: Case) -> Faults:
    """Each RAID level has a least number of active members; spares come in addition.

    Source: blivet, `devicelibs/raid.py`; mdadm(8).
    """
    for command in case.ks.named("raid"):
        data = command.data
        active = len(data.members) - int(data.spares or 0)
        least = RAID_MEMBERS.get(data.level, 1)
        if data.members and active < least:
            yield LintFault(
                command.spot,
                f"{data.level} of {active} active members; it needs at least {least}",
                f"name {least - active} more, or choose another --level",
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
            yield from _twice(defined, name, command.spot, "is already defined")
    for command in case.ks.named("volgroup", "raid"):
        for name in command.data.physvols if command.name == "volgroup" else command.data.members:
            yield from _twice(used, name, command.spot, "is already a member")


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


@rule
def volume_name_twice(case: Case) -> Faults:
    """Volume groups, arrays, and logical volumes within their group have names of their own.

    Source: Anaconda, `custom_partitioning.py`: "is already in use".
    """
    seen: dict[str, Spot] = {}
    for command in case.ks.named("volgroup", "logvol", "raid"):
        data = command.data
        if data.preexist or not data.format:
            continue
        name = {
            "volgroup": f"volume group {data.vgname}" if command.name != "raid" else "",
            "logvol": f"logical volume {getattr(data, 'name', '')} of {getattr(data, 'vgname', '')}",
            "raid": f"RAID device md{getattr(data, 'device', '')}",
        }[command.name]
        yield from _twice(seen, name, command.spot, "is already defined")


@rule
def volume_name_form(case: Case) -> Faults:
    """LVM allows letters, digits and + _ . - in names, and keeps some names for itself.

    Source: lvm(8), VALID NAMES; blivet, `is_name_valid`.
    """
    for command in case.ks.named("volgroup", "logvol"):
        name = command.data.vgname if command.name == "volgroup" else command.data.name
        reserved = command.name == "logvol" and VOLUME_NAME_RESERVED.fullmatch(name)
        if name and (reserved or not VOLUME_NAME.fullmatch(name) or name in (".", "..")):
            yield LintFault(
                command.spot,
                f"{name!r} is not a name for a {command.name}",
                "use letters, digits, + _ . and -, at most 127, none of LVM's own such as snapshot* and *_tmeta",
            )


@rule
def thin_pool_missing(case: Case) -> Faults:
    """A thin volume needs its pool, in the same group and on an earlier line.

    Source: Anaconda, `custom_partitioning.py`: "No thin pool exists".
    """
    pools: set[tuple[str, str]] = set()
    for command in case.ks.named("logvol"):
        data = command.data
        if data.thin_pool:
            pools.add((data.vgname, data.name))
        wanted = (data.vgname, data.pool_name)
        if (
            data.thin_volume
            and wanted not in pools
            and not case.ks.open_ended
            and not _exists(case, data.vgname)
        ):
            yield LintFault(
                command.spot,
                f"there is no thin pool {data.pool_name!r} in {data.vgname} before this line",
                f"write `logvol none --thinpool --vgname={data.vgname} --name={data.pool_name} --size=…` before",
            )


@rule
def extent_size(case: Case) -> Faults:
    """LVM's extent is a power of two from 1 KiB, and no logical volume is smaller than one.

    Source: blivet, `get_supported_pe_sizes`; Anaconda, "must be larger than the volume group extent size".
    """
    extents = {}
    for command in case.ks.named("volgroup"):
        given = int(command.data.pesize or 0)
        extents[command.data.vgname] = given / 1024 if given else EXTENT_MIB
        if given and given & (given - 1):
            yield LintFault(
                command.spot, f"--pesize={given} is not a power of two", "write 4096, or leave it out"
            )
    for command in case.ks.named("logvol"):
        extent = extents.get(command.data.vgname, 0)
        if size_mib(command) and size_mib(command) < extent and not command.data.grow:
            yield LintFault(
                command.spot,
                f"--size={size_mib(command)} is less than one extent ({extent:g} MiB)",
                f"write at least --size={extent:g}",
            )


@rule
def percent_of_group(case: Case) -> Faults:
    """The shares of a volume group add up to 100 percent at most.

    Source: RHEL's kickstart reference, `logvol --percent`; blivet fails to allocate more.
    """
    for group in case.ks.named("volgroup"):
        inside = [c for c in case.ks.named("logvol") if c.data.vgname == group.data.vgname]
        shares = sum(int(c.data.percent or 0) for c in inside if not c.data.thin_volume)
        if shares > 100:
            yield LintFault(
                group.spot,
                f"its logical volumes want {shares} percent of it",
                "lower --percent to 100 in all",
            )


@rule
def volume_group_too_small(case: Case) -> Faults:
    """Logical volumes fit into their group; what grows fills the rest.

    Source: lvcreate(8).
    """
    room = {mount_of(c): c for c in volumes(case) if mount_of(c).startswith("pv.")}
    for group in case.ks.named("volgroup"):
        pvs = [room[name] for name in group.data.physvols if name in room]
        inside = [
            c
            for c in case.ks.named("logvol")
            if c.data.vgname == group.data.vgname and not c.data.thin_volume
        ]
        needed = sum(map(size_mib, inside))
        if (
            pvs
            and not any(getattr(pv.data, "grow", False) or pv.name == "raid" for pv in pvs)
            and needed > sum(map(size_mib, pvs))
        ):
            has = sum(map(size_mib, pvs))
            yield LintFault(
                group.spot,
                f"its logical volumes need {needed} MiB, and it has {has}",
                "let a physical volume --grow",
            )


def _twice(seen: dict[str, Spot], name: str, spot: Spot, problem: str) -> Faults:
    if name in seen:
        yield LintFault(spot, f"{name} {problem} in line {seen[name].line}", "use each name once")
    seen.setdefault(name, spot)


def _exists(case: Case, group: str) -> bool:
    return any(c.data.vgname == group and c.data.preexist for c in case.ks.named("volgroup"))


def _devices(case: Case) -> Iterator[str]:
    """The names under which arrays are physical volumes."""
    for command in case.ks.named("raid"):
        device = str(command.data.device or "")
        yield from (device, f"md{device}")
