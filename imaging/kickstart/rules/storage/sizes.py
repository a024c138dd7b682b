"""Rules about sizes that are too small for their content, or too large for the disk."""

from __future__ import annotations

from typing import Final

from imaging.kickstart.data import MIB, RESERVED_MIB
from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage.members import group_members
from imaging.kickstart.volumes import mount_of, on_disk, reuses, size_mib, volumes

LEAST_MIB: Final = {"/": 250, "/usr": 250, "/boot": 128}
"""Minimum sizes: Anaconda's min_partition_sizes, and for /boot the space of one kernel with its rescue image."""


@risk
def too_small_for_system(case: Case) -> Faults:
    """The file systems of the system must have space for the packages and the kernel.

    Source: Anaconda, `data/anaconda.conf`, min_partition_sizes.
    """
    for command in volumes(case):
        least = LEAST_MIB.get(mount_of(command), 0)
        size = size_mib(command)
        if 0 < size < least and not command.option("grow") and not reuses(command.data):
            yield LintFault(
                command.location,
                f"{size} MiB is too small for {mount_of(command)}",
                f"write at least --size={least}",
            )


@rule
def volumes_exceed_disk(case: Case) -> Faults:
    """A growing physical volume gets the remaining space of the disk, and the logical volumes must fit into it.

    Source: blivet, "new lv is too large to fit in free space".
    """
    if case.disk_bytes is None:
        return
    partitions = on_disk(case)
    for group in case.ks.named("volgroup"):
        members = [c for c in partitions if mount_of(c) in group_members(case, group.data.vgname)]
        others = sum(size_mib(c) for c in partitions if c not in members)
        space_mib = case.disk_bytes // MIB - RESERVED_MIB - others
        needed = sum(map(size_mib, _fixed(case, group)))
        one_disk = len({c.data.disk for c in partitions}) == 1
        if members and one_disk and needed > space_mib > 0 and any(c.data.grow for c in members):
            yield LintFault(
                group.location,
                f"its logical volumes need {needed} MiB, but the disk has {space_mib} MiB for them",
                f"reduce them by {needed - space_mib} MiB",
            )


def _fixed(case: Case, group: KickstartCommand) -> list[KickstartCommand]:
    """Return the logical volumes of a group other than thin ones, which use the space of their pool."""
    inside = (c for c in case.ks.named("logvol") if c.data.vgname == group.data.vgname)
    return [command for command in inside if not command.data.thin_volume]
