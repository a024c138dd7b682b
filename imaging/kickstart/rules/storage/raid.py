"""RAID arrays: levels, chunks, spares, and the disks of the members."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import RAID_MEMBERS
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import mount_of, size_mib, volumes

REDUNDANT: Final = ("RAID1", "RAID4", "RAID5", "RAID6", "RAID10")
CHUNK_MIN_KIB: Final = 4
ARRAY_NAME: Final = re.compile(r"(/dev/)?(md/)?[A-Za-z0-9_.:-]{1,32}", re.ASCII)
"""mdadm(8), --name: 32 bytes in the superblock; mdadm.conf(5): a name has no slash."""


@rule
def raid_level(case: Case) -> Faults:
    """Each RAID level has a minimum number of active members; spares are not counted.

    Source: blivet, `devicelibs/raid.py`; mdadm(8).
    """
    for command in case.ks.named("raid"):
        data = command.data
        active = len(data.members) - int(data.spares or 0)
        least = RAID_MEMBERS.get(data.level, 1)
        if int(data.spares or 0) < 0:
            yield LintFault(
                command.location,
                f"--spares={data.spares} is negative",
                "leave it out, or write a number from 0",
            )
        elif data.members and active < least:
            yield LintFault(
                command.location,
                f"{data.level} with {active} active members; it needs at least {least}",
                f"name {least - active} more, or choose another --level",
            )


@rule
def raid_chunk(case: Case) -> Faults:
    """A chunk has at least 4 KiB, and its size is a power of two; RAID 0 allows any multiple of 4 KiB.

    Source: mdadm(8), --chunk.
    """
    for command in case.ks.named("raid"):
        size = int(command.data.chunk_size or 0)
        odd = size % CHUNK_MIN_KIB if command.data.level == "RAID0" else size & (size - 1)
        if size and (size < CHUNK_MIN_KIB or odd):
            yield LintFault(
                command.location,
                f"--chunksize={size} is not a valid chunk size",
                "write 512, or leave it out",
            )


@rule
def raid_name_form(case: Case) -> Faults:
    """An array's name is one component of a path.

    Source: mdadm(8), --name; md(4).
    """
    for command in case.ks.named("raid"):
        name = str(command.data.device or "")
        if name and "=" not in name and not ARRAY_NAME.fullmatch(name):
            yield LintFault(
                command.location,
                f"{name!r} is not a valid array name",
                "write it like md0, home or /dev/md/home",
            )


@risk
def raid_on_one_disk(case: Case) -> Faults:
    """If two members are on one disk, its failure loses both.

    Source: md(4): redundancy is between devices.
    """
    for command in case.ks.named("raid"):
        disks = [member.data.disk for member in _members(case, command) if member.option("disk")]
        twice = next((disk for disk in disks if disks.count(disk) > 1), "")
        if command.data.level in REDUNDANT and twice:
            yield LintFault(
                command.location,
                f"two members of this {command.data.level} are on {twice}, whose failure loses both",
                "put each member on a different disk with --ondisk",
            )


@risk
def raid_member_sizes(case: Case) -> Faults:
    """The smallest member determines how much of the others is used.

    Source: mdadm(8), --size.
    """
    for command in case.ks.named("raid"):
        members = _members(case, command)
        sizes = [size_mib(member) for member in members]
        grow = any(member.option("grow") for member in members)
        if command.data.level in REDUNDANT and sizes and not grow and min(sizes) and max(sizes) != min(sizes):
            yield LintFault(
                command.location,
                f"its members have {min(sizes)} to {max(sizes)} MiB, of which {min(sizes)} MiB each are used",
                "give all of them the same --size",
            )


def _members(case: Case, array: KickstartCommand) -> list[KickstartCommand]:
    return [command for command in volumes(case) if mount_of(command) in array.data.members]
