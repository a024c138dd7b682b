"""The commands that create partitions and volumes, and their properties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case

NOT_MOUNTED: Final = ("biosboot", "prepboot", "swap")
PREFIXES: Final = ("pv.", "raid.")


def volumes(case: Case) -> Iterator[KickstartCommand]:
    """Return the commands that create a file system."""
    return case.ks.named("part", "partition", "logvol", "raid")


def parts(case: Case) -> Iterator[KickstartCommand]:
    """Partitions of a disk."""
    return case.ks.named("part", "partition")


def on_disk(case: Case) -> list[KickstartCommand]:
    """Partitions that take space on a disk."""
    return [command for command in parts(case) if command.data.fstype != "tmpfs"]


def mount_of(command: KickstartCommand) -> str:
    """Return the mount point, or "swap", "pv.01", "" …"""
    return str(command.option("mountpoint") or "")


def complete(case: Case) -> bool:
    """Return whether the kickstart defines the partitions itself, and all of them are known.

    pykickstart refuses partitions beside `autopart` or `mount`.
    """
    return any(volumes(case)) and not case.ks.open_ended


def size_mib(command: KickstartCommand) -> int:
    """Return the size in MiB, or 0 where it is not given."""
    return int(command.option("size") or 0)


def disk_name(name: str) -> str:
    """Return the name of a disk without /dev/."""
    return name.removeprefix("/dev/")


def reuses(data: Any) -> bool:
    """Return whether a volume exists already, and only its content may be new."""
    return bool(
        getattr(data, "onPart", "") or getattr(data, "preexist", False) or not getattr(data, "format", True)
    )
