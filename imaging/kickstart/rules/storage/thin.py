"""Thin pools, caches and snapshots."""

from __future__ import annotations

from typing import Final

from pykickstart.constants import SNAPSHOT_WHEN_POST_INSTALL

from imaging.kickstart.rule import Case, Faults, LintFault, rule
from imaging.kickstart.rules.storage.members import group_members
from imaging.kickstart.volumes import mount_of, size_mib, volumes

CHUNK_KIB: Final = range(64, 1024 * 1024 + 1, 64)
METADATA_MIB: Final = range(2, 16 * 1024 + 1)


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
                command.location,
                f"there is no thin pool {data.pool_name!r} in {data.vgname} before this line",
                f"write `logvol none --thinpool --vgname={data.vgname} --name={data.pool_name} --size=…` before",
            )


@rule
def thin_pool_form(case: Case) -> Faults:
    """A pool is not mounted; its chunks have 64 KiB to 1 GiB, its metadata 2 MiB to 16 GiB, and both fit into it.

    Source: blivet, `devicelibs/lvm.py`, LVM_THINP_*; Anaconda, `_execute_logvol_data`; lvmthin(7).
    """
    for command in case.ks.named("logvol"):
        chunk, metadata = int(command.data.chunk_size or 0), int(command.data.metadata_size or 0)
        size = size_mib(command)
        if command.data.thin_pool and mount_of(command).startswith("/"):
            yield LintFault(
                command.location,
                f"a thin pool cannot be mounted at {mount_of(command)}",
                f"write `logvol none --thinpool`, and `logvol {mount_of(command)} --thin --poolname=…`",
            )
        if command.data.pool_name and not command.data.thin_volume:
            yield LintFault(
                command.location, "--poolname without --thin: the volume is not in the pool", "add --thin"
            )
        if chunk and chunk not in CHUNK_KIB:
            yield LintFault(
                command.location,
                f"--chunksize={chunk} is not a chunk size of a thin pool",
                "write a multiple of 64 KiB, from 64 to 1048576",
            )
        if metadata and metadata not in METADATA_MIB:
            yield LintFault(
                command.location,
                f"--metadatasize={metadata} is not a metadata size of a thin pool",
                "write 2 to 16384 (MiB)",
            )
        elif metadata and size and metadata >= size and not command.data.grow:
            yield LintFault(
                command.location,
                f"--metadatasize={metadata} leaves no space of --size={size}",
                "leave --metadatasize out",
            )


@rule
def cache_volume(case: Case) -> Faults:
    """A cache is on physical volumes of the volume's group, and fits into them.

    Source: Anaconda, `custom_partitioning.py`: "Cache PVs must belong to the same VG as the cached LV".
    """
    sizes = {mount_of(command): command for command in volumes(case)}
    for command in case.ks.named("logvol"):
        names = [str(name) for name in command.data.cache_pvs or ()]
        group = group_members(case, command.data.vgname)
        space_mib = sum(size_mib(sizes[name]) for name in names if name in sizes)
        grows = any(sizes[name].option("grow") for name in names if name in sizes)
        for name in [name for name in names if group and name not in group]:
            yield LintFault(
                command.location,
                f"--cachepvs={name} is not in {command.data.vgname}",
                f"name one of {', '.join(group)}",
            )
        wanted = int(command.data.cache_size or 0)
        if space_mib and not grows and wanted > space_mib:
            yield LintFault(
                command.location,
                f"--cachesize={wanted} does not fit into {space_mib} MiB",
                f"write at most {space_mib}",
            )


@rule
def snapshot_origin(case: Case) -> Faults:
    """The origin of a snapshot that is taken after the installation is a thin volume that the kickstart defines.

    Source: RHEL's kickstart reference, `snapshot`; blivet, `LVMThinSnapshotDevice`.
    """
    thin = {f"{c.data.vgname}/{c.data.name}": c.data.thin_volume for c in case.ks.named("logvol")}
    if case.ks.open_ended or case.ks.has_command("autopart"):
        return
    for command in case.ks.named("snapshot"):
        origin = str(command.data.origin)
        if command.data.when == SNAPSHOT_WHEN_POST_INSTALL and not thin.get(origin):
            what = "is not a thin volume" if origin in thin else "is not defined"
            yield LintFault(
                command.location,
                f"snapshot of {origin}, which {what}",
                "define it with `logvol … --thin --poolname=…`",
            )


def _exists(case: Case, group: str) -> bool:
    return any(c.data.vgname == group and c.data.preexist for c in case.ks.named("volgroup"))
