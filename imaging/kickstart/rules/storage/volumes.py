"""Logical volumes and their groups: names, extents and sizes."""

from __future__ import annotations

from typing import Final

from imaging.kickstart.document import KickstartCommand, SourceLocation
from imaging.kickstart.limits import (
    DEVICE_NAME,
    EXTENT_MIB,
    VOLUME_NAME,
    VOLUME_NAME_RESERVED,
)
from imaging.kickstart.rule import Case, Faults, LintFault, rule
from imaging.kickstart.rules.storage.members import refuse_twice
from imaging.kickstart.volumes import mount_of, size_mib, volumes

MAPPED_NAME_MAX: Final = 127
METADATA_MIB: Final = 1
"""The offset of the first extent of a physical volume: lvm.conf(5), default_data_alignment."""


@rule
def volume_name_twice(case: Case) -> Faults:
    """The names of volume groups, of arrays, and of the logical volumes of a group are unique.

    Source: Anaconda, `custom_partitioning.py`: "is already in use".
    """
    seen: dict[str, SourceLocation] = {}
    for command in case.ks.named("volgroup", "logvol", "raid"):
        if command.data.preexist or not command.data.format:
            continue
        name = {
            "volgroup": f"volume group {command.option('vgname')}",
            "logvol": f"logical volume {command.option('name')} of {command.option('vgname')}",
            "raid": f"RAID device md{command.option('device')}",
        }[command.name]
        yield from refuse_twice(seen, name, command.location, "is already defined")


@rule
def volume_name_form(case: Case) -> Faults:
    """LVM allows letters, digits and + _ . - in names, and reserves some names.

    Source: lvm(8), VALID NAMES; LVM: "/dev/sda: already exists in filesystem"; blivet, `is_name_valid`; Linux,
    `dm-ioctl.h`, DM_NAME_LEN.
    """
    for command in case.ks.named("volgroup", "logvol"):
        name = command.data.vgname if command.name == "volgroup" else command.data.name
        names = VOLUME_NAME_RESERVED if command.name == "logvol" else DEVICE_NAME
        reserved = names.fullmatch(name)
        if name and (reserved or not VOLUME_NAME.fullmatch(name) or name in (".", "..")):
            yield LintFault(
                command.location,
                f"{name!r} is not a valid name for a {command.name}",
                "use letters, digits, + _ . and -, at most 127, and no reserved name, such as snapshot* or sda",
            )
        mapped = f"{command.data.vgname}-{name}".replace("-", "--") if command.name == "logvol" else ""
        if len(mapped) - 1 > MAPPED_NAME_MAX:
            yield LintFault(
                command.location,
                f"the device of {command.data.vgname}/{name} has a name of {len(mapped) - 1} characters",
                f"shorten both names; the device mapper allows {MAPPED_NAME_MAX} characters",
            )


@rule
def extent_size(case: Case) -> Faults:
    """The size of LVM's extents is a power of two from 1 KiB, and a logical volume has at least one extent.

    Source: blivet, `get_supported_pe_sizes`; Anaconda, "must be larger than the volume group extent size".
    """
    extents = {}
    for command in case.ks.named("volgroup"):
        given = int(command.data.pesize or 0)
        extents[command.data.vgname] = given / 1024 if given else EXTENT_MIB
        if given and given & (given - 1):
            yield LintFault(
                command.location, f"--pesize={given} is not a power of two", "write 4096, or leave it out"
            )
    for command in case.ks.named("logvol"):
        extent = extents.get(command.data.vgname)
        if extent and 0 < size_mib(command) < extent and not command.data.grow:
            yield LintFault(
                command.location,
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
                group.location,
                f"its logical volumes request {shares} percent of it",
                "reduce --percent so that the sum is at most 100",
            )


@rule
def volume_group_too_small(case: Case) -> Faults:
    """Logical volumes fit into their group; growing volumes fill the remaining space.

    Source: lvcreate(8); blivet, `LVMVolumeGroupDevice`: extents, pe_start, reserved_space and reserved_percent.
    """
    physical = {mount_of(c): c for c in volumes(case) if mount_of(c).startswith("pv.")}
    for group in case.ks.named("volgroup"):
        pvs = [physical[name] for name in group.data.physvols if name in physical]
        inside = [
            c
            for c in case.ks.named("logvol")
            if c.data.vgname == group.data.vgname and not c.data.thin_volume
        ]
        needed = sum(map(size_mib, inside))
        has = usable_mib(group, pvs)
        fixed = pvs and not any(pv.option("grow") or pv.name == "raid" for pv in pvs)
        if fixed and needed > has:
            yield LintFault(
                group.location,
                f"its logical volumes need {needed} MiB, but it has {has:g} MiB",
                "let a physical volume --grow",
            )


def usable_mib(group: KickstartCommand, pvs: list[KickstartCommand]) -> float:
    """Return the space for logical volumes in MiB: whole extents after the first MiB of each, less the reserve."""
    extent = int(group.data.pesize or 0) / 1024 or EXTENT_MIB
    whole = sum((size_mib(pv) - METADATA_MIB) // extent * extent for pv in pvs)
    return whole - int(group.data.reserved_space or 0) - whole * int(group.data.reserved_percent or 0) / 100
