"""The commands that create partitions and volumes, and their properties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case

NOT_MOUNTED: Final = ("biosboot", "prepboot", "swap")
PREFIXES: Final = ("pv.", "raid.")


def volumes(case: Case) -> Iterator[KickstartCommand]:
    """Return the commands that create partitions, logical volumes or RAID arrays."""
    return case.ks.named("part", "partition", "logvol", "raid")


def parts(case: Case) -> Iterator[KickstartCommand]:
    """Return the commands that create partitions of a disk."""
    return case.ks.named("part", "partition")


def on_disk(case: Case) -> list[KickstartCommand]:
    """Return the commands that create partitions with space on a disk: all but tmpfs."""
    return [command for command in parts(case) if command.data.fstype != "tmpfs"]


def mount_of(command: KickstartCommand) -> str:
    """Return the mount point of a command, or another name such as "swap" or "pv.01", or ""."""
    return str(command.option("mountpoint") or "")


def complete(case: Case) -> bool:
    """Return whether the kickstart defines the partitions explicitly, and all of them are known.

    pykickstart refuses partitions together with `autopart` or `mount`.
    """
    return any(volumes(case)) and not case.ks.open_ended


def size_mib(command: KickstartCommand) -> int:
    """Return the size of a command in MiB, or 0 if it is not given."""
    return int(command.option("size") or 0)


def disk_name(name: str) -> str:
    """Return the name of a disk without /dev/."""
    return name.removeprefix("/dev/")


def reuses(data: Any) -> bool:
    """Return whether a volume exists before the installation, so that at most its content is new."""
    return bool(
        getattr(data, "onPart", "") or getattr(data, "preexist", False) or not getattr(data, "format", True)
    )
